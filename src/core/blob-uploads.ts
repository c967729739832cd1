import { type Micros, now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Row } from '../store/schema.ts'
import { changeLightly, type Db } from '../store/database.ts'
import type { Ctx } from './ctx.ts'

/*
 * A blob on its way into a repository, over as many requests as its client needs: a row that says whose it is, and bytes that grow in the
 * store under the same UUID. The bytes are the truth about how far it is.
 */

const hour: Micros = 3_600_000_000
/** How long a client may let an upload rest. */
const patience = 7 * 24 * hour

/** After a power cut it may be unknown: its client begins another one then. */
export async function beginBlobUpload(db: Db, repositoryId: number, userId: number | null): Promise<Row<'blob_upload'>> {
  const at = now()
  const row = { uuid: newUuid(), repository_id: repositoryId, user_id: userId, created: at, updated: at }
  await changeLightly(db, (light) => light.insertInto('blob_upload').values(row).execute())
  return row
}

/** An upload of this user into this repository. */
export async function findBlobUpload(
  db: Db,
  uuid: string,
  repositoryId: number,
  userId: number | null,
): Promise<Row<'blob_upload'> | undefined> {
  return db
    .selectFrom('blob_upload')
    .selectAll()
    .where('uuid', '=', uuid)
    .where('repository_id', '=', repositoryId)
    .where('user_id', userId === null ? 'is' : '=', userId)
    .executeTakeFirst()
}

/** Forgets an upload. When its bytes stay after a crash, tidyBlobUploads removes them. */
export async function endBlobUpload(ctx: Pick<Ctx, 'db' | 'blobs'>, uuid: string): Promise<void> {
  await ctx.db.deleteFrom('blob_upload').where('uuid', '=', uuid).execute()
  await ctx.blobs.growing.remove(uuid)
}

/** Removes uploads that nobody went on with for a week, and bytes whose row is gone: of a repository or user that was deleted, or of a crash. */
export async function tidyBlobUploads({ db, blobs }: Pick<Ctx, 'db' | 'blobs'>): Promise<void> {
  const rows = await db.selectFrom('blob_upload').select(['uuid', 'created']).execute()
  const created = new Map(rows.map((row) => [row.uuid, row.created]))
  const oldest = now() - patience
  for await (const { name, written } of blobs.growing.list()) {
    const at = created.get(name)
    // A row may have been made since it was looked for: bytes that just came are left alone.
    const isOver = at === undefined ? written.getTime() * 1000 < now() - hour : written.getTime() * 1000 < oldest
    if (!isOver) created.delete(name)
    else if (at === undefined) await blobs.growing.remove(name)
  }
  // What is left began, and then nothing came for a week, or nothing at all.
  for (const [uuid, at] of created) if (at < oldest) await endBlobUpload({ db, blobs }, uuid)
}
