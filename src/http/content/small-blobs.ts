import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { Failure } from '../../lib/failure.ts'
import type { BlobStore } from '../../store/blobs.ts'

export const smallBlob = 256 * 1024
const most = 64 * 1024 * 1024

/** Bytes of small blobs, those asked for last, up to 64 MiB. Blobs never change, so they need not be forgotten. */
export interface SmallBlobs {
  find(sha256: string): Buffer | undefined
  /** Reads it, once for all who ask at the same time. */
  read(sha256: string): Promise<Buffer>
}

export function openSmallBlobs(blobs: BlobStore): SmallBlobs {
  const kept = new Map<string, Buffer>()
  const reading = new Map<string, Promise<Buffer>>()
  let weight = 0

  async function load(sha256: string): Promise<Buffer> {
    const bytes = await buffer(await blobs.open(sha256))
    // They may be sent for months: a disk's mistake must not be.
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      throw new Failure('integrity', `The blob sha256:${sha256} is damaged.`)
    kept.set(sha256, bytes)
    weight += bytes.length
    for (const [oldest, { length }] of kept) {
      if (weight <= most) break
      kept.delete(oldest)
      weight -= length
    }
    return bytes
  }
  return {
    find(sha256) {
      const bytes = kept.get(sha256)
      if (bytes && weight > most / 2) {
        // What is asked for moves to the end; while there is much room its place does not matter.
        kept.delete(sha256)
        kept.set(sha256, bytes)
      }
      return bytes
    },
    read(sha256) {
      let bytes = reading.get(sha256)
      if (!bytes) {
        bytes = load(sha256).finally(() => reading.delete(sha256))
        reading.set(sha256, bytes)
      }
      return bytes
    },
  }
}
