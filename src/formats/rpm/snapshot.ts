import { createHash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Upstream } from '../../core/fetch/fetch.ts'
import type { Described, SyncOptions } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import type { Staged } from '../../store/blobs.ts'
import { discoverTree } from './discover-tree.ts'
import { findRepository } from './mirrors.ts'
import { type Modules, readModules } from './modulemd.ts'
import { type Selection, selectPackages } from './package-lists.ts'
import { type PrimaryPackage, urlOf } from './primary.ts'
import type { MetadataRecord } from './repomd.ts'
import { verifySignature } from '../../lib/openpgp.ts'
import {
  closeRepository,
  downloadIfThere,
  downloadRecords,
  isAbsent,
  openRecord,
  openRepository,
  placesOf,
  readRecord,
  type UpstreamRepository,
} from './upstream-repository.ts'
import { listSubRepository } from './sub-repository.ts'

/*
 * All of an upstream's metadata at one moment. Everything is downloaded and verified against one repomd.xml before any of it is used;
 * when the upstream changes meanwhile, all of it is read again. So there is never a mix of two moments.
 */

export interface Snapshot extends AsyncDisposable {
  repository: UpstreamRepository
  fingerprint: string
  tree: Described | undefined
  modules: Modules | undefined
  selection: Selection
  /** Files of the upstream's publication beyond those that its repomd.xml names. */
  extras: { path: string; staged: Staged }[]
  /** From here on the downloaded files are somebody else's to dispose of. */
  release(): void
}

const incompatible =
  "This repository uses features which are incompatible with 'mirror' sync. Please sync without mirroring enabled."

/** Milliseconds before another try. */
const pauses = [300, 1000]

/** What was being read is not there any more, or is something else now. */
class Moved extends Error {
  override readonly cause: Failure

  constructor(cause: Failure) {
    super(cause.message)
    this.cause = cause
  }
}

/** Reads an upstream. Returns only its fingerprint when that is `options.unchanged`. Throws Failure upstream or integrity. */
export async function takeSnapshot(upstream: Upstream, options: SyncOptions, isComplete: boolean): Promise<Snapshot | string> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await trySnapshot(upstream, options, isComplete)
    } catch (error) {
      if (!(error instanceof Moved)) throw error
      const pause = pauses[attempt]
      if (pause === undefined) throw error.cause
      await setTimeout(pause, undefined, { signal: options.signal })
    }
  }
}

async function trySnapshot(upstream: Upstream, options: SyncOptions, isComplete: boolean): Promise<Snapshot | string> {
  const { signal, remote, progress } = options
  await using opened = new AsyncDisposableStack()
  await using downloaded = new AsyncDisposableStack()
  progress.report('sync.downloading.metadata', 'Downloading Metadata Files', { done: 0 })
  const token = typeof remote['sles_auth_token'] === 'string' ? `?${remote['sles_auth_token']}` : ''
  const { bases, repomd } = await findRepository(upstream, new URL(options.access.url), token, signal)
  const repository = await openRepository(upstream, bases, repomd, options)
  downloaded.defer(() => closeRepository(repository))
  const key = typeof remote['gpgkey'] === 'string' ? remote['gpgkey'] : undefined

  const list = (below: readonly URL[]) => listSubRepository(upstream, below, options, opened)
  const skipsTree = skipped(options).includes('treeinfo')
  const foundTree = skipsTree ? undefined : await discoverTree(upstream, bases, list, signal)
  if (foundTree) opened.use(foundTree)
  const fingerprint = hash([repomd.digests.sha256, foundTree?.fingerprint ?? '', skipsTree ? 'no tree' : '', key ?? ''])
  // What is unchanged was verified with this key before.
  if (fingerprint === options.unchanged) return fingerprint

  if (key) await checkSignature(repository, key)
  const metadata = await downloadMetadata(repository, options, isComplete, downloaded)
  const tree = foundTree && (await whole(foundTree.describe()))
  const [rest, files] = [opened.move(), downloaded.move()]
  return {
    ...metadata,
    repository,
    fingerprint,
    tree,
    release: () => void files.move(),
    async [Symbol.asyncDispose]() {
      await files.disposeAsync()
      await rest.disposeAsync()
    },
  }
}

async function downloadMetadata(
  repository: UpstreamRepository,
  options: SyncOptions,
  isComplete: boolean,
  downloaded: AsyncDisposableStack,
): Promise<Pick<Snapshot, 'modules' | 'selection' | 'extras'>> {
  if (isComplete) checkMirrorable(repository)
  await whole(downloadRecords(repository, firstRecords(repository, isComplete)))
  const selection = await selectPackages(openRecord(repository, 'primary')!, {
    skipSources: skipped(options).includes('srpm'),
    keepTwins: isComplete,
    known: (keys) => options.known('rpm.package', keys),
    check(found) {
      checkTrusted(found, options.allowedChecksums)
      if (isComplete) checkPlace(found.href, found.base, [])
    },
  })
  if (selection.wanted.size > 0) await whole(downloadRecords(repository, recordsOf(repository, ['filelists', 'other'])))
  const extras = isComplete ? await downloadExtras(repository, downloaded) : []
  options.progress.report('sync.downloading.metadata', 'Downloading Metadata Files', {
    done: 1 + repository.files.size + extras.length,
    finished: true,
  })
  const modules = await readRecord(repository, typeOf(repository, 'modules') ?? '')
  return { modules: modules && readModules(modules), selection, extras }
}

export function skipped({ settings }: SyncOptions): readonly unknown[] {
  return Array.isArray(settings['skip_types']) ? settings['skip_types'] : []
}

/** Downloads that fail because the upstream moved on are worth another look at all of it. */
async function whole<T>(download: Promise<T>): Promise<T> {
  try {
    return await download
  } catch (error) {
    throw error instanceof Failure && (error.code === 'integrity' || isAbsent(error)) ? new Moved(error) : error
  }
}

async function checkSignature({ upstream, bases: [base], repomdFile, signal }: UpstreamRepository, keys: string): Promise<void> {
  const signature = await readIfThere(upstream, urlOf('repodata/repomd.xml.asc', base!), signal)
  if (!signature)
    throw new Failure('integrity', 'The upstream has no signature of its repomd.xml (repomd.xml.asc), which the remote asks for.')
  const bytes = Buffer.concat(await repomdFile.open().toArray())
  await whole(verifySignature(bytes, signature.toString('utf8'), keys, 'The repomd.xml'))
}

async function readIfThere(upstream: Upstream, url: URL, signal: AbortSignal): Promise<Buffer | undefined> {
  try {
    return (await upstream.read([url], { limit: 1 << 20 }, signal)).bytes
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Metadata that would send clients elsewhere cannot be served as it is. */
function checkMirrorable({ repomd, bases }: UpstreamRepository): void {
  for (const { href, base } of repomd.records) checkPlace(href, base, bases)
}

function checkTrusted({ checksumType, name }: PrimaryPackage, allowed: readonly string[]): void {
  if (!allowed.includes(checksumType))
    throw new Failure(
      'integrity',
      `The package ${name} has a checksum of type ${checksumType} only, which is not among those allowed: ${allowed.join(', ')}.`,
    )
}

function checkPlace(href: string, base: string | undefined, bases: readonly URL[]): void {
  if (base !== undefined || href.split('/').includes('..') || placesOf(href, base, bases).path === undefined)
    throw new Failure('integrity', incompatible)
}

/** What has a representation of its own as content. */
const readTypes = ['primary', 'filelists', 'other', 'group', 'updateinfo', 'modules'] as const

/** The record to read of these kinds: some upstreams have packed twins only. Undefined when there is none. */
export function typeOf({ repomd }: UpstreamRepository, kind: (typeof readTypes)[number]): string | undefined {
  const names = [kind, ...['gz', 'xz', 'zst', 'bz2'].map((packing) => `${kind}_${packing}`)]
  return names.find((name) => repomd.records.some(({ type }) => type === name))
}

function recordsOf({ repomd }: UpstreamRepository, types: readonly (string | undefined)[]): MetadataRecord[] {
  return repomd.records.filter(({ type }) => types.includes(type))
}

/** Everything for a mirror; otherwise all but the two large lists, which are not needed where all packages are known. */
function firstRecords(repository: UpstreamRepository, isComplete: boolean): MetadataRecord[] {
  if (isComplete) return repository.repomd.records
  const small = (['primary', 'group', 'updateinfo', 'modules'] as const).map((kind) => typeOf(repository, kind))
  return [...recordsOf(repository, small), ...carriedRecords(repository)]
}

/** Metadata that is carried along without reading it. Databases, packed twins and deltas are left out: a publication has its own, or none. */
export function carriedRecords({ repomd }: UpstreamRepository): MetadataRecord[] {
  return repomd.records.filter(
    ({ type }) =>
      !(readTypes as readonly string[]).includes(type) &&
      !/_(db|zck|gz|xz|zst|bz2)$/.test(type) &&
      !['prestodelta', 'deltainfo'].includes(type),
  )
}

/** The signature, the key, and files like a licence that `extra_files.json` lists. */
async function downloadExtras(repository: UpstreamRepository, opened: AsyncDisposableStack): Promise<Snapshot['extras']> {
  const { upstream, bases, signal } = repository
  const extras: Snapshot['extras'] = []
  for (const path of ['repodata/repomd.xml.asc', 'repodata/repomd.xml.key', 'extra_files.json']) {
    const staged = await downloadIfThere(upstream, urlOf(path, bases[0]!), 1 << 20, signal)
    if (staged) extras.push({ path, staged: opened.use(staged) })
  }
  const list = extras.find(({ path }) => path === 'extra_files.json')
  if (list)
    for (const { path, size, checksum } of await parseExtraFiles(list.staged)) {
      const { urls } = placesOf(path, undefined, bases)
      extras.push({ path, staged: opened.use(await whole(upstream.download(urls, { size, checksum }, signal))) })
    }
  return extras
}

/** `{"data": [{"file", "size", "checksums": {"sha256"}}]}`, as Fedora's composes have it. Anything else is no list of ours. */
async function parseExtraFiles(staged: Staged): Promise<{ path: string; size?: number; checksum?: string }[]> {
  try {
    const { data } = JSON.parse(Buffer.concat(await staged.open().toArray()).toString('utf8'))
    return data.flatMap(({ file, size, checksums }: { file: unknown; size: unknown; checksums: Record<string, unknown> }) =>
      typeof file === 'string' && typeof size === 'number' && typeof checksums?.['sha256'] === 'string'
        ? [{ path: file, size, checksum: `sha256:${checksums['sha256']}` }]
        : [],
    )
  } catch {
    return []
  }
}

function hash(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
