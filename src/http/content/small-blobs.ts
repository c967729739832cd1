import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { Failure } from '../../lib/failure.ts'
import { openKeptBytes } from '../../lib/kept-bytes.ts'
import type { BlobStore } from '../../store/blobs.ts'
import { type Body, bodyOf } from './body.ts'

export const smallBlob = 256 * 1024
const most = 64 * 1024 * 1024

/** Bytes of small blobs, those asked for last, up to 64 MiB. Blobs never change, so they need not be forgotten. */
export interface SmallBlobs {
  find(sha256: string): Body | undefined
  /** Reads it, once for all who ask at the same time. */
  read(sha256: string): Promise<Body>
}

export function openSmallBlobs(blobs: BlobStore): SmallBlobs {
  const kept = openKeptBytes<Body>(most)
  const reading = new Map<string, Promise<Body>>()

  async function load(sha256: string): Promise<Body> {
    const bytes = await buffer(await blobs.open(sha256))
    // They may be sent for months: a disk's mistake must not be.
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      throw new Failure('integrity', `The blob sha256:${sha256} is damaged.`)
    const body = bodyOf(bytes)
    kept.keep(sha256, body)
    return body
  }
  return {
    find: kept.find,
    read(sha256) {
      let body = reading.get(sha256)
      if (!body) {
        body = load(sha256).finally(() => reading.delete(sha256))
        reading.set(sha256, body)
      }
      return body
    },
  }
}
