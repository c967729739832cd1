import { sql } from 'kysely'
import { type Micros, now } from '../lib/time.ts'
import { idRows } from '../store/bulk.ts'
import { type Db, transact } from '../store/database.ts'

/*
 * A repository may hold content for a while that no version of it has: a layer is pushed before the manifest that names it. A lease is
 * given in the transaction that tells a client so ("it is here"), and nothing that is leased is collected.
 */

const hour: Micros = 3_600_000_000
/** How long a client may take from the first layer to the manifest. */
const leaseTime = 24 * hour
/** A lease is not written again when it holds for so long. */
const freshFor = leaseTime - hour

/** Lets a repository hold these units for a day from now. */
export async function leaseContent(db: Db, repositoryId: number, ids: Iterable<number>): Promise<void> {
  const at = now()
  await sql`insert into lease (repository_id, content_id, until)
    select ${sql.lit(repositoryId)}, i.id, ${sql.lit(at + leaseTime)} from ${idRows(db, ids)} as i where true
    on conflict (repository_id, content_id) do update set until = excluded.until where lease.until < ${sql.lit(at + freshFor)}`.execute(
    db,
  )
}

/** Takes away what a repository held only for a while. */
export async function endLeases(db: Db, repositoryId: number, ids: Iterable<number>): Promise<void> {
  await db
    .deleteFrom('lease')
    .where('repository_id', '=', repositoryId)
    .where('content_id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .execute()
}

/** Removes leases that are over. */
export async function tidyLeases(db: Db): Promise<void> {
  // Those who renew some of them at the same time may take them in another order.
  await transact(db, (tx) => tx.deleteFrom('lease').where('until', '<', now()).execute())
}
