import { sql } from 'kysely'
import { Failure } from '../../lib/failure.ts'
import { type Micros, now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { idRows } from '../../store/bulk.ts'
import { type Db, engineOf, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { forgetObject, grantToCreator } from '../access/auth.ts'
import type { Ctx } from '../ctx.ts'
import type { Progress } from '../format.ts'
import { isBlocked, runTask } from './run-tasks.ts'

/*
 *   waiting ──> running ──> completed | failed          A task is run when no earlier unfinished task holds what it needs: two tasks
 *      │           └─> canceling ──> canceled           that share an exclusive resource run in the order in which they were stored.
 *      └──────────────────────────────> canceled
 */

export const finalStates = ['completed', 'failed', 'canceled', 'skipped'] as const
export const unfinishedStates = ['waiting', 'running', 'canceling'] as const

/** How long after its last heartbeat a worker counts as online. */
export const workerPatience: Micros = 30_000_000

/** What a task's work gets. */
export interface Job {
  readonly ctx: Ctx
  /** `cid` is what the request was logged under. */
  readonly task: { id: number; uuid: string; userId: number | null; cid: string }
  readonly progress: Progress
  /** Aborted when the task is canceled or the server stops. */
  readonly signal: AbortSignal
  /** Records a created resource by its PRN, in order. */
  created(prn: string): Promise<void>
  /**
   * Comes first in the transaction that makes the work visible: throws when the task is not this run's any more, because it was canceled
   * or taken for lost. Until the transaction ends nobody takes it away.
   */
  hold(tx: Tx): Promise<void>
}

/** What a task does. Throws a Failure for what a user can act on; its message becomes the task's error description. */
export type Work = (job: Job, args: any) => Promise<void>

export interface NewTask {
  /** Pulp's dotted name. */
  name: string
  /** A key of `works` in work.ts. */
  kind: string
  args: Record<string, unknown>
  /** PRNs, or other words for what two tasks must not touch at once. */
  exclusive?: readonly string[]
  shared?: readonly string[]
  userId: number | null
  cid: string
  groupId?: number
  parentId?: number
  /** Short work is done inside the request when its resources are free; else a worker takes it. */
  immediate?: boolean
}

/** Stores a task and sees that it runs. */
export async function dispatchTask(ctx: Ctx, task: NewTask): Promise<Row<'task'>> {
  const row = await transact(ctx.db, (tx) => insertTask(tx, task, task.immediate === true && ctx.tasks !== undefined))
  if (await ownTask(ctx.db, row)) ctx.changes.bump()
  if (row.state === 'running') await runTask(ctx, row)
  ctx.tasks?.wake()
  return row.state === 'running' ? getTask(ctx.db, row.id) : row
}

/** Throws Failure not_found. */
export async function getTask(db: Db, id: number): Promise<Row<'task'>> {
  const row = await db.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('not_found', 'The task was deleted.')
  return row
}

/**
 * Stops a task: at once when it waits, else as soon as its work notices. `canceled` is false when there was nothing to stop,
 * because it had finished before.
 */
export async function cancelTask(ctx: Ctx, id: number): Promise<{ task: Row<'task'>; canceled: boolean }> {
  const canceled = await transact(ctx.db, async (tx) => {
    const at = now()
    const waiting = await tx
      .updateTable('task')
      .set({ state: 'canceled', finished: at, updated: at })
      .where('id', '=', id)
      .where('state', '=', 'waiting')
      .returningAll()
      .executeTakeFirst()
    if (waiting) await tx.deleteFrom('task_lock').where('task_id', '=', id).execute()
    return (
      waiting ??
      (await tx
        .updateTable('task')
        .set({ state: 'canceling', updated: at })
        .where('id', '=', id)
        .where('state', 'in', ['running', 'canceling'])
        .returningAll()
        .executeTakeFirst())
    )
  })
  if (!canceled) return { task: await getTask(ctx.db, id), canceled: false }
  ctx.tasks?.wake()
  return { task: canceled, canceled: true }
}

export async function createTaskGroup(db: Db, description: string): Promise<Row<'task_group'>> {
  const at = now()
  return db
    .insertInto('task_group')
    .values({ uuid: newUuid(), description, all_dispatched: 0, created: at, updated: at })
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** Says that no more tasks will be dispatched into this group. */
export async function closeTaskGroup(db: Db, id: number): Promise<void> {
  await db.updateTable('task_group').set({ all_dispatched: 1, updated: now() }).where('id', '=', id).execute()
}

/** Closes a group and cancels what of it has not finished. Returns how many tasks that were. */
export async function cancelTaskGroup(ctx: Ctx, id: number): Promise<number> {
  await closeTaskGroup(ctx.db, id)
  const tasks = await ctx.db
    .selectFrom('task')
    .select('id')
    .where('group_id', '=', id)
    .where('state', 'in', ['waiting', 'running'])
    .execute()
  for (const task of tasks) await cancelTask(ctx, task.id)
  return tasks.length
}

/** Removes the record of a finished task. Throws Failure conflict while it has not finished, not_found. */
export async function deleteTask(db: Db, id: number): Promise<void> {
  const deleted = await db.deleteFrom('task').where('id', '=', id).where('state', 'in', finalStates).returning('uuid').execute()
  if (deleted.length > 0) return forgetRoles(db, deleted)
  const { uuid, state } = await getTask(db, id)
  throw new Failure('conflict', `Task ${uuid} is ${state}: cancel it first.`)
}

export interface PurgeArgs {
  /** Tasks that finished before this time go. */
  finishedBefore: Micros
  states: readonly (typeof finalStates)[number][]
  /** Only tasks of this user; null for an administrator: everybody's. */
  onlyOf: number | null
}

/** Work: removes the records of tasks that finished long ago. */
export async function purgeTasks(
  { ctx, progress, signal, task }: Job,
  { finishedBefore, states, onlyOf }: PurgeArgs,
): Promise<void> {
  let query = ctx.db
    .selectFrom('task')
    .select('id')
    .where('state', 'in', states)
    .where('finished', '<', finishedBefore)
    .where('id', '!=', task.id)
  if (onlyOf !== null) query = query.where('user_id', '=', onlyOf)
  const ids = (await query.orderBy('id').execute()).map(({ id }) => id)

  const [total, tasks] = ['purge.tasks.total', 'purge.tasks.key.core.Task']
  let sum = 0
  progress.report(total, 'Purged task-related-objects total', { done: 0 })
  progress.report(tasks, 'Purged task-objects of type core.Task', { total: ids.length, done: 0 })
  for (let at = 0; at < ids.length; at += purgeBatch) {
    signal.throwIfAborted()
    const batch = ids.slice(at, at + purgeBatch)
    const gone = await transact(ctx.db, (tx) => deleteTasks(tx, batch))
    for (const [model, count] of Object.entries(gone)) {
      sum += count
      progress.report(total, 'Purged task-related-objects total', { add: count })
      progress.report(`purge.tasks.key.core.${model}`, `Purged task-objects of type core.${model}`, { add: count })
    }
  }
  progress.report(total, 'Purged task-related-objects total', { total: sum })
  progress.report('purge.tasks.error', 'Tasks failed to purge', { total: 0, done: 0 })
}

const purgeBatch = 500

/** Deletes tasks with what belongs to them, and counts both under Pulp's names. */
async function deleteTasks(tx: Tx, ids: readonly number[]): Promise<Record<string, number>> {
  const these = sql<number>`(select id from ${idRows(tx, ids)} as i)`
  const reports = await tx.deleteFrom('task_progress').where('task_id', 'in', these).executeTakeFirst()
  const created = await tx.deleteFrom('task_created').where('task_id', 'in', these).executeTakeFirst()
  const tasks = await tx.deleteFrom('task').where('id', 'in', these).returning('uuid').execute()
  await forgetRoles(tx, tasks)
  const counts = { ProgressReport: reports.numDeletedRows, CreatedResource: created.numDeletedRows, Task: tasks.length }
  return Object.fromEntries(Object.entries(counts).flatMap(([model, count]) => (count > 0 ? [[model, Number(count)]] : [])))
}

/** Roles on tasks that are gone would be left to whoever names them next. */
async function forgetRoles(db: Db, tasks: readonly { uuid: string }[]): Promise<void> {
  for (const { uuid } of tasks) await forgetObject(db, taskPrn(uuid))
}

/** The UUID of the one domain there is: Pulp's task records name it, and lists show it. Made at its first use. */
export async function defaultDomain(db: Db): Promise<string> {
  const find = () => db.selectFrom('setting').select('value').where('key', '=', 'domain').executeTakeFirst()
  const known = await find()
  if (known) return known.value
  await db
    .insertInto('setting')
    .values({ key: 'domain', value: newUuid() })
    .onConflict((conflict) => conflict.column('key').doNothing())
    .execute()
  return (await find())!.value
}

/** Stores a task. With `runNow`, one whose resources are free is stored as running: the caller runs it. */
async function insertTask(tx: Tx, task: NewTask, runNow: boolean): Promise<Row<'task'>> {
  // Locks are held in the order of ids, so on PostgreSQL the order of ids must be that of commits.
  if (engineOf(tx) === 'postgres') await sql`select pg_advisory_xact_lock(${dispatchLock})`.execute(tx)
  const exclusive = new Set(task.exclusive)
  const shared = new Set((task.shared ?? []).filter((resource) => !exclusive.has(resource)))
  // The domain is in every record, as in Pulp; nothing ever excludes it, so it needs no lock.
  const domain = `prn:core.domain:${await defaultDomain(tx)}`
  const at = now()
  const row = await tx
    .insertInto('task')
    .values({
      uuid: newUuid(),
      name: task.name,
      kind: task.kind,
      args: JSON.stringify(task.args),
      state: 'waiting',
      logging_cid: task.cid,
      user_id: task.userId,
      group_id: task.groupId ?? null,
      parent_id: task.parentId ?? null,
      token: 0,
      resources: JSON.stringify([...exclusive, ...[...shared, domain].map((resource) => `shared:${resource}`)]),
      created: at,
      updated: at,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  for (const resource of exclusive) await tx.insertInto('task_lock').values({ task_id: row.id, resource, shared: 0 }).execute()
  for (const resource of shared) await tx.insertInto('task_lock').values({ task_id: row.id, resource, shared: 1 }).execute()
  if (await isBlocked(tx, row.id)) return row
  return tx
    .updateTable('task')
    .set({ unblocked: at, ...(runNow && { state: 'running', started: at, token: 1 }) })
    .where('id', '=', row.id)
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** Lets users who are no administrators see and cancel what they dispatched. Says whether that took a role. */
async function ownTask(db: Db, { uuid, user_id }: Row<'task'>): Promise<boolean> {
  if (user_id === null) return false
  const user = await db.selectFrom('user').select('is_superuser').where('id', '=', user_id).executeTakeFirst()
  if (!user || user.is_superuser) return false
  await grantToCreator(db, user_id, ['core.task_owner', 'core.task_user_dispatcher'], taskPrn(uuid))
  return true
}

function taskPrn(uuid: string): string {
  return `prn:core.task:${uuid}`
}

/** Any number that nothing else in the database locks. */
const dispatchLock = 3_815_177
