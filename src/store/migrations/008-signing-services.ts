import type { Kysely } from 'kysely'

/** Programs of the administrator's that sign what the server makes. */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  const big = postgres ? 'bigint' : 'integer'
  await db.schema
    .createTable('signing_service')
    .addColumn('id', postgres ? 'bigserial' : 'integer', (c) => (postgres ? c.primaryKey() : c.primaryKey().autoIncrement()))
    .addColumn('uuid', 'text', (c) => c.notNull().unique())
    .addColumn('type', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull().unique())
    .addColumn('public_key', 'text', (c) => c.notNull())
    .addColumn('fingerprint', 'text', (c) => c.notNull())
    .addColumn('script', 'text', (c) => c.notNull())
    .addColumn('gnupg_home', 'text')
    .addColumn('created', big, (c) => c.notNull())
    .addColumn('updated', big, (c) => c.notNull())
    .execute()
}
