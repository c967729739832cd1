import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/* The map of docs/architecture.md, as a test. */

const src = fileURLToPath(new URL('../src/', import.meta.url))

/** Which folders each folder may import. What lies in src itself starts processes and may import all. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  store: ['lib'],
  core: ['lib', 'store'],
  formats: ['lib', 'core'],
  api: ['lib'],
  http: ['lib', 'core', 'store', 'formats', 'api'],
  train: ['lib', 'api'],
  cli: ['lib', 'store', 'core', 'formats', 'api', 'http', 'train', ''],
}

interface Import {
  /** Paths below src. */
  from: string
  to: string
  typeOnly: boolean
}

const sources = new Map<string, string>()
for await (const path of glob('**/*.ts', { cwd: src })) sources.set(path, await readFile(join(src, path), 'utf8'))
const programs = [...sources].filter(([path]) => !path.endsWith('.test.ts'))
const imports = programs.flatMap(([path, text]) => [...importsOf(path, text)])

test('each folder imports only those below it', () => {
  const wrong = imports.filter((each) => !isAllowed(each)).map(({ from, to }) => `${from} imports ${to}`)
  assert.deepEqual(wrong, [])
})

test('every folder of src is on the map', () => {
  const folders = new Set([...sources.keys()].filter((path) => path.includes('/')).map(folderOf))
  assert.deepEqual(
    [...folders].filter((folder) => !(folder in mayImport)),
    [],
  )
})

test('a format does not import another format', () => {
  const formatOf = (path: string) => /^formats\/([^/]+)\//.exec(path)?.[1]
  const wrong = imports.filter(
    ({ from, to }) => formatOf(from) !== undefined && formatOf(to) !== undefined && formatOf(from) !== formatOf(to),
  )
  assert.deepEqual(wrong, [])
})

test('core names no format', () => {
  const wrong = imports.filter(({ from, to }) => folderOf(from) === 'core' && folderOf(to) === 'formats')
  assert.deepEqual(wrong, [])
})

test('transactions are begun in one place, which begins those again that the database ended', () => {
  const begin = programs.filter(([, text]) => /\.(transaction|startTransaction)\(/.test(text)).map(([path]) => path)
  assert.deepEqual(begin, ['store/database.ts'])
})

test('nothing is exported as default', () => {
  assert.deepEqual(
    programs.filter(([, text]) => /^export default /m.test(text)).map(([path]) => path),
    [],
  )
})

test('files are named for what they hold', () => {
  const vague = /(^|[/-])(utils?|helpers?|common|manager|service)(\.test)?\.ts$|(^|\/)types\.ts$/
  const notKebab = /[A-Z_]/
  assert.deepEqual(
    [...sources.keys()].filter((path) => vague.test(path) || notKebab.test(path)),
    [],
  )
})

function* importsOf(from: string, text: string): Generator<Import> {
  // Static imports and exports, and dynamic ones with a fixed name.
  for (const match of text.matchAll(
    /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'(\.[^']+)'|import\('(\.[^']+)'\)|^import\s+'(\.[^']+)'/gm,
  )) {
    const target = match[2] ?? match[3] ?? match[4]!
    yield { from, to: normalize(join(dirname(from), target)), typeOnly: match[1] !== undefined }
  }
}

function folderOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : ''
}

function isAllowed({ from, to, typeOnly }: Import): boolean {
  const [folder, target] = [folderOf(from), folderOf(to)]
  if (to.startsWith('..') || folder === '' || folder === target) return true
  // The contract of bytes that formats are given is told in the store's words.
  if (folder === 'formats' && to === 'store/blobs.ts') return typeOnly
  return mayImport[folder]?.includes(target) ?? false
}
