import { sql } from 'kysely'
import { idRows } from '../store/bulk.ts'
import type { Db } from '../store/database.ts'
import { saveContent, unitsById } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { ContentType, Format, Unit } from './format.ts'

/**
 * What comes and what goes when these units join those that a version holds: it has at most one of a type in a slot. The last one gets it,
 * unless its type settles that in another way. Throws what ContentType.settle throws.
 */
export async function takeSlots(
  ctx: Ctx,
  format: Format,
  arriving: Iterable<number>,
  held: ReadonlySet<number>,
): Promise<{ add: Set<number>; remove: number[] }> {
  const add = new Set(arriving)
  const remove: number[] = []
  for (const [type, contests] of Map.groupBy(await findContests(ctx.db, add, held), (contest) => contest.type)) {
    const { settle } = format.contentTypes.find(({ name }) => `${format.name}.${name}` === type) ?? {}
    const decide = settle ? await openSettling(ctx, settle, contests) : async (_: number, added: number) => added
    for (const { comers, holders } of contests) {
      let winner = comers[0]!
      for (const comer of comers.slice(1)) winner = await decide(winner, comer)
      // Several holders come from an upstream that was kept as it is: nobody can tell which of them counts.
      if (holders.length === 1) winner = await decide(holders[0]!, winner)
      for (const id of comers) add.delete(id)
      if (!holders.includes(winner)) add.add(winner)
      remove.push(...[...comers, ...holders].filter((id) => id !== winner && held.has(id)))
    }
  }
  return { add, remove }
}

/** Settles contests by the ids of units: there may be thousands, so these units are read together. */
async function openSettling(ctx: Ctx, settle: NonNullable<ContentType['settle']>, contests: readonly Contest[]) {
  const units = new Map<number, Unit>()
  async function read(ids: readonly number[]): Promise<void> {
    for await (const unit of unitsById(ctx.db, ids)) units.set(unit.id, unit)
  }
  await read(contests.flatMap(({ comers, holders }) => [...comers, ...holders]).sort((a, b) => a - b))
  return async (before: number, added: number): Promise<number> => {
    const stays = await settle(units.get(before)!, units.get(added)!)
    if (typeof stays === 'string') return stays === 'before' ? before : added
    const [merged] = await saveContent(ctx, [stays])
    if (!units.has(merged!)) await read([merged!])
    return merged!
  }
}

interface Contest {
  type: string
  /** In the order in which they came. */
  comers: number[]
  holders: number[]
}

/** The slots that more than one of these units want. */
async function findContests(db: Db, arriving: ReadonlySet<number>, held: ReadonlySet<number>): Promise<Contest[]> {
  const { rows } = await sql<{ id: number; type: string; slot: string; other: number }>`
    select fresh.id, fresh.type, fresh.slot, other.id as other from ${idRows(db, arriving)} as arriving
    cross join content fresh
    join content other on other.type = fresh.type and other.slot = fresh.slot and other.id <> fresh.id
    where fresh.id = arriving.id`.execute(db)
  const contested = rows.filter(({ other }) => arriving.has(other) || held.has(other))
  if (contested.length === 0) return []
  const order = new Map([...arriving].map((id, index) => [id, index]))
  return [...Map.groupBy(contested, ({ type, slot }) => `${type}\n${slot}`).values()].map((group) => ({
    type: group[0]!.type,
    comers: [...new Set(group.map(({ id }) => id))].sort((a, b) => order.get(a)! - order.get(b)!),
    holders: [...new Set(group.map(({ other }) => other))].filter((id) => !arriving.has(id)),
  }))
}
