import { type Kysely, sql } from 'kysely'

/*
 * What formats with names and trees of content need (container: tags, and manifests that name manifests and blobs): names by which clients
 * ask a repository, references between units, leases for what is not in a version yet, uploads that go on, and namespaces.
 */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  const big = postgres ? 'bigint' : 'integer'
  // Lists of names are in the order of bytes on both engines.
  const name = postgres ? sql`text collate "C"` : sql`text`

  await db.schema.alterTable('content').addColumn('name', name).execute()
  await db.schema.alterTable('membership').addColumn('name', name).execute()
  await sql`create index membership_current_name on membership (repository_id, removed_in, name) where name is not null`.execute(
    db,
  )
  await sql`create index membership_name on membership (repository_id, name) where name is not null`.execute(db)

  await db.schema
    .createTable('reference')
    .addColumn('content_id', big, (c) => c.notNull().references('content.id').onDelete('cascade'))
    .addColumn('type', 'text', (c) => c.notNull())
    .addColumn('key', 'text', (c) => c.notNull())
    .addColumn('about', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('reference_primary', ['content_id', 'type', 'key', 'about'])
    .execute()
  await db.schema.createIndex('reference_type_key').on('reference').columns(['type', 'key']).execute()

  // Restrict: whoever collects content finds out that somebody leased it in between.
  await db.schema
    .createTable('lease')
    .addColumn('repository_id', big, (c) => c.notNull().references('repository.id').onDelete('cascade'))
    .addColumn('content_id', big, (c) => c.notNull().references('content.id').onDelete('restrict'))
    .addColumn('until', big, (c) => c.notNull())
    .addPrimaryKeyConstraint('lease_primary', ['repository_id', 'content_id'])
    .execute()
  await db.schema.createIndex('lease_content_id').on('lease').columns(['content_id']).execute()
  await db.schema.createIndex('lease_until').on('lease').columns(['until']).execute()

  await db.schema
    .createTable('blob_upload')
    .addColumn('uuid', 'text', (c) => c.primaryKey())
    .addColumn('repository_id', big, (c) => c.notNull().references('repository.id').onDelete('cascade'))
    .addColumn('user_id', big, (c) => c.references('user.id').onDelete('cascade'))
    .addColumn('created', big, (c) => c.notNull())
    .addColumn('updated', big, (c) => c.notNull())
    .execute()
  await db.schema.createIndex('blob_upload_repository_id').on('blob_upload').columns(['repository_id']).execute()

  await db.schema
    .createTable('namespace')
    .addColumn('id', postgres ? 'bigserial' : 'integer', (c) => (postgres ? c.primaryKey() : c.primaryKey().autoIncrement()))
    .addColumn('uuid', 'text', (c) => c.notNull().unique())
    .addColumn('type', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('created', big, (c) => c.notNull())
    .addColumn('updated', big, (c) => c.notNull())
    .addUniqueConstraint('namespace_type_name', ['type', 'name'])
    .execute()
}
