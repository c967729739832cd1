import { sql } from 'kysely'
import { type Micros, now } from '../lib/time.ts'
import { idRows } from '../store/bulk.ts'
import { type Db, isReferenced, type Tx } from '../store/database.ts'
import type { Ctx } from './ctx.ts'
import type { Job } from './tasks.ts'

/*
 * What nothing refers to goes: content that is in no version, then blobs that no content and no publication has, each once it was left
 * alone for the time of protection. It runs beside everything else, so every delete asks again in its own transaction, and:
 *
 *   row:    touched before the cutoff ──> deleted            Whoever finds a row useful touches it first, or refers to it in the same
 *   bytes:  row gone ──> not used since the cutoff ──> gone  transaction. Whoever stores bytes that are there already marks them as used
 *                                                            (BlobStore.keep), so bytes that are about to get a new row stay.
 */

const minute: Micros = 60_000_000
/** Content that a sync finds again is touched only when it was not within an hour (core/content.ts). */
const touchedWithin: Micros = 60 * minute
const defaultProtection = 1440
const scanned = 2_000
const batchSize = 250
const unlinkedAtOnce = 16

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
  await inBatches(blobs, async (ids) => {
    signal.throwIfAborted()
    progress.report('clean-up.artifacts', 'Clean up orphan Artifacts', { add: await deleteBlobs(ctx, ids, cutoff) })
  })
  progress.report('clean-up.artifacts', 'Clean up orphan Artifacts', { finished: true })
}

/**
 * What was touched at this time or later stays. A task that runs may be about to use what it found since it began,
 * so no protection is shorter than that.
 */
export async function findCutoff(db: Db, ownTask: number, protection: Micros): Promise<Micros> {
  const oldest = await db
    .selectFrom('task')
    .select(({ fn }) => fn.min('started').as('started'))
    .where('state', 'in', ['running', 'canceling'])
    .where('id', '!=', ownTask)
    .executeTakeFirst()
  const unprotected = now() - protection
  return oldest?.started == null ? unprotected : Math.min(unprotected, oldest.started - touchedWithin)
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

const isMember = sql<boolean>`exists (select 1 from membership where membership.content_id = content.id)`
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

async function inBatches(ids: readonly number[], act: (batch: readonly number[]) => Promise<void>): Promise<void> {
  for (let at = 0; at < ids.length; at += batchSize) await act(ids.slice(at, at + batchSize))
}

/** Deletes those of this content that still nothing refers to. Returns how many. */
async function deleteContent(db: Db, ids: readonly number[], cutoff: Micros): Promise<number> {
  return oneByOneIfReferenced(ids, (batch) =>
    db.transaction().execute(async (tx) => {
      const { numDeletedRows } = await tx
        .deleteFrom('content')
        .where('id', 'in', these(tx, batch))
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

/** Deletes those of these blobs that still nothing refers to, and then their bytes. Returns how many. */
export async function deleteBlobs(ctx: Ctx, ids: readonly number[], cutoff: Micros): Promise<number> {
  const digests: string[] = []
  await oneByOneIfReferenced(ids, async (batch) => {
    const gone = await ctx.db.transaction().execute((tx) =>
      tx
        .deleteFrom('blob')
        .where('id', 'in', these(tx, batch))
        .where(({ eb, not }) => eb.and([eb('touched', '<', cutoff), not(isUsed)]))
        .returning('sha256')
        .execute(),
    )
    for (const { sha256 } of gone) digests.push(sha256)
    return gone.length
  })
  const waiting = digests.values()
  // The clock of files, not of rows: a clock that was set tells another time than a process that runs.
  const unlessUsedSince = new Date(Date.now() - (now() - cutoff) / 1000)
  const unlink = async () => {
    for (const sha256 of waiting) await ctx.blobs.delete(sha256, { unlessUsedSince })
  }
  await Promise.all(Array.from({ length: unlinkedAtOnce }, unlink))
  return digests.length
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
export async function reclaimSpace({ ctx, progress, signal, task }: Job, { repositoryIds, keepVersionIds = [] }: ReclaimArgs): Promise<void> {
  const files = await reclaimableFiles(ctx, repositoryIds, keepVersionIds)
  const blobs = [...new Set(files.map((file) => file.blobId))]
  const report = (change: Parameters<typeof progress.report>[2]) => progress.report('reclaim-space.artifact', 'Reclaim disk space', change)
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
  await inBatches(blobs, async (ids) => report({ add: await deleteBlobs(ctx, ids, cutoff) }))
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
