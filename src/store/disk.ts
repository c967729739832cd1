import { createReadStream, openSync } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { Failure, hasCode } from '../lib/failure.ts'

/* Writing files so that they are whole, and telling people what they can act on. */

/** Bytes are written in batches of this size, while those after them are hashed. */
export const batchSize = 1 << 20

/** A stream over a file, opened now and not when it is first read: the file may have been moved by then. */
export function openAtOnce(path: string): Readable {
  return createReadStream(path, { fd: openSync(path, 'r'), start: 0, highWaterMark: batchSize })
}

/** Writes all of these chunks, however many calls that takes. */
export async function writeAll(handle: FileHandle, chunks: readonly Uint8Array[]) {
  for (let rest = chunks; rest.length > 0; ) {
    const { bytesWritten } = await translated(handle.writev(rest))
    rest = after(rest, bytesWritten)
  }
}

/** What is left of the chunks after so many bytes. A full disk takes a part and refuses the next write. */
function after(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  let skip = bytes
  for (const chunk of chunks) {
    if (skip < chunk.length) rest.push(chunk.subarray(skip))
    skip = Math.max(0, skip - chunk.length)
  }
  return rest
}

/** Makes the names in a directory durable. */
export async function syncDirectory(directory: string) {
  const handle = await open(directory)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Writes a small file, or writes it anew, so that it survives a power cut. */
export async function writeDurably(path: string, text: string, mode: number): Promise<void> {
  const handle = await open(path, 'w', mode)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await syncDirectory(dirname(path))
}

/** Makes a directory and those above it that are missing, so that all of them survive a power cut. */
export async function makeTree(directory: string): Promise<void> {
  // What is in them is nobody else's to read; one that was there keeps the mode that somebody gave it.
  const first = await translated(mkdir(directory, { recursive: true, mode: 0o700 }))
  if (!first) return
  for (let made = resolve(directory); ; made = dirname(made)) {
    await syncDirectory(dirname(made))
    if (made === resolve(first)) return
  }
}

/** A full disk is something that people can act on. */
export async function translated<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (hasCode(error, 'ENOSPC'))
      throw new Failure('conflict', 'The disk of the blob store is full: make room and try again.', { cause: error })
    if (hasCode(error, 'EDQUOT'))
      throw new Failure('conflict', 'The disk quota of the blob store is used up: make room and try again.', { cause: error })
    throw error
  }
}
