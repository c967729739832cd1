import { type RawBuilder, sql } from 'kysely'
import { idRows, jsonRows } from '../store/bulk.ts'
import type { Db } from '../store/database.ts'
import type { Row } from '../store/schema.ts'

/*
 * Units name others by type and key (container: a tag its manifest, a manifest its layers): what a unit is made of comes along with it and
 * goes with it when nothing else needs it. What only says something about a unit (a signature) comes along where it is.
 */

/** A version of a repository. */
export type Place = Pick<Row<'version'>, 'repository_id' | 'number'>

/** These units and all that belongs to them in a version: what they are made of, and what says something about any of that. */
export async function withReferences(db: Db, ids: Iterable<number>, place: Place): Promise<number[]> {
  return (await withReferencesEach(db, [{ ids, place }]))[0]!
}

/** As withReferences, for many at once: the same few queries, however many they are. */
export async function withReferencesEach(db: Db, sets: readonly { ids: Iterable<number>; place: Place }[]): Promise<number[][]> {
  const found = sets.map(({ ids }) => new Set(ids))
  const rowsOf = (at: number, ids: Iterable<number>) =>
    [...ids].map((id) => ({ at, id, repository_id: sets[at]!.place.repository_id, number: sets[at]!.place.number }))
  // Trees are a few levels deep: a query for each.
  for (let last = found.flatMap((ids, at) => rowsOf(at, ids)); last.length > 0; ) {
    const table = jsonRows(db, last, { at: 'bigint', id: 'bigint', repository_id: 'bigint', number: 'bigint' })
    const { rows } = await sql<{ at: number; id: number }>`
      select i.at, target.id from ${table} as i cross join reference cross join content target
      where reference.content_id = i.id and reference.about = 0 and target.type = reference.type and target.key = reference.key
        and ${isIn({ repository_id: sql`i.repository_id`, number: sql`i.number` }, sql`target.id`)}
      union
      select i.at, reference.content_id as id from ${table} as i cross join content source cross join reference
      where source.id = i.id and reference.type = source.type and reference.key = source.key and reference.about = 1
        and ${isIn({ repository_id: sql`i.repository_id`, number: sql`i.number` }, sql`reference.content_id`)}`.execute(db)
    last = rows.filter(({ at, id }) => !found[at]!.has(id)).flatMap(({ at, id }) => rowsOf(at, [id]))
    for (const { at, id } of last) found[at]!.add(id)
  }
  return found.map((ids) => [...ids])
}

/**
 * What a version no longer needs once these units are gone: what they were made of, all the way down, except what something else that
 * stays is made of, and what has a name of its own.
 */
export async function leavingReferences(db: Db, ids: readonly number[], place: Place): Promise<number[]> {
  const gone = new Set(ids)
  for (let last: readonly number[] = ids; last.length > 0; ) {
    // It ends at the first holder that stays: a layer may be one of thousands of images.
    const { rows } = await sql<{ id: number }>`
      select distinct target.id from ${idRows(db, last)} as i cross join reference cross join content target
      where reference.content_id = i.id and reference.about = 0 and target.type = reference.type and target.key = reference.key
        and target.name is null and target.id not in (select id from ${idRows(db, gone)} as g) and ${isIn(place, sql`target.id`)}
        and not ${isHeldByOthers(db, gone, place)}`.execute(db)
    last = rows.map(({ id }) => id)
    for (const id of last) gone.add(id)
  }
  for (const id of ids) gone.delete(id)
  return [...gone]
}

/** Whether something in a version is made of `target` that is not among these units. */
function isHeldByOthers(db: Db, ids: Iterable<number>, place: Place): RawBuilder<boolean> {
  return sql`exists (select 1 from reference holder where holder.type = target.type and holder.key = target.key and holder.about = 0
    and holder.content_id not in (select id from ${idRows(db, ids)} as h) and ${isIn(place, sql`holder.content_id`)})`
}

/** The names of what a unit is part of, among these units: for those who are told what a missing part is missing from. */
export async function namesOfWhole(db: Db, id: number, among: ReadonlySet<number>): Promise<string[]> {
  const seen = new Set([id])
  const names = new Set<string>()
  for (let last: readonly number[] = [id]; last.length > 0; ) {
    const { rows } = await sql<{ id: number; name: string | null }>`
      select source.id, source.name from ${idRows(db, last)} as i cross join content target
      join reference on reference.type = target.type and reference.key = target.key and reference.about = 0
      join content source on source.id = reference.content_id
      where target.id = i.id`.execute(db)
    const next = rows.filter((row) => among.has(row.id) && !seen.has(row.id))
    for (const each of next) {
      seen.add(each.id)
      if (each.name !== null) names.add(each.name)
    }
    last = next.map((each) => each.id)
  }
  return [...names].sort()
}

/** Those of these units of a version that something else there is made of, which is not among them and stays: directly or by others of them. */
export async function keptByOthers(db: Db, ids: readonly number[], place: Place): Promise<Set<number>> {
  const { rows: held } = await sql<{ id: number }>`
    select target.id from ${idRows(db, ids)} as i cross join content target
    where target.id = i.id and ${isHeldByOthers(db, ids, place)}`.execute(db)
  const kept = new Set(held.map(({ id }) => id))
  const among = new Set(ids)
  for (let last: readonly number[] = [...kept]; last.length > 0; ) {
    const { rows } = await sql<{ id: number }>`
      select distinct target.id from ${idRows(db, last)} as i cross join reference cross join content target
      where reference.content_id = i.id and reference.about = 0 and target.type = reference.type and target.key = reference.key`.execute(
      db,
    )
    last = rows.map(({ id }) => id).filter((id) => among.has(id) && !kept.has(id))
    for (const id of last) kept.add(id)
  }
  return kept
}

/** What a version has to say of nothing but these units: it has no name, nothing else is made of it, and all that it is about is among them. */
export async function leavingAbout(db: Db, ids: readonly number[], place: Place): Promise<number[]> {
  const gone = idRows(db, ids)
  const { rows } = await sql<{ id: number }>`
    select distinct teller.id from ${gone} as i cross join content target
    join reference on reference.type = target.type and reference.key = target.key and reference.about = 1
    join content teller on teller.id = reference.content_id
    where target.id = i.id and teller.name is null and ${isIn(place, sql`teller.id`)}
      and teller.id not in (select id from ${gone} as g)
      and not exists (select 1 from reference holder where holder.type = teller.type and holder.key = teller.key and holder.about = 0
        and ${isIn(place, sql`holder.content_id`)} and holder.content_id not in (select id from ${gone} as g))
      and not exists (select 1 from reference other join content subject on subject.type = other.type and subject.key = other.key
        where other.content_id = teller.id and other.about = 1 and ${isIn(place, sql`subject.id`)}
        and subject.id not in (select id from ${gone} as g))`.execute(db)
  return rows.map(({ id }) => id)
}

function isIn(
  { repository_id, number }: { repository_id: unknown; number: unknown },
  id: RawBuilder<unknown>,
): RawBuilder<boolean> {
  return sql`exists (select 1 from membership where membership.repository_id = ${repository_id} and membership.content_id = ${id}
    and membership.added_in <= ${number} and (membership.removed_in is null or membership.removed_in > ${number}))`
}
