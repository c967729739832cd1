import type { Db, Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import type { Progress } from './format.ts'

/** What a running task tells of itself, written from time to time. */
export interface Reports extends Progress {
  created(prn: string): void
  /** Ends the writing from time to time. */
  stop(): Promise<void>
  /** Writes what was not written yet. */
  write(tx: Tx): Promise<void>
}

interface Report {
  code: string
  message: string
  state: 'running' | 'completed'
  total: number | null
  done: number
  suffix: string | null
}

const interval = 500

/** Gathers a task's reports and writes what is new twice a second. Looks at the same time whether it is still wanted; `unwanted` is called when not. */
export function openReports(db: Db, task: Pick<Row<'task'>, 'id' | 'token'>, unwanted: () => void): Reports {
  const reports = new Map<string, Report>()
  const created: string[] = []
  const changed = new Set<Report>()
  let written = 0
  let busy: Promise<void> | undefined

  function report(code: string, message: string, change: Parameters<Progress['report']>[2]): void {
    const known = reports.get(code) ?? { code, message, state: 'running', total: null, done: 0, suffix: null }
    known.message = message
    if (change.total !== undefined) known.total = change.total
    known.done = (change.done ?? known.done) + (change.add ?? 0)
    if (change.suffix !== undefined) known.suffix = change.suffix
    if (change.finished !== undefined) known.state = change.finished ? 'completed' : 'running'
    reports.set(code, known)
    changed.add(known)
  }

  async function write(tx: Tx): Promise<void> {
    const [fresh, from] = [[...changed], written]
    changed.clear()
    written = created.length
    try {
      for (const each of fresh) await writeReport(tx, task.id, each)
      for (const [index, object] of created.slice(from).entries())
        await tx
          .insertInto('task_created')
          .values({ task_id: task.id, position: from + index, object })
          .execute()
    } catch (error) {
      for (const each of fresh) changed.add(each)
      written = from
      throw error
    }
  }

  async function look(): Promise<void> {
    const wanted = await db
      .selectFrom('task')
      .select('id')
      .where('id', '=', task.id)
      .where('token', '=', task.token)
      .where('state', '=', 'running')
      .executeTakeFirst()
    if (!wanted) return unwanted()
    if (changed.size > 0 || written < created.length) await db.transaction().execute(write)
  }

  const timer = setInterval(() => {
    // What could not be written now is gone until the end, and no reason to end the work.
    busy ??= look().then(
      () => (busy = undefined),
      () => (busy = undefined),
    ) as Promise<void>
  }, interval)
  timer.unref()

  return {
    report,
    created: (prn) => void created.push(prn),
    write,
    async stop() {
      clearInterval(timer)
      await busy
    },
  }
}

async function writeReport(tx: Tx, taskId: number, report: Report): Promise<void> {
  await tx
    .insertInto('task_progress')
    .values({ task_id: taskId, ...report })
    .onConflict((conflict) => conflict.columns(['task_id', 'code']).doUpdateSet({ ...report }))
    .execute()
}
