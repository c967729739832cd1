import { createHash } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import { sql } from 'kysely'
import { Failure, hasCode } from '../lib/failure.ts'
import type { Ctx } from './ctx.ts'
import { type OnDemand, openOnDemand } from './serving/on-demand.ts'
import type { Job } from './tasks/tasks.ts'

export interface RepairArgs {
  /** Only what this version serves; everything without it. */
  versionId?: number | null
  verifyChecksums?: boolean
}

const pageSize = 500
const atOnce = 4

/**
 * Work: looks whether stored bytes are there and right, and fetches again what is not. What cannot be had again is removed from the store,
 * so that wrong bytes are never served; storing the same bytes anew heals it.
 */
export async function repairBlobs(
  { ctx, progress, signal }: Job,
  { versionId = null, verifyChecksums = true }: RepairArgs,
): Promise<void> {
  const tell = {
    missing: (add: number) => progress.report('repair.missing', 'Identify missing units', { add }),
    corrupted: (add: number) => progress.report('repair.corrupted', 'Identify corrupted units', { add }),
    repaired: (add: number) => progress.report('repair.repaired', 'Repair corrupted units', { add }),
  }
  for (const each of Object.values(tell)) each(0)
  await using onDemand = openOnDemand(ctx)
  let damaged = 0
  let after = 0
  for (let page = await blobsAfter(ctx, versionId, after); page.length > 0; page = await blobsAfter(ctx, versionId, after)) {
    after = page.at(-1)!.id
    const waiting = page.values()
    const work = async () => {
      for (const blob of waiting) {
        signal.throwIfAborted()
        const state = await examine(ctx, blob, verifyChecksums)
        if (state === 'good') continue
        damaged += 1
        tell[state](1)
        if (await mend(ctx, onDemand, blob)) tell.repaired(1)
      }
    }
    await Promise.all(Array.from({ length: atOnce }, work))
  }
  if (damaged > 0) ctx.changes.bump()
}

interface Blob {
  id: number
  sha256: string
  size: number
}

/** The next blobs in the order of ids: of files and publications of a version, or all. */
async function blobsAfter({ db }: Ctx, versionId: number | null, after: number): Promise<Blob[]> {
  if (versionId === null)
    return db.selectFrom('blob').select(['id', 'sha256', 'size']).where('id', '>', after).orderBy('id').limit(pageSize).execute()
  const { rows } = await sql<Blob>`
    select blob.id, blob.sha256, blob.size from blob where blob.id > ${after} and blob.id in (
      select file.blob_id from version
      join membership m on m.repository_id = version.repository_id
        and m.added_in <= version.number and (m.removed_in is null or m.removed_in > version.number)
      join file on file.content_id = m.content_id
      where version.id = ${versionId}
      union
      select published_file.blob_id from publication join published_file on published_file.publication_id = publication.id
      where publication.version_id = ${versionId})
    order by blob.id limit ${sql.lit(pageSize)}`.execute(db)
  return rows
}

async function examine(
  { blobs }: Ctx,
  { sha256, size }: Blob,
  verifyChecksums: boolean,
): Promise<'good' | 'missing' | 'corrupted'> {
  const stored = await blobs.size(sha256)
  if (stored === undefined) return 'missing'
  if (stored !== size) return 'corrupted'
  if (!verifyChecksums) return 'good'
  const hash = createHash('sha256')
  try {
    await pipeline(await blobs.open(sha256), hash)
  } catch (error) {
    if (error instanceof Failure && error.code === 'not_found') return 'missing'
    if (hasCode(error, 'EIO')) return 'corrupted'
    throw error
  }
  return hash.digest('hex') === sha256 ? 'good' : 'corrupted'
}

/** Fetches a blob again from any source of any file that has it. */
async function mend(ctx: Ctx, onDemand: OnDemand, { id, sha256 }: Blob): Promise<boolean> {
  ctx.log.warn({ sha256 }, 'a stored blob is damaged or missing')
  await ctx.blobs.delete(sha256)
  const files = await ctx.db
    .selectFrom('file')
    .select('id')
    .where('blob_id', '=', id)
    .where(({ exists, selectFrom }) =>
      exists(selectFrom('source').select('remote_id').whereRef('source.file_id', '=', 'file.id')),
    )
    .orderBy('id')
    .execute()
  for (const file of files) {
    try {
      if ((await onDemand.fetch(file.id)) === sha256) return true
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      ctx.log.warn({ sha256, reason: error.message }, 'a damaged blob could not be fetched again')
    }
  }
  return false
}
