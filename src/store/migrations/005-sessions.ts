import type { Kysely } from 'kysely'

/** Who has logged in, and goes on with a cookie. */
export async function up(db: Kysely<any>): Promise<void> {
  const big = db.getExecutor().adapter.supportsTransactionalDdl ? 'bigint' : 'integer'
  await db.schema
    .createTable('session')
    .addColumn('digest', 'text', (column) => column.primaryKey())
    .addColumn('user_id', big, (column) => column.references('user.id').onDelete('cascade').notNull())
    .addColumn('password_digest', 'text', (column) => column.notNull())
    .addColumn('expires', big, (column) => column.notNull())
    .execute()
  await db.schema.createIndex('session_user_id').on('session').column('user_id').execute()
  await db.schema.createIndex('session_expires').on('session').column('expires').execute()
}
