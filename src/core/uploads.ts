import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, hasCode } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { makeTree, syncDirectory } from '../store/disk.ts'
import type { Row } from '../store/schema.ts'
import { forgetObject } from './access/auth.ts'
import { saveBlob } from './content.ts'
import type { Ctx } from './ctx.ts'
import { prnOf } from './names.ts'
import type { Job } from './tasks/tasks.ts'
import { transact } from '../store/database.ts'

/*
 * A file that arrives in chunks, in any order: each is written at its place in `uploads/<uuid>`. Committing makes a blob of it.
 */

/** Begins an upload of this many bytes. Throws Failure conflict when there is no room for them. */
export async function createUpload(ctx: Ctx, size: number): Promise<Row<'upload'>> {
  await ctx.blobs.makeRoom(size)
  const at = now()
  return ctx.db
    .insertInto('upload')
    .values({ uuid: newUuid(), size, chunks: '[]', created: at, updated: at })
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** One chunk: where it begins, how long it says it is, and its SHA-256 where the client gave one. */
export interface Chunk {
  offset: number
  size: number
  sha256?: string | undefined
}

/** Writes a chunk, which counts when it is added, and stays when the power goes. Throws Failure invalid when it is not what it says or does not fit. */
export async function writeChunk(ctx: Ctx, upload: Row<'upload'>, chunk: Chunk, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  if (chunk.offset + chunk.size > upload.size) throw new Failure('invalid', 'End byte is greater than upload size.')
  await ctx.blobs.makeRoom(chunk.size)
  await makeTree(directoryOf(ctx))
  const { size, sha256 } = await writeAt(pathOf(ctx, upload), chunk, bytes)
  // Whoever made the file may not have come so far yet.
  await syncDirectory(directoryOf(ctx))
  if (size !== chunk.size) throw new Failure('invalid', 'Chunk size does not match content range.')
  if (chunk.sha256 && chunk.sha256 !== sha256) throw new Failure('invalid', 'Checksum does not match chunk upload.')
}

/** Adds a chunk that was written to those that have arrived. */
export async function addChunk(ctx: Ctx, upload: Row<'upload'>, { offset, size }: Chunk): Promise<Row<'upload'>> {
  return transact(ctx.db, async (tx) => {
    // The first update keeps others from adding their chunk to the same list.
    const row = await tx
      .updateTable('upload')
      .set({ updated: now() })
      .where('id', '=', upload.id)
      .returning('chunks')
      .executeTakeFirst()
    if (!row) throw new Failure('not_found', 'The upload was deleted.')
    return tx
      .updateTable('upload')
      .set({ chunks: JSON.stringify([...chunksOf(row), [offset, size]]) })
      .where('id', '=', upload.id)
      .returningAll()
      .executeTakeFirstOrThrow()
  })
}

/** `[offset, size]` of what has arrived, in the order of arrival. */
export function chunksOf(upload: Pick<Row<'upload'>, 'chunks'>): [offset: number, size: number][] {
  return JSON.parse(upload.chunks)
}

/** The bytes of an upload that is complete. Throws Failure invalid when some are missing. */
export function openUpload(ctx: Ctx, upload: Row<'upload'>): AsyncIterable<Uint8Array> {
  if (!isWhole(upload)) throw new Failure('invalid', 'The upload is not complete.')
  return createReadStream(pathOf(ctx, upload))
}

export async function deleteUpload(ctx: Ctx, upload: Pick<Row<'upload'>, 'id' | 'uuid'>): Promise<void> {
  await ctx.db.deleteFrom('upload').where('id', '=', upload.id).execute()
  await forgetObject(ctx.db, prnOf(ctx.formats, 'upload', upload))
  await rm(pathOf(ctx, upload), { force: true })
}

/** Removes files of uploads that are gone: a crash came between the row and its file. */
export async function tidyUploads(ctx: Ctx): Promise<void> {
  const names = await readdir(directoryOf(ctx)).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  })
  if (names.length === 0) return
  const rows = await ctx.db.selectFrom('upload').select('uuid').execute()
  const known = new Set(rows.map(({ uuid }) => uuid))
  for (const name of names) if (!known.has(name)) await rm(join(directoryOf(ctx), name), { force: true })
}

export interface CommitUploadArgs {
  uploadId: number
  sha256: string
}

/** Work: makes a blob of an upload and forgets the upload. */
export async function commitUpload({ ctx, created }: Job, { uploadId, sha256 }: CommitUploadArgs): Promise<void> {
  const upload = await ctx.db.selectFrom('upload').selectAll().where('id', '=', uploadId).executeTakeFirst()
  if (!upload) throw new Failure('not_found', 'The upload was deleted.')
  if (!isWhole(upload)) throw new Failure('integrity', 'The sha256 checksum did not match.')
  await using staged = await stage(ctx, upload, sha256)
  const known = await ctx.db.selectFrom('blob').select('id').where('sha256', '=', sha256).executeTakeFirst()
  if (known) throw new Failure('invalid', `Artifact with sha256 checksum of '${sha256}' already exists.`)
  await staged.keep()
  const id = await saveBlob(ctx.db, staged.digests, staged.size)
  const blob = await ctx.db.selectFrom('blob').select('uuid').where('id', '=', id).executeTakeFirstOrThrow()
  await created(prnOf(ctx.formats, 'artifact', blob))
  await deleteUpload(ctx, upload)
}

async function stage(ctx: Ctx, upload: Row<'upload'>, sha256: string) {
  try {
    const others = ctx.config.allowedChecksums.filter((each) => each === 'sha224' || each === 'sha384' || each === 'sha512')
    return await ctx.blobs.stage(
      createReadStream(pathOf(ctx, upload)),
      { size: upload.size, checksum: `sha256:${sha256}` },
      others,
    )
  } catch (error) {
    if (error instanceof Failure && error.code === 'integrity')
      throw new Failure('integrity', 'The sha256 checksum did not match.', { cause: error })
    throw error
  }
}

/** Whether chunks cover every byte. */
function isWhole(upload: Row<'upload'>): boolean {
  let end = 0
  for (const [offset, size] of chunksOf(upload).sort(([a], [b]) => a - b)) {
    if (offset > end) return false
    end = Math.max(end, offset + size)
  }
  return end === upload.size
}

/** Writes no more than the chunk's size, so that one that is too long does not spoil its neighbour. */
async function writeAt(path: string, chunk: Chunk, bytes: AsyncIterable<Uint8Array>): Promise<{ size: number; sha256: string }> {
  const hash = createHash('sha256')
  let size = 0
  await using file = await openForWriting(path)
  for await (const piece of bytes) {
    if (size + piece.length > chunk.size) throw new Failure('invalid', 'Chunk size does not match content range.')
    hash.update(piece)
    for (let at = 0; at < piece.length; ) {
      const { bytesWritten } = await file.write(piece, at, piece.length - at, chunk.offset + size + at)
      at += bytesWritten
    }
    size += piece.length
  }
  await file.sync()
  return { size, sha256: hash.digest('hex') }
}

/** For writing at any place, made when it is not there. */
async function openForWriting(path: string) {
  try {
    return await open(path, 'r+')
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    // Two first chunks may arrive at once: whoever comes second opens what the first has made.
    await (await open(path, 'a', 0o600)).close()
    return open(path, 'r+')
  }
}

function directoryOf({ config }: Ctx): string {
  return join(config.dataDirectory, 'uploads')
}

function pathOf(ctx: Ctx, { uuid }: Pick<Row<'upload'>, 'uuid'>): string {
  return join(directoryOf(ctx), uuid)
}
