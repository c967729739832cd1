import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { idRows, insertMany } from '../store/bulk.ts'
import { type Db, transact, type Tx } from '../store/database.ts'
import { openPackReader } from '../store/packs.ts'
import type { Row } from '../store/schema.ts'
import { grantToCreator } from './access/auth.ts'
import { unitsById } from './content.ts'
import { type Ctx, formatNamed } from './ctx.ts'
import type { Publications, Rendered, SignedAt, VersionView } from './format.ts'
import { readMembers } from './listing/members.ts'
import { saveListings, storeListing, type StoredListing } from './listing/store-listing.ts'
import { modelOf, prnOf } from './names.ts'
import { getSigningService } from './signing/services.ts'
import { signDetached } from './signing/sign.ts'
import { type StoredFile, storeFile } from './store-metadata.ts'
import type { Job } from './tasks/tasks.ts'
import { type Counts, getRepository, markChanged } from './versions.ts'

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
  const view = viewVersion(ctx, about, version)
  const files: PublishedFile[] = []
  const listings: StoredListing[] = []
  const rendering = format.publications.render(view, settings)
  job.progress.report('publish.generating_metadata', 'Generating repository metadata', { total: 1, done: 0 })
  for (let step = await rendering.next(); !step.done; ) {
    job.signal.throwIfAborted()
    const written = await storeRendered(job, version, step.value, listings)
    files.push(...written.map(published))
    if (signer && 'signed' in step.value && step.value.signed)
      files.push(...(await storeSignature(job, signer, written[0]!, step.value.signed)).map(published))
    step = await rendering.next(written.map(({ stored }) => stored))
  }
  const publication = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    const publication = await insertPublication(tx, { type: repository.type, version, settings, layout, checkpoint, files })
    await saveListings(tx, publication, listings)
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
  const moved = paths.map(({ id, path }) => ({ path, blobId: null, fileId: fileIds.get(id)! }))
  const published = [...files.map((file) => ({ ...file, fileId: null })), ...moved]
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
    { publication_id: 'bigint', path: 'text', blob_id: 'bigint', file_id: 'bigint' },
    files.map((file) => ({
      publication_id: publication.id,
      path: file.path,
      blob_id: file.blobId,
      file_id: file.fileId,
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
  return {
    repository,
    number: version.number,
    created: version.created,
    counts: Object.fromEntries(Object.entries(counts).map(([type, { present }]) => [type, present])),
    async *units(type) {
      const members = await readMembers(ctx.db, version, type)
      yield* unitsById(
        ctx.db,
        members.map(({ id }) => id),
        packs,
      )
    },
    open: (sha256) => ctx.blobs.open(sha256),
  }
}

async function storeRendered(
  job: Job,
  version: Row<'version'>,
  rendered: Rendered,
  listings: StoredListing[],
): Promise<StoredFile[]> {
  if ('body' in rendered) return [await storeFile(job.ctx, rendered, rendered.body)]
  const { files, listing } = await storeListing(job, rendered, version)
  listings.push(listing)
  return files
}

function published({ path, blobId }: StoredFile): PublishedFile {
  return { path, blobId, fileId: null }
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
  { path, stored }: StoredFile,
  { signature, publicKey }: SignedAt,
): Promise<StoredFile[]> {
  const bytes = await buffer(await ctx.blobs.open(stored.digests.sha256))
  const name = path.slice(path.lastIndexOf('/') + 1)
  const armored = await signDetached(signer, { name, bytes, cid: task.cid, signal })
  const text = (path: string, words: string) => storeFile(ctx, { path, compression: 'none' }, Readable.from([Buffer.from(words)]))
  return [await text(signature, armored), await text(publicKey, signer.public_key)]
}
