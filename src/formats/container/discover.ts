import { createHash } from 'node:crypto'
import type { Upstream } from '../../core/fetch/fetch.ts'
import type { Described, Discovered, SyncOptions } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { forEach } from '../../lib/for-each.ts'
import { isManifestType } from './media-types.ts'
import { blobType, describeTag, manifestType, tagType } from './describe.ts'
import { companionsOf, isSignature, isSignatureTag, subjectOf } from './companions.ts'
import type { Descriptor } from './manifest.ts'
import { type ImageReader, type Node, openImageReader } from './image-reader.ts'
import { type FetchedManifest, type ImageSource, openImageSource } from './registry-requests.ts'
import { isDigest } from './digest.ts'
import { openTagFilter, type TagChoice } from './tag-filter.ts'

/*
 * tag list ── per tag: HEAD ──> same digest as here: kept, nothing is read
 *                        └────> another: its manifest by that digest, and what it is made of, down to configs; layers stay where they are
 *          ── what is about it: the registry's referrers, and the tags that cosign and others name for its digest
 *
 * A tag that moves meanwhile counts as it was when it was asked for: all below it is named by digests.
 */

const batchSize = 100
const unreadSignatures =
  'Signatures of a sigstore are not read, so they cannot decide what is signed: signed_only counts those of cosign and notation in the registry.'

/** Reads one image (repository) of a registry, with all that the remote's patterns choose of its tags. See Format.discover. */
export async function* discover(upstream: Upstream, options: SyncOptions): AsyncGenerator<Discovered> {
  const { settings, remote, signal, progress } = options
  const signedOnly = settings['signed_only'] === true
  if (signedOnly && remote['sigstore']) throw new Failure('invalid', unreadSignatures, { field: 'signed_only' })
  const source = openImageSource(upstream, imageOf(upstream, remote), signal)
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
  const value = fingerprintOf(state)
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
  for (const node of await reader.read(reference, given)) await follow(search, state, node)
  yield* takeRead(reader, state, [])
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
  /** Digests of which what is about them was brought along. */
  followed: Set<string>
  /** What is about the digests that tags have, for the fingerprint. */
  about: Map<string, readonly string[]>
  /** Whether there is anything that the repository does not hold. */
  changed: boolean
}

function openState(queue: string[]): State {
  const asked = new Set(queue)
  return { queue, asked, tips: new Map(), referrers: new Map(), followed: new Set(), about: new Map(), changed: false }
}

async function* discoverTags(search: Search, state: State, batch: readonly string[]): AsyncGenerator<Discovered> {
  const { reader, options } = search
  const found = new Map<string, string>()
  await forEach(batch, options.access.concurrency ?? 10, async (tag) => {
    const digest = await readTag(search, state, tag)
    if (digest !== undefined) found.set(tag, digest)
  })
  const tags = [...found].map(([tag, digest]) => describeTag(tag, digest))
  const known = await options.known(
    tagType,
    tags.map(({ key }) => key),
  )
  const fresh = tags.filter((_, index) => known[index] === undefined)
  const same = tags.filter((_, index) => known[index] !== undefined).map(({ key }) => key)
  yield* takeRead(reader, state, fresh)
  yield { kind: 'kept', type: tagType, keys: same }
}

/** What was read, with these tags of it, and what is held. */
async function* takeRead(reader: ImageReader, state: State, tags: readonly Described[]): AsyncGenerator<Discovered> {
  const { described, kept } = await reader.take()
  const batch = [...described, ...tags]
  if (batch.length > 0) {
    state.changed = true
    yield { kind: 'content', batch }
  }
  yield { kind: 'kept', type: manifestType, keys: kept.manifests }
  yield { kind: 'kept', type: blobType, keys: kept.blobs }
}

/** Reads what a tag names and what is about that. Its digest; undefined when it is gone, or is not wanted. Failures name the image and the tag. */
async function readTag(search: Search, state: State, tag: string): Promise<string | undefined> {
  try {
    const found = await resolveTag(search, tag)
    if (!found) return undefined
    const { digest, given } = found
    if (search.signedOnly && subjectOf(tag) === undefined && !(await isSigned(search, state, digest))) return undefined
    const [top, ...below] = await search.reader.read(digest, given)
    await follow(search, state, top!, true)
    for (const node of below) await follow(search, state, node)
    state.tips.set(tag, digest)
    return digest
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    throw new Failure(error.code, `${search.source.name}:${tag} cannot be synced. ${error.message}`, { cause: error })
  }
}

/** What a tag names, with its manifest where it is not held. Whatever the tag names afterwards: that was it when it was asked. */
async function resolveTag(
  { source, options }: Search,
  tag: string,
): Promise<{ digest: string; given?: FetchedManifest } | undefined> {
  const digest = await source.digestOf(tag)
  if (digest !== undefined) {
    if ((await options.held(manifestType, [digest]))[0]) return { digest }
    const given = await source.manifest(digest)
    if (given) return { digest, given }
  }
  const given = await source.manifest(tag)
  return given && { digest: given.digest, given }
}

/** Whether there is a signature of this manifest: a tag of cosign, or a referrer that is one. */
async function isSigned({ companions, source }: Search, state: State, digest: string): Promise<boolean> {
  if (companions.get(digest)?.some(isSignatureTag)) return true
  return (await askReferrers(source, state, digest))?.some(isSignature) ?? false
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
function fingerprintOf({ tips, about }: State): string {
  const sorted = (map: ReadonlyMap<string, unknown>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  const abouts = new Map([...about].map(([digest, digests]) => [digest, [...digests].sort()]))
  return createHash('sha256')
    .update(JSON.stringify([sorted(tips), sorted(abouts)]))
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
