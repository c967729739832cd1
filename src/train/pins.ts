import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isMap, isScalar, type Pair, parseDocument, type Scalar } from 'yaml'
import { hasCode } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { isStamp } from './stamp.ts'
import type { Line, Train } from './train.ts'
import { fields, members, name, parseYaml, rootOf, wrong } from './yaml-document.ts'

/** Which snapshot of each repository a line is at, by repository. */
export type Pins = ReadonlyMap<string, string>

/** `pins/<line>.yaml` beside train.yaml. */
export function pinsFile(train: Pick<Train, 'file'>, line: string): string {
  return join(dirname(train.file), 'pins', `${line}.yaml`)
}

/** The pins of a line; none when it has no file yet. Throws Failure invalid for a pin of a repository that the line does not have. */
export async function loadPins(train: Pick<Train, 'file'>, line: Line): Promise<Pins> {
  const file = pinsFile(train, line.name)
  return parsePins(file, await readIfThere(file), line)
}

export function parsePins(file: string, source: string, line: Line): Pins {
  const pins = new Map<string, string>()
  const found = fields(rootOf(parseYaml(file, source)), ['repositories'], {
    images: 'Pinned images',
    files: 'Pinned host images',
  })
  const place = found.get('repositories')
  if (!place) return pins
  for (const [repository, at] of members(place)) {
    if (!line.repositories.includes(repository))
      throw wrong(at, `line ${line.name} has no such repository.${hint(repository, line.repositories)}`)
    const stamp = name(at)
    if (!isStamp(stamp)) throw wrong(at, `"${stamp}" is not a stamp, as in 20261123T020000.`)
    pins.set(repository, stamp)
  }
  return pins
}

/** Writes these pins into the line's file. Everything else in it stays as it is to the byte: comments, order, other pins. */
export async function writePins(train: Pick<Train, 'file'>, line: string, pins: Pins): Promise<void> {
  const file = pinsFile(train, line)
  const before = await readIfThere(file)
  const after = renderPins(
    before || `# Which snapshot of each repository line "${line}" is at. Written by "signalbox pin".\nrepositories:\n`,
    pins,
  )
  if (after === before) return
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, after)
}

/** The text of a pins file with these pins in it. */
export function renderPins(text: string, pins: Pins): string {
  let result = text
  for (const [repository, stamp] of pins) result = withPin(result, repository, stamp)
  return result
}

function withPin(text: string, repository: string, stamp: string): string {
  const document = parseDocument(text)
  const map: unknown = document.get('repositories', true)
  if (isMap<Scalar, Scalar>(map) && !map.flow) {
    const pair = map.items.find(({ key }) => key.value === repository)
    if (pair && isScalar(pair.value) && pair.value.range) {
      const [start, end] = pair.value.range
      // An empty value (`bells:`) ends at its colon.
      return `${text.slice(0, start)}${/[:]$/.test(text.slice(0, start)) ? ' ' : ''}${stamp}${text.slice(end)}`
    }
    const last = map.items.at(-1)
    if (!pair && last) return afterLine(text, last, `${repository}: ${stamp}`)
  }
  if (isMap(map)) map.set(repository, stamp)
  else document.set('repositories', document.createNode({ [repository]: stamp }))
  return document.toString({ lineWidth: 0 })
}

/** Puts a line below that of `pair`, indented as it is. */
function afterLine(text: string, pair: Pair<Scalar, Scalar>, line: string): string {
  const start = pair.key.range![0]
  const indent = text.slice(text.lastIndexOf('\n', start - 1) + 1, start)
  const end = text.indexOf('\n', pair.value?.range?.[1] ?? start)
  const head = end < 0 ? `${text}\n` : text.slice(0, end + 1)
  return `${head}${indent}${line}\n${end < 0 ? '' : text.slice(end + 1)}`
}

async function readIfThere(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return ''
    throw error
  }
}
