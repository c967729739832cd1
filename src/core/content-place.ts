import { sql } from 'kysely'
import { textRows } from '../store/bulk.ts'
import { type Db, jsonText } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import type { ContentPlace } from './format.ts'
import { contentOf } from './versions.ts'

/** A version of a repository, for a format to look for units in. */
export function viewPlace(
  db: Db,
  repository: Pick<Row<'repository'>, 'name'>,
  version: Pick<Row<'version'>, 'repository_id' | 'number'>,
): ContentPlace {
  return {
    title: `<Repository: ${repository.name}; Version: ${version.number}>`,
    async find(type, { names, keys, meta = {} } = {}) {
      const among = (texts: readonly string[]) => sql<string>`(select text from ${textRows(db, texts)} as k)`
      let query = contentOf(db, version).select('content.id').where('content.type', '=', type)
      if (names) query = query.where('membership.name', 'in', among(names))
      if (keys) query = query.where('content.key', 'in', among(keys))
      for (const [member, values] of Object.entries(meta))
        query = query.where(sql<boolean>`${jsonText(db, 'content.meta', member)} in ${among(values)}`)
      return (await query.execute()).map(({ id }) => id)
    },
  }
}
