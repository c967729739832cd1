import { read } from 'node:fs'
import type { ServerResponse } from 'node:http'
import type { Range } from '../../store/blobs.ts'
import { patience } from './send.ts'

const chunkSize = 512 * 1024
const modestSize = 16 * 1024
/** Full-sized chunks out at a time over all readers; there are modest ones for those beyond. */
const mostLent = 128
const mostSpare = 16
/** Milliseconds within which a quick reader takes a chunk. */
const quick = 200

interface Chunk {
  buffer: Buffer
  length: number
}

export type FileSender = ReturnType<typeof openFileSender>

/** Buffers that are used again and again. */
function openBuffers() {
  const spare: Buffer[] = []
  let lent = 0
  return {
    lend(): Buffer {
      if (lent >= mostLent) return Buffer.allocUnsafeSlow(modestSize)
      lent += 1
      return spare.pop() ?? Buffer.allocUnsafeSlow(chunkSize)
    },
    /** `isFree`: nobody refers to its bytes any more. */
    giveBack(buffer: Buffer, isFree: boolean): void {
      if (buffer.length !== chunkSize) return
      lent -= 1
      if (isFree && spare.length < mostSpare) spare.push(buffer)
    },
  }
}

/**
 * Sends files through a few buffers: allocating one for every chunk costs more than reading it.
 * A quick reader has two, one being filled while the other is sent; so thousands of slow ones hold little memory.
 */
export function openFileSender() {
  const buffers = openBuffers()

  function fill(fd: number, at: number, end: number): Promise<Chunk> {
    return new Promise((resolve, reject) => {
      const buffer = buffers.lend()
      read(fd, buffer, 0, Math.min(buffer.length, end + 1 - at), at, (error, length) => {
        if (!error && length > 0) return resolve({ buffer, length })
        buffers.giveBack(buffer, true)
        reject(error ?? new Error('a blob is shorter than it was'))
      })
    })
  }

  /** Resolves when the socket has taken the chunk, or the reader is gone. */
  function write(res: ServerResponse, chunk: Chunk): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => res.destroy(), patience(chunk.length))
      let settled = false
      const done = (error?: Error | null) => {
        if (settled) return
        settled = true
        clearTimeout(timer)
        res.off('close', gone)
        buffers.giveBack(chunk.buffer, !error)
        resolve()
      }
      // What was on its way to a reader that is gone may still be referred to: it is not used again.
      const gone = () => done(new Error('gone'))
      res.once('close', gone)
      res.write(chunk.length === chunk.buffer.length ? chunk.buffer : chunk.buffer.subarray(0, chunk.length), done)
    })
  }

  /** Sends a part of a file and ends the answer. */
  async function send(res: ServerResponse, fd: number, { start, end }: Range): Promise<void> {
    let at = start
    let keepsUp = true
    let next: Promise<Chunk> | undefined
    while (at <= end && !res.destroyed) {
      const chunk = await (next ?? fill(fd, at, end))
      next = undefined
      at += chunk.length
      if (keepsUp && at <= end) {
        next = fill(fd, at, end)
        next.catch(() => {}) // Awaited when its turn comes.
      }
      const begun = performance.now()
      await write(res, chunk)
      keepsUp = performance.now() - begun < quick
    }
    // The reader went away: what was read ahead is not sent, and must be read before the file is closed.
    if (next) buffers.giveBack((await next).buffer, true)
    res.end()
  }

  return { send }
}
