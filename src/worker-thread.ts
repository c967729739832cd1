import { constants, getPriority, setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { Ctx, TaskEnd, TaskRunner } from './core/ctx.ts'
import type { OwnListener } from './core/fetch/addresses.ts'
import type { Format } from './core/format.ts'
import { openCtx } from './core/open.ts'
import { claimTask, runTask } from './core/tasks/run-tasks.ts'
import { openLog } from './lib/log.ts'
import { holdTick } from './lib/quick-ticks.ts'

/** What a thread is started with. */
export interface ThreadData {
  data: string
  database: string | undefined
  origin: string | undefined
  allowedChecksums: readonly string[] | undefined
  upstreamAddresses?: string | undefined
  tokenRealms?: readonly string[] | undefined
  reserve?: string | undefined
  own?: OwnListener | undefined
  changes: SharedArrayBuffer
  logLevel: string
  workerId: number
  /** Two cells: the id of the task in hand, 0 for none (it outlives a crash of the thread); and 1 when no more may be taken. */
  hand: SharedArrayBuffer
}

/** `look`: there may be a task. `stop`: end after the task in hand, which is asked to stop. */
export type ToThread = 'look' | 'stop'

/** `wake`: there may be more tasks than this thread takes. `idle`: it found none. */
export type FromThread = 'wake' | 'idle' | TaskEnd

/** A third of the processor time of a thread that answers requests, where both want all they can get. */
const taskNiceness = 5

interface Worker {
  works: TaskRunner['works']
  formats: readonly Format[]
}

/** The life of a worker thread: does tasks, one after another, until it is told to stop. */
export async function runWorker({ works, formats }: Worker): Promise<void> {
  if (!parentPort) throw new Error('This module is run as a worker thread, by the server.')
  const port = parentPort
  // Whoever waits for an answer comes first. On Linux this is the priority of one thread and of those that it starts, elsewhere of the process.
  if (process.platform === 'linux') setPriority(Math.min(getPriority() + taskNiceness, constants.priority.PRIORITY_LOW))
  using _tick = await holdTick()
  const { hand, workerId, logLevel, ...opening } = workerData as ThreadData
  const inHand = new BigInt64Array(hand)
  const stop = new AbortController()
  const log = openLog(logLevel)
  const say = (message: FromThread) => port.postMessage(message)
  const runner = (): TaskRunner => ({ works, wake: () => say('wake'), ended: say })
  const ctx = await openCtx({ ...opening, formats, log, runner })

  async function work(ctx: Ctx): Promise<void> {
    while (Atomics.load(inHand, 1) === 0n) {
      const claim = await claimTask(ctx.db, workerId)
      if (!claim) return
      Atomics.store(inHand, 0, BigInt(claim.task.id))
      if (claim.more) say('wake')
      await runTask(ctx, claim.task, stop.signal)
      Atomics.store(inHand, 0, 0n)
    }
  }

  let looking: Promise<void> | undefined
  let again = false
  function look(): void {
    again = looking !== undefined
    // What goes wrong outside of a task's work (the database is gone) rejects this and so ends the thread; the pool tells why.
    looking ??= work(ctx).then(() => {
      looking = undefined
      if (again && Atomics.load(inHand, 1) === 0n) look()
      else say('idle')
    })
  }
  const stopped = Promise.withResolvers<void>()
  port.on('message', (message: ToThread) => {
    if (message === 'look') return look()
    Atomics.store(inHand, 1, 1n)
    stop.abort(new Error('stopped'))
    stopped.resolve()
  })
  look()
  await stopped.promise
  await looking
  await ctx[Symbol.asyncDispose]()
  port.close()
}
