import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, hasCode } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import type { Range, Staged } from '../store/blobs.ts'
import type { Row } from '../store/schema.ts'
import { saveBlob } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { Upstream } from './fetch.ts'
import { accessOf } from './remotes.ts'

/*
 * Bytes that are still upstream, fetched when somebody asks. One download of a file serves all who want it meanwhile: it is
 * written to a working file that they read while it grows, so a slow reader neither slows the others down nor needs memory.
 *
 *   working file  |----------- may be read -----------|-- held back --|  <- upstream
 *
 * What is held back is let go when size and checksum of the whole are right. Wrong bytes therefore never end as a success.
 */

const mebibyte = 1024 * 1024
/** Files smaller than this are verified before their first byte is passed on. */
const smallFile = 8 * mebibyte
const heldBack = mebibyte
const coolDown = 5 * 60_000_000
const chunkSize = 256 * 1024
/** For what nobody told the size of. */
const largestFile = 64 * 1024 * mebibyte

/** A file on its way here. Close it when done with it. */
export interface Arrival {
  /** The size, once upstream or the file's row has told; waits for the first byte that may be passed on. Throws Failure upstream. */
  begun(): Promise<{ size: number | undefined }>
  /** Resolves when every byte is here and right. Throws Failure upstream or integrity. */
  complete(): Promise<{ size: number; sha256: string }>
  /** The bytes as they become known to be good to pass on; throws when they turn out wrong, before the last of them. */
  read(range?: Range): AsyncGenerator<Buffer>
  close(): void
}

/** Fetches files from their sources; pools connections, so keep it for as long as files may be asked for. */
export interface OnDemand extends AsyncDisposable {
  /** Joins the download of this file, or begins it. Its remote's policy decides whether the bytes are stored as well. */
  open(fileId: number): Arrival
  /** Downloads the file, whether or not it has a blob, and stores it. Returns its digest. Throws Failure upstream or integrity. */
  fetch(fileId: number): Promise<string>
}

export function openOnDemand(ctx: Ctx): OnDemand {
  const upstreams = poolUpstreams(ctx)
  const downloads = new Map<number, Download>()

  function join(fileId: number, again: boolean): Download {
    const under = downloads.get(fileId)
    if (under) return under
    const download = newDownload(fileId, again)
    downloads.set(fileId, download)
    download.finished = run(ctx, upstreams, download).finally(() => downloads.delete(fileId))
    return download
  }
  return {
    open: (fileId) => follow(ctx, join(fileId, false)),
    async fetch(fileId) {
      const download = join(fileId, true)
      download.kept = true
      const arrival = follow(ctx, download)
      try {
        const { sha256 } = await arrival.complete()
        await download.finished
        if (download.storeError !== undefined) throw download.storeError
        return sha256
      } finally {
        arrival.close()
      }
    },
    async [Symbol.asyncDispose]() {
      for (const { abort } of downloads.values()) abort.abort(new Failure('upstream', 'The server is stopping.'))
      await Promise.all([...downloads.values()].map(({ finished }) => finished))
      await upstreams[Symbol.asyncDispose]()
    },
  }
}

/** Fetches one file and stores it, as for repair. With many to fetch, use one openOnDemand for all. */
export async function fetchFile(ctx: Ctx, fileId: number): Promise<string> {
  await using onDemand = openOnDemand(ctx)
  return await onDemand.fetch(fileId)
}

interface Download {
  fileId: number
  /** Whether to download even what is stored: its bytes may be damaged. */
  again: boolean
  path: string
  size: number | undefined
  /** Written to the working file so far. */
  written: number
  working: FileHandle | undefined
  verified: { size: number; sha256: string } | undefined
  failed: { error: unknown } | undefined
  storeError: unknown
  /** Whether somebody got bytes of it: another source cannot take over then. */
  passedOn: boolean
  /** Whether it is to be stored. */
  kept: boolean
  readers: number
  /** Settles at the next change of the above; replaced by each. */
  change: PromiseWithResolvers<void>
  abort: AbortController
  finished: Promise<void>
}

function newDownload(fileId: number, again: boolean): Download {
  return {
    fileId,
    again,
    path: `File ${fileId}`,
    size: undefined,
    written: 0,
    working: undefined,
    verified: undefined,
    failed: undefined,
    storeError: undefined,
    passedOn: false,
    kept: false,
    readers: 0,
    change: Promise.withResolvers(),
    abort: new AbortController(),
    finished: Promise.resolve(),
  }
}

function changed(download: Download): void {
  download.change.resolve()
  download.change = Promise.withResolvers()
}

/** How many bytes may be passed on. */
function released({ verified, written, size }: Download): number {
  if (verified) return verified.size
  if (size === undefined) return Math.max(0, written - smallFile)
  // One byte more than expected is as wrong as one less: never more than size - heldBack before the end.
  return size < smallFile ? 0 : Math.max(0, Math.min(written, size) - heldBack)
}

async function until(download: Download, ready: () => boolean): Promise<void> {
  while (!ready()) {
    if (download.failed) throw download.failed.error
    await download.change.promise
  }
}

function follow(ctx: Ctx, download: Download): Arrival {
  let open = true
  download.readers++
  return {
    async begun() {
      await until(download, () => download.verified !== undefined || released(download) > 0)
      return { size: download.verified?.size ?? download.size }
    },
    async complete() {
      await until(download, () => download.verified !== undefined)
      return download.verified!
    },
    async *read({ start, end } = { start: 0, end: Number.MAX_SAFE_INTEGER }) {
      await until(download, () => download.verified !== undefined || released(download) > start)
      if (!download.working)
        return yield* await ctx.blobs.open(download.verified!.sha256, { start, end: Math.min(end, download.verified!.size - 1) })
      for (let at = start; ; ) {
        await until(download, () => download.verified !== undefined || released(download) > at)
        const stop = Math.min(released(download), end + 1)
        if (at >= stop) return
        download.passedOn = true
        const buffer = Buffer.allocUnsafeSlow(Math.min(chunkSize, stop - at))
        const { bytesRead } = await download.working!.read(buffer, 0, buffer.length, at)
        if (bytesRead === 0) throw new Error(`the working file of ${download.path} is shorter than it was`)
        at += bytesRead
        yield buffer.subarray(0, bytesRead)
      }
    },
    close() {
      if (!open) return
      open = false
      download.readers--
      // What would not be stored is of no use to anybody any more.
      if (download.readers === 0 && !download.kept && !download.verified)
        download.abort.abort(new Failure('upstream', `Nobody wants ${download.path} any more.`))
      closeWorkingFile(download)
    },
  }
}

/** Once nobody writes and nobody reads. */
function closeWorkingFile(download: Download): void {
  if (download.readers > 0 || !(download.verified || download.failed)) return
  void download.working?.close()
  download.working = undefined
}

type Source = Pick<Row<'source'>, 'remote_id' | 'url'>

/** Tries one source after the other. Ends when the bytes are stored or nobody has them. Never rejects: `failed` and `storeError` tell. */
async function run(ctx: Ctx, upstreams: Upstreams, download: Download): Promise<void> {
  try {
    const file = await getFile(ctx, download.fileId)
    download.path = file.path
    // Somebody else may have stored it in between.
    if (file.sha256 !== null && !download.again) download.verified = { size: file.size!, sha256: file.sha256 }
    else await arrive(ctx, upstreams, download, file)
  } catch (error) {
    download.failed = { error }
  }
  changed(download)
  closeWorkingFile(download)
}

async function arrive(ctx: Ctx, upstreams: Upstreams, download: Download, file: WantedFile): Promise<void> {
  download.working = await openWorkingFile(ctx)
  await using staged = await fromAny(ctx, upstreams, download, file)
  download.verified = { size: staged.size, sha256: staged.digests.sha256 }
  changed(download)
  if (download.kept) await store(ctx, download, staged)
}

async function store(ctx: Ctx, download: Download, staged: Staged): Promise<void> {
  try {
    await staged.keep()
    await ctx.db.transaction().execute(async (tx) => {
      const blobId = await saveBlob(tx, staged.digests, staged.size)
      await tx.updateTable('file').set({ blob_id: blobId, size: staged.size }).where('id', '=', download.fileId).execute()
    })
  } catch (error) {
    // Those who read have verified bytes all the same; the next to ask fetches it again.
    download.storeError = error
    ctx.log.error({ err: error, path: download.path }, 'a file fetched on demand could not be stored')
  }
}

/** A file without a name: it is gone when it is closed, whatever happens. */
async function openWorkingFile(ctx: Ctx): Promise<FileHandle> {
  const directory = join(ctx.config.dataDirectory, 'arriving')
  await mkdir(directory, { recursive: true })
  const path = join(directory, randomUUID())
  const handle = await open(path, 'wx+', 0o600)
  await unlink(path)
  return handle
}

interface WantedFile {
  id: number
  path: string
  size: number | null
  checksum: string | null
  sha256: string | null
}

async function getFile({ db }: Ctx, fileId: number): Promise<WantedFile> {
  const file = await db
    .selectFrom('file')
    .leftJoin('blob', 'blob.id', 'file.blob_id')
    .select(({ fn }) => [
      'file.id',
      'file.path',
      'file.checksum',
      'blob.sha256',
      fn.coalesce('blob.size', 'file.size').as('size'),
    ])
    .where('file.id', '=', fileId)
    .executeTakeFirst()
  if (!file) throw new Failure('not_found', 'The content was deleted.')
  return file
}

async function fromAny(ctx: Ctx, upstreams: Upstreams, download: Download, file: WantedFile): Promise<Staged> {
  const sources = await ctx.db
    .selectFrom('source')
    .select(['remote_id', 'url'])
    .where('file_id', '=', file.id)
    .where((row) => row.or([row('retry_after', 'is', null), row('retry_after', '<=', now())]))
    .orderBy('remote_id', 'desc')
    .execute()
  for (const source of sources) {
    download.written = 0
    download.size = file.size ?? undefined
    try {
      return await fromOne(ctx, upstreams, download, file, source)
    } catch (error) {
      // Neither a full disk nor a stopping server is the source's fault.
      if (download.abort.signal.aborted || isOurs(error)) throw error
      await rest(ctx, file, source, error)
      if (download.passedOn) throw error
    }
  }
  throw new Failure('upstream', `No source of ${file.path} can be reached at present.`)
}

function isOurs(error: unknown): boolean {
  if (error instanceof Failure) return error.code === 'conflict'
  return hasCode(error, 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE')
}

async function fromOne(ctx: Ctx, upstreams: Upstreams, download: Download, file: WantedFile, source: Source): Promise<Staged> {
  const checksum = file.sha256 === null ? (file.checksum ?? undefined) : `sha256:${file.sha256}`
  const algorithm = checksum?.split(':', 1)[0]
  if (algorithm && !ctx.config.allowedChecksums.includes(algorithm))
    throw new Failure('integrity', `${file.path} is known by its ${algorithm} checksum only, which is not allowed here.`)
  const remote = await upstreams.of(source.remote_id)
  download.kept ||= remote.policy !== 'streamed'
  const url = new URL(source.url, remote.url.endsWith('/') ? remote.url : `${remote.url}/`)
  const { body, size } = await remote.upstream.open([url], download.abort.signal)
  download.size ??= size
  return ctx.blobs.stage(copyTo(download, body, size), { size: download.size, checksum, limit: largestFile })
}

async function* copyTo(
  download: Download,
  body: AsyncIterable<Uint8Array>,
  told: number | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    download.abort.signal.throwIfAborted()
    if (told !== undefined && told !== download.size)
      throw new Failure('integrity', `The upstream has ${told} bytes of ${download.path} instead of ${download.size}.`)
    for (let at = 0; at < chunk.length; )
      at += (await download.working!.write(chunk, at, chunk.length - at, download.written + at)).bytesWritten
    download.written += chunk.length
    changed(download)
    yield chunk
  }
}

/** Leaves a source alone for a while. */
async function rest({ db, log }: Ctx, file: WantedFile, { remote_id, url }: Source, error: unknown): Promise<void> {
  log.warn({ path: file.path, reason: error instanceof Error ? error.message : String(error) }, 'a source of a file failed')
  await db
    .updateTable('source')
    .set({ retry_after: now() + coolDown })
    .where('file_id', '=', file.id)
    .where('remote_id', '=', remote_id)
    .where('url', '=', url)
    .execute()
}

type Upstreams = ReturnType<typeof poolUpstreams>

/** One upstream per remote, opened anew when the remote was changed. */
function poolUpstreams(ctx: Ctx) {
  const pool = new Map<number, { updated: number; upstream: Upstream }>()
  const opened: Upstream[] = []
  return {
    async of(remoteId: number) {
      const remote = await ctx.db.selectFrom('remote').selectAll().where('id', '=', remoteId).executeTakeFirst()
      if (!remote) throw new Failure('upstream', 'The remote was deleted.')
      let entry = pool.get(remoteId)
      if (entry?.updated !== remote.updated) {
        entry = { updated: remote.updated, upstream: ctx.fetch.open(accessOf(remote)) }
        pool.set(remoteId, entry)
        opened.push(entry.upstream)
      }
      return { upstream: entry.upstream, url: remote.url, policy: remote.policy }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map((upstream) => upstream[Symbol.asyncDispose]()))
    },
  }
}
