import { Failure, hasCode } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import type { Staged } from '../../store/blobs.ts'
import type { Row } from '../../store/schema.ts'
import { type Arrival, changed, closeWorkingFile, type Download, follow, newDownload, openWorkingFile } from './arrival.ts'
import { saveBlob } from '../content.ts'
import type { Ctx } from '../ctx.ts'
import { urlsOf } from '../downloads.ts'
import { openUpstreamPool, type UpstreamPool } from '../fetch/upstream-pool.ts'
import { transact } from '../../store/database.ts'

const coolDown = 5 * 60_000_000
/** For what nobody told the size of. */
const largestFile = 64 * 1024 ** 3

/** Fetches files from their sources; pools connections, so keep it for as long as files may be asked for. */
export interface OnDemand extends AsyncDisposable {
  /** Joins the download of this file, or begins it. Its remote's policy decides whether the bytes are stored as well. */
  open(fileId: number): Arrival
  /** As open, for a file whose blob has lost its bytes: they are stored again. */
  openAgain(fileId: number): Promise<Arrival>
  /** Downloads the file, whether or not it has a blob, and stores it. Returns its digest. Throws Failure upstream or integrity. */
  fetch(fileId: number): Promise<string>
}

export function openOnDemand(ctx: Ctx): OnDemand {
  const upstreams = openUpstreamPool(ctx)
  const downloads = new Map<number, Download>()

  function join(fileId: number, again: boolean): Download {
    const under = downloads.get(fileId)
    if (under) return under
    const download = newDownload(fileId, again)
    downloads.set(fileId, download)
    download.finished = run(ctx, upstreams, download).finally(() => {
      downloads.delete(fileId)
      download.over = true
      closeWorkingFile(download)
    })
    return download
  }
  async function joinAgain(fileId: number): Promise<Download> {
    // One that found the file stored did not look at its bytes.
    for (let under = downloads.get(fileId); under && !under.again; under = downloads.get(fileId)) await under.finished
    const download = join(fileId, true)
    download.kept = true
    return download
  }
  return {
    open: (fileId) => follow(ctx, join(fileId, false)),
    openAgain: async (fileId) => follow(ctx, await joinAgain(fileId)),
    async fetch(fileId) {
      const download = await joinAgain(fileId)
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

type Source = Pick<Row<'source'>, 'remote_id' | 'url'>

/** Tries one source after the other. Ends when the bytes are stored or nobody has them. Never rejects: `failed` and `storeError` tell. */
async function run(ctx: Ctx, upstreams: UpstreamPool, download: Download): Promise<void> {
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
}

async function arrive(ctx: Ctx, upstreams: UpstreamPool, download: Download, file: WantedFile): Promise<void> {
  download.working = await openWorkingFile(ctx)
  await using staged = await fromAny(ctx, upstreams, download, file)
  download.verified = { size: staged.size, sha256: staged.digests.sha256 }
  changed(download)
  if (download.kept) await store(ctx, download, staged)
}

async function store(ctx: Ctx, download: Download, staged: Staged): Promise<void> {
  try {
    await staged.keep()
    await transact(ctx.db, async (tx) => {
      const blobId = await saveBlob(tx, staged.digests, staged.size)
      await tx.updateTable('file').set({ blob_id: blobId, size: staged.size }).where('id', '=', download.fileId).execute()
    })
  } catch (error) {
    // Those who read have verified bytes all the same; the next to ask fetches it again.
    download.storeError = error
    ctx.log.error({ err: error, path: download.path }, 'a file fetched on demand could not be stored')
  }
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

async function fromAny(ctx: Ctx, upstreams: UpstreamPool, download: Download, file: WantedFile): Promise<Staged> {
  const sources = await ctx.db
    .selectFrom('source')
    .select(['remote_id', 'url'])
    .where('file_id', '=', file.id)
    .where((row) => row.or([row('retry_after', 'is', null), row('retry_after', '<=', now())]))
    .orderBy('remote_id', 'desc')
    .execute()
  for (const source of sources) {
    try {
      return await fromMirrors(ctx, upstreams, download, file, source)
    } catch (error) {
      // Neither a full disk nor a stopping server is the source's fault.
      if (download.abort.signal.aborted || isOurs(error)) throw error
      await rest(ctx, file, source, error)
      if (download.passedOn) throw error
    }
  }
  throw new Failure('upstream', `No source of ${file.path} can be reached at present.`)
}

/** Takes a file from where it was found, or from another mirror of the same remote: when one gives no or wrong bytes, the next is asked. */
async function fromMirrors(
  ctx: Ctx,
  upstreams: UpstreamPool,
  download: Download,
  file: WantedFile,
  source: Source,
): Promise<Staged> {
  const checksum = file.sha256 === null ? (file.checksum ?? undefined) : `sha256:${file.sha256}`
  const algorithm = checksum?.split(':', 1)[0]
  if (algorithm && !ctx.config.allowedChecksums.includes(algorithm))
    throw new Failure('integrity', `${file.path} is known by its ${algorithm} checksum only, which is not allowed here.`)
  const { remote, upstream } = await upstreams.of(source.remote_id)
  download.kept ||= remote.policy !== 'streamed'
  let urls: readonly URL[] = urlsOf(
    { path: file.path, url: source.url },
    { base: remote.url, mirrors: parseMirrors(remote.mirrors) },
  )
  for (;;) {
    download.written = 0
    download.size = file.size ?? undefined
    const { body, size, others } = await upstream.open(urls, download.abort.signal)
    download.size ??= size
    try {
      return await ctx.blobs.stage(copyTo(download, body, size), { size: download.size, checksum, limit: largestFile })
    } catch (error) {
      urls = others
      if (urls.length === 0 || download.abort.signal.aborted || download.passedOn || isOurs(error)) throw error
      const reason = error instanceof Error ? error.message : String(error)
      ctx.log.warn({ path: file.path, reason }, 'a mirror of a file failed')
    }
  }
}

function isOurs(error: unknown): boolean {
  if (error instanceof Failure) return error.code === 'conflict'
  return hasCode(error, 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE')
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

function parseMirrors(json: string | null): URL[] {
  return json === null ? [] : (JSON.parse(json) as string[]).map((url) => new URL(url))
}
