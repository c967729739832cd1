import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { idRows, lockRows, textRows } from '../store/bulk.ts'
import { type Db, transact, type Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import type { Ctx } from './ctx.ts'
import { type Copied, type NamedPromotion, promoteNamed, removeNamed } from './promote-named.ts'
import type { Counts } from './versions.ts'

type Found = Pick<Row<'distribution'>, 'id' | 'uuid' | 'type' | 'name'>
type Served = Pick<Row<'distribution'>, 'id' | 'name' | 'guard_id' | 'publication_id' | 'version_id' | 'repository_id'>

/** Distributions by uuid or name, in the order asked for. Throws Failure invalid, naming those that do not exist, or not for whoever asks. */
export async function getDistributions(
  db: Db,
  references: readonly string[],
  isSeen: (found: Found) => Promise<boolean> = async () => true,
): Promise<Found[]> {
  const these = sql<string>`(select text from ${textRows(db, references)} as wanted)`
  const found = await db
    .selectFrom('distribution')
    .select(['id', 'uuid', 'type', 'name'])
    .where((row) => row.or([row('uuid', 'in', these), row('name', 'in', these)]))
    .execute()
  const rows: Found[] = []
  for (const row of found) if (await isSeen(row)) rows.push(row)
  const byReference = new Map([...rows.map((row) => [row.name, row] as const), ...rows.map((row) => [row.uuid, row] as const)])
  refuseAny(
    references.filter((each) => !byReference.has(each)),
    'There is no distribution',
  )
  return references.map((each) => byReference.get(each)!)
}

export interface Promoted {
  /** Distributions that got another guard, and that had it already. */
  promoted: number
  unchanged: number
  /** Names that were brought along, and how many were taken away. */
  copied: readonly Copied[]
  removed: number
}

/**
 * Puts distributions behind a guard, and names (tags of images) where they belong: all in one transaction, or nothing. What clients see
 * changes at once; paths and bytes stay. Throws Failure invalid when one is gone or serves nothing. Doing it twice changes nothing the
 * second time.
 */
export async function promoteDistributions(
  ctx: Pick<Ctx, 'db' | 'changes' | 'formats'>,
  ids: readonly number[],
  guardId: number,
  named?: NamedPromotion,
): Promise<Promoted> {
  const done = await transact(ctx.db, async (tx) => ({
    ...(await guardDistributions(tx, ids, guardId)),
    copied: named ? await promoteNamed(tx, ctx.formats, named) : [],
    removed: named ? await removeNamed(tx, named) : 0,
  }))
  if (done.promoted > 0 || named) ctx.changes.bump()
  return done
}

async function guardDistributions(
  tx: Tx,
  ids: readonly number[],
  guardId: number,
): Promise<Pick<Promoted, 'promoted' | 'unchanged'>> {
  const guard = await tx.selectFrom('guard').select('id').where('id', '=', guardId).executeTakeFirst()
  if (!guard) throw new Failure('invalid', 'The guard was deleted.', { field: 'guard' })
  await lockRows(tx, 'distribution', ids)
  const distributions = await tx
    .selectFrom('distribution')
    .select(['id', 'name', 'guard_id', 'publication_id', 'version_id', 'repository_id'])
    .where('id', 'in', among(tx, ids))
    .execute()
  if (distributions.length < new Set(ids).size)
    throw new Failure('invalid', 'A distribution was deleted meanwhile.', { field: 'distributions' })
  await refuseEmpty(tx, distributions)

  const moving = distributions.filter(({ guard_id }) => guard_id !== guardId).map(({ id }) => id)
  if (moving.length > 0)
    await tx.updateTable('distribution').set({ guard_id: guardId, updated: now() }).where('id', 'in', among(tx, moving)).execute()
  return { promoted: moving.length, unchanged: distributions.length - moving.length }
}

/** A pin without content must never look like a release. */
async function refuseEmpty(db: Db, distributions: readonly Served[]): Promise<void> {
  const nothing = distributions.filter(
    (each) => each.publication_id === null && each.version_id === null && each.repository_id === null,
  )
  refuseAny(
    nothing.map(({ name }) => name),
    'Nothing is served by',
  )
  const counts = await countsServed(
    db,
    distributions.map(({ id }) => id),
  )
  refuseAny(
    distributions.filter(({ id }) => !counts.has(id) || isEmpty(counts.get(id)!)).map(({ name }) => name),
    'There is no content in',
  )
}

function isEmpty(counts: string): boolean {
  return Object.values(JSON.parse(counts) as Counts).every(({ present }) => present === 0)
}

/** The counts of the version that each distribution serves: of its publication, its own, or the latest of its repository. */
async function countsServed(db: Db, ids: readonly number[]): Promise<Map<number, string>> {
  const { rows } = await sql<{ id: number; counts: string }>`
    select d.id, v.counts from distribution d
    left join publication p on p.id = d.publication_id
    join version v on v.id = coalesce(p.version_id, d.version_id,
      (select latest.id from version latest where latest.repository_id = d.repository_id order by latest.number desc limit 1))
    where d.id in ${among(db, ids)}`.execute(db)
  return new Map(rows.map(({ id, counts }) => [id, counts]))
}

function among(db: Db, ids: readonly number[]) {
  return sql<number>`(select id from ${idRows(db, ids)} as wanted)`
}

function refuseAny(names: readonly string[], what: string): void {
  if (names.length === 0) return
  const shown = names.slice(0, 5).join(', ')
  const more = names.length > 5 ? ` and ${names.length - 5} more` : ''
  throw new Failure('invalid', `${what} ${shown}${more}.`, { field: 'distributions' })
}
