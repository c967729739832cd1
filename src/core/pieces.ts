import { PassThrough } from 'node:stream'
import { compress } from '../lib/compression.ts'
import type { Db } from '../store/database.ts'
import type { Ctx } from './ctx.ts'
import type { MetadataFile, Piece } from './format.ts'

/*
 * Large metadata is written in pieces that are compressed one by one: gzip and zstd allow members and frames one after the other. What a
 * published file is made of is remembered, so the next publication copies the pieces it has seen and compresses only what is new.
 */

/** A piece of a file: its key, where it begins, its length, and its length before compression; in bytes. */
export type WrittenPiece = [key: string, offset: number, length: number, openLength: number]

interface Place {
  sha256: string
  start: number
  length: number
  openLength: number
}

/** Pieces that can be copied, by key. */
export type Places = ReadonlyMap<string, Place>

/** The pieces of a repository's last publication. */
export async function findPieces(db: Db, repositoryId: number): Promise<Places> {
  const latest = db
    .selectFrom('publication')
    .select('id')
    .where('repository_id', '=', repositoryId)
    .orderBy('id', 'desc')
    .limit(1)
  const rows = await db
    .selectFrom('published_file')
    .innerJoin('blob', 'blob.id', 'published_file.blob_id')
    .select(['blob.sha256', 'published_file.pieces'])
    .where('published_file.publication_id', '=', latest)
    .where('published_file.pieces', 'is not', null)
    .execute()
  const places = new Map<string, Place>()
  for (const { sha256, pieces } of rows)
    for (const [key, start, length, openLength] of JSON.parse(pieces!) as WrittenPiece[])
      places.set(key, { sha256, start, length, openLength })
  return places
}

/** One file being written: its bytes come out of `stream`, what it is made of ends up in `pieces`. */
interface Output {
  stream: PassThrough
  pieces: WrittenPiece[]
  add(piece: Made): Promise<void>
  end(): Promise<void>
}

/** A piece to copy, or one that is being compressed. */
type Made = { key: string; place: Place } | { key: string; openLength: number; bytes: Promise<Uint8Array> }

/** Pieces are made this many ahead of the one that is written: compression runs beside. */
const ahead = 4

/** Writes files in step, piece by piece. `outputs` are being read while `finish` runs. */
export function writePieces(
  ctx: Ctx,
  files: readonly MetadataFile[],
  pieces: AsyncIterable<Piece>,
  reuse: Places,
): { outputs: readonly Output[]; finish: Promise<void> } {
  const outputs = files.map(() => openOutput(ctx))
  return { outputs, finish: write() }

  async function write(): Promise<void> {
    try {
      const queue: Made[][] = []
      for await (const piece of pieces) {
        queue.push(await make(piece))
        if (queue.length > ahead) await put(queue.shift()!)
      }
      for (const made of queue) await put(made)
      await Promise.all(outputs.map((output) => output.end()))
    } catch (error) {
      for (const { stream } of outputs) stream.destroy(error as Error)
      throw error
    }
  }

  async function make({ key, parts }: Piece): Promise<Made[]> {
    const keys = files.map(({ compression }, index) => `${compression}:${index}:${key}`)
    const places = keys.map((each) => reuse.get(each))
    if (places.every((place) => place !== undefined)) return places.map((place, index) => ({ key: keys[index]!, place }))
    return (await parts()).map((part, index) => {
      const bytes = compress(part, files[index]!.compression)
      bytes.catch(() => {}) // It is awaited when its turn comes.
      return { key: keys[index]!, openLength: part.length, bytes }
    })
  }

  async function put(made: readonly Made[]): Promise<void> {
    await Promise.all(made.map((piece, index) => outputs[index]!.add(piece)))
  }
}

function openOutput({ blobs }: Ctx): Output {
  const stream = new PassThrough({ highWaterMark: 1 << 20 })
  const pieces: WrittenPiece[] = []
  let at = 0
  // Pieces that lie side by side in an old file are copied in one go.
  let run: { sha256: string; start: number; length: number } | undefined

  async function copyRun(): Promise<void> {
    if (!run) return
    const { sha256, start, length } = run
    run = undefined
    for await (const chunk of await blobs.open(sha256, { start, end: start + length - 1 })) await put(chunk)
  }
  async function put(bytes: Uint8Array): Promise<void> {
    if (!stream.write(bytes)) await drained(stream)
  }
  function note(key: string, length: number, openLength: number): void {
    pieces.push([key, at, length, openLength])
    at += length
  }
  return {
    stream,
    pieces,
    async add(piece) {
      if ('place' in piece) {
        const { sha256, start, length, openLength } = piece.place
        note(piece.key, length, openLength)
        if (run && run.sha256 === sha256 && run.start + run.length === start) run.length += length
        else {
          await copyRun()
          run = { sha256, start, length }
        }
        return
      }
      await copyRun()
      const bytes = await piece.bytes
      note(piece.key, bytes.length, piece.openLength)
      await put(bytes)
    },
    async end() {
      await copyRun()
      stream.end()
    },
  }
}

/** Resolves when there is room again; rejects when the reader is gone. */
function drained(stream: PassThrough): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error) => {
      stream.off('drain', done)
      stream.off('error', done)
      stream.off('close', closed)
      if (error) reject(error)
      else resolve()
    }
    const closed = () => done(new Error('the file is no longer being stored'))
    stream.once('drain', done)
    stream.once('error', done)
    stream.once('close', closed)
  })
}
