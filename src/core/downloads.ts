import { Failure } from '../lib/failure.ts'
import { type Db, transact } from '../store/database.ts'
import { saveBlob } from './content.ts'
import type { Upstream } from './fetch/fetch.ts'
import { leaseContent } from './leases.ts'
import type { Job } from './tasks/tasks.ts'

export interface MissingFile {
  id: number
  contentId: number
  path: string
  size: number | null
  checksum: string | null
  /** Absolute, or relative to the remote's url; null when this remote does not have it. */
  url: string | null
}

/** Where the files are: what their URLs are relative to, and places that have the same files, if known. */
export interface Places {
  base: string
  mirrors?: readonly URL[]
  /** What a file is part of, by name, for the message of a failure. */
  wholes?(contentId: number): Promise<readonly string[]>
  /** Which repository holds what was downloaded, until a version has it; it gets nothing that others have brought. */
  holder?: number
}

/** For what nobody told the size of. */
const largestFile = 64 * 1024 ** 3

/** Downloads files, several at once, and ties each to its file row as soon as its bytes are verified and durable. The first failure stops all. */
export async function fetchFiles(job: Job, upstream: Upstream, files: readonly MissingFile[], places: Places): Promise<void> {
  if (files.length === 0) return
  const code = 'sync.downloading.artifacts'
  const stop = new AbortController()
  const signal = AbortSignal.any([job.signal, stop.signal])
  job.progress.report(code, 'Downloading Artifacts', { total: files.length, done: 0 })
  const waiting = files[Symbol.iterator]()

  async function work(): Promise<void> {
    for (const file of waiting) {
      signal.throwIfAborted()
      await fetchFile(job, upstream, file, places, signal)
      job.progress.report(code, 'Downloading Artifacts', { add: 1 })
    }
  }
  const workers = Array.from({ length: upstream.access.concurrency ?? 10 }, async () => {
    try {
      await work()
    } catch (error) {
      stop.abort(error)
      throw error
    }
  })
  const results = await Promise.allSettled(workers)
  job.signal.throwIfAborted()
  // The others were aborted because of the first: its reason is the one to tell.
  if (stop.signal.aborted) throw stop.signal.reason
  for (const result of results) if (result.status === 'rejected') throw result.reason
  job.progress.report(code, 'Downloading Artifacts', { finished: true })
}

async function fetchFile(
  { ctx }: Job,
  upstream: Upstream,
  file: MissingFile,
  places: Places,
  signal: AbortSignal,
): Promise<void> {
  if (places.holder === undefined && (await linkStored(ctx.db, file))) return
  const expected = {
    size: file.size ?? undefined,
    checksum: file.checksum ?? undefined,
    limit: file.size === null ? largestFile : undefined,
  }
  await using staged = await telling(file, places, () => upstream.download(urlsOf(file, places), expected, signal))
  await staged.keep()
  await transact(ctx.db, async (tx) => {
    const blobId = await saveBlob(tx, staged.digests, staged.size)
    await tx.updateTable('file').set({ blob_id: blobId, size: staged.size }).where('id', '=', file.id).execute()
    if (places.holder !== undefined) await leaseContent(tx, places.holder, [file.contentId])
  })
}

/** Lets a failure tell what the file is part of. */
async function telling<T>({ contentId }: MissingFile, { wholes }: Places, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const names = error instanceof Failure ? ((await wholes?.(contentId)) ?? []) : []
    if (!(error instanceof Failure) || names.length === 0) throw error
    const some = names.length > mostNames ? [...names.slice(0, mostNames), `${names.length - mostNames} more`] : names
    throw new Failure(error.code, `${error.message} It is part of ${some.join(', ')}.`, { cause: error })
  }
}

const mostNames = 5

/** Where a file is, and where else it should be: at the same place below each mirror. */
export function urlsOf({ url, path }: Pick<MissingFile, 'url' | 'path'>, { base, mirrors = [] }: Places): URL[] {
  const known = new URL(url ?? path, base.endsWith('/') ? base : `${base}/`)
  const home = mirrors.find(({ origin, pathname }) => known.origin === origin && known.pathname.startsWith(pathname))
  if (!home) return [known]
  const rest = known.pathname.slice(home.pathname.length)
  const others = mirrors.filter((mirror) => mirror !== home)
  return [known, ...others.map((mirror) => Object.assign(new URL(mirror), { pathname: `${mirror.pathname}${rest}` }))]
}

/** The same bytes may have come with other content: they are not downloaded twice. */
async function linkStored(db: Db, { id, checksum }: MissingFile): Promise<boolean> {
  if (!checksum?.startsWith('sha256:')) return false
  const blob = await db.selectFrom('blob').select(['id', 'size']).where('sha256', '=', checksum.slice(7)).executeTakeFirst()
  if (!blob) return false
  await db.updateTable('file').set({ blob_id: blob.id, size: blob.size }).where('id', '=', id).execute()
  return true
}
