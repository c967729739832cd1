import { Worker } from 'node:worker_threads'
import type { Described, DescribedFile } from '../../core/format.ts'
import { Failure, type FailureCode } from '../../lib/failure.ts'
import type { DescribedPackages, PackageOrder } from './describe-packages.ts'

/*
 * Unpacking, checking and packing hundreds of megabytes of lists keeps a thread busy, storing what they say another one: so large lists are
 * read in a thread of their own. It is given their bytes, compressed as they are, and gives back batches of described packages.
 */

export const listNames = ['primary', 'filelists', 'other'] as const
export type ListName = (typeof listNames)[number]

/** What the thread is started with: the most bytes that each list may have when unpacked; lists that are not there are left out. */
export interface ThreadOrder extends PackageOrder {
  lists: ReadonlyMap<ListName, number>
}

/** The bytes of a list, null at its end; or `taken`: there is room for another batch. */
export type ToDescriber = { kind: 'chunk'; list: ListName; bytes: Uint8Array | null } | { kind: 'taken' }

export type FromDescriber =
  | { kind: 'want'; list: ListName }
  | { kind: 'batch'; batch: Omit<DescribedPackages, 'units'> & { units: SentUnit[] } }
  | { kind: 'done' }
  | { kind: 'failed'; code: FailureCode | undefined; message: string }

/** URL objects cannot be sent. */
type SentUnit = Omit<Described, 'files'> & { files: (Omit<DescribedFile, 'urls' | 'staged'> & { urls: string[] })[] }

/** A list as it was downloaded: compressed. */
export interface PackedList {
  bytes: AsyncIterable<Uint8Array>
  limit: number
}

/** Does what describePackages does, in another thread. Throws Failure integrity. */
export async function* describeInThread(
  lists: ReadonlyMap<ListName, PackedList>,
  order: PackageOrder,
): AsyncGenerator<DescribedPackages> {
  const limits = new Map([...lists].map(([name, { limit }]) => [name, limit]))
  const worker = new Worker(new URL('./describe-thread.ts', import.meta.url), {
    workerData: { ...order, lists: limits } satisfies ThreadOrder,
    resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 },
  })
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  const say = (message: ToDescriber) => worker.postMessage(message)
  const sources = new Map([...lists].map(([name, { bytes }]) => [name, bytes[Symbol.asyncIterator]()]))
  const batches: Extract<FromDescriber, { kind: 'batch' }>['batch'][] = []
  let ended: { error?: unknown } | undefined
  let news = Promise.withResolvers<void>()
  function end(error?: unknown): void {
    ended ??= { error }
    news.resolve()
  }
  async function feed(list: ListName): Promise<void> {
    const { done, value } = await sources.get(list)!.next()
    say({ kind: 'chunk', list, bytes: done ? null : value })
  }
  worker.on('message', (message: FromDescriber) => {
    if (message.kind === 'want') return void feed(message.list).catch(end)
    if (message.kind === 'batch') batches.push(message.batch)
    else if (message.kind === 'done') return end()
    else return end(message.code ? new Failure(message.code, message.message) : new Error(message.message))
    news.resolve()
  })
  worker.on('error', end)
  worker.on('exit', () => end(new Error('the thread that reads the lists of packages ended unexpectedly')))
  try {
    for (;;) {
      const batch = batches.shift()
      if (batch) {
        say({ kind: 'taken' })
        yield { ...batch, units: batch.units.map(received) }
      } else if (ended) {
        if (ended.error) throw ended.error
        return
      } else {
        await news.promise
        news = Promise.withResolvers()
      }
    }
  } finally {
    await worker.terminate()
    for (const source of sources.values()) await source.return?.()
  }
}

function received({ files, ...unit }: SentUnit): Described {
  return { ...unit, files: files.map((file) => ({ ...file, urls: file.urls.map((url) => new URL(url)) })) }
}
