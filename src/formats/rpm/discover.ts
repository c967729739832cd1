import type { Upstream } from '../../core/fetch.ts'
import type { Described, Discovered, SyncOptions } from '../../core/format.ts'
import { readComps } from './comps.ts'
import { describeMetadataFile } from './content-types.ts'
import { describePackage } from './package.ts'
import { type Allocate, openSlabs } from './package-entry.ts'
import { keyOf, type ReadPackage, readPackages } from './package-lists.ts'
import { nevraOf, pathOf, type PrimaryPackage } from './primary.ts'
import { carriedRecords, type Snapshot, takeSnapshot, typeOf } from './snapshot.ts'
import { renderTreeinfo } from './treeinfo.ts'
import { readUpdateinfo } from './updateinfo.ts'
import { openRecord, placesOf, readRecord } from './upstream-repository.ts'

/** Reads an rpm-md repository. `isComplete` keeps its metadata files as they are, too. See Format.discover. */
export async function* discover(upstream: Upstream, options: SyncOptions, isComplete: boolean): AsyncGenerator<Discovered> {
  const found = await takeSnapshot(upstream, options, isComplete)
  if (typeof found === 'string') return yield { kind: 'fingerprint', value: found, unchanged: true }
  await using snapshot = found
  const { repository, tree, modules } = snapshot
  yield { kind: 'mirrors', bases: repository.bases }
  yield* discoverPackages(snapshot, options, isComplete)
  if (modules) yield { kind: 'content', batch: modules.units }
  yield* discoverComps(snapshot, options)
  yield* discoverAdvisories(snapshot, options)
  for (const { type, href, base, checksum, size } of carriedRecords(repository)) {
    const { path = `repodata/${nameOf(href)}`, urls } = placesOf(href, base, repository.bases)
    const file = { path, size, checksum: `${checksum.type}:${checksum.value}`, staged: repository.files.get(type)!, urls }
    yield { kind: 'content', batch: [describeMetadataFile(type, file)] }
  }
  if (tree) yield { kind: 'content', batch: [tree] }
  if (isComplete) yield* discoverFiles(snapshot, options)
  yield { kind: 'fingerprint', value: snapshot.fingerprint, unchanged: false }
}

async function* discoverPackages(
  { repository, selection, modules }: Snapshot,
  { progress }: SyncOptions,
  isComplete: boolean,
): AsyncGenerator<Discovered> {
  const left = selection.decisions.filter((decision) => decision === 'left out').length
  progress.report('sync.skipped.packages', 'Skipping Packages', { total: left, done: left, finished: true })
  const parsed = (change: object) => progress.report('sync.parsing.packages', 'Parsed Packages', change)
  parsed({ total: selection.decisions.length, done: 0 })
  const lists = {
    primary: openRecord(repository, 'primary')!,
    filelists: openRecord(repository, 'filelists'),
    other: openRecord(repository, 'other'),
  }
  const allocate = openSlabs()
  for await (const packages of readPackages(lists, selection)) {
    const around = { bases: repository.bases, modular: modules?.modularNevras, allocate }
    const batch = packages.flatMap(({ found, lists }) => (lists === undefined ? [] : describe(found, lists, around)))
    yield { kind: 'content', batch }
    if (isComplete) yield* packages.flatMap(({ found, lists }) => (lists === undefined ? elsewhere(found) : []))
    parsed({ add: packages.length })
  }
  parsed({ done: selection.decisions.length, finished: true })
}

interface Surroundings {
  bases: readonly URL[]
  modular: ReadonlySet<string> | undefined
  allocate: Allocate
}

function describe(
  found: PrimaryPackage,
  lists: NonNullable<ReadPackage['lists']>,
  { bases, modular, allocate }: Surroundings,
): Described {
  const { path = nameOf(found.href), urls } = placesOf(found.href, found.base, bases)
  return describePackage(found, {
    lists,
    isModular: modular?.has(nevraOf(found)) ?? false,
    allocate,
    file: { path, size: found.size, checksum: `${found.checksumType}:${found.checksum}`, urls },
  })
}

function elsewhere(found: PrimaryPackage): Discovered {
  const path = pathOf(found.href)
  return { kind: 'verbatim-path', type: 'rpm.package', key: keyOf(found), path }
}

/** The last segment of a location, as a path. Throws Failure integrity. */
function nameOf(href: string): string {
  return pathOf(href.replace(/[?#].*$/, '').replace(/^.*\//, ''))
}

async function* discoverComps({ repository }: Snapshot, { progress }: SyncOptions): AsyncGenerator<Discovered> {
  const comps = await readRecord(repository, typeOf(repository, 'group') ?? '')
  if (!comps) return
  const batch = readComps(comps)
  progress.report('sync.parsing.comps', 'Parsed Comps', { total: batch.length, done: batch.length, finished: true })
  yield { kind: 'content', batch }
}

async function* discoverAdvisories({ repository }: Snapshot, { progress }: SyncOptions): AsyncGenerator<Discovered> {
  const updateinfo = openRecord(repository, typeOf(repository, 'updateinfo') ?? '')
  if (!updateinfo) return
  let total = 0
  for await (const batch of readUpdateinfo(updateinfo)) {
    total += batch.length
    yield { kind: 'content', batch }
  }
  progress.report('sync.parsing.advisories', 'Parsed Advisories', { total, done: total, finished: true })
}

/** The upstream's own metadata files. They come last, when nothing can fail any more: from here on they are the core's to dispose of. */
async function* discoverFiles({ repository, tree, extras, release }: Snapshot, options: SyncOptions): AsyncGenerator<Discovered> {
  const { repomd, repomdFile, files } = repository
  const verbatim = [
    ...repomd.records.map(({ type, href }) => ({ path: pathOf(href), staged: files.get(type)! })),
    ...extras,
    { path: 'repodata/repomd.xml', staged: repomdFile },
  ]
  const treeinfo = tree && (await renderTreeinfo({ meta: tree.meta, entry: async () => Buffer.from(tree.entry ?? []) }))
  if (treeinfo) yield { kind: 'verbatim', path: treeinfo.path, staged: await options.stage(treeinfo.body) }
  release()
  for (const { path, staged } of verbatim) yield { kind: 'verbatim', path, staged }
}
