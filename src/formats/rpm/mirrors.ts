import { createHash } from 'node:crypto'
import type { Upstream } from '../../core/fetch/fetch.ts'
import { Failure } from '../../lib/failure.ts'
import type { Staged } from '../../store/blobs.ts'
import { childrenOf, type Element, parseElements } from './element.ts'
import { urlOf } from './primary.ts'
import type { Checksum } from './repomd.ts'

/*
 * A remote's URL is a repository, or a list of mirrors of one: lines of URLs, or a metalink, which also tells what the repomd.xml must be.
 */

const repomdPath = 'repodata/repomd.xml'
const mostRepomdBytes = 8 << 20
const mostListBytes = 4 << 20
/** Further mirrors are of no use when so many have failed. */
const mostMirrors = 8

/** A repository that was found: its repomd.xml, and the mirrors that may have it, the one it came from first. */
export interface FoundRepository {
  bases: readonly URL[]
  repomd: Staged
}

/** A list of mirrors. */
export interface MirrorList {
  bases: URL[]
  /** What the repomd.xml must be: one of these. Undefined: the list does not say. */
  expected: Checksum[] | undefined
}

/**
 * Downloads the repomd.xml of what a remote names. A URL with a query is most likely a list of mirrors and asked for as such first;
 * any other is a list only when there is no repository. `token` is put behind every URL of the repository.
 * Throws Failure upstream or integrity.
 */
export async function findRepository(upstream: Upstream, url: URL, token: string, signal: AbortSignal): Promise<FoundRepository> {
  const direct = { bases: [directoryOf(url, token)], expected: undefined }
  const isQuery = url.search !== '' && !url.pathname.endsWith('/')
  if (isQuery) return downloadFromMirrors(upstream, (await findList(upstream, url, token, signal)) ?? direct, signal)
  try {
    return await downloadFromMirrors(upstream, direct, signal)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'upstream') throw error
    const list = await findList(upstream, url, token, signal)
    if (!list) throw error
    return downloadFromMirrors(upstream, list, signal)
  }
}

/** Downloads `repodata/repomd.xml` below a base. */
export function downloadRepomd(upstream: Upstream, base: URL, signal: AbortSignal): Promise<Staged> {
  return upstream.download([urlOf(repomdPath, base)], { limit: mostRepomdBytes }, signal)
}

function directoryOf(url: URL, token: string): URL {
  const directory = new URL(url)
  if (!directory.pathname.endsWith('/')) directory.pathname += '/'
  directory.search = token
  directory.hash = ''
  return directory
}

/** Undefined when there is no list either. */
async function findList(upstream: Upstream, url: URL, token: string, signal: AbortSignal): Promise<MirrorList | undefined> {
  try {
    const { bytes } = await upstream.read([url], { limit: mostListBytes }, signal)
    const { bases, expected } = parseMirrors(bytes.toString('utf8'))
    return bases.length > 0 ? { bases: bases.map((base) => directoryOf(base, token)), expected } : undefined
  } catch (error) {
    if (error instanceof Failure && error.code === 'upstream') return undefined
    throw error
  }
}

/** Mirrors are asked in the list's order. One whose repomd.xml is not what the list says is behind; it and those that fail are passed over. */
async function downloadFromMirrors(
  upstream: Upstream,
  { bases, expected }: MirrorList,
  signal: AbortSignal,
): Promise<FoundRepository> {
  const failures: Failure[] = []
  for (const [index, base] of bases.slice(0, mostMirrors).entries()) {
    try {
      const repomd = await downloadRepomd(upstream, base, signal)
      if (!expected || (await matches(repomd, expected))) return { bases: bases.slice(index, index + mostMirrors), repomd }
      await repomd[Symbol.asyncDispose]()
      failures.push(new Failure('integrity', `The repomd.xml of ${base.host} is not the one that the metalink names.`))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failures.push(error)
    }
  }
  if (failures.length === 1) throw failures[0]!
  throw new Failure(
    'upstream',
    `None of the mirrors has a usable repomd.xml. ${failures.map(({ message }) => message).join(' ')}`,
  )
}

async function matches(staged: Staged, expected: readonly Checksum[]): Promise<boolean> {
  const bytes = Buffer.concat(await staged.open().toArray())
  return expected.some(({ type, value }) => createHash(type).update(bytes).digest('hex') === value)
}

/** Reads a mirrorlist or a metalink; neither gives an empty list. Throws Failure integrity for a broken metalink. */
export function parseMirrors(text: string): MirrorList {
  return /<metalink\b/.test(text.slice(0, 4096)) ? parseMetalink(text) : { bases: parseMirrorlist(text), expected: undefined }
}

/** URLs at the ends of lines, perhaps after words and an equals sign, as in `baseurl = http://...`. */
function parseMirrorlist(text: string): URL[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const url = /^(?:[\w\s=]+\s)?(https?:\/\/\S+)/.exec(line)?.[1]
    return url && URL.canParse(url) ? [new URL(url)] : []
  })
}

/** https://www.metalinker.org/Metalink_3.0_Spec.pdf, with the alternates that MirrorManager adds: repomd.xml files of the last days. */
function parseMetalink(text: string): MirrorList {
  const file = descendants(parseElements(text, 'The metalink'), 'file').find(
    ({ attributes }) => attributes['name'] === 'repomd.xml',
  )
  if (!file) throw new Failure('integrity', 'The metalink does not tell of a repomd.xml.')
  const urls = descendants(file, 'url').filter(({ text }) => /^\s*https?:\/\//.test(text) && URL.canParse(text.trim()))
  const preference = ({ attributes }: Element) => Number(attributes['preference'] ?? 0) || 0
  const bases = urls
    .sort((a, b) => preference(b) - preference(a))
    .map(({ text }) => text.trim())
    .filter((url) => url.endsWith(`/${repomdPath}`))
    .map((url) => new URL(url.slice(0, -repomdPath.length)))
  // The file's own hashes are those that are not within an alternate.
  const alternates = descendants(file, 'mm0:alternate')
  const own = childrenOf(file, 'verification')
  const expected = [...own, ...alternates].flatMap((each) => strongest(descendants(each, 'hash')) ?? [])
  return { bases, expected: expected.length > 0 ? expected : undefined }
}

function descendants(element: Element, name: string): Element[] {
  return element.children.flatMap((child) => [...(child.name === name ? [child] : []), ...descendants(child, name)])
}

function strongest(hashes: readonly Element[]): Checksum | undefined {
  for (const type of ['sha512', 'sha384', 'sha256', 'sha1', 'md5']) {
    const hash = hashes.find(({ attributes }) => attributes['type']?.toLowerCase().replace('-', '') === type)
    if (hash) return { type, value: hash.text.trim().toLowerCase() }
  }
  return undefined
}
