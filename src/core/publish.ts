import { Readable } from 'node:stream'
import { sql } from 'kysely'
import { compress, openCompressor } from '../lib/compression.ts'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Algorithm } from '../store/blobs.ts'
import { idRows, insertMany } from '../store/bulk.ts'
import type { Db, Tx } from '../store/database.ts'
import { openPackReader } from '../store/packs.ts'
import type { Row } from '../store/schema.ts'
import { saveBlob, unitsById } from './content.ts'
import { type Ctx, formatNamed } from './ctx.ts'
import type { Format, Piece, Rendered, Stored, VersionView } from './format.ts'
import { prnOf } from './names.ts'
import type { Job } from './tasks.ts'
import { type Counts, contentOf, getRepository } from './versions.ts'

export interface PublishArgs {
  versionId: number
  /** What the request set; the rest comes from the repository. */
  asked: Record<string, unknown>
  checkpoint?: boolean
}

/** Writes the metadata of a version. One publication per version and settings: asking again gives the one that is there. */
export async function publishVersion(job: Job, { versionId, asked, checkpoint = false }: PublishArgs): Promise<void> {
  const { ctx } = job
  const version = await ctx.db.selectFrom('version').selectAll().where('id', '=', versionId).executeTakeFirst()
  if (!version) throw new Failure('not_found', 'The repository version was deleted.')
  const repository = await getRepository(ctx.db, version.repository_id)
  const format = formatNamed(ctx, repository.type.split('.')[0]!)
  const about = { name: repository.name, settings: JSON.parse(repository.settings) }
  const settings = format.publicationSettings(about, asked)
  const layout = typeof settings['layout'] === 'string' ? settings['layout'] : 'verbatim'

  const twin = await findTwin(ctx.db, version.id, settings, checkpoint)
  if (twin) return job.created(prnOf(ctx.formats, 'publication', twin))

  const reuse = await reusablePieces(ctx.db, repository.id)
  const view = viewVersion(ctx, about, version)
  const files: PublishedFile[] = []
  const rendering = format.render(view, settings)
  job.progress.report('publish.generating_metadata', 'Generating repository metadata', { total: 1, done: 0 })
  for (let step = await rendering.next(); !step.done; ) {
    job.signal.throwIfAborted()
    const { file, stored } = await storeRendered(ctx, step.value, reuse)
    files.push(file)
    step = await rendering.next(stored)
  }
  const publication = await ctx.db
    .transaction()
    .execute((tx) => insertPublication(tx, { type: repository.type, version, settings, layout, checkpoint, files }))
  ctx.changes.bump()
  job.progress.report('publish.generating_metadata', 'Generating repository metadata', { done: 1, finished: true })
  await job.created(prnOf(ctx.formats, 'publication', publication))
}

/** A publication made of the upstream's own metadata files; content lies where the upstream has it. Undefined when the last one is the same. */
export async function insertVerbatimPublication(
  tx: Tx,
  format: Format,
  repository: Row<'repository'>,
  version: Row<'version'>,
  files: readonly { path: string; blobId: number }[],
  paths: readonly { id: number; path: string }[],
): Promise<Row<'publication'> | undefined> {
  const settings = {
    ...format.publicationSettings({ name: repository.name, settings: JSON.parse(repository.settings) }, { mirrored: true }),
    mirrored: true,
  }
  const rows = await tx
    .selectFrom('file')
    .select(['id', 'content_id'])
    .where('content_id', 'in', sql<number>`(select id from ${idRows(tx, [...new Set(paths.map(({ id }) => id))])} as i)`)
    .execute()
  const fileIds = new Map(rows.map(({ id, content_id }) => [content_id, id]))
  const moved = paths.map(({ id, path }) => ({ path, blobId: null, fileId: fileIds.get(id)!, pieces: null }))
  const published = [...files.map((file) => ({ ...file, fileId: null, pieces: null })), ...moved]
  const twin = await tx
    .selectFrom('publication')
    .selectAll()
    .where('version_id', '=', version.id)
    .where('layout', '=', 'verbatim')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
  if (twin && (await hasFiles(tx, twin.id, published))) return undefined
  return insertPublication(tx, {
    type: repository.type,
    version,
    settings,
    layout: 'verbatim',
    checkpoint: false,
    files: published,
  })
}

interface PublishedFile {
  path: string
  blobId: number | null
  fileId: number | null
  pieces: string | null
}

interface NewPublication {
  type: string
  version: Row<'version'>
  settings: Record<string, unknown>
  layout: string
  checkpoint: boolean
  files: readonly PublishedFile[]
}

async function insertPublication(
  tx: Tx,
  { type, version, settings, layout, checkpoint, files }: NewPublication,
): Promise<Row<'publication'>> {
  const at = now()
  const publication = await tx
    .insertInto('publication')
    .values({
      uuid: newUuid(),
      type,
      repository_id: version.repository_id,
      version_id: version.id,
      settings: JSON.stringify(settings),
      layout,
      checkpoint: checkpoint ? 1 : 0,
      created: at,
      updated: at,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  await insertMany(
    tx,
    'published_file',
    { publication_id: 'bigint', path: 'text', blob_id: 'bigint', file_id: 'bigint', pieces: 'jsonb' },
    files.map((file) => ({
      publication_id: publication.id,
      path: file.path,
      blob_id: file.blobId,
      file_id: file.fileId,
      pieces: file.pieces,
    })),
  )
  await tx.updateTable('distribution').set({ content_changed: at }).where('repository_id', '=', version.repository_id).execute()
  return publication
}

async function findTwin(
  db: Db,
  versionId: number,
  settings: Record<string, unknown>,
  checkpoint: boolean,
): Promise<Row<'publication'> | undefined> {
  const wanted = canonical(settings)
  const rows = await db
    .selectFrom('publication')
    .selectAll()
    .where('version_id', '=', versionId)
    .where('checkpoint', '=', checkpoint ? 1 : 0)
    .execute()
  return rows.find((row) => canonical(JSON.parse(row.settings)) === wanted)
}

function canonical(settings: Record<string, unknown>): string {
  return JSON.stringify(Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)))
}

async function hasFiles(db: Db, publicationId: number, files: readonly PublishedFile[]): Promise<boolean> {
  const rows = await db
    .selectFrom('published_file')
    .select(['path', 'blob_id', 'file_id'])
    .where('publication_id', '=', publicationId)
    .execute()
  const have = new Set(rows.map(({ path, blob_id, file_id }) => `${path}\n${blob_id}\n${file_id}`))
  return have.size === files.length && files.every(({ path, blobId, fileId }) => have.has(`${path}\n${blobId}\n${fileId}`))
}

/** Where compressed pieces of earlier metadata lie: `[key, offset, length, length before compression]` of a blob. */
type Places = Map<string, { sha256: string; start: number; length: number; openLength: number }>

async function reusablePieces(db: Db, repositoryId: number): Promise<Places> {
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
  const places: Places = new Map()
  for (const { sha256, pieces } of rows)
    for (const [key, start, length, openLength] of JSON.parse(pieces!) as [string, number, number, number][])
      places.set(key, { sha256, start, length, openLength })
  return places
}

async function storeRendered(ctx: Ctx, rendered: Rendered, reuse: Places): Promise<{ file: PublishedFile; stored: Stored }> {
  const pieces: [string, number, number, number][] = []
  let openSize = 0
  const bytes =
    'pieces' in rendered.body
      ? join(ctx, rendered.body.pieces, rendered.compression, reuse, pieces)
      : rendered.compression === 'none'
        ? counted(rendered.body)
        : Readable.from(counted(rendered.body)).compose(openCompressor(rendered.compression))

  async function* counted(body: AsyncIterable<Uint8Array>) {
    for await (const chunk of body) {
      openSize += chunk.length
      yield chunk
    }
  }
  await using staged = await ctx.blobs.stage(bytes, {}, (rendered.digests ?? []) as Algorithm[])
  if ('pieces' in rendered.body) openSize = pieces.reduce((sum, piece) => sum + piece[3], 0)
  const stored: Stored = { size: staged.size, digests: staged.digests, openSize }
  await staged.keep()
  const path = typeof rendered.path === 'function' ? rendered.path(stored) : rendered.path
  const blobId = await saveBlob(ctx.db, staged.digests, staged.size)
  return { file: { path, blobId, fileId: null, pieces: pieces.length > 0 ? JSON.stringify(pieces) : null }, stored }
}

const ahead = 4

/** Puts pieces together: copied from the publication before where it has them, else made and compressed, some ahead of the others. */
async function* join(
  ctx: Ctx,
  pieces: AsyncIterable<Piece>,
  compression: Rendered['compression'],
  reuse: Places,
  written: [string, number, number, number][],
): AsyncGenerator<Uint8Array> {
  let at = 0
  const queue: {
    key: string
    openLength: number
    bytes: Promise<Uint8Array>
    place?: { sha256: string; start: number; length: number }
  }[] = []
  // Pieces that lie side by side in an old file are read in one go.
  let run: { sha256: string; start: number; length: number } | undefined

  async function* flushRun() {
    if (run) yield* await ctx.blobs.open(run.sha256, { start: run.start, end: run.start + run.length - 1 })
    run = undefined
  }
  async function* take() {
    const piece = queue.shift()!
    if (piece.place) {
      if (run && run.sha256 === piece.place.sha256 && run.start + run.length === piece.place.start)
        run.length += piece.place.length
      else {
        yield* flushRun()
        run = { ...piece.place }
      }
      written.push([piece.key, at, piece.place.length, piece.openLength])
      at += piece.place.length
      return
    }
    yield* flushRun()
    const bytes = await piece.bytes
    written.push([piece.key, at, bytes.length, piece.openLength])
    at += bytes.length
    yield bytes
  }

  for await (const piece of pieces) {
    const key = `${compression}:${piece.key}`
    const place = reuse.get(key)
    if (place) queue.push({ key, openLength: place.openLength, bytes: Promise.resolve(new Uint8Array()), place })
    else {
      const open = await piece.bytes()
      const bytes = compress(open, compression)
      bytes.catch(() => {}) // Awaited when its turn comes.
      queue.push({ key, openLength: open.length, bytes })
    }
    if (queue.length > ahead) yield* take()
  }
  while (queue.length > 0) yield* take()
  yield* flushRun()
}

/** A version as formats see it. */
export function viewVersion(ctx: Ctx, repository: VersionView['repository'], version: Row<'version'>): VersionView {
  const packs = openPackReader(ctx.db)
  const counts = JSON.parse(version.counts) as Counts
  const orders = new Map<string, Promise<number[]>>()

  async function order(type: string): Promise<number[]> {
    const rows = await contentOf(ctx.db, version)
      .select(['content.id', 'content.slot'])
      .where('content.type', '=', type)
      .execute()
    return rows.sort((a, b) => (a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : a.id - b.id)).map(({ id }) => id)
  }
  return {
    repository,
    number: version.number,
    created: version.created,
    counts: Object.fromEntries(Object.entries(counts).map(([type, { present }]) => [type, present])),
    async *units(type) {
      if (!orders.has(type)) orders.set(type, order(type))
      const ids = await orders.get(type)!
      yield* unitsById(ctx.db, ids, packs)
    },
    open: (sha256) => ctx.blobs.open(sha256),
  }
}
