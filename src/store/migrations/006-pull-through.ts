import { type Kysely, sql } from 'kysely'

/**
 * Distributions that fetch what they do not have yet: from which remote, and which of them made the distribution of what was fetched. And
 * what is said of a unit is found without reading all that is made of it.
 */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  const big = postgres ? 'bigint' : 'integer'
  await db.schema
    .alterTable('distribution')
    .addColumn('remote_id', big, (c) => c.references('remote.id').onDelete('set null'))
    .execute()
  await db.schema
    .alterTable('distribution')
    .addColumn('made_by_id', big, (c) => c.references('distribution.id').onDelete('cascade'))
    .execute()
  await db.schema.createIndex('distribution_remote_id').on('distribution').column('remote_id').execute()
  await db.schema.createIndex('distribution_made_by_id').on('distribution').column('made_by_id').execute()
  await sql`create index reference_about on reference (type, key) where about = 1`.execute(db)
}
