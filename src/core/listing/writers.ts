import { availableParallelism } from 'node:os'
import { parentPort, Worker, workerData } from 'node:worker_threads'
import type { Compression } from '../../lib/compression.ts'
import type { Listing, WriteUnits } from '../format.ts'
import { type Part, type Run, writeRun } from './write-run.ts'

/*
 * Unpacking, writing and compressing are most of the work of a publication. For a large one, threads do it: their heaps are nearly empty, so
 * that collecting the many buffers costs little, and the thread pool of the process stays free for those who read files.
 */

export interface Writers extends AsyncDisposable {
  /** How many runs may be under way. */
  readonly width: number
  write(run: Run): Promise<Part[]>
}

/** Fewer units than a thread's start is worth. */
const fewUnits = 2000
const mostThreads = 4

export function openWriters({ write, thread, files }: Listing, units: number): Writers {
  const compressions = files.map(({ compression }) => compression)
  if (units <= fewUnits)
    return { width: 1, write: async (run) => writeRun(run, write, compressions), async [Symbol.asyncDispose]() {} }
  const threads = Array.from({ length: Math.min(availableParallelism(), mostThreads) }, () => openThread(thread, compressions))
  return {
    width: threads.length * 2,
    write: (run) => threads.reduce((least, each) => (each.waiting.length < least.waiting.length ? each : least)).write(run),
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.map(({ worker }) => worker.terminate()))
    },
  }
}

function openThread(module: URL, compressions: readonly Compression[]) {
  const worker = new Worker(module, {
    workerData: compressions,
    resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 },
  })
  const waiting: PromiseWithResolvers<Part[]>[] = []
  let ended: Error | undefined
  function end(error: Error): void {
    ended ??= error
    for (const { reject } of waiting.splice(0)) reject(ended)
  }
  worker.on('message', (parts: Part[]) => waiting.shift()!.resolve(parts))
  worker.on('error', end)
  worker.on('exit', () => end(new Error('a thread that writes a listing ended unexpectedly')))
  return {
    worker,
    waiting,
    async write(run: Run): Promise<Part[]> {
      if (ended) throw ended
      const made = Promise.withResolvers<Part[]>()
      waiting.push(made)
      worker.postMessage(run, [run.packs.buffer])
      return made.promise
    },
  }
}

/** What the module of Listing.thread does: writes the runs that it is sent. */
export function serveListing(write: WriteUnits): void {
  parentPort!.on('message', (run: Run) => {
    const parts = writeRun(run, write, workerData as Compression[])
    parentPort!.postMessage(
      parts,
      parts.map(({ bytes }) => bytes.buffer),
    )
  })
}
