import { keyIn } from '../../core/names.ts'
import { type RawBuilder, sql, type SqlBool } from 'kysely'
import { blobType } from '../../formats/container/describe.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { now } from '../../lib/time.ts'
import { textRows } from '../../store/bulk.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Caller } from './callers.ts'
import { type Desk, findReadable } from './desk.ts'
import { findBlob } from './blobs.ts'
import { pullable } from './rights.ts'

/** A popular layer is in many repositories: the first ones that a caller may read will do. */
const mostTried = 50
const nobody: Caller = { user: undefined, access: undefined }

/**
 * A blob that is somewhere where the caller may read it, for a mount that does not say where. A token is good for what it was asked for, and
 * for what everybody may read: that its owner may read more is no reason to hand that to whoever has the token.
 */
export async function findMountable(
  desk: Pick<Desk, 'ctx' | 'places'>,
  caller: Caller,
  digest: string,
): Promise<number | undefined> {
  if (!isDigest(digest)) return undefined
  const { db } = desk.ctx
  const { rows } = await sql<{ name: string }>`
    select distinct distribution.base_path as name from content
    join (
      select content_id, repository_id from membership where removed_in is null
      union select content_id, repository_id from lease where until > ${now()}
    ) as holder on holder.content_id = content.id
    join distribution on distribution.repository_id = holder.repository_id
    where content.type = ${blobType} and content.key = ${digest} and (not ${isPrivate(db)} or ${await isTheirs(desk, caller)})
    order by name limit ${mostTried}`.execute(db)
  for (const { name } of rows) {
    const place = (await findReadable(desk, caller, name)) ?? (await findReadable(desk, nobody, name))
    const found = place && (await findBlob(db, place, digest))
    if (found) return found.row.id
  }
  return undefined
}

/** Of private places: those that a token is for, or that whoever gave a password may read. Looked at again afterwards. */
async function isTheirs({ ctx }: Pick<Desk, 'ctx'>, { user, access }: Caller): Promise<RawBuilder<SqlBool>> {
  const among = (texts: readonly string[]) => sql`(select text from ${textRows(ctx.db, texts)} as k)`
  if (access) return sql`distribution.base_path in ${among(access.map(({ name }) => name))}`
  const allowed = await pullable(ctx, user)
  if (allowed === 'all') return sql`true`
  const uuids = [...allowed].map((prn) => keyIn(prn))
  return sql`(distribution.uuid in ${among(uuids)} or exists (select 1 from namespace where namespace.uuid in ${among(uuids)}
    and (distribution.base_path = namespace.name or substr(distribution.base_path, 1, length(namespace.name) + 1) = namespace.name || '/')))`
}

function isPrivate(db: Db): RawBuilder<SqlBool> {
  return engineOf(db) === 'postgres'
    ? sql`coalesce((distribution.settings ->> 'private')::boolean, false)`
    : sql`coalesce(json_extract(distribution.settings, '$.private'), 0)`
}
