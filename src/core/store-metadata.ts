import { Readable } from 'node:stream'
import { openCompressor } from '../lib/compression.ts'
import { saveBlob } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { MetadataFile, Stored } from './format.ts'

/** A metadata file that is stored: its path in the publication, its blob, and what the format is told of it. */
export interface StoredFile {
  path: string
  blobId: number
  stored: Stored
}

/** Compresses and stores a metadata file. */
export async function storeFile(ctx: Ctx, file: MetadataFile, body: AsyncIterable<Uint8Array>): Promise<StoredFile> {
  let openSize = 0
  async function* counted() {
    for await (const chunk of body) {
      openSize += chunk.length
      yield chunk
    }
  }
  const bytes = file.compression === 'none' ? counted() : Readable.from(counted()).compose(openCompressor(file.compression))
  const finish = await storeBytes(ctx, file, bytes)
  return finish(openSize)
}

/** Stores the bytes of a metadata file as they are. What is returned names it, once its size before compression is known. */
export async function storeBytes(ctx: Ctx, { path, digests }: MetadataFile, bytes: AsyncIterable<Uint8Array>) {
  await using staged = await ctx.blobs.stage(bytes, {}, digests ?? [])
  await staged.keep()
  const blobId = await saveBlob(ctx.db, staged.digests, staged.size)
  return (openSize: number): StoredFile => {
    const stored: Stored = { size: staged.size, digests: staged.digests, openSize }
    return { path: typeof path === 'function' ? path(stored) : path, blobId, stored }
  }
}
