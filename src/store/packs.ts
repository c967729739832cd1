import { type Pack, type PackedText, packTexts, unpack } from '../lib/packing.ts'
import { sql } from 'kysely'
import { idRows } from './bulk.ts'
import type { Db } from './database.ts'

/* Entries (the bulky descriptions of content) lie in packs: see lib/packing.ts. */

const rememberedBytes = 32 * 1024 * 1024

/** Where an entry lies. */
export interface Place {
  packId: number
  at: number
  length: number
}

/** Stores entries, which may be in packs already, in as many packs as they need. Returns where each lies, in their order. */
export async function writeEntries(db: Db, entries: readonly (Uint8Array | PackedText)[]): Promise<Place[]> {
  const loose = packTexts(entries.filter((entry) => entry instanceof Uint8Array))
  const packed = entries.map((entry) => (entry instanceof Uint8Array ? loose.shift()! : entry))
  const ids = await insertPacks(db, [...new Set(packed.map(({ pack }) => pack))])
  return packed.map(({ pack, at, length }) => ({ packId: ids.get(pack)!, at, length }))
}

/** How many go into one statement. */
const insertedTogether = 50

async function insertPacks(db: Db, packs: readonly Pack[]): Promise<Map<Pack, number>> {
  const ids = new Map<Pack, number>()
  for (let next = 0; next < packs.length; next += insertedTogether) {
    const these = packs.slice(next, next + insertedTogether)
    const values = these.map(({ bytes }) => ({ bytes }))
    const rows = await db.insertInto('pack').values(values).returning('id').execute()
    // Ids rise in the order of the values; the order of what is returned is nobody's promise.
    const inOrder = rows.map(({ id }) => id).sort((a, b) => a - b)
    for (const [index, pack] of these.entries()) ids.set(pack, inOrder[index]!)
  }
  return ids
}

/** Packs as they are stored. */
export async function readPacks(db: Db, ids: readonly number[]): Promise<Map<number, Uint8Array>> {
  const rows = await db
    .selectFrom('pack')
    .selectAll()
    .where('id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .execute()
  return new Map(rows.map(({ id, bytes }) => [id, bytes]))
}

export interface PackReader {
  read(place: Place): Promise<Buffer>
}

/** Reads entries, keeping the last unpacked packs at hand. Make one for the length of a job or a request. */
export function openPackReader(db: Db): PackReader {
  const packs = new Map<number, Promise<Buffer>>()
  let held = 0

  async function readPack(id: number): Promise<Buffer> {
    const { bytes } = await db.selectFrom('pack').select('bytes').where('id', '=', id).executeTakeFirstOrThrow()
    return unpack(bytes)
  }

  async function load(id: number): Promise<Buffer> {
    const loading = readPack(id)
    packs.set(id, loading)
    held += (await loading).length
    for (const [oldest, bytes] of packs) {
      if (held <= rememberedBytes || oldest === id) break
      packs.delete(oldest)
      held -= (await bytes).length
    }
    return loading
  }

  return {
    async read({ packId, at, length }) {
      const found = packs.get(packId)
      if (found) {
        packs.delete(packId)
        packs.set(packId, found)
      }
      return (await (found ?? load(packId))).subarray(at, at + length)
    },
  }
}
