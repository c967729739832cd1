import { statfs } from 'node:fs/promises'
import { Failure } from '../lib/failure.ts'
import { batchSize } from './disk.ts'

/** How much of a file system stays free: so many bytes, or a share of it but not more than so many. With 0 nobody looks. */
export interface Reserve {
  bytes: number
  share?: number
}

/**
 * The room that a file system has for more. The rest is kept: on a disk that is full nothing can be written any more, neither what a task
 * came to nor what makes room again.
 */
export interface Room {
  /** Throws Failure conflict when so many more bytes would take what is kept. */
  check(bytes: number): Promise<void>
  /** A way in for the bytes of one file. It is left when they are written or given up. */
  enter(): Passage
}

/** A file's way to the disk. What the file system does not yet know of is counted until the passage is disposed of. */
export interface Passage extends Disposable {
  /** Passes bytes on as long as there is room for them. */
  guard(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>
}

export const usualReserve: Reserve = { bytes: 512 << 20, share: 0.02 }
/** Milliseconds for which a look at the file system counts, less what was taken since: others take from it, too. */
const lookLasts = 500
/** Bytes of a file that may have passed and not be written: one batch is gathered while another is written. */
const onTheWay = 2 * batchSize

export function openRoom(directory: string, reserve: Reserve): Room {
  let left = 0
  let free = 0
  let kept = 0
  let lookedAt = Number.NEGATIVE_INFINITY
  const passages = new Set<{ passed: number }>()

  async function look(): Promise<void> {
    const { bsize, blocks, bavail } = await statfs(directory)
    free = bavail * bsize
    kept = reserve.share === undefined ? reserve.bytes : Math.min(reserve.bytes, blocks * bsize * reserve.share)
    left = free - kept
    for (const { passed } of passages) left -= Math.min(passed, onTheWay)
    lookedAt = performance.now()
  }

  async function check(bytes: number): Promise<void> {
    if (reserve.bytes === 0) return
    if (performance.now() - lookedAt > lookLasts) await look()
    if (left < bytes)
      throw new Failure(
        'conflict',
        `The disk of the blob store is nearly full (${megabytes(free)} free, of which ${megabytes(kept)} are kept): make room and try again.`,
      )
  }
  function enter(): Passage {
    const passage = { passed: 0 }
    passages.add(passage)
    return {
      async *guard(bytes) {
        await check(0)
        for await (const chunk of bytes) {
          await check(chunk.length)
          left -= chunk.length
          passage.passed += chunk.length
          yield chunk
        }
      },
      [Symbol.dispose]: () => void passages.delete(passage),
    }
  }
  return { check, enter }
}

function megabytes(bytes: number): string {
  return `${Math.floor(bytes / 1e6)} MB`
}

const units: Record<string, number> = { '': 1, K: 1 << 10, M: 1 << 20, G: 1 << 30, T: 2 ** 40 }

/** Reads `2G`, `500M`, `5%` or `0`. Throws Failure invalid. */
export function parseReserve(text: string): Reserve {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMGT%]?)$/.exec(text.trim()) ?? []
  if (number === '' || (unit === '%' && Number(number) > 100))
    throw new Failure('invalid', `SIGNALBOX_RESERVE takes a size such as 2G or 500M, or a share such as 5%, not "${text}".`)
  if (unit === '%') return { bytes: Number.POSITIVE_INFINITY, share: Number(number) / 100 }
  return { bytes: Number(number) * units[unit]! }
}
