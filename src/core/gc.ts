import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { type Micros, now } from '../lib/time.ts'
import { idRows, lockUnused, textRows } from '../store/bulk.ts'
import { type Db, isReferenced, transact, type Tx } from '../store/database.ts'
import { tidyBlobUploads } from './blob-uploads.ts'
import type { Ctx } from './ctx.ts'
import { tidyLeases } from './leases.ts'
import { type Job, unfinishedStates } from './tasks/tasks.ts'

/*
 * What nothing refers to goes: content that is in no version, then blobs that no content and no publication has, each once it was left
 * alone for the time of protection. It runs beside everything else, so nothing is believed for long:
 *
 *   row:    touched before the cutoff, and still unused in the transaction that deletes it.
 *           Whoever finds a row useful touches it first, or refers to it in the same transaction.
 *   bytes:  a moment later, when there still is no row, and unless they were stored again since the cutoff or since their row was last
 *           touched (BlobStore.delete): whoever stored them is about to make their row, however long that takes.
 */

const minute: Micros = 60_000_000
/** Content that a sync finds again is touched only when it was not within an hour (core/content.ts). */
const touchedWithin: Micros = 60 * minute
const defaultProtection = 1440
const scanned = 2_000
const batchSize = 250
const unlinkedAtOnce = 16
/** Milliseconds from the end of rows to the end of bytes. */
const moment = 1_000
/** Bytes without a row may be about to get one, but not for so long. */
const strayAge: Micros = 60 * minute

export interface OrphansArgs {
  /** Minutes for which what nobody refers to is kept after it was last touched; 1440 by default. */
  protectionTime?: number | null
  /** Only this content, by id. */
  contentIds?: readonly number[] | null
}

/** Work: deletes what nothing refers to any more. */
export async function cleanOrphans(job: Job, { protectionTime, contentIds }: OrphansArgs): Promise<void> {
  const { ctx, progress, signal } = job
  const cutoff = await findCutoff(ctx.db, job.task.id, (protectionTime ?? defaultProtection) * minute)
  await tidyLeases(ctx.db)
  await tidyBlobUploads(ctx)

  const content = await gather(ctx.db, orphanedContent(cutoff, contentIds), signal)
  progress.report('clean-up.content', 'Clean up orphan Content', { total: content.length, done: 0 })
  await inBatches(content, async (ids) => {
    signal.throwIfAborted()
    progress.report('clean-up.content', 'Clean up orphan Content', { add: await deleteContent(ctx.db, ids, cutoff) })
  })
  progress.report('clean-up.content', 'Clean up orphan Content', { finished: true })
  await deletePacks(ctx.db)

  const blobs = await gather(ctx.db, orphanedBlobs(cutoff), signal)
  progress.report('clean-up.artifacts', 'Clean up orphan Artifacts', { total: blobs.length, done: 0 })
  await deleteBlobs(ctx, blobs, cutoff, signal, (add) =>
    progress.report('clean-up.artifacts', 'Clean up orphan Artifacts', { add }),
  )
  progress.report('clean-up.artifacts', 'Clean up orphan Artifacts', { finished: true })
  // Reading the whole store is for nightly runs, not for those that follow each change.
  if (now() - cutoff >= strayAge) await deleteStrays(ctx, cutoff, signal)
}

/**
 * What was touched at this time or later stays. A task may be about to use what it found since it began, or what was
 * uploaded for it before, so no protection is shorter than the oldest unfinished one is old.
 */
export async function findCutoff(db: Db, ownTask: number, protection: Micros): Promise<Micros> {
  const oldest = await db
    .selectFrom('task')
    .select(({ fn }) => fn.min('created').as('created'))
    .where('state', 'in', unfinishedStates)
    .where('id', '!=', ownTask)
    .executeTakeFirst()
  const unprotected = now() - protection
  return Math.min(unprotected, (oldest?.created ?? Number.POSITIVE_INFINITY) - touchedWithin)
}

type Scan = (db: Db, after: number) => Promise<{ id: number }[]>

const orphanedContent =
  (cutoff: Micros, among?: readonly number[] | null): Scan =>
  (db, after) => {
    const orphans = db
      .selectFrom('content')
      .select('id')
      .where('id', '>', after)
      .where(({ eb, not }) => eb.and([eb('touched', '<', cutoff), not(isMember)]))
    return (among ? orphans.where('id', 'in', these(db, among)) : orphans).orderBy('id').limit(scanned).execute()
  }

const orphanedBlobs =
  (cutoff: Micros): Scan =>
  (db, after) =>
    db
      .selectFrom('blob')
      .select('id')
      .where('id', '>', after)
      .where(({ eb, not }) => eb.and([eb('touched', '<', cutoff), not(isUsed)]))
      .orderBy('id')
      .limit(scanned)
      .execute()

/** A version has it, or a repository holds it for now. */
const isMember = sql<boolean>`(exists (select 1 from membership where membership.content_id = content.id) or
  exists (select 1 from lease where lease.content_id = content.id))`
const isUsed = sql<boolean>`(
  exists (select 1 from file where file.blob_id = blob.id) or
  exists (select 1 from published_file where published_file.blob_id = blob.id))`

async function gather(db: Db, scan: Scan, signal: AbortSignal): Promise<number[]> {
  const ids: number[] = []
  for (let found = await scan(db, 0); found.length > 0; found = await scan(db, ids.at(-1)!)) {
    signal.throwIfAborted()
    for (const { id } of found) ids.push(id)
  }
  return ids
}

async function inBatches<T>(all: readonly T[], act: (batch: readonly T[]) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < all.length; at += batchSize) await act(all.slice(at, at + batchSize))
}

/** Deletes those of this content that still nothing refers to. Returns how many. */
async function deleteContent(db: Db, ids: readonly number[], cutoff: Micros): Promise<number> {
  return oneByOneIfReferenced(ids, (batch) =>
    transact(db, async (tx) => {
      const { numDeletedRows } = await tx
        .deleteFrom('content')
        .where('id', 'in', these(tx, await lockUnused(tx, 'content', batch)))
        .where(({ eb, not }) => eb.and([eb('touched', '<', cutoff), not(isMember)]))
        .executeTakeFirst()
      return Number(numDeletedRows)
    }),
  )
}

/** A pack is stored together with its first content, so one without content has lost it all. */
async function deletePacks(db: Db): Promise<void> {
  await db
    .deleteFrom('pack')
    .where(({ not }) => not(sql<boolean>`exists (select 1 from content where content.pack_id = pack.id)`))
    .execute()
}

/** Deletes those of these blobs that still nothing refers to, first their rows, then their bytes. */
export async function deleteBlobs(
  ctx: Ctx,
  ids: readonly number[],
  cutoff: Micros,
  signal: AbortSignal,
  tell: (count: number) => void,
): Promise<void> {
  const gone: Gone[] = []
  try {
    await inBatches(ids, async (batch) => {
      signal.throwIfAborted()
      const before = gone.length
      await oneByOneIfReferenced(batch, async (some) => gone.push(...(await deleteBlobRows(ctx.db, some, cutoff))))
      tell(gone.length - before)
    })
  } finally {
    // What has lost its row loses its bytes too, even when the task is canceled: nobody would find them again soon.
    if (gone.length > 0) await sleep(moment)
    await inBatches(gone, (batch) => deleteBytes(ctx, batch))
  }
}

/** Bytes that have no row any more, or never had one. They stay if they were stored again since. */
interface Gone {
  sha256: string
  since: Micros
}

async function deleteBlobRows(db: Db, ids: readonly number[], cutoff: Micros): Promise<Gone[]> {
  const gone = await transact(db, async (tx) =>
    tx
      .deleteFrom('blob')
      .where('id', 'in', these(tx, await lockUnused(tx, 'blob', ids)))
      .where(({ eb, not }) => eb.and([eb('touched', '<', cutoff), not(isUsed)]))
      .returning(['sha256', 'touched'])
      .execute(),
  )
  // An upload's own name goes a moment after its row was made, which the time of the file shows.
  return gone.map(({ sha256, touched }) => ({ sha256, since: Math.min(cutoff, touched + moment * 1000) }))
}

/** Deletes the bytes of those of these digests that have no row. Returns how many. */
async function deleteBytes(ctx: Ctx, all: readonly Gone[]): Promise<number> {
  const digests = all.map(({ sha256 }) => sha256)
  const { rows } = await sql<{ sha256: string }>`
    select b.sha256 from ${textRows(ctx.db, digests)} as k cross join blob b where b.sha256 = k.text`.execute(ctx.db)
  const known = new Set(rows.map(({ sha256 }) => sha256))
  const gone = all.filter(({ sha256 }) => !known.has(sha256))
  const waiting = gone.values()
  const unlink = async () => {
    for (const { sha256, since } of waiting) {
      // Files have the time of the system's clock, rows that of a clock which nobody sets while the process runs.
      const unlessUsedSince = new Date(Date.now() - (now() - since) / 1000)
      await ctx.blobs.delete(sha256, { unlessUsedSince })
    }
  }
  await Promise.all(Array.from({ length: unlinkedAtOnce }, unlink))
  return gone.length
}

/** Deletes bytes that have no row: a crash came between the two. Returns how many it found. */
export async function deleteStrays(ctx: Ctx, cutoff: Micros, signal: AbortSignal): Promise<number> {
  let count = 0
  let batch: Gone[] = []
  for await (const sha256 of ctx.blobs.list()) {
    if (batch.push({ sha256, since: cutoff }) < scanned) continue
    signal.throwIfAborted()
    count += await deleteBytes(ctx, batch)
    batch = []
  }
  return count + (await deleteBytes(ctx, batch))
}

/** On PostgreSQL somebody may refer to a row between our look and our delete: then that row stays and the others go. */
async function oneByOneIfReferenced(ids: readonly number[], act: (ids: readonly number[]) => Promise<number>): Promise<number> {
  try {
    return await act(ids)
  } catch (error) {
    if (!isReferenced(error)) throw error
    if (ids.length === 1) return 0
  }
  let count = 0
  for (const id of ids) count += await oneByOneIfReferenced([id], act)
  return count
}

function these(db: Db | Tx, ids: readonly number[]) {
  return sql<number>`(select id from ${idRows(db, ids)} as i)`
}

export interface ReclaimArgs {
  repositoryIds: readonly number[]
  keepVersionIds?: readonly number[]
}

/** Work: frees the disk of what only these repositories have and what can be fetched again. Content stays; its bytes come on demand. */
export async function reclaimSpace(
  { ctx, progress, signal, task }: Job,
  { repositoryIds, keepVersionIds = [] }: ReclaimArgs,
): Promise<void> {
  const files = await reclaimableFiles(ctx, repositoryIds, keepVersionIds)
  const blobs = [...new Set(files.map((file) => file.blobId))]
  const report = (change: Parameters<typeof progress.report>[2]) =>
    progress.report('reclaim-space.artifact', 'Reclaim disk space', change)
  report({ total: blobs.length, done: 0 })
  await inBatches(
    files.map(({ id }) => id),
    async (ids) => {
      signal.throwIfAborted()
      await ctx.db.updateTable('file').set({ blob_id: null }).where('id', 'in', these(ctx.db, ids)).execute()
    },
  )
  ctx.changes.bump()
  const cutoff = await findCutoff(ctx.db, task.id, 0)
  await deleteBlobs(ctx, blobs, cutoff, signal, (add) => report({ add }))
  report({ finished: true })
}

async function reclaimableFiles({ db, formats }: Ctx, repositoryIds: readonly number[], keepVersionIds: readonly number[]) {
  // Content with one file is what clients download; what brings several (distribution trees) or is rendered from its file stays.
  const types = formats.flatMap((format) =>
    format.contentTypes.filter(({ files }) => files === 'one').map(({ name }) => `${format.name}.${name}`),
  )
  if (types.length === 0) return []
  const { rows } = await sql<{ id: number; blobId: number }>`
    select file.id, file.blob_id as "blobId"
    from (select distinct content_id from membership where repository_id in ${these(db, repositoryIds)}) as mine
    join content on content.id = mine.content_id
    join file on file.content_id = content.id
    where file.blob_id is not null
      and content.type in (${sql.join(types)})
      and exists (select 1 from source where source.file_id = file.id)
      and not exists (
        select 1 from membership other where other.content_id = content.id and other.repository_id not in ${these(db, repositoryIds)})
      and not exists (
        select 1 from membership kept join version on version.repository_id = kept.repository_id
        where kept.content_id = content.id and version.id in ${these(db, keepVersionIds)}
          and kept.added_in <= version.number and (kept.removed_in is null or kept.removed_in > version.number))
    order by file.id`.execute(db)
  return rows
}
