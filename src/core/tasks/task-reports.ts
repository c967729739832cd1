import { type Db, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Progress } from '../format.ts'

/** What a running task tells of itself, written from time to time. */
export interface Reports extends Progress {
  created(prn: string): void
  /** Ends the writing from time to time. */
  stop(): Promise<void>
  /** Writes what was not written yet, after `stop`. */
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

interface Batch {
  reports: readonly Report[]
  created: readonly string[]
  /** Position of the first of `created`. */
  from: number
}

const usualInterval = 500

/** Gathers a task's reports and writes what is new twice a second. Looks at the same time whether it is still wanted; `unwanted` is called when not. */
export function openReports(
  db: Db,
  task: Pick<Row<'task'>, 'id' | 'token'>,
  unwanted: () => void,
  interval = usualInterval,
): Reports {
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

  /** What is new until now: what comes while it is written is for the next time. */
  function gather(): Batch {
    return { reports: [...changed], created: created.slice(written), from: written }
  }

  async function save(): Promise<void> {
    const batch = gather()
    changed.clear()
    written = created.length
    try {
      await transact(db, (tx) => writeBatch(tx, task.id, batch))
    } catch (error) {
      for (const each of batch.reports) changed.add(each)
      written = batch.from
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
    if (changed.size > 0 || written < created.length) await save()
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
    write: (tx) => writeBatch(tx, task.id, gather()),
    async stop() {
      clearInterval(timer)
      await busy
    },
  }
}

async function writeBatch(tx: Tx, taskId: number, { reports, created, from }: Batch): Promise<void> {
  for (const each of reports) await writeReport(tx, taskId, each)
  for (const [index, object] of created.entries())
    await tx
      .insertInto('task_created')
      .values({ task_id: taskId, position: from + index, object })
      .execute()
}

async function writeReport(tx: Tx, taskId: number, report: Report): Promise<void> {
  await tx
    .insertInto('task_progress')
    .values({ task_id: taskId, ...report })
    .onConflict((conflict) => conflict.columns(['task_id', 'code']).doUpdateSet({ ...report }))
    .execute()
}
