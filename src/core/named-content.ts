import { sql } from 'kysely'
import { now } from '../lib/time.ts'
import { textRows } from '../store/bulk.ts'
import type { Db } from '../store/database.ts'
import type { Row } from '../store/schema.ts'

/* What clients of a protocol of its own ask a repository for: content by its name or by its key, in one version. */

type Place = Pick<Row<'version'>, 'repository_id' | 'number'>

const inVersion = ({ number }: Place) =>
  sql<boolean>`membership.added_in <= ${number} and (membership.removed_in is null or membership.removed_in > ${number})`

/** The unit that has a name in a version. */
export async function findNamed(db: Db, place: Place, name: string): Promise<Row<'content'> | undefined> {
  return db
    .selectFrom('membership')
    .innerJoin('content', 'content.id', 'membership.content_id')
    .selectAll('content')
    .where('membership.repository_id', '=', place.repository_id)
    .where('membership.name', '=', name)
    .where(inVersion(place))
    .executeTakeFirst()
}

/** Names in a version, in the order of their bytes: those after `after`, at most `limit`. */
export async function listNames(
  db: Db,
  place: Place,
  { after, limit }: { after?: string | undefined; limit?: number | undefined } = {},
): Promise<string[]> {
  let query = db
    .selectFrom('membership')
    .select('membership.name')
    .where('membership.repository_id', '=', place.repository_id)
    .where('membership.name', 'is not', null)
    .where(inVersion(place))
    .orderBy('membership.name')
  if (after !== undefined) query = query.where('membership.name', '>', after)
  if (limit !== undefined) query = query.limit(limit)
  return (await query.execute()).map(({ name }) => name!)
}

/**
 * Which of these units, by key, a repository has for whom may read it: those of the version, and, with `leased`, those that it holds for
 * now. This is the only way from a digest to bytes: content is never looked up without the repository that it is asked from.
 */
export async function findHeld(
  db: Db,
  place: Place,
  type: string,
  keys: readonly string[],
  { leased = false }: { leased?: boolean } = {},
): Promise<Row<'content'>[]> {
  const rows = await db
    .selectFrom('content')
    .selectAll()
    .where('type', '=', type)
    .where('key', 'in', keys.length === 1 ? [keys[0]!] : sql<string>`(select text from ${textRows(db, keys)} as k)`)
    .where(({ or }) =>
      or([
        sql<boolean>`exists (select 1 from membership where membership.repository_id = ${place.repository_id}
          and membership.content_id = content.id and ${inVersion(place)})`,
        ...(leased
          ? [
              sql<boolean>`exists (select 1 from lease where lease.repository_id = ${place.repository_id}
                and lease.content_id = content.id and lease.until > ${now()})`,
            ]
          : []),
      ]),
    )
    .execute()
  return rows
}
