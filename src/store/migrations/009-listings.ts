import type { Kysely } from 'kysely'

/** What the last publication's lists of units are made of: a row for each, instead of a copy of it in each file of each publication. */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  const big = postgres ? 'bigint' : 'integer'
  const json = postgres ? 'jsonb' : 'text'
  await db.schema
    .createTable('listing')
    .addColumn('repository_id', big, (c) => c.notNull().references('repository.id').onDelete('cascade'))
    .addColumn('type', 'text', (c) => c.notNull())
    .addColumn('publication_id', big, (c) => c.notNull().references('publication.id').onDelete('cascade'))
    .addColumn('form', 'text', (c) => c.notNull())
    .addColumn('files', json, (c) => c.notNull())
    .addColumn('pieces', json, (c) => c.notNull())
    .addPrimaryKeyConstraint('listing_primary', ['repository_id', 'type'])
    .execute()
  await db.schema.createIndex('listing_publication_id').on('listing').column('publication_id').execute()
  await db.schema.alterTable('published_file').dropColumn('pieces').execute()
}
