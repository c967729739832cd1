import type { Upstream } from '../../core/fetch/fetch.ts'
import type { Discovered, SyncOptions } from '../../core/format.ts'
import { readComps } from './comps.ts'
import { describeMetadataFile } from './content-types.ts'
import { describeInThread, listNames } from './describe-in-thread.ts'
import { type DescribedPackages, describePackages, nameOf, type PackageOrder } from './describe-packages.ts'
import { pathOf } from './primary.ts'
import { carriedRecords, type Snapshot, takeSnapshot, typeOf } from './snapshot.ts'
import { renderTreeinfo } from './treeinfo.ts'
import { readUpdateinfo } from './updateinfo.ts'
import { openPacked, openRecord, placesOf, readRecord, type UpstreamRepository } from './upstream-repository.ts'

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
  { progress, settled }: SyncOptions,
  isComplete: boolean,
): AsyncGenerator<Discovered> {
  const { decisions, keys, wanted } = selection
  const left = decisions.filter((decision) => decision === 'left out').length
  progress.report('sync.skipped.packages', 'Skipping Packages', { total: left, done: left, finished: true })
  const parsed = (change: object) => progress.report('sync.parsing.packages', 'Parsed Packages', change)
  parsed({ total: decisions.length, done: 0 })
  // A mirror tells of each place where a package lies.
  const onlyNew = settled && !isComplete
  if (onlyNew) {
    const held = [...keys].flatMap(([index, key]) => (decisions[index] === 'known' ? key : []))
    yield { kind: 'kept', type: 'rpm.package', keys: held }
    parsed({ add: held.length })
  }
  if (!onlyNew || wanted.size > 0) {
    const bases = repository.bases.map(String)
    const order = { selection, bases, modular: modules?.modularNevras, onlyNew, isComplete }
    for await (const { units, elsewhere, count } of readLists(repository, order)) {
      yield { kind: 'content', batch: units }
      for (const each of elsewhere) yield { kind: 'verbatim-path', type: 'rpm.package', ...each }
      parsed({ add: count })
    }
  }
  parsed({ done: decisions.length, finished: true })
}

/** Fewer new packages are read before a thread has started. */
const worthThread = 2000

function readLists(repository: UpstreamRepository, order: PackageOrder): AsyncGenerator<DescribedPackages> {
  if (order.selection.wanted.size < worthThread)
    return describePackages(
      {
        primary: openRecord(repository, 'primary')!,
        filelists: openRecord(repository, 'filelists'),
        other: openRecord(repository, 'other'),
      },
      order,
    )
  const lists = listNames.flatMap((name) => {
    const packed = openPacked(repository, name)
    return packed ? [[name, packed] as const] : []
  })
  return describeInThread(new Map(lists), order)
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
