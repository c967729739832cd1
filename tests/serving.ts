import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { saveBlob } from '../src/core/content.ts'
import type { Ctx } from '../src/core/ctx.ts'
import { openFetcher } from '../src/core/fetch/fetch.ts'
import type { Format } from '../src/core/format.ts'
import { file } from '../src/formats/file/index.ts'
import { openLog } from '../src/lib/log.ts'
import { now } from '../src/lib/time.ts'
import { newUuid } from '../src/lib/uuid.ts'
import type { Db } from '../src/store/database.ts'
import { openFsBlobs } from '../src/store/fs.ts'

const { servesVersions: _, ...unversioned } = file
/** A format with all that serving asks a format for: a layout, a file of its own making, headers. */
export const shelf: Format = {
  ...unversioned,
  name: 'shelf',
  contentTypes: [],
  publications: {
    ...file.publications!,
    placed: ({ name }, layout) => (layout === 'by-letter' ? `files/${name[0]}/${name}` : `files/${name}`),
  },
  distributionFiles: ['config.repo'],
  distributionFile: (path, { name, url, settings, publicationSettings }) =>
    path === 'config.repo' && settings['configured'] && publicationSettings ? `[${name}]\nbaseurl=${url}\n` : undefined,
  headers: (path) => (path === 'index/top.xml' ? { 'Cache-Control': 'no-cache' } : undefined),
}

/** A context over an open database, with real blobs in a directory that goes away with the test. */
export async function openTestCtx(t: TestContext, db: Db, config: Partial<Ctx['config']> = {}): Promise<Ctx> {
  const data = await mkdtemp(join(tmpdir(), 'signalbox-test-'))
  t.after(() => rm(data, { recursive: true, force: true }))
  let change = 0
  const blobs = await openFsBlobs(join(data, 'blobs'))
  return {
    db,
    blobs,
    formats: [file, shelf],
    fetch: openFetcher({ blobs }),
    log: openLog('silent'),
    config: { dataDirectory: data, origin: undefined, allowedChecksums: ['sha256', 'sha512'], ...config },
    changes: { current: () => change, bump: () => void change++ },
  }
}

/** A listening server on loopback, closed with the test. Returns its origin. */
export async function listen(t: TestContext, listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export const sha256 = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest('hex')

export async function addBlob(ctx: Ctx, bytes: string | Uint8Array): Promise<number> {
  await using staged = await ctx.blobs.stage(oneChunk(Buffer.from(bytes)))
  await staged.keep()
  return saveBlob(ctx.db, staged.digests, staged.size)
}

async function* oneChunk(bytes: Uint8Array) {
  yield bytes
}

let serial = 0
const resource = (type: string) => {
  const at = now()
  return { uuid: newUuid(), type, name: `${type} ${++serial}`, labels: '{}', settings: '{}', created: at, updated: at }
}

/** A repository with versions 0 to `versions`. Returns its id and the versions' ids by number. */
export async function addRepository(ctx: Ctx, format = 'file', versions = 1): Promise<{ id: number; versions: number[] }> {
  const row = { ...resource(`${format}.${format}`), description: null, remote_id: null, retain_versions: null, last_sync: null }
  const repository = await ctx.db
    .insertInto('repository')
    .values({ ...row, autopublish: 0, next_version: versions + 1 })
    .returning('id')
    .executeTakeFirstOrThrow()
  const made = []
  for (let number = 0; number <= versions; number++) made.push(await addVersion(ctx, repository.id, number))
  return { id: repository.id, versions: made }
}

async function addVersion({ db }: Ctx, repositoryId: number, number: number): Promise<number> {
  const at = now()
  const row = {
    uuid: newUuid(),
    repository_id: repositoryId,
    number,
    base_version_id: null,
    counts: '{}',
    created: at,
    updated: at,
  }
  return (await db.insertInto('version').values(row).returning('id').executeTakeFirstOrThrow()).id
}

interface NewFile {
  blobId?: number
  size?: number | null
  checksum?: string | null
}

/** Content with one file. Returns the file's and the content's id. */
export async function addFile(
  { db }: Ctx,
  path: string,
  { blobId, size, checksum }: NewFile,
): Promise<{ id: number; contentId: number }> {
  const at = now()
  const packed = { pack_id: null, entry_at: 0, entry_length: 0 }
  const row = { uuid: newUuid(), type: 'file.file', key: newUuid(), variant: '', slot: path, meta: '{}', labels: '{}', ...packed }
  const content = await db
    .insertInto('content')
    .values({ ...row, created: at, updated: at, touched: at })
    .returning('id')
    .executeTakeFirstOrThrow()
  const name = path.slice(path.lastIndexOf('/') + 1)
  const file = { content_id: content.id, path, name, blob_id: blobId ?? null, size: size ?? null, checksum: checksum ?? null }
  const { id } = await db.insertInto('file').values(file).returning('id').executeTakeFirstOrThrow()
  return { id, contentId: content.id }
}

export async function addMember(
  { db }: Ctx,
  repositoryId: number,
  contentId: number,
  addedIn = 1,
  removedIn: number | null = null,
): Promise<void> {
  await db
    .insertInto('membership')
    .values({ repository_id: repositoryId, content_id: contentId, added_in: addedIn, removed_in: removedIn })
    .execute()
}

/** A publication; `files` are blobs by path. */
export async function addPublication(
  ctx: Ctx,
  {
    repositoryId,
    versionId,
    format = 'file',
    layout = 'verbatim',
    files = {},
    fileIds = {},
    checkpoint,
  }: {
    repositoryId: number
    versionId: number
    format?: string
    layout?: string
    files?: Record<string, string>
    fileIds?: Record<string, number>
    /** When it was made as one. */
    checkpoint?: number
  },
): Promise<number> {
  const at = checkpoint ?? now()
  const row = { uuid: newUuid(), type: `${format}.${format}`, repository_id: repositoryId, version_id: versionId, settings: '{}' }
  const { id } = await ctx.db
    .insertInto('publication')
    .values({ ...row, layout, checkpoint: checkpoint === undefined ? 0 : 1, created: at, updated: at })
    .returning('id')
    .executeTakeFirstOrThrow()
  for (const [path, bytes] of Object.entries(files)) {
    const blobId = await addBlob(ctx, bytes)
    await ctx.db.insertInto('published_file').values({ publication_id: id, path, blob_id: blobId, file_id: null }).execute()
  }
  for (const [path, fileId] of Object.entries(fileIds))
    await ctx.db.insertInto('published_file').values({ publication_id: id, path, blob_id: null, file_id: fileId }).execute()
  return id
}

export async function addDistribution(
  ctx: Ctx,
  basePath: string,
  points: {
    publication_id?: number
    repository_id?: number
    version_id?: number
    guard_id?: number
    hidden?: 0 | 1
    settings?: string
  },
  format = 'file',
): Promise<number> {
  const nowhere = { publication_id: null, repository_id: null, version_id: null, guard_id: null, hidden: 0 as const }
  const { id } = await ctx.db
    .insertInto('distribution')
    .values({ ...resource(`${format}.${format}`), ...nowhere, base_path: basePath, content_changed: null, ...points })
    .returning('id')
    .executeTakeFirstOrThrow()
  ctx.changes.bump()
  return id
}

/** A remote that `fileId` can be fetched from. */
export async function addSource(
  { db }: Ctx,
  fileId: number,
  url: string,
  policy = 'on_demand',
  settings: object = {},
): Promise<number> {
  const { id } = await db
    .insertInto('remote')
    .values({ ...resource('file.file'), url: new URL('/', url).href, policy, secrets: '{}', settings: JSON.stringify(settings) })
    .returning('id')
    .executeTakeFirstOrThrow()
  await db.insertInto('source').values({ file_id: fileId, remote_id: id, url, retry_after: null }).execute()
  return id
}
