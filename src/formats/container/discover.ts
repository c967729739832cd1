import { createHash } from 'node:crypto'
import type { Upstream } from '../../core/fetch/fetch.ts'
import type { Described, Discovered, SyncOptions } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { forEach } from '../../lib/for-each.ts'
import { isManifestType } from './media-types.ts'
import { blobType, describeTag, manifestType, signatureType, tagType } from './describe.ts'
import { describeSignature } from './signature.ts'
import { companionsOf, isSignature, isSignatureTag, subjectOf } from './companions.ts'
import type { Descriptor } from './manifest.ts'
import { type ImageReader, type Node, openImageReader } from './image-reader.ts'
import { type FetchedManifest, type ImageSource, openImageSource } from './registry-requests.ts'
import { isDigest } from './digest.ts'
import { openTagFilter, type TagChoice } from './tag-filter.ts'

/*
 * tag list ── per tag: HEAD ──> same digest as here: kept, nothing is read
 *                        └────> another: its manifest by that digest, and what it is made of, down to configs; layers stay where they are
 *          ── what is about it: the registry's referrers, the tags that cosign and others name for its digest, and signatures beside it
 *
 * A tag that moves meanwhile counts as it was when it was asked for: all below it is named by digests.
 */

const batchSize = 100

/** Reads one image (repository) of a registry, with all that the remote's patterns choose of its tags. See Format.discover. */
export async function* discover(upstream: Upstream, options: SyncOptions): AsyncGenerator<Discovered> {
  const { settings, remote, signal, progress } = options
  const signedOnly = settings['signed_only'] === true
  const sigstore = typeof remote['sigstore'] === 'string' ? remote['sigstore'] : undefined
  const source = openImageSource(upstream, imageOf(upstream, remote), signal, sigstore)
  progress.report('sync.downloading.tag_list', 'Downloading tag list', { total: 1, done: 0 })
  const listed = await source.tags()
  progress.report('sync.downloading.tag_list', 'Downloading tag list', { done: 1, finished: true })

  const choice = openTagFilter({ include: textsOf(remote['include_tags']), exclude: textsOf(remote['exclude_tags']) })
  await using reader = openImageReader(source, options)
  const search: Search = { source, reader, choice, signedOnly, companions: companionsOf(listed), options }
  // With signed_only, what is about an image comes with it or not at all.
  const queue = listed.filter((tag) => choice.isIncluded(tag) && !(signedOnly && subjectOf(tag) !== undefined))
  const state = openState(queue)
  const report = (change: object) => progress.report('sync.processing.tag', 'Processing Tags', change)
  report({ total: queue.length, done: 0 })
  for (let at = 0; at < state.queue.length; ) {
    const batch = state.queue.slice(at, at + batchSize)
    at += batch.length
    yield* discoverTags(search, state, batch)
    report({ total: state.queue.length, add: batch.length })
  }
  report({ total: state.queue.length, done: state.queue.length, finished: true })
  const value = await fingerprintOf(state)
  yield { kind: 'fingerprint', value, unchanged: !state.changed && value === options.unchanged }
}

/** Reads what a tag or a digest names, with what the registry knows to be about it. See Format.discoverOne. */
export async function* discoverOne(upstream: Upstream, options: SyncOptions, reference: string): AsyncGenerator<Discovered> {
  const source = openImageSource(upstream, imageOf(upstream, options.remote), options.signal)
  await using reader = openImageReader(source, options)
  const choice = openTagFilter({ include: [], exclude: [] })
  const search: Search = { source, reader, choice, signedOnly: false, companions: new Map(), options }
  const state = openState([])
  if (!isDigest(reference)) return yield* discoverTags(search, state, [reference])
  const given = await source.manifest(reference)
  if (!given) return
  for (const node of await reader.read(reference, given)) {
    await follow(search, state, node)
    await takeSignatures(search, state, node.digest)
  }
  yield* takeRead(search, state, [])
}

interface Search {
  source: ImageSource
  reader: ImageReader
  choice: TagChoice
  signedOnly: boolean
  /** Tags that say something about a digest. */
  companions: ReadonlyMap<string, readonly string[]>
  options: SyncOptions
}

interface State {
  /** Tags to read; grows by those that belong to what was read. */
  queue: string[]
  asked: Set<string>
  /** The digests that tags have. */
  tips: Map<string, string>
  /** What the registry says is about a digest; undefined when it cannot be asked. */
  referrers: Map<string, Promise<readonly Descriptor[] | undefined>>
  /** Signatures of a digest, beside it; undefined when nobody has such. */
  signatures: Map<string, Promise<readonly Described[] | undefined>>
  /** Those of them that were not yielded yet, and the digests whose signatures have been among those. */
  signed: Described[]
  signedOnce: Set<string>
  /** Digests of which what is about them was brought along. */
  followed: Set<string>
  /** What is about the digests that tags have, for the fingerprint. */
  about: Map<string, readonly string[]>
  /** Whether there is anything that the repository does not hold. */
  changed: boolean
}

function openState(queue: string[]): State {
  const asked = new Set(queue)
  const maps = { tips: new Map(), referrers: new Map(), signatures: new Map(), about: new Map() }
  return { queue, asked, ...maps, signed: [], signedOnce: new Set(), followed: new Set(), changed: false }
}

async function* discoverTags(search: Search, state: State, batch: readonly string[]): AsyncGenerator<Discovered> {
  const { options } = search
  const found = new Map<string, string>()
  await forEach(batch, options.access.concurrency ?? 10, async (tag) => {
    const digest = await readTag(search, state, tag)
    if (digest !== undefined) found.set(tag, digest)
  })
  const tags = [...found].map(([tag, digest]) => describeTag(tag, digest))
  yield* takeRead(search, state, tags)
}

/** What was read, with these tags and signatures of it, and what is held. */
async function* takeRead(search: Search, state: State, found: readonly Described[]): AsyncGenerator<Discovered> {
  const { described, kept } = await search.reader.take()
  const tags = await sort(search, tagType, found)
  const signatures = await sort(search, signatureType, state.signed.splice(0))
  const batch = [...described, ...tags.fresh, ...signatures.fresh]
  if (batch.length > 0) {
    state.changed = true
    yield { kind: 'content', batch }
  }
  yield { kind: 'kept', type: manifestType, keys: kept.manifests }
  yield { kind: 'kept', type: blobType, keys: kept.blobs }
  yield { kind: 'kept', type: signatureType, keys: [...kept.signatures, ...signatures.same] }
  yield { kind: 'kept', type: tagType, keys: tags.same }
}

/** Those of these units that the repository does not hold, and the keys of those that it does. */
async function sort({ options }: Search, type: string, units: readonly Described[]) {
  const known = await options.known(
    type,
    units.map(({ key }) => key),
  )
  const isFresh = (index: number) => known[index] === undefined
  return {
    fresh: units.filter((_, index) => isFresh(index)),
    same: units.filter((_, index) => !isFresh(index)).map(({ key }) => key),
  }
}

/** Reads what a tag names and what is about that. Its digest; undefined when it is gone, or is not wanted. Failures name the image and the tag. */
async function readTag(search: Search, state: State, tag: string): Promise<string | undefined> {
  try {
    const found = await resolveTag(search, tag)
    if (!found) return undefined
    const { digest, given } = found
    if (search.signedOnly && subjectOf(tag) === undefined && !(await isSigned(search, state, found))) return undefined
    const [top, ...below] = await search.reader.read(digest, given)
    await follow(search, state, top!, true)
    for (const node of below) await follow(search, state, node)
    for (const node of [top!, ...below]) await takeSignatures(search, state, node.digest)
    state.tips.set(tag, digest)
    return digest
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    throw new Failure(error.code, `${search.source.name}:${tag} cannot be synced. ${error.message}`, { cause: error })
  }
}

interface Resolved {
  digest: string
  given?: FetchedManifest
}

/** What a tag names, with its manifest where it is not held. Whatever the tag names afterwards: that was it when it was asked. */
async function resolveTag({ source, options }: Search, tag: string): Promise<Resolved | undefined> {
  const digest = await source.digestOf(tag)
  if (digest !== undefined) {
    if ((await options.held(manifestType, [digest]))[0]) return { digest }
    const given = await source.manifest(digest)
    if (given) return { digest, given }
  }
  const given = await source.manifest(tag)
  return given && { digest: given.digest, given }
}

/** Whether there is a signature of what a tag names: a tag of cosign, a referrer that is one, or those beside the image. */
async function isSigned(search: Search, state: State, resolved: Resolved): Promise<boolean> {
  const { companions, source } = search
  const { digest } = resolved
  if (companions.get(digest)?.some(isSignatureTag)) return true
  if ((await askReferrers(source, state, digest))?.some(isSignature)) return true
  // Clients verify the one that they run: of a list, each.
  const listed = await listedBy(search, resolved)
  for (const each of listed.length > 0 ? listed : [digest])
    if (((await askSignatures(search, state, each)) ?? []).length === 0) return false
  return true
}

async function listedBy({ options }: Search, { digest, given }: Resolved): Promise<readonly string[]> {
  if (given) return given.manifest.manifests.map((each) => each.digest)
  const [held] = await options.held(manifestType, [digest])
  return (held?.meta['listed_digests'] ?? []) as string[]
}

/** Brings along the signatures beside a manifest that was read. */
async function takeSignatures(search: Search, state: State, digest: string): Promise<void> {
  const found = (await askSignatures(search, state, digest)) ?? []
  if (state.signedOnce.has(digest)) return
  state.signedOnce.add(digest)
  state.signed.push(...found)
}

/** Asks once for the signatures beside a manifest. What is none of it does not count. */
function askSignatures({ source }: Search, state: State, digest: string): Promise<readonly Described[] | undefined> {
  async function read(): Promise<readonly Described[] | undefined> {
    const given = await source.signatures(digest)
    if (!given) return undefined
    const described = await Promise.all(given.map(describeSignature))
    const good = described.filter((each) => each !== undefined && each.meta['signed_digest'] === digest) as Described[]
    return [...new Map(good.map((each) => [each.key, each])).values()]
  }
  const asked = state.signatures.get(digest) ?? read()
  state.signatures.set(digest, asked)
  return asked
}

/** Asks the registry once for what is about a digest. */
function askReferrers(source: ImageSource, { referrers }: State, digest: string): Promise<readonly Descriptor[] | undefined> {
  const asked = referrers.get(digest) ?? source.referrers(digest)
  referrers.set(digest, asked)
  return asked
}

const longestChain = 4

/**
 * Brings along what is about a manifest: its companion tags, and its referrers. The registry is asked for those of what a tag names, and of
 * all that is new; elsewhere what is held stays.
 */
async function follow(search: Search, state: State, { digest, held }: Node, isTagged = false, chain = 0): Promise<void> {
  const { source, reader, companions, choice } = search
  for (const tag of companions.get(digest) ?? [])
    if (!state.asked.has(tag) && !choice.isExcluded(tag)) {
      state.asked.add(tag)
      state.queue.push(tag)
    }
  const kept = isTagged ? undefined : held?.about
  const referrers = kept ? undefined : await askReferrers(source, state, digest)
  const digests = kept ?? (referrers ?? []).filter(({ mediaType }) => isManifestType(mediaType)).map((each) => each.digest)
  if (isTagged) state.about.set(digest, digests)
  const step = `${digest} ${kept === undefined}`
  if (state.followed.has(step)) return
  state.followed.add(step)
  if (chain >= longestChain) return
  for (const each of digests) for (const node of await reader.read(each)) await follow(search, state, node, false, chain + 1)
}

/** What is the same as long as neither a tag nor what is about its image changes. */
async function fingerprintOf({ tips, about, signatures }: State): Promise<string> {
  const sorted = (map: Iterable<readonly [string, unknown]>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  const abouts = [...about].map(([digest, digests]) => [digest, [...digests].sort()] as const)
  const signed = await Promise.all(
    [...signatures].map(async ([digest, found]) => [digest, ((await found) ?? []).map(({ key }) => key).sort()] as const),
  )
  return createHash('sha256')
    .update(JSON.stringify([sorted(tips), sorted(abouts), sorted(signed.filter(([, keys]) => keys.length > 0))]))
    .digest('hex')
}

const namePattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/

/** Under which name the upstream has the image: Docker Hub keeps those without a namespace in `library`. */
export function imageOf(upstream: Upstream, remote: Record<string, unknown>): string {
  const name = String(remote['upstream_name'] ?? '').replace(/^\/|\/$/g, '')
  if (!namePattern.test(name))
    throw new Failure('invalid', `${JSON.stringify(name)} is not the name of an image.`, { field: 'upstream_name' })
  const { hostname } = new URL(upstream.access.url)
  return /(?:^|\.)docker\.io$/.test(hostname) && !name.includes('/') ? `library/${name}` : name
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : []
}
