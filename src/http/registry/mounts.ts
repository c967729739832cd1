import { sql } from 'kysely'
import { blobType } from '../../formats/container/describe.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { now } from '../../lib/time.ts'
import type { Caller } from './callers.ts'
import { type Desk, findReadable } from './desk.ts'
import { findBlob } from './blobs.ts'

/** A popular layer is in many repositories: the first ones that a caller may read will do. */
const mostTried = 50

/** A blob that is somewhere where the caller may read it, for a mount that does not say where. */
export async function findMountable(
  desk: Pick<Desk, 'ctx' | 'places'>,
  caller: Caller,
  digest: string,
): Promise<number | undefined> {
  if (!isDigest(digest)) return undefined
  const { rows } = await sql<{ name: string }>`
    select distinct distribution.base_path as name from content
    join (
      select content_id, repository_id from membership where removed_in is null
      union select content_id, repository_id from lease where until > ${now()}
    ) as holder on holder.content_id = content.id
    join distribution on distribution.repository_id = holder.repository_id
    where content.type = ${blobType} and content.key = ${digest}
    order by name limit ${mostTried}`.execute(desk.ctx.db)
  for (const { name } of rows) {
    const place = await findReadable(desk, { ...caller, access: undefined }, name)
    const found = place && (await findBlob(desk.ctx.db, place, digest))
    if (found) return found.row.id
  }
  return undefined
}
