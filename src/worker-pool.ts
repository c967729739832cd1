import { Worker } from 'node:worker_threads'
import type { Logger } from 'pino'
import type { TaskEnd, TaskRunner } from './core/ctx.ts'
import { abandonTasks, stoppedMessage } from './core/tasks/run-tasks.ts'
import type { Db } from './store/database.ts'
import type { FromThread, ThreadData, ToThread } from './worker-thread.ts'

/*
 * The server's worker threads. A thread takes tasks from the database itself and has its own connection; the pool starts threads when there
 * is something to do, ends them when there is not, stops those that do not stop themselves, and ends the tasks of those that crash.
 */

export interface Pool {
  wake(): void
  /** Starts no more tasks; asks running ones to stop, and after `grace` milliseconds ends them. */
  stop(grace: number): Promise<void>
}

export interface PoolOptions {
  db: Db
  log: Logger
  /** Module that threads start with. */
  entry: URL
  /** Most threads at once. */
  size: number
  works: TaskRunner['works']
  thread: Omit<ThreadData, 'hand'>
  /** A thread is gone in the middle of a task: what it had committed may not have been told. */
  onCrash(): void
  onEnd(end: TaskEnd): void
  /** Milliseconds; shorter in tests. */
  idle?: number
  cancelPatience?: number
  /** How long a thread may take from marking a task as running to taking it in hand: the database's answer may be slow. */
  lostPatience?: number
  /** MiB of JavaScript heap that one thread may use. */
  memory?: number
}

interface Thread {
  worker: Worker
  hand: BigInt64Array
  state: 'busy' | 'idle' | 'leaving'
  idleTimer?: NodeJS.Timeout
  exited: Promise<void>
}

const crashMessage = 'The worker ended unexpectedly while this task was running. Start it again.'
const memoryMessage = 'The task needed more memory than a task may use, and was ended.'

export function openPool(options: PoolOptions): Pool {
  const { db, log, size } = options
  const threads = new Set<Thread>()
  const watch: Watch = { canceling: new Map(), unheld: new Map() }
  let stopping = false
  let lookAgain = false

  function wake(): void {
    if (stopping) return
    const idle = [...threads].find(({ state }) => state === 'idle')
    if (idle) say(idle, 'look')
    else if (threads.size < size) start()
    // A busy thread looks after its task anyway, but may just have looked and not yet told that it found nothing.
    else lookAgain = true
  }

  function say(thread: Thread, message: ToThread): void {
    clearTimeout(thread.idleTimer)
    thread.state = message === 'look' ? 'busy' : 'leaving'
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    thread.worker.postMessage(message)
  }

  function start(): void {
    const hand = new SharedArrayBuffer(16)
    const worker = new Worker(options.entry, {
      workerData: { ...options.thread, hand } satisfies ThreadData,
      resourceLimits: { maxOldGenerationSizeMb: options.memory ?? 400 },
    })
    const { promise: exited, resolve } = Promise.withResolvers<void>()
    const thread: Thread = { worker, hand: new BigInt64Array(hand), state: 'busy', exited }
    threads.add(thread)
    let failure: unknown
    worker.on('message', (message: FromThread) => hear(thread, message))
    worker.on('error', (error) => (failure = error))
    worker.on('exit', () => {
      threads.delete(thread)
      clearTimeout(thread.idleTimer)
      bury(thread, failure)
        .catch((err: unknown) => log.error({ err }, 'the tasks of a worker that ended could not be ended'))
        .finally(resolve)
    })
  }

  function hear(thread: Thread, message: FromThread): void {
    if (message === 'wake') wake()
    else if (message !== 'idle') options.onEnd(message)
    else if (thread.state === 'busy') {
      thread.state = 'idle'
      if (lookAgain) {
        lookAgain = false
        return wake()
      }
      thread.idleTimer = setTimeout(() => say(thread, 'stop'), options.idle ?? 30_000)
      thread.idleTimer.unref()
    }
  }

  /** Ends what a thread that is gone had in hand. */
  async function bury({ hand }: Thread, failure: unknown): Promise<void> {
    if (failure) log.error({ err: failure }, 'a worker ended unexpectedly')
    const id = Number(Atomics.load(hand, 0))
    if (id === 0 && !failure) return
    const outOfMemory = failure instanceof Error && 'code' in failure && failure.code === 'ERR_WORKER_OUT_OF_MEMORY'
    await abandon([id], stopping ? stoppedMessage : outOfMemory ? memoryMessage : crashMessage)
    options.onCrash()
    // One that failed before it had a task would fail again at once: the next look starts another.
    if (id !== 0) wake()
  }

  async function abandon(ids: readonly number[], reason: string): Promise<void> {
    const tasks = await db
      .selectFrom('task')
      .selectAll()
      .where('id', 'in', ids)
      .where('state', 'in', ['running', 'canceling'])
      .execute()
    await abandonTasks(db, tasks, reason)
  }

  /** Looks after running tasks: those to be canceled that do not stop, and those that no thread has. */
  async function supervise(): Promise<void> {
    const tasks = await db
      .selectFrom('task')
      .select(['id', 'state'])
      .where('state', 'in', ['running', 'canceling'])
      .where('worker_id', '=', options.thread.workerId)
      .execute()
    const holderOf = (id: number) => [...threads].find(({ hand }) => Number(Atomics.load(hand, 0)) === id)
    const { cancelPatience = 10_000, lostPatience = 10_000 } = options
    const { stubborn, lost } = judge(tasks, holderOf, watch, { cancelPatience, lostPatience })
    for (const { worker, hand } of stubborn) {
      log.warn({ task: Number(Atomics.load(hand, 0)) }, 'a canceled task did not stop: its worker is ended')
      await worker.terminate()
    }
    if (lost.length > 0) await abandon(lost, crashMessage)
  }

  async function look(): Promise<void> {
    if (threads.size > 0 || watch.unheld.size > 0) await supervise()
    const waiting = await db.selectFrom('task').select('id').where('state', '=', 'waiting').limit(1).executeTakeFirst()
    if (waiting) wake()
  }
  let busy: Promise<unknown> | undefined
  const timer = setInterval(() => {
    busy ??= look()
      .catch((err: unknown) => log.error({ err }, 'the workers could not be looked after'))
      .finally(() => (busy = undefined))
  }, 1000)
  timer.unref()

  return {
    wake,
    async stop(grace) {
      stopping = true
      clearInterval(timer)
      await busy
      // First all are told not to take what one of them gives back.
      for (const { hand } of threads) Atomics.store(hand, 1, 1n)
      for (const thread of threads) say(thread, 'stop')
      const all = Promise.all([...threads].map(({ exited }) => exited))
      const late = setTimeout(() => {
        for (const { worker } of threads) void worker.terminate()
      }, grace)
      await all
      clearTimeout(late)
    },
  }
}

/** What one look at the running tasks leaves for the next: since when each is to be canceled, and since when no thread has it. */
interface Watch {
  canceling: Map<number, number>
  unheld: Map<number, number>
}

/** Which threads did not stop in time though their task is canceled, and which tasks no thread has. */
function judge(
  tasks: readonly { id: number; state: string }[],
  holderOf: (id: number) => Thread | undefined,
  watch: Watch,
  { cancelPatience, lostPatience }: { cancelPatience: number; lostPatience: number },
): { stubborn: Thread[]; lost: number[] } {
  const at = performance.now()
  const held = tasks.map((task) => ({ ...task, holder: holderOf(task.id) }))
  const toCancel = held.filter(({ state }) => state === 'canceling')
  watch.canceling = new Map(toCancel.map(({ id }) => [id, watch.canceling.get(id) ?? at]))
  // One that was just taken may not be in a hand yet: it is lost when it stays so.
  const nobodys = held.filter(({ holder }) => !holder)
  watch.unheld = new Map(nobodys.map(({ id }) => [id, watch.unheld.get(id) ?? at]))
  const lost = nobodys.map(({ id }) => id).filter((id) => at - watch.unheld.get(id)! > lostPatience)
  const stubborn = toCancel.flatMap(({ id, holder }) =>
    holder && at - watch.canceling.get(id)! > cancelPatience ? [holder] : [],
  )
  return { stubborn, lost }
}
