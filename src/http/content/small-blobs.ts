import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { Failure } from '../../lib/failure.ts'
import { openKeptBytes } from '../../lib/kept-bytes.ts'
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
  const kept = openKeptBytes(most)
  const reading = new Map<string, Promise<Buffer>>()

  async function load(sha256: string): Promise<Buffer> {
    const bytes = await buffer(await blobs.open(sha256))
    // They may be sent for months: a disk's mistake must not be.
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      throw new Failure('integrity', `The blob sha256:${sha256} is damaged.`)
    kept.keep(sha256, bytes)
    return bytes
  }
  return {
    find: kept.find,
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
