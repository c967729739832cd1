import { type Kysely, sql } from 'kysely'

/** When content came into a repository. That of its version is no answer: versions are deleted, and what they brought stays. */
export async function up(db: Kysely<any>): Promise<void> {
  const postgres = db.getExecutor().adapter.supportsTransactionalDdl
  await db.schema
    .alterTable('membership')
    .addColumn('added', postgres ? 'bigint' : 'integer')
    .execute()
  await sql`update membership set added = (select version.created from version
    where version.repository_id = membership.repository_id and version.number = membership.added_in)`.execute(db)
}
