import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import { Failure, hasCode } from '../../lib/failure.ts'
import { withoutCredentials } from '../../lib/log.ts'
import { now } from '../../lib/time.ts'
import { idRows, lockRows } from '../../store/bulk.ts'
import { type Db, engineOf, isFull, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx, TaskRunner } from '../ctx.ts'
import { openReports, type Reports } from './task-reports.ts'
import type { Job, Work } from './tasks.ts'

export const stoppedMessage = 'The server stopped while this task was running. Start it again.'

/** Whether an earlier unfinished task holds something that this one needs. */
export async function isBlocked(db: Db, id: number): Promise<boolean> {
  const { rows } = await sql<{ blocked: number | boolean }>`select ${isHeldUp(sql.lit(id))} as blocked`.execute(db)
  return Boolean(rows[0]!.blocked)
}

/**
 * Takes the first task that may run and marks it as running with this worker. `more` says whether another one may run now.
 * Undefined when there is none.
 */
export async function claimTask(db: Db, workerId: number | null): Promise<{ task: Row<'task'>; more: boolean } | undefined> {
  for (;;) {
    const [first, second] = await db
      .selectFrom('task')
      .select('id')
      .where('state', '=', 'waiting')
      .where(({ not }) => not(isHeldUp(sql.ref('task.id'))))
      .orderBy('id')
      .limit(2)
      .execute()
    if (!first) return undefined
    const at = now()
    const task = await db
      .updateTable('task')
      .set(({ fn, val, eb }) => ({
        state: 'running',
        worker_id: workerId,
        token: eb('token', '+', 1),
        unblocked: fn.coalesce('unblocked', val(at)),
        started: at,
        updated: at,
      }))
      .where('id', '=', first.id)
      .where('state', '=', 'waiting')
      .returningAll()
      .executeTakeFirst()
    // Somebody else may have been faster.
    if (task) return { task, more: second !== undefined }
  }
}

/** Locks are rows of unfinished tasks only, so earlier ones are all that can stand in the way. */
function isHeldUp(id: ReturnType<typeof sql.lit | typeof sql.ref>) {
  return sql<boolean>`exists (
    select 1 from task_lock mine join task_lock theirs on theirs.resource = mine.resource and theirs.task_id < mine.task_id
    where mine.task_id = ${id} and (mine.shared = 0 or theirs.shared = 0))`
}

/** Does a task that is marked as running, and records how it ended. `stop` is aborted when the server stops. */
export async function runTask(ctx: Ctx, task: Row<'task'>, stop?: AbortSignal): Promise<void> {
  const log = ctx.log.child({ task: task.uuid, name: task.name, cid: task.logging_cid })
  const cancel = new AbortController()
  const reports = openReports(ctx.db, task, () => cancel.abort(new Error('canceled')))
  const job: Job = {
    ctx,
    task: { id: task.id, uuid: task.uuid, userId: task.user_id, cid: task.logging_cid },
    progress: reports,
    signal: stop ? AbortSignal.any([cancel.signal, stop]) : cancel.signal,
    created: async (prn) => reports.created(prn),
    hold: (tx) => holdTask(tx, task),
  }
  log.info('task started')
  const error = await attempt(ctx.tasks?.works[task.kind], job, task)
  await reports.stop()
  const aborted = job.signal.aborted
  if (error && !aborted && !(error instanceof Failure)) log.error({ err: error }, 'task failed unexpectedly')
  const description = error && (stop?.aborted ? stoppedMessage : describe(error))
  const state = await finishTask(ctx.db, task, error && { description: description!, traceback: traceOf(error) }, reports)
  const seconds = (now() - task.started!) / 1e6
  log.info({ state: state ?? 'lost', seconds, error: description }, 'task ended')
  if (state) ctx.tasks?.ended?.({ name: task.name, state, seconds })
}

async function holdTask(tx: Tx, { id, token }: Row<'task'>): Promise<void> {
  const query = tx.selectFrom('task').select('id').where('id', '=', id).where('token', '=', token).where('state', '=', 'running')
  const held = await (engineOf(tx) === 'postgres' ? query.forShare() : query).executeTakeFirst()
  if (!held) throw new Failure('conflict', 'The task was canceled or taken for lost before it was done: it changed nothing.')
}

/** Runs the work; returns what it threw, if anything. */
async function attempt(work: Work | undefined, job: Job, { kind, args }: Row<'task'>): Promise<Error | undefined> {
  try {
    if (!work) throw new Failure('invalid', `This server does not know how to do "${kind}".`)
    job.signal.throwIfAborted()
    await work(job, JSON.parse(args))
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

function describe(error: Error): string {
  if (error instanceof Failure) return withoutCredentials(error.message)
  if (hasCode(error, 'ENOSPC') || isFull(error))
    return 'There is no space left where the server keeps its data: make room and try again.'
  return withoutCredentials(`Unexpected error: ${error.message}`)
}

interface TaskError {
  description: string
  /** Where it came from, for whoever looks after the program. */
  traceback: string
}

const ourRoot = new URL('../../../', import.meta.url)

/** Where an error was thrown and what caused it, without saying where on this machine the program lies. */
function traceOf(error: Error): string {
  const causes: string[] = []
  for (let at: unknown = error; at instanceof Error && causes.length < 5; at = at.cause) causes.push(at.stack ?? String(at))
  const trace = causes.join('\nCaused by: ').replaceAll(ourRoot.href, '').replaceAll(fileURLToPath(ourRoot), '')
  return withoutCredentials(trace)
}

/**
 * Ends a task: its state, its locks, its reports, in one transaction. A task that somebody wants to be canceled ends as canceled.
 * Undefined when the task is not this run's any more: then nothing is changed.
 */
async function finishTask(
  db: Db,
  task: Row<'task'>,
  error: TaskError | undefined,
  reports?: Reports,
): Promise<string | undefined> {
  return transact(db, async (tx) => {
    const at = now()
    const end = (from: string, to: string, error?: string) =>
      tx
        .updateTable('task')
        .set({ state: to, error: error ?? null, finished: at, updated: at })
        .where('id', '=', task.id)
        .where('token', '=', task.token)
        .where('state', '=', from)
        .returning('state')
        .executeTakeFirst()
    const ended =
      (await (error === undefined ? end('running', 'completed') : end('running', 'failed', JSON.stringify(error)))) ??
      (await end('canceling', 'canceled'))
    if (!ended) return undefined
    await reports?.write(tx)
    await tx
      .updateTable('task_progress')
      .set({ state: ended.state })
      .where('task_id', '=', task.id)
      .where('state', '=', 'running')
      .execute()
    await release(tx, task.id, at)
    return ended.state
  })
}

/** Gives back what a task held, and notes who waited only for that. */
async function release(tx: Tx, id: number, at: number): Promise<void> {
  const freed = await tx.deleteFrom('task_lock').where('task_id', '=', id).returning('resource').execute()
  if (freed.length === 0) return
  const waiting = await tx
    .selectFrom('task_lock')
    .innerJoin('task', 'task.id', 'task_lock.task_id')
    .select('task.id')
    .distinct()
    .where(
      'task_lock.resource',
      'in',
      freed.map(({ resource }) => resource),
    )
    .where('task.state', '=', 'waiting')
    .where('task.unblocked', 'is', null)
    .where(({ not }) => not(isHeldUp(sql.ref('task.id'))))
    .execute()
  if (waiting.length === 0) return
  const ids = waiting.map((task) => task.id)
  await lockRows(tx, 'task', ids)
  const these = sql<number>`(select id from ${idRows(tx, ids)} as i)`
  await tx.updateTable('task').set({ unblocked: at }).where('id', 'in', these).execute()
}

/** Ends tasks whose run is gone: failed for this reason, or canceled where that was wanted. Returns how many. */
export async function abandonTasks(db: Db, tasks: readonly Row<'task'>[], reason: string): Promise<number> {
  let count = 0
  for (const task of tasks) if (await finishTask(db, task, { description: reason, traceback: '' })) count += 1
  return count
}

/** Does tasks in the thread that dispatches them, up to `width` at once: for commands and tests, where no workers are. */
export function inThisThread(works: TaskRunner['works'], width = 4) {
  return (ctx: Ctx): TaskRunner & { idle(): Promise<void> } => {
    const running = new Set<Promise<void>>()
    async function work(): Promise<void> {
      for (let claim = await claimTask(ctx.db, null); claim; claim = await claimTask(ctx.db, null)) {
        if (claim.more) wake()
        await runTask(ctx, claim.task)
      }
    }
    function wake(): void {
      if (running.size >= width) return
      const run = work().finally(() => running.delete(run))
      running.add(run)
    }
    return {
      works,
      wake,
      async idle() {
        while (running.size > 0) await Promise.all(running)
      },
    }
  }
}
