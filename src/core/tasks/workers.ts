import { hostname } from 'node:os'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import { abandonTasks, stoppedMessage } from './run-tasks.ts'
import { workerPatience } from './tasks.ts'

const heartbeatInterval = 10_000
const week = 7 * 86_400_000_000

/** A server process that does tasks, as others see it in the list of workers. */
export interface Registration extends AsyncDisposable {
  readonly worker: Row<'worker'>
}

/** Enters this process into the list of workers, and shows from time to time that it lives. Disposing takes it out. */
export async function registerWorker(ctx: Pick<Ctx, 'db' | 'log'>): Promise<Registration> {
  const { db, log } = ctx
  const at = now()
  await db
    .deleteFrom('worker')
    .where('heartbeat', '<', at - week)
    .execute()
  const worker = await db
    .insertInto('worker')
    .values({ uuid: newUuid(), name: `${process.pid}@${hostname()}`, heartbeat: at, created: at, updated: at })
    .returningAll()
    .executeTakeFirstOrThrow()
  async function beat(): Promise<void> {
    await db.updateTable('worker').set({ heartbeat: now() }).where('id', '=', worker.id).execute()
    if (engineOf(db) === 'postgres') await failInterrupted(db)
  }
  const timer = setInterval(() => {
    beat().catch((err: unknown) => log.error({ err }, 'the heartbeat could not be written'))
  }, heartbeatInterval)
  timer.unref()
  return {
    worker,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await failTasksOf(db, worker.id)
      await db.deleteFrom('worker').where('id', '=', worker.id).execute()
    },
  }
}

async function failTasksOf(db: Db, workerId: number): Promise<void> {
  const tasks = await db
    .selectFrom('task')
    .selectAll()
    .where('state', 'in', ['running', 'canceling'])
    .where('worker_id', '=', workerId)
    .execute()
  await abandonTasks(db, tasks, stoppedMessage)
}

/**
 * Ends the tasks of processes that are gone: on SQLite nobody else can be running any when a server starts; on PostgreSQL those whose
 * worker shows no life, or is `lastWorker`, which the lock of its data directory proves dead. Returns how many.
 */
export async function failInterrupted(db: Db, lastWorker?: string): Promise<number> {
  const running = await db
    .selectFrom('task')
    .leftJoin('worker', 'worker.id', 'task.worker_id')
    .selectAll('task')
    .select(['worker.uuid as workerUuid', 'worker.heartbeat'])
    .where('task.state', 'in', ['running', 'canceling'])
    .execute()
  const silent = now() - workerPatience
  const isGone = ({ workerUuid, heartbeat, started }: (typeof running)[number]) =>
    engineOf(db) === 'sqlite' || workerUuid === lastWorker || (heartbeat ?? started ?? 0) < silent
  return abandonTasks(db, running.filter(isGone), stoppedMessage)
}
