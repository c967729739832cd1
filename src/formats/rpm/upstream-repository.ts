import type { Upstream } from '../../core/fetch/fetch.ts'
import { decompress } from '../../lib/compression.ts'
import { Failure } from '../../lib/failure.ts'
import type { Staged } from '../../store/blobs.ts'
import { pathOf, urlOf } from './primary.ts'
import { type MetadataRecord, parseRepomd, type Repomd } from './repomd.ts'

/** A repository upstream at one moment: its repomd.xml, and what was downloaded of the files that it names. */
export interface UpstreamRepository {
  upstream: Upstream
  /** Mirrors of it. */
  bases: readonly URL[]
  repomd: Repomd
  repomdFile: Staged
  /** By type. */
  files: Map<string, Staged>
  allowedChecksums: readonly string[]
  signal: AbortSignal
}

const defaultLimit = 4 * 2 ** 30
/** Metadata that is read into memory as a whole. */
const mostWholeBytes = 64 << 20

/** Downloads these metadata files, several at once, unless they are here already. Throws Failure upstream or integrity. */
export async function downloadRecords(repository: UpstreamRepository, records: readonly MetadataRecord[]): Promise<void> {
  const { upstream, files, signal } = repository
  const missing = records.filter(({ type }) => !files.has(type))
  const results = await Promise.allSettled(
    missing.map(async (record) => {
      const { type, checksum, size } = record
      const expected = { size, checksum: `${checksum.type}:${checksum.value}`, limit: defaultLimit }
      files.set(type, await upstream.download(recordUrls(repository, record), expected, signal))
    }),
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** Where a metadata file lies. Throws Failure integrity for places and checksums that are not to be trusted. */
function recordUrls({ bases, allowedChecksums }: UpstreamRepository, { type, href, base, checksum }: MetadataRecord): URL[] {
  if (!allowedChecksums.includes(checksum.type))
    throw new Failure(
      'integrity',
      `The ${type} metadata has a checksum of type ${checksum.type} only, which is not among those allowed: ${allowedChecksums.join(', ')}.`,
    )
  return placesOf(href, base, bases).urls
}

/** A place that metadata names: the path within the repository, undefined where it is outside, and the URLs. Throws Failure integrity. */
export function placesOf(
  href: string,
  base: string | undefined,
  bases: readonly URL[],
): { path: string | undefined; urls: URL[] } {
  const absolute = /^[a-z][a-z0-9+.-]*:/i.test(href)
    ? href
    : base === undefined
      ? undefined
      : `${base.replace(/\/$/, '')}/${href}`
  if (absolute === undefined) {
    const path = pathOf(href)
    return { path, urls: bases.map((each) => urlOf(path, each)) }
  }
  const url = URL.canParse(absolute) ? new URL(absolute) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw new Failure('integrity', `The metadata names a file at ${absolute.slice(0, 200)}, which is no HTTP address.`)
  return { path: undefined, urls: [url] }
}

/** The bytes of a downloaded metadata file, unpacked. Undefined when the upstream does not have it. */
export function openRecord(repository: UpstreamRepository, type: string): AsyncIterable<Buffer> | undefined {
  const packed = openPacked(repository, type)
  return packed && unpackList(type, packed.bytes, packed.limit)
}

/** The same as it was downloaded, with the most bytes that it may have when unpacked. */
export function openPacked(
  { repomd, files }: UpstreamRepository,
  type: string,
): { bytes: AsyncIterable<Uint8Array>; limit: number } | undefined {
  const staged = files.get(type)
  const openSize = repomd.records.find((record) => record.type === type)?.openSize
  // A little leeway, because open-size is only a remark: nothing has verified it.
  return staged && { bytes: staged.open(), limit: openSize === undefined ? defaultLimit : openSize + mostWholeBytes }
}

/** The same in memory, for what is small. */
export async function readRecord(repository: UpstreamRepository, type: string): Promise<Buffer | undefined> {
  const staged = repository.files.get(type)
  return staged && Buffer.concat(await Array.fromAsync(unpackList(type, staged.open(), mostWholeBytes)))
}

/** Unpacks metadata. Throws Failure integrity. */
export async function* unpackList(type: string, bytes: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<Buffer> {
  try {
    yield* decompress(bytes, { limit })
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause
    const reason = cause.message.replace(/^./, (letter) => letter.toLowerCase())
    throw new Failure(cause.code, `The ${type} metadata cannot be unpacked: ${reason}`, { cause })
  }
}

/** Reads what is known of a repository from its repomd.xml. */
export async function openRepository(
  upstream: Upstream,
  bases: readonly URL[],
  repomdFile: Staged,
  { allowedChecksums, signal }: { allowedChecksums: readonly string[]; signal: AbortSignal },
): Promise<UpstreamRepository> {
  const repomd = parseRepomd(Buffer.concat(await repomdFile.open().toArray()))
  if (!repomd.records.some(({ type }) => type === 'primary'))
    throw new Failure('integrity', "Repository doesn't contain required metadata file 'primary.xml'")
  return { upstream, bases, repomd, repomdFile, files: new Map(), allowedChecksums, signal }
}

/**
 * Downloads a file that need not be there. Nothing says what it must be, so it comes from the mirror that the repomd.xml came from:
 * another one may show another moment. Throws Failure upstream.
 */
export async function downloadIfThere(
  upstream: Upstream,
  url: URL,
  limit: number,
  signal?: AbortSignal,
): Promise<Staged | undefined> {
  try {
    return await upstream.download([url], { limit }, signal)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Whether an upstream said that it does not have a file, or would not say. */
export function isAbsent(error: unknown): boolean {
  return error instanceof Failure && 'absent' in error && error.absent === true
}

/** Forgets what was downloaded and not kept. */
export async function closeRepository({ repomdFile, files }: UpstreamRepository): Promise<void> {
  for (const staged of [repomdFile, ...files.values()]) await staged[Symbol.asyncDispose]()
}
