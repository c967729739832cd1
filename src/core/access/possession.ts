import { sql } from 'kysely'
import { now } from '../../lib/time.ts'
import { idRows } from '../../store/bulk.ts'
import type { Db } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { isAllowed, type User } from './auth.ts'
import type { Ctx } from '../ctx.ts'
import type { MissingFile } from '../downloads.ts'
import { modelOf, prnOf } from '../names.ts'

/*
 * An upstream may name what it does not have. Where the bytes of a digest are here for another repository, that would be a way to read them
 * without a right to: so they are taken as the upstream's own only when it gives them, or when whoever syncs may see a repository that has
 * them. Somebody who may do everything needs no proof.
 */

/** Who syncs, if that is somebody whose upstreams must show what they have. */
export async function findProver(db: Db, userId: number | null): Promise<User | undefined> {
  if (userId === null) return undefined
  const row = await db
    .selectFrom('user')
    .select(['id', 'username'])
    .where('id', '=', userId)
    .where('is_superuser', '=', 0)
    .executeTakeFirst()
  return row && { ...row, isSuperuser: false }
}

/** The files of this content that the upstream has yet to show: they are here, or known here, because of others. */
export async function findUnproven(
  ctx: Ctx,
  user: User,
  repository: Row<'repository'>,
  remote: Row<'remote'>,
  ids: Iterable<number>,
): Promise<MissingFile[]> {
  const { rows } = await sql<MissingFile>`
    select file.id, file.content_id as "contentId", file.path, file.size, file.checksum, source.url
    from ${idRows(ctx.db, ids)} as i cross join file
    left join source on source.file_id = file.id and source.remote_id = ${remote.id}
    where file.content_id = i.id
      and not exists (select 1 from lease where lease.repository_id = ${repository.id} and lease.content_id = i.id and lease.until > ${now()})
      and not exists (select 1 from membership where membership.repository_id = ${repository.id} and membership.content_id = i.id)
      and (file.blob_id is not null
        or exists (select 1 from membership where membership.content_id = i.id)
        or exists (select 1 from lease where lease.content_id = i.id))`.execute(ctx.db)
  if (rows.length === 0) return []
  const visible = await findVisible(ctx, user, rows)
  return rows.filter(({ contentId }) => !visible.has(contentId))
}

/** Content that is in a repository which a user may see. */
async function findVisible(ctx: Ctx, user: User, files: readonly MissingFile[]): Promise<Set<number>> {
  const { rows } = await sql<{ contentId: number; id: number; uuid: string; type: string }>`
    select membership.content_id as "contentId", repository.id, repository.uuid, repository.type
    from ${idRows(ctx.db, new Set(files.map(({ contentId }) => contentId)))} as i
    cross join membership join repository on repository.id = membership.repository_id
    where membership.content_id = i.id and membership.removed_in is null`.execute(ctx.db)
  const visible = new Set<number>()
  for (const holders of Map.groupBy(rows, ({ id }) => id).values()) {
    const [{ type, uuid } = { type: '', uuid: '' }] = holders
    const [app, model] = modelOf(ctx.formats, 'repository', type).split('.')
    if (!(await isAllowed(ctx, user, `${app}.view_${model}`, prnOf(ctx.formats, 'repository', { type, uuid })))) continue
    for (const { contentId } of holders) visible.add(contentId)
  }
  return visible
}
