import { sql } from 'kysely'
import { type Db, engineOf, jsonText } from './database.ts'

/**
 * Gives members of content's meta an index each, so that a filter by them does not read every unit of the type. Formats declare
 * them: a new one needs no migration. The expression is the one that filters use (`jsonText`). Units without the member, most of them,
 * are left out: each entry costs a sync its time.
 */
export async function ensureColumnIndexes(db: Db, members: Iterable<string>): Promise<void> {
  for (const member of new Set(members)) {
    const name = sql.ref(`content_meta_${member}`)
    const value = jsonText(db, 'meta', member)
    const column = engineOf(db) === 'postgres' ? sql`(${value})` : value
    await sql`create index if not exists ${name} on content (type, ${column}) where ${column} is not null`.execute(db)
  }
}
