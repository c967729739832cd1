import { sql } from 'kysely'
import { idRows, textRows } from '../store/bulk.ts'
import type { Db } from '../store/database.ts'
import { unitsById } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { ContentType, Format, Unit } from './format.ts'

/** What a unit is made of, as far as a repository that holds it has that, too. */
export async function membersOf(
  db: Db,
  { type, slots }: NonNullable<ContentType['members']>,
  unit: Unit,
): Promise<{ uuid: string; type: string }[]> {
  const { rows } = await sql<{ uuid: string; type: string }>`
    select c.uuid, c.type from ${textRows(db, await slots(unit))} as k cross join content c
    where c.type = ${type} and c.slot = k.text and exists (
      select 1 from membership mine join membership theirs on theirs.repository_id = mine.repository_id
      where theirs.content_id = c.id and mine.content_id = ${unit.id})
    order by c.id`.execute(db)
  return rows
}

/** Those of `staying` that belong to something in `leaving` and to nothing that stays: they go with it. */
export async function leavingMembers(
  { db }: Pick<Ctx, 'db'>,
  format: Format,
  leaving: readonly number[],
  staying: ReadonlySet<number>,
): Promise<number[]> {
  const gone: number[] = []
  for (const { name, members } of format.contentTypes) {
    if (!members) continue
    const type = `${format.name}.${name}`
    const slots = await slotsOf(db, members, type, leaving)
    if (slots.size === 0) continue
    for (const slot of await slotsOf(db, members, type, staying)) slots.delete(slot)
    const { rows } = await sql<{ id: number }>`
      select c.id from ${textRows(db, slots)} as k cross join content c where c.type = ${members.type} and c.slot = k.text`.execute(
      db,
    )
    gone.push(...rows.map(({ id }) => id).filter((id) => staying.has(id)))
  }
  return gone
}

/** The slots of what those of these units that are of one type are made of. */
async function slotsOf(
  db: Db,
  { slots }: NonNullable<ContentType['members']>,
  type: string,
  ids: Iterable<number>,
): Promise<Set<string>> {
  const rows = await db
    .selectFrom('content')
    .select('id')
    .where('type', '=', type)
    .where('id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .orderBy('id')
    .execute()
  const all = new Set<string>()
  for await (const unit of unitsById(
    db,
    rows.map(({ id }) => id),
  ))
    for (const slot of await slots(unit)) all.add(slot)
  return all
}
