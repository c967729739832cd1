import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../lib/failure.ts'
import type { Range } from '../../store/blobs.ts'
import type { Ctx } from '../ctx.ts'

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
const chunkSize = 256 * 1024

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

/** The state of one download. */
export interface Download {
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
  /** Nobody can join any more. */
  over: boolean
  readers: number
  /** Settles at the next change of the above; replaced by each. */
  change: PromiseWithResolvers<void>
  abort: AbortController
  finished: Promise<void>
}

export function newDownload(fileId: number, again: boolean): Download {
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
    over: false,
    readers: 0,
    change: Promise.withResolvers(),
    abort: new AbortController(),
    finished: Promise.resolve(),
  }
}

export function changed(download: Download): void {
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

/** Joins a download: it lasts for as long as somebody does, or until it is stored. */
export function follow(ctx: Ctx, download: Download): Arrival {
  let isOpen = true
  download.readers++
  return {
    async begun() {
      await until(download, () => download.verified !== undefined || released(download) > 0)
      if (download.verified) return { size: download.verified.size }
      // From here on it must be this source's bytes: the size that was just told is theirs.
      download.passedOn = true
      return { size: download.size }
    },
    async complete() {
      await until(download, () => download.verified !== undefined)
      return download.verified!
    },
    async *read({ start, end } = { start: 0, end: Number.MAX_SAFE_INTEGER }) {
      await until(download, () => download.verified !== undefined || released(download) > start)
      if (!isOpen) return
      if (!download.working) {
        const { size, sha256 } = download.verified!
        if (size > 0) yield* await ctx.blobs.open(sha256, { start, end: Math.min(end, size - 1) })
        return
      }
      for (let at = start; ; ) {
        await until(download, () => download.verified !== undefined || released(download) > at)
        if (!isOpen) return
        const stop = Math.min(released(download), end + 1)
        if (at >= stop) return
        download.passedOn = true
        const buffer = Buffer.allocUnsafeSlow(Math.min(chunkSize, stop - at))
        const { bytesRead } = await download.working.read(buffer, 0, buffer.length, at)
        if (bytesRead === 0) throw new Error(`the working file of ${download.path} is shorter than it was`)
        at += bytesRead
        yield buffer.subarray(0, bytesRead)
      }
    },
    close() {
      if (!isOpen) return
      isOpen = false
      download.readers--
      // What would not be stored is of no use to anybody any more.
      if (download.readers === 0 && !download.kept && !download.verified)
        download.abort.abort(new Failure('upstream', `Nobody wants ${download.path} any more.`))
      closeWorkingFile(download)
    },
  }
}

/** Once nobody writes, nobody reads and nobody can begin to. */
export function closeWorkingFile(download: Download): void {
  if (download.readers > 0 || !download.over) return
  void download.working?.close()
  download.working = undefined
}

/** A file without a name: it is gone when it is closed, whatever happens. */
export async function openWorkingFile(ctx: Ctx): Promise<FileHandle> {
  const directory = join(ctx.config.dataDirectory, 'arriving')
  await mkdir(directory, { recursive: true })
  const path = join(directory, randomUUID())
  const handle = await open(path, 'wx+', 0o600)
  await unlink(path)
  return handle
}
