import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type { Db } from './database.ts'

/*
 * Entries (the bulky descriptions of content) lie in packs: some dozen kilobytes of entries, one after the other,
 * compressed together: larger costs more to read one entry, smaller more to write and keep them all. Level 2 is quicker than the usual 3
 * and, for this much of text that repeats itself, no larger.
 */

const packSize = 128 * 1024
const rememberedBytes = 32 * 1024 * 1024

const compressInPool = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdCompress)
const options = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 2 }, chunkSize: packSize / 4 }

function compress(bytes: Uint8Array): Promise<Buffer> {
  return compressInPool(bytes, options)
}

/** Takes a tenth of a millisecond: handing it to another thread would take longer. */
function decompress(bytes: Uint8Array): Buffer {
  return zlib.zstdDecompressSync(bytes, { chunkSize: packSize + 1024 })
}

interface Place {
  packId: number
  at: number
  length: number
}

/** Stores entries in as many packs as they need. Returns where each lies, in their order. */
export async function writeEntries(db: Db, entries: readonly Uint8Array[]): Promise<Place[]> {
  const places: Place[] = []
  for (let next = 0; next < entries.length; ) {
    const first = next
    let size = 0
    while (next < entries.length && (next === first || size + entries[next]!.length <= packSize)) size += entries[next++]!.length
    const together = entries.slice(first, next)
    const bytes = await compress(joined(together, size))
    const { id } = await db.insertInto('pack').values({ bytes }).returning('id').executeTakeFirstOrThrow()
    let at = 0
    for (const { length } of together) {
      places.push({ packId: id, at, length })
      at += length
    }
  }
  return places
}

/** Entries as one run of bytes: they often lie side by side in memory already, and copying hundreds of megabytes has its price. */
function joined(entries: readonly Uint8Array[], size: number): Uint8Array {
  const { buffer, byteOffset } = entries[0]!
  let end = byteOffset
  for (const entry of entries) {
    if (entry.buffer !== buffer || entry.byteOffset !== end) return Buffer.concat(entries, size)
    end += entry.length
  }
  return Buffer.from(buffer, byteOffset, size)
}

export interface PackReader {
  read(place: Place): Promise<Buffer>
}

/** Reads entries, keeping the last unpacked packs at hand. Make one for the length of a job or a request. */
export function openPackReader(db: Db): PackReader {
  const packs = new Map<number, Promise<Buffer>>()
  let held = 0

  async function unpack(id: number): Promise<Buffer> {
    const { bytes } = await db.selectFrom('pack').select('bytes').where('id', '=', id).executeTakeFirstOrThrow()
    return decompress(bytes)
  }

  async function load(id: number): Promise<Buffer> {
    const loading = unpack(id)
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
