import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { idRows, lockRows } from '../store/bulk.ts'
import { type Db, engineOf, transact, type Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { isCheckpoint } from './serving/checkpoints.ts'
import { isImmutable } from './immutable-names.ts'
import type { Job } from './tasks/tasks.ts'

/** Units of a content type: in the version, new in it, and gone since the one before. */
export type Counts = Record<string, { present: number; added: number; removed: number }>

export async function getRepository(db: Db, id: number): Promise<Row<'repository'>> {
  const row = await db.selectFrom('repository').selectAll().where('id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('not_found', 'The repository was deleted.')
  return row
}

/** Makes version 0, empty. Part of creating a repository. */
export async function insertFirstVersion(tx: Tx, repositoryId: number): Promise<void> {
  const at = now()
  await tx
    .insertInto('version')
    .values({
      uuid: newUuid(),
      repository_id: repositoryId,
      number: 0,
      base_version_id: null,
      counts: '{}',
      created: at,
      updated: at,
    })
    .execute()
}

export async function latestVersion(db: Db, repositoryId: number): Promise<Row<'version'>> {
  return db
    .selectFrom('version')
    .selectAll()
    .where('repository_id', '=', repositoryId)
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirstOrThrow()
}

/** The content of one version. Callers add columns, order and limits. */
export function contentOf(db: Db, { repository_id, number }: Pick<Row<'version'>, 'repository_id' | 'number'>) {
  return db
    .selectFrom('membership')
    .innerJoin('content', 'content.id', 'membership.content_id')
    .where('membership.repository_id', '=', repository_id)
    .where('membership.added_in', '<=', number)
    .where((row) => row.or([row('membership.removed_in', 'is', null), row('membership.removed_in', '>', number)]))
}

/** Ids of the content of one version. */
export async function contentIds(
  db: Db,
  { repository_id, number }: Pick<Row<'version'>, 'repository_id' | 'number'>,
): Promise<Set<number>> {
  const rows = await db
    .selectFrom('membership')
    .select('content_id')
    .where('repository_id', '=', repository_id)
    .where('added_in', '<=', number)
    .where((row) => row.or([row('removed_in', 'is', null), row('removed_in', '>', number)]))
    .execute()
  return new Set(rows.map(({ content_id }) => content_id))
}

/** What differs between two versions of one repository. Reads only the memberships that changed between them. */
export async function diffVersions(
  db: Db,
  repositoryId: number,
  from: number,
  to: number,
): Promise<{ added: number[]; removed: number[] }> {
  if (from > to) {
    const { added, removed } = await diffVersions(db, repositoryId, to, from)
    return { added: removed, removed: added }
  }
  const members = db.selectFrom('membership').select('content_id').where('repository_id', '=', repositoryId)
  const added = await members
    .where('added_in', '>', from)
    .where('added_in', '<=', to)
    .where((row) => row.or([row('removed_in', 'is', null), row('removed_in', '>', to)]))
    .execute()
  const removed = await members
    .where('removed_in', '>', from)
    .where('removed_in', '<=', to)
    .where('added_in', '<=', from)
    .execute()
  // Content that went and came back in between is in neither.
  const gone = new Set(removed.map(({ content_id }) => content_id))
  const back = new Set(added.map(({ content_id }) => content_id).filter((id) => gone.has(id)))
  return {
    added: added.map(({ content_id }) => content_id).filter((id) => !back.has(id)),
    removed: [...gone].filter((id) => !back.has(id)),
  }
}

interface NewVersion {
  repositoryId: number
  add: Iterable<number>
  remove: Iterable<number>
  baseVersionId?: number | null
}

/**
 * Makes the next version out of the latest one: `remove` go, `add` come, and what has a name takes it from whatever had it. Undefined when
 * that changes nothing. Its work grows with what is added and removed, and the last part of the transaction is its turn: whoever changes
 * the same repository at the same time waits for it.
 */
export async function commitVersion(
  tx: Tx,
  { repositoryId, add, remove, baseVersionId = null }: NewVersion,
): Promise<Row<'version'> | undefined> {
  const repository = await lockRepository(tx, repositoryId)
  const latest = await latestVersion(tx, repositoryId)
  const wanted = new Set(add)
  const present = await presentAmong(tx, repositoryId, [...wanted, ...remove])
  const arriving = new Set([...wanted].filter((id) => !present.has(id)))
  const leaving = new Set([...remove].filter((id) => present.has(id) && !wanted.has(id)))
  for (const id of await namesakes(tx, repositoryId, arriving)) if (!wanted.has(id)) leaving.add(id)
  if (arriving.size + leaving.size === 0) return undefined
  if ('immutable_tags' in JSON.parse(repository.settings)) await refuseImmutable(tx, repository, leaving)

  const number = repository.next_version
  const at = now()
  await sql`insert into membership (repository_id, content_id, added_in, added, name)
    select ${sql.lit(repositoryId)}, content.id, ${sql.lit(number)}, ${sql.lit(at)}, content.name
    from ${idRows(tx, arriving)} as i cross join content where content.id = i.id`.execute(tx)
  if (leaving.size > 0)
    await tx
      .updateTable('membership')
      .set({ removed_in: number })
      .where('repository_id', '=', repositoryId)
      .where('content_id', 'in', sql<number>`(select id from ${idRows(tx, leaving)} as i)`)
      .where('removed_in', 'is', null)
      .execute()
  await tx
    .updateTable('repository')
    .set({ next_version: number + 1, updated: at })
    .where('id', '=', repositoryId)
    .execute()
  const version = await tx
    .insertInto('version')
    .values({
      uuid: newUuid(),
      repository_id: repositoryId,
      number,
      base_version_id: baseVersionId,
      counts: JSON.stringify(
        changedCounts(JSON.parse(latest.counts), await countTypes(tx, arriving), await countTypes(tx, leaving)),
      ),
      created: at,
      updated: at,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  await dropOldVersions(tx, repository)
  return version
}

/** Makes this transaction the only one that changes a repository. One of SQLite that writes is alone anyway. */
export async function lockRepository(tx: Tx, id: number): Promise<Row<'repository'>> {
  const query = tx.selectFrom('repository').selectAll().where('id', '=', id)
  const row = await (engineOf(tx) === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
  if (!row) throw new Failure('not_found', 'The repository was deleted.')
  return row
}

/** Those of these ids that the latest version holds. */
async function presentAmong(tx: Tx, repositoryId: number, ids: readonly number[]): Promise<Set<number>> {
  const { rows } = await sql<{ id: number }>`
    select membership.content_id as id from ${idRows(tx, ids)} as i cross join membership
    where membership.repository_id = ${repositoryId} and membership.content_id = i.id and membership.removed_in is null`.execute(
    tx,
  )
  return new Set(rows.map(({ id }) => id))
}

/** What the latest version holds under the names of these. */
async function namesakes(tx: Tx, repositoryId: number, arriving: ReadonlySet<number>): Promise<number[]> {
  const { rows } = await sql<{ id: number }>`
    select membership.content_id as id from ${idRows(tx, arriving)} as i cross join content cross join membership
    where content.id = i.id and content.name is not null
      and membership.repository_id = ${repositoryId} and membership.removed_in is null and membership.name = content.name`.execute(
    tx,
  )
  return rows.map(({ id }) => id)
}

/** What the distributions of a repository serve is another thing from now on. */
export async function markChanged(tx: Tx, repositoryId: number): Promise<void> {
  const rows = await tx.selectFrom('distribution').select('id').where('repository_id', '=', repositoryId).execute()
  if (rows.length === 0) return
  await lockRows(
    tx,
    'distribution',
    rows.map(({ id }) => id),
  )
  await tx.updateTable('distribution').set({ content_changed: now() }).where('repository_id', '=', repositoryId).execute()
}

/** Nothing goes that has a name which is for good. */
async function refuseImmutable(tx: Tx, { name, settings }: Row<'repository'>, leaving: ReadonlySet<number>): Promise<void> {
  const named = await tx
    .selectFrom('content')
    .select('name')
    .where('id', 'in', sql<number>`(select id from ${idRows(tx, leaving)} as i)`)
    .where('name', 'is not', null)
    .orderBy('name')
    .execute()
  const kept = named.find((row) => isImmutable(JSON.parse(settings), row.name!))
  if (kept)
    throw new Failure(
      'conflict',
      `The tag "${kept.name}" of ${name} is immutable: it can be neither moved nor removed. Use another tag.`,
    )
}

async function countTypes(db: Db, ids: ReadonlySet<number>): Promise<Map<string, number>> {
  if (ids.size === 0) return new Map()
  const rows = await db
    .selectFrom('content')
    .select(['type', ({ fn }) => fn.countAll<number>().as('count')])
    .where('id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .groupBy('type')
    .execute()
  return new Map(rows.map(({ type, count }) => [type, Number(count)]))
}

function changedCounts(before: Counts, added: Map<string, number>, removed: Map<string, number>): Counts {
  const types = new Set([...Object.keys(before), ...added.keys(), ...removed.keys()])
  return Object.fromEntries(
    [...types].flatMap((type) => {
      const change = { added: added.get(type) ?? 0, removed: removed.get(type) ?? 0 }
      const present = (before[type]?.present ?? 0) + change.added - change.removed
      return present + change.added + change.removed > 0 ? [[type, { present, ...change }]] : []
    }),
  )
}

/** Deletes the oldest versions beyond what the repository retains; those that are distributed stay. */
async function dropOldVersions(tx: Tx, { id, retain_versions }: Row<'repository'>): Promise<void> {
  if (retain_versions === null) return
  const versions = await tx
    .selectFrom('version')
    .selectAll()
    .where('repository_id', '=', id)
    .orderBy('number', 'desc')
    .offset(retain_versions)
    .limit(1_000_000)
    .execute()
  for (const version of versions) if (!(await isDistributed(tx, version.id))) await removeVersion(tx, version)
}

/**
 * Whether a distribution serves this version: directly, through one of its publications, as the newest of its repository that has one,
 * or as a checkpoint.
 */
export async function isDistributed(db: Db, versionId: number): Promise<boolean> {
  const found = await db
    .selectFrom('distribution')
    .leftJoin('publication', 'publication.id', 'distribution.publication_id')
    .select('distribution.id')
    .where((row) => {
      const newest = row
        .selectFrom('publication as p')
        .select(({ fn }) => fn.max('p.version_id').as('version_id'))
        .whereRef('p.repository_id', '=', 'distribution.repository_id')
      const checkpoint = row
        .selectFrom('publication as p')
        .select('p.id')
        .whereRef('p.repository_id', '=', 'distribution.repository_id')
        .where('p.version_id', '=', versionId)
        .where('p.checkpoint', '=', 1)
      return row.or([
        row('distribution.version_id', '=', versionId),
        row('publication.version_id', '=', versionId),
        row.and([row(isCheckpoint(db), '=', 0), row(newest, '=', versionId)]),
        row.and([row(isCheckpoint(db), '=', 1), row.exists(checkpoint)]),
      ])
    })
    .limit(1)
    .executeTakeFirst()
  return found !== undefined
}

/** The task that deletes a version. */
export async function deleteVersion({ ctx, hold }: Job, { versionId }: { versionId: number }): Promise<void> {
  await transact(ctx.db, async (tx) => {
    await hold(tx)
    const version = await tx.selectFrom('version').selectAll().where('id', '=', versionId).executeTakeFirst()
    if (!version) return
    if (await isDistributed(tx, versionId)) throw new Failure('invalid', protectedVersion)
    await removeVersion(tx, version)
    await tx.updateTable('repository').set({ last_sync: null }).where('id', '=', version.repository_id).execute()
  })
  ctx.changes.bump()
}

/** Why a distributed version cannot be deleted, in Pulp's words. */
export const protectedVersion =
  'The repository version cannot be deleted because it (or its publications) are currently being used to distribute content. Please update the necessary distributions first.'

/**
 * Deletes a version and its publications. What it changed becomes part of the version after it: what counts is between which versions that
 * are left content came and went, so nothing that stays is written. Throws Failure invalid for the only one.
 */
export async function removeVersion(tx: Tx, { id, repository_id, number }: Row<'version'>): Promise<void> {
  const next = await tx
    .selectFrom('version')
    .selectAll()
    .where('repository_id', '=', repository_id)
    .where('number', '>', number)
    .orderBy('number')
    .limit(1)
    .executeTakeFirst()
  const before = await numberBefore(tx, repository_id, number)
  if (!next && before === undefined)
    throw new Failure('invalid', 'Cannot delete repository version. Repositories must have at least one repository version.')

  const since = tx
    .deleteFrom('membership')
    .where('repository_id', '=', repository_id)
    .where('added_in', '>', before ?? -1)
  // Born after the version before and gone by the next: no version is left that has it.
  if (next) await since.where('removed_in', '<=', next.number).execute()
  else {
    await since.execute()
    await tx
      .updateTable('membership')
      .set({ removed_in: null })
      .where('repository_id', '=', repository_id)
      .where('removed_in', '>', before!)
      .execute()
  }
  await tx.deleteFrom('version').where('id', '=', id).execute()
  if (next) await recount(tx, next, before)
}

/** The number of the version before this one, of those that are left. */
export async function numberBefore(db: Db, repositoryId: number, number: number): Promise<number | undefined> {
  const row = await db
    .selectFrom('version')
    .select('number')
    .where('repository_id', '=', repositoryId)
    .where('number', '<', number)
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.number
}

/** Counts what a version changes against the one that now comes before it. */
async function recount(tx: Tx, version: Row<'version'>, before: number | undefined): Promise<void> {
  const counts = JSON.parse(version.counts) as Counts
  // All that the first one has is new in it, and need not be looked at.
  if (before === undefined) return storeCounts(tx, version, allNew(counts))
  const { added, removed } = await diffVersions(tx, version.repository_id, before, version.number)
  const present = Object.fromEntries(Object.entries(counts).map(([type, count]) => [type, { ...count, added: 0, removed: 0 }]))
  for (const [type, count] of await countTypes(tx, new Set(added)))
    present[type] = { ...(present[type] ?? { present: count, removed: 0 }), added: count }
  for (const [type, count] of await countTypes(tx, new Set(removed)))
    present[type] = { ...(present[type] ?? { present: 0, added: 0 }), removed: count }
  await storeCounts(tx, version, present)
}

function allNew(counts: Counts): Counts {
  const there = Object.entries(counts).filter(([, { present }]) => present > 0)
  return Object.fromEntries(there.map(([type, { present }]) => [type, { present, added: present, removed: 0 }]))
}

async function storeCounts(tx: Tx, { id }: Row<'version'>, counts: Counts): Promise<void> {
  await tx
    .updateTable('version')
    .set({ counts: JSON.stringify(counts) })
    .where('id', '=', id)
    .execute()
}
