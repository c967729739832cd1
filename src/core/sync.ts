import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { idRows } from '../store/bulk.ts'
import { transact, type Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { type Lookups, saveBlob, unitsById } from './content.ts'
import { type Ctx, formatNamed } from './ctx.ts'
import { collect, type Found, optionsOf } from './discovery.ts'
import { fetchFiles, type MissingFile } from './downloads.ts'
import type { Format, SyncOptions } from './format.ts'
import { endLeases } from './leases.ts'
import { prnOf } from './names.ts'
import { findProver, findUnproven } from './access/possession.ts'
import { insertVerbatimPublication, ownPublication, publishVersion } from './publish.ts'
import { namesOfWhole } from './references.ts'
import { takeSlots } from './slots.ts'
import type { Job } from './tasks/tasks.ts'
import { commitVersion, contentIds, getRepository, latestVersion, markChanged } from './versions.ts'

export interface SyncArgs {
  repositoryId: number
  remoteId: number
  /** Values of the format's `fields.sync`. */
  settings: Record<string, unknown>
}

/** Makes a repository match its upstream: a new version, unless nothing changed. Nothing is visible before every byte is here and verified. */
export async function syncRepository(job: Job, { repositoryId, remoteId, settings }: SyncArgs): Promise<void> {
  const { ctx } = job
  const repository = await getRepository(ctx.db, repositoryId)
  const remote = await ctx.db.selectFrom('remote').selectAll().where('id', '=', remoteId).executeTakeFirst()
  if (!remote) throw new Failure('not_found', 'The remote was deleted.')
  const format = formatNamed(ctx, repository.type.split('.')[0]!)
  if (!format.discover) throw new Failure('invalid', `A ${format.name} repository cannot be synced.`)

  const latest = await latestVersion(ctx.db, repositoryId)
  // Two remotes, or the same one asked in another way, are two states.
  const asked = JSON.stringify([remote.uuid, remote.url, remote.policy, settings])
  const last = parseLastSync(repository.last_sync)
  const same = last?.asked === asked && last.version === latest.number
  const unchanged = same && settings['optimize'] !== false ? last.fingerprint : undefined
  const { progress, signal } = job
  const lookups: Lookups = new Map()
  const options = optionsOf(ctx, { repository, remote, latest, settings, unchanged, settled: same, lookups, progress, signal })
  await using upstream = ctx.fetch.open(options.access)
  const present = await contentIds(ctx.db, latest)
  const mode = format.syncMode?.(settings) ?? 'additive'
  const settled = same ? present : new Set<number>()
  const complete = mode === 'complete'
  const around = { repository, remote, signal, lookups, settled, complete }
  const found = await collect(ctx, format.discover(upstream, options), around)
  if (!found) {
    progress.report('sync.was_skipped', 'Skipping Sync (no change from previous sync)', { done: 1, finished: true })
    return
  }

  try {
    const { wanted, remove } = await choose(job.ctx, format, mode, found.ids, present)
    const add = new Set([...wanted].filter((id) => !present.has(id)))
    const prover = format.keepsApart ? await findProver(ctx.db, job.task.userId) : undefined
    const wholes = (id: number) => namesOfWhole(ctx.db, id, wanted)
    const places = { base: remote.url, mirrors: found.mirrors, wholes, ...(prover && { holder: repository.id }) }
    if (prover) await fetchFiles(job, upstream, await findUnproven(ctx, prover, repository, remote, add), places)
    if (remote.policy === 'immediate') await fetchFiles(job, upstream, await findMissing(ctx, wanted, remote), places)
    const dropped = await prune(job, format, options, mode, { add, remove, present })
    await commit(job, format, { repository, remote, latest, found, add, remove: [...remove, ...dropped], mode, asked })
  } finally {
    for (const { staged } of found.verbatim) await staged[Symbol.asyncDispose]()
  }
}

function parseLastSync(json: string | null): { asked: string; version: number; fingerprint: string } | undefined {
  return json ? JSON.parse(json) : undefined
}

/** Files of this content that are not here yet. What an interrupted sync has fetched is not fetched again. */
async function findMissing({ db }: Ctx, ids: ReadonlySet<number>, remote: Row<'remote'>): Promise<MissingFile[]> {
  const { rows } = await sql<MissingFile>`
    select file.id, file.content_id as "contentId", file.path, file.size, file.checksum, source.url from ${idRows(db, ids)} as i
    cross join file
    left join source on source.file_id = file.id and source.remote_id = ${remote.id}
    where file.content_id = i.id and file.blob_id is null`.execute(db)
  return rows
}

/** What of the found content the version is to hold, and what of the present goes. An upstream that is kept as it is needs no slots. */
async function choose(
  ctx: Ctx,
  format: Format,
  mode: 'additive' | 'mirror' | 'complete',
  found: Set<number>,
  present: ReadonlySet<number>,
): Promise<{ wanted: Set<number>; remove: number[] }> {
  if (mode === 'additive') {
    const { add, remove } = await takeSlots(ctx, format, found, present)
    return { wanted: add, remove }
  }
  const wanted = mode === 'complete' ? found : (await takeSlots(ctx, format, found, new Set())).add
  return { wanted, remove: [...present].filter((id) => !wanted.has(id)) }
}

/** Lets the format drop what should not be in one version together (rpm: all but the newest n of each package). */
async function prune(
  job: Job,
  format: Format,
  { repository }: SyncOptions,
  mode: string,
  { add, remove, present }: { add: Set<number>; remove: number[]; present: ReadonlySet<number> },
): Promise<number[]> {
  if (!format.prune || mode === 'complete') return []
  const gone = new Set(remove)
  const candidates = [...present].filter((id) => !gone.has(id)).concat([...add])
  const dropped = await format.prune(unitsById(job.ctx.db, candidates), repository)
  for (const id of dropped) add.delete(id)
  return dropped.filter((id) => present.has(id))
}

interface Outcome {
  repository: Row<'repository'>
  remote: Row<'remote'>
  latest: Row<'version'>
  found: Found
  add: Set<number>
  remove: number[]
  mode: string
  asked: string
}

/** One transaction: the version, its publication where the upstream's own is kept, and what the next sync compares with. */
async function commit(
  job: Job,
  format: Format,
  { repository, remote, latest, found, add, remove, mode, asked }: Outcome,
): Promise<void> {
  const { ctx } = job
  const kept = mode === 'complete' ? found.verbatim : []
  const files = await Promise.all(
    kept.map(async ({ path, staged }) => {
      await staged.keep()
      return { path, blobId: await saveBlob(ctx.db, staged.digests, staged.size) }
    }),
  )
  const { version, publication } = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    const version = await commitVersion(tx, { repositoryId: repository.id, add, remove })
    const publication =
      mode === 'complete' && format.publications
        ? await insertVerbatimPublication(tx, format.publications, repository, version ?? latest, files, found.paths)
        : undefined
    if (publication) await ownPublication(job, tx, publication)
    const number = (version ?? latest).number
    await tx
      .updateTable('repository')
      .set({
        last_sync:
          found.fingerprint === undefined ? null : JSON.stringify({ asked, version: number, fingerprint: found.fingerprint }),
      })
      .where('id', '=', repository.id)
      .execute()
    await rememberMirrors(tx, remote, found.mirrors)
    if (version ?? publication) await markChanged(tx, repository.id)
    await endLeases(tx, repository.id, add)
    return { version, publication }
  })
  ctx.changes.bump()
  job.progress.report('associating.content', 'Associating Content', { total: add.size, done: add.size, finished: true })
  if (remove.length > 0)
    job.progress.report('unassociating.content', 'Un-Associating Content', {
      total: remove.length,
      done: remove.length,
      finished: true,
    })
  if (version) await job.created(prnOf(ctx.formats, 'version', version))
  if (publication) await job.created(prnOf(ctx.formats, 'publication', publication))
  if (version && repository.autopublish && !publication) await publishVersion(job, { versionId: version.id, asked: {} })
}

const mostMirrors = 16

/** Files that were found at a mirror of an earlier sync are there still: it is kept, behind those that are known now. */
async function rememberMirrors(tx: Tx, { id, mirrors }: Row<'remote'>, found: readonly URL[]): Promise<void> {
  const before: string[] = mirrors === null ? [] : JSON.parse(mirrors)
  if (found.length < 2 && before.length === 0) return
  const all = [...new Set([...found.map(({ href }) => href), ...before])].slice(0, mostMirrors)
  if (JSON.stringify(all) === JSON.stringify(before)) return
  await tx
    .updateTable('remote')
    .set({ mirrors: JSON.stringify(all) })
    .where('id', '=', id)
    .execute()
}
