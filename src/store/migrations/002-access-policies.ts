import type { Kysely } from 'kysely'

/** Which of Pulp's access policies somebody has set, to what they are anyway. */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  const big = postgres ? 'bigint' : 'integer'
  await db.schema
    .createTable('access_policy')
    .addColumn('id', postgres ? 'bigserial' : 'integer', (column) =>
      postgres ? column.primaryKey() : column.primaryKey().autoIncrement(),
    )
    .addColumn('uuid', 'text', (column) => column.notNull().unique())
    .addColumn('viewset_name', 'text', (column) => column.notNull().unique())
    .addColumn('customized', 'integer', (column) => column.notNull())
    .addColumn('created', big, (column) => column.notNull())
    .addColumn('updated', big, (column) => column.notNull())
    .execute()
}
