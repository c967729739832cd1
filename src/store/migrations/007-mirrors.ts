import type { Kysely } from 'kysely'

/** Where else a remote's files are, for those that are fetched long after its sync. */
export async function up(db: Kysely<any>): Promise<void> {
  const json = db.getExecutor().adapter.supportsTransactionalDdl ? 'jsonb' : 'text'
  await db.schema.alterTable('remote').addColumn('mirrors', json).execute()
}
