import { createHash } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { compress } from '../../lib/compression.ts'
import type { Db, Tx } from '../../store/database.ts'
import { type Place, readPacks } from '../../store/packs.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import type { Facts, Listing } from '../format.ts'
import { type StoredFile, storeBytes } from '../store-metadata.ts'
import type { Job } from '../tasks/tasks.ts'
import { type Listed, listStretch, readChange, readMembers } from './members.ts'
import { openCutter, type Piece, planStretches, type Stretch } from './plan.ts'
import type { Part, Run } from './write-run.ts'
import { openWriters } from './writers.ts'

/** A listing that was stored, for the next one to copy from. */
export interface StoredListing {
  type: string
  form: string
  files: readonly ListedFile[]
  pieces: readonly Piece[]
}

interface ListedFile {
  sha256: string
  /** Where its first piece begins. */
  start: number
}

/** A piece and where it begins in each file. */
type PlacedPiece = Piece & { starts: readonly number[] }

/** Stores the files of a listing. What the repository's last listing of this form has in common with it is copied, and not even read. */
export async function storeListing(
  job: Job,
  listing: Listing,
  version: Row<'version'>,
): Promise<{ files: StoredFile[]; listing: StoredListing }> {
  const { ctx } = job
  const before = await findListing(ctx.db, version.repository_id, listing)
  const { came, gone } = before
    ? await readChange(ctx.db, version, before.number, listing.type)
    : { came: await readMembers(ctx.db, version, listing.type), gone: new Set<number>() }
  const stretches = planStretches(before?.pieces ?? [], came, gone)
  const outputs = listing.files.map((_, index) => openOutput(ctx, before?.files[index]!.sha256))
  const writing = writePieces(job, listing, stretches, outputs)
  const storing = listing.files.map((file, index) => storeBytes(ctx, file, outputs[index]!.stream))
  // All are waited for, so that nothing goes on behind a failure.
  const [written, ...results] = await Promise.allSettled([writing, ...storing])
  if (written.status === 'rejected') throw written.reason
  const files = results.map((result, index) => {
    if (result.status === 'rejected') throw result.reason
    return result.value(outputs[index]!.openSize())
  })
  const { pieces, starts } = written.value
  const listed = files.map(({ stored }, index) => ({ sha256: stored.digests.sha256, start: starts[index]! }))
  return { files, listing: { type: listing.type, form: listing.form, files: listed, pieces } }
}

/** Remembers what a publication's listings are made of, instead of what the one before it was made of. */
export async function saveListings(tx: Tx, publication: Row<'publication'>, listings: readonly StoredListing[]): Promise<void> {
  const { id, repository_id } = publication
  for (const { type, form, files, pieces } of listings) {
    await tx.deleteFrom('listing').where('repository_id', '=', repository_id).where('type', '=', type).execute()
    const json = { files: JSON.stringify(files), pieces: JSON.stringify(pieces) }
    await tx
      .insertInto('listing')
      .values({ repository_id, type, publication_id: id, form, ...json })
      .execute()
  }
}

async function findListing(db: Db, repositoryId: number, { type, form }: Listing) {
  const row = await db
    .selectFrom('listing')
    .innerJoin('publication', 'publication.id', 'listing.publication_id')
    .innerJoin('version', 'version.id', 'publication.version_id')
    .select(['listing.files', 'listing.pieces', 'version.number'])
    .where('listing.repository_id', '=', repositoryId)
    .where('listing.type', '=', type)
    .where('listing.form', '=', form)
    .executeTakeFirst()
  if (!row) return undefined
  const files = JSON.parse(row.files) as ListedFile[]
  return { number: row.number, files, pieces: [...placed(JSON.parse(row.pieces) as Piece[], files)] }
}

function* placed(pieces: readonly Piece[], files: readonly ListedFile[]): Generator<PlacedPiece> {
  let starts = files.map(({ start }) => start)
  for (const piece of pieces) {
    yield { ...piece, starts }
    starts = starts.map((start, index) => start + piece.lengths[index]![0])
  }
}

/** Units that make a piece, and what is written of them. */
interface Cut {
  units: readonly Listed[]
  facts: readonly Facts[]
  digest: string
}

/** A piece to copy, or one that is being made. */
type Made = PlacedPiece | (Omit<Piece, 'lengths'> & { parts: Promise<Part[]> })

/** Writes the files in step. Returns what they are made of, and where in each the first piece starts. */
async function writePieces(
  { ctx, signal }: Job,
  listing: Listing,
  stretches: readonly Stretch<PlacedPiece>[],
  outputs: readonly Output[],
): Promise<{ pieces: Piece[]; starts: number[] }> {
  const unlisted = stretches.reduce((sum, each) => sum + ('kept' in each ? 0 : each.stayed.length + each.came.length), 0)
  await using writers = openWriters(listing, unlisted)
  const pieces: Piece[] = []

  async function begin(cut: Cut): Promise<Made> {
    const last = cut.units.at(-1)!.slot
    const parts = writers.write(await gather(ctx.db, cut))
    parts.catch(() => {}) // It is awaited when its turn comes.
    return { last, ids: cut.units.map(({ id }) => id), digest: cut.digest, parts }
  }
  async function put(made: Made): Promise<void> {
    if ('starts' in made) {
      const { starts, ...piece } = made
      pieces.push(piece)
      await Promise.all(outputs.map((output, index) => output.copy(starts[index]!, piece.lengths[index]!)))
    } else {
      const { parts: making, ...piece } = made
      const parts = await making
      pieces.push({ ...piece, lengths: parts.map(({ bytes, openLength }) => [bytes.length, openLength]) })
      await Promise.all(outputs.map((output, index) => output.add(parts[index]!)))
    }
  }
  async function frame(texts: readonly Uint8Array[]): Promise<void> {
    const parts = texts.map((text, index) => ({
      bytes: compress(text, listing.files[index]!.compression),
      openLength: text.length,
    }))
    await Promise.all(outputs.map((output, index) => output.add(parts[index]!)))
  }

  try {
    await frame(listing.head)
    const starts = outputs.map((output) => output.size())
    const queue: Made[] = []
    for await (const next of cutPieces(ctx.db, listing, stretches)) {
      signal.throwIfAborted()
      queue.push('starts' in next ? next : await begin(next))
      if (queue.length > writers.width) await put(queue.shift()!)
    }
    for (const made of queue) await put(made)
    await frame(listing.tail)
    await Promise.all(outputs.map((output) => output.end()))
    return { pieces, starts }
  } catch (error) {
    for (const { stream } of outputs) stream.destroy(error as Error)
    throw error
  }
}

/** The pieces in their order: those that can be copied, and the units of those that have to be written. */
async function* cutPieces(
  db: Db,
  listing: Listing,
  stretches: readonly Stretch<PlacedPiece>[],
): AsyncGenerator<PlacedPiece | Cut> {
  for (const stretch of stretches) {
    if ('kept' in stretch) {
      yield stretch.kept
      continue
    }
    const looked = new Map(stretch.looked.map((piece) => [piece.digest, piece]))
    const ends = openCutter()
    let units: Listed[] = []
    const cut = () => {
      const made = describe(listing, units)
      units = []
      return (made.digest !== '' && looked.get(made.digest)) || made
    }
    for await (const unit of listStretch(db, stretch)) {
      units.push(unit)
      if (ends({ slot: unit.slot, length: unit.place?.length ?? 0 })) yield cut()
    }
    if (units.length > 0) yield cut()
  }
}

function describe({ about }: Listing, units: readonly Listed[]): Cut {
  const told = units.map(about)
  const facts = told.map((each) => each.facts)
  const text = told.every(({ settled }) => settled) ? '' : JSON.stringify(units.map(({ id }, index) => [id, facts[index]]))
  return { units, facts, digest: text && createHash('sha256').update(text).digest('hex') }
}

/** All that is needed to write a piece. */
async function gather(db: Db, { units, facts }: Cut): Promise<Run> {
  const ids = [...new Set(units.flatMap(({ place }) => place?.packId ?? []))]
  const packs = await readPacks(db, ids)
  const bytes = ids.map((id) => packs.get(id)!)
  let size = 0
  const ends = bytes.map(({ length }) => (size += length))
  const joined = new Uint8Array(size)
  for (const [index, pack] of bytes.entries()) joined.set(pack, ends[index]! - pack.length)
  const positions = new Map(ids.map((id, index) => [id, index]))
  const placeOf = (place: Place | undefined) =>
    place ? { pack: positions.get(place.packId)!, at: place.at, length: place.length } : { pack: undefined, at: 0, length: 0 }
  return { units: units.map(({ place }, index) => ({ facts: facts[index]!, ...placeOf(place) })), packs: joined, ends }
}

/** One file being written: its bytes come out of `stream`. */
type Output = ReturnType<typeof openOutput>

function openOutput({ blobs }: Ctx, source: string | undefined) {
  const stream = new PassThrough({ highWaterMark: 1 << 20 })
  let size = 0
  let openSize = 0
  // Pieces that lie side by side in the old file are copied in one go.
  let run: { start: number; end: number } | undefined

  async function copyRun(): Promise<void> {
    if (!run) return
    const { start, end } = run
    run = undefined
    for await (const chunk of await blobs.open(source!, { start, end: end - 1 })) await put(chunk)
  }
  async function put(bytes: Uint8Array): Promise<void> {
    if (!stream.write(bytes)) await drained(stream)
  }
  function count(length: number, openLength: number): void {
    size += length
    openSize += openLength
  }
  return {
    stream,
    size: () => size,
    /** The size before compression. */
    openSize: () => openSize,
    /** Adds a piece of the old file. */
    async copy(start: number, [length, openLength]: readonly [number, number]): Promise<void> {
      count(length, openLength)
      if (run?.end !== start) await copyRun()
      run = { start: run?.start ?? start, end: start + length }
    },
    async add({ bytes, openLength }: { bytes: Uint8Array; openLength: number }): Promise<void> {
      count(bytes.length, openLength)
      await copyRun()
      await put(bytes)
    },
    async end(): Promise<void> {
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
