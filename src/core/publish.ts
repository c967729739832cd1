import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { sql } from 'kysely'
import { openCompressor } from '../lib/compression.ts'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { idRows, insertMany } from '../store/bulk.ts'
import { type Db, transact, type Tx } from '../store/database.ts'
import { openPackReader } from '../store/packs.ts'
import type { Row } from '../store/schema.ts'
import { grantToCreator } from './access/auth.ts'
import { listedById, saveBlob, unitsById } from './content.ts'
import { type Ctx, formatNamed } from './ctx.ts'
import type { MetadataFile, Publications, Rendered, SignedAt, Stored, VersionView } from './format.ts'
import { modelOf, prnOf } from './names.ts'
import { getSigningService } from './signing/services.ts'
import { signDetached } from './signing/sign.ts'
import { findPieces, type Places, writePieces } from './pieces.ts'
import type { Job } from './tasks/tasks.ts'
import { type Counts, contentOf, getRepository, markChanged } from './versions.ts'

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
  if (!format.publications)
    throw new Failure('invalid', `A ${format.name} repository is served as it is: it has no publications.`)
  const about = { name: repository.name, settings: JSON.parse(repository.settings) }
  const settings = format.publications.settings(about, asked)
  const layout = typeof settings['layout'] === 'string' ? settings['layout'] : 'verbatim'

  const twin = await findTwin(ctx.db, version.id, settings, checkpoint)
  if (twin) return job.created(prnOf(ctx.formats, 'publication', twin))

  const signer = await findSigner(ctx.db, format.publications, settings)
  const reuse = await findPieces(ctx.db, repository.id)
  const view = viewVersion(ctx, about, version)
  const files: PublishedFile[] = []
  const rendering = format.publications.render(view, settings)
  job.progress.report('publish.generating_metadata', 'Generating repository metadata', { total: 1, done: 0 })
  for (let step = await rendering.next(); !step.done; ) {
    job.signal.throwIfAborted()
    const written = await storeRendered(ctx, step.value, reuse)
    files.push(...written.map(({ file }) => file))
    if (signer && 'signed' in step.value && step.value.signed)
      files.push(...(await storeSignature(job, signer, written[0]!, step.value.signed)))
    step = await rendering.next(written.map(({ stored }) => stored))
  }
  const publication = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    const publication = await insertPublication(tx, { type: repository.type, version, settings, layout, checkpoint, files })
    await ownPublication(job, tx, publication)
    return publication
  })
  ctx.changes.bump()
  job.progress.report('publish.generating_metadata', 'Generating repository metadata', { done: 1, finished: true })
  await job.created(prnOf(ctx.formats, 'publication', publication))
}

/** Whoever may not do everything owns what they published, or could not even see it. */
export async function ownPublication({ ctx, task }: Job, tx: Tx, publication: Row<'publication'>): Promise<void> {
  if (task.userId === null) return
  const user = await tx.selectFrom('user').select('is_superuser').where('id', '=', task.userId).executeTakeFirst()
  if (user?.is_superuser !== 0) return
  const role = `${modelOf(ctx.formats, 'publication', publication.type)}_owner`
  await grantToCreator(tx, task.userId, [role], prnOf(ctx.formats, 'publication', publication))
}

/** A publication made of the upstream's own metadata files; content lies where the upstream has it. Undefined when the last one is the same. */
export async function insertVerbatimPublication(
  tx: Tx,
  { settings: settingsOf }: Publications,
  repository: Row<'repository'>,
  version: Row<'version'>,
  files: readonly { path: string; blobId: number }[],
  paths: readonly { id: number; path: string }[],
): Promise<Row<'publication'> | undefined> {
  const settings = {
    ...settingsOf({ name: repository.name, settings: JSON.parse(repository.settings) }, { mirrored: true }),
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
  await markChanged(tx, version.repository_id)
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

/** A version as formats see it. */
export function viewVersion(ctx: Ctx, repository: VersionView['repository'], version: Row<'version'>): VersionView {
  const packs = openPackReader(ctx.db)
  const counts = JSON.parse(version.counts) as Counts
  const orders = new Map<string, Promise<number[]>>()

  async function readOrder(type: string): Promise<number[]> {
    const rows = await contentOf(ctx.db, version)
      .select(['content.id', 'content.slot'])
      .where('content.type', '=', type)
      .execute()
    return rows.sort((a, b) => (a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : a.id - b.id)).map(({ id }) => id)
  }
  function order(type: string): Promise<number[]> {
    if (!orders.has(type)) orders.set(type, readOrder(type))
    return orders.get(type)!
  }
  return {
    repository,
    number: version.number,
    created: version.created,
    counts: Object.fromEntries(Object.entries(counts).map(([type, { present }]) => [type, present])),
    async *units(type) {
      yield* unitsById(ctx.db, await order(type), packs)
    },
    async *listed(type) {
      yield* listedById(ctx.db, await order(type), packs)
    },
    open: (sha256) => ctx.blobs.open(sha256),
  }
}

interface Written {
  file: PublishedFile
  stored: Stored
}

async function storeRendered(ctx: Ctx, rendered: Rendered, reuse: Places): Promise<Written[]> {
  if ('body' in rendered) return [await storeFile(ctx, rendered, rendered.body)]
  const { outputs, finish } = writePieces(ctx, rendered.files, rendered.pieces, reuse)
  const storing = rendered.files.map((file, index) => storeBytes(ctx, file, outputs[index]!.stream))
  // All are waited for, so that nothing goes on behind a failure.
  const [written, ...results] = await Promise.allSettled([finish, ...storing])
  if (written.status === 'rejected') throw written.reason
  return results.map((result, index) => {
    if (result.status === 'rejected') throw result.reason
    const { pieces } = outputs[index]!
    const openSize = pieces.reduce((sum, [, , , openLength]) => sum + openLength, 0)
    const { path, blobId, ...stored } = result.value(openSize)
    return { file: { path, blobId, fileId: null, pieces: JSON.stringify(pieces) }, stored }
  })
}

async function storeFile(ctx: Ctx, file: MetadataFile, body: AsyncIterable<Uint8Array>): Promise<Written> {
  let openSize = 0
  async function* counted() {
    for await (const chunk of body) {
      openSize += chunk.length
      yield chunk
    }
  }
  const bytes = file.compression === 'none' ? counted() : Readable.from(counted()).compose(openCompressor(file.compression))
  const finish = await storeBytes(ctx, file, bytes)
  const { path, blobId, ...stored } = finish(openSize)
  return { file: { path, blobId, fileId: null, pieces: null }, stored }
}

/** The service that signs with these settings, where they name one. */
async function findSigner(db: Db, { signingService }: Publications, settings: Record<string, unknown>) {
  const prn = signingService === undefined ? undefined : settings[signingService]
  return typeof prn === 'string' ? getSigningService(db, prn) : undefined
}

/** Signs a file that was stored, and stores its signature and the public key. */
async function storeSignature(
  { ctx, task, signal }: Job,
  signer: Row<'signing_service'>,
  { file, stored }: Written,
  { signature, publicKey }: SignedAt,
): Promise<PublishedFile[]> {
  const bytes = await buffer(await ctx.blobs.open(stored.digests.sha256))
  const name = file.path.slice(file.path.lastIndexOf('/') + 1)
  const armored = await signDetached(signer, { name, bytes, cid: task.cid, signal })
  const text = (path: string, words: string) => storeFile(ctx, { path, compression: 'none' }, Readable.from([Buffer.from(words)]))
  return [(await text(signature, armored)).file, (await text(publicKey, signer.public_key)).file]
}

/** Stores the bytes of a metadata file. What is returned names it, once its size before compression is known. */
async function storeBytes(ctx: Ctx, { path, digests }: MetadataFile, bytes: AsyncIterable<Uint8Array>) {
  await using staged = await ctx.blobs.stage(bytes, {}, digests ?? [])
  await staged.keep()
  const blobId = await saveBlob(ctx.db, staged.digests, staged.size)
  return (openSize: number) => {
    const stored: Stored = { size: staged.size, digests: staged.digests, openSize }
    return { ...stored, path: typeof path === 'function' ? path(stored) : path, blobId }
  }
}
