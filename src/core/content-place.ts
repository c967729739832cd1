import { type RawBuilder, sql } from 'kysely'
import { textRows } from '../store/bulk.ts'
import { type Db, jsonText } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { unitsById } from './content.ts'
import type { ContentPlace } from './format.ts'

/** A version of a repository, for a format to look for units in. */
export function viewPlace(
  db: Db,
  repository: Pick<Row<'repository'>, 'name'>,
  { repository_id, number }: Pick<Row<'version'>, 'repository_id' | 'number'>,
): ContentPlace {
  return {
    title: `<Repository: ${repository.name}; Version: ${number}>`,
    async find(type, { names, keys, meta = {} } = {}) {
      const conditions = Object.entries(meta).map(
        ([member, values]) => sql`${jsonText(db, 'content.meta', member)} in (select text from ${textRows(db, values)} as v)`,
      )
      // Cross joins are done in this order: from what is asked for to the version, so that the work does not grow with the version.
      const { rows } = await sql<{ id: number }>`
        select content.id from ${tables(db, { names, keys, meta })}
        where content.type = ${type} and content.id = membership.content_id and membership.repository_id = ${repository_id}
          and membership.added_in <= ${number} and (membership.removed_in is null or membership.removed_in > ${number})
          ${sql.join(
            conditions.map((each) => sql`and ${each}`),
            sql` `,
          )}`.execute(db)
      return rows.map(({ id }) => Number(id))
    },
    read: (ids) => unitsById(db, ids),
  }
}

function tables(
  db: Db,
  { names, keys, meta }: { names?: readonly string[]; keys?: readonly string[]; meta: object },
): RawBuilder<unknown> {
  if (names) return sql`${textRows(db, names)} as k join membership on membership.name = k.text cross join content`
  if (keys) return sql`${textRows(db, keys)} as k join content on content.key = k.text cross join membership`
  return Object.keys(meta).length > 0 ? sql`content cross join membership` : sql`membership cross join content`
}
