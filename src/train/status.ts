import type { Api } from '../api/client.ts'
import type { Repository, Task } from '../api/resources.ts'
import type { Pins } from './pins.ts'
import type { Snapshots } from './snapshots.ts'
import { apiPaths, lastStage, type Line, type Train } from './train.ts'

/** Where a line stands. */
export interface LineStatus {
  readonly line: string
  readonly repositories: number
  /** The newest snapshot at the last stage: what clients install from. */
  readonly released: string | undefined
  /** The newest snapshot of all. */
  readonly newest: string | undefined
  /** Repositories that have a snapshot newer than what is released. */
  readonly behind: number
  /** What a person must do next; empty when nothing. */
  readonly waiting: readonly string[]
}

/** A repository whose last sync failed. */
export interface FailingSync {
  readonly repository: string
  readonly reason: string
  /** ISO 8601: when it began to fail, as far back as the server remembers. */
  readonly since: string
  readonly times: number
}

/** Where a line stands by its pins and what the server has. Pure. `releaseGuard` is the href of the last stage's guard. */
export function lineStatus(
  train: Train,
  line: Line,
  pins: Pins,
  snapshots: Snapshots,
  releaseGuard: string | undefined,
): LineStatus {
  const all = line.repositories.map((name) => {
    const own = snapshots.get(name) ?? []
    const pin = pins.get(name)
    const pinned = own.find(({ stamp }) => stamp === pin)
    const newest = own.at(-1)?.stamp
    const released = releaseGuard === undefined ? undefined : own.findLast(({ guard }) => guard === releaseGuard)?.stamp
    return { name, pin, pinned, newest, released }
  })
  const waiting = [
    few(
      all.filter(({ newest }) => newest === undefined),
      'sync of',
    ),
    few(
      all.filter(({ pin, newest }) => newest !== undefined && (pin === undefined || pin < newest)),
      'pin of',
    ),
    few(
      all.filter(({ pin, pinned }) => pin !== undefined && !pinned),
      'missing snapshot of',
    ),
    few(
      all.filter(({ pinned }) => pinned && pinned.guard !== releaseGuard),
      `promotion to ${lastStage(train)} of`,
    ),
  ]
  return {
    line: line.name,
    repositories: all.length,
    released: last(all.map(({ released }) => released)),
    newest: last(all.map(({ newest }) => newest)),
    behind: all.filter(({ newest, released }) => newest !== undefined && (released === undefined || released < newest)).length,
    waiting: waiting.filter((each) => each !== ''),
  }
}

/** `pin of grafana`, `pin of 12 repositories`. */
function few(repositories: readonly { name: string }[], what: string): string {
  if (repositories.length === 0) return ''
  return `${what} ${repositories.length === 1 ? repositories[0]!.name : `${repositories.length} repositories`}`
}

function last(stamps: readonly (string | undefined)[]): string | undefined {
  return stamps
    .filter((each) => each !== undefined)
    .toSorted()
    .at(-1)
}

const syncTasks = 'synchronize'
const days = 14

/** Repositories of the train whose last sync failed, from the server's tasks of the last two weeks. */
export async function findFailingSyncs(api: Api, train: Train): Promise<FailingSync[]> {
  const names = new Map<string, string>()
  const declared = new Set(train.repositories.map(({ name }) => name))
  for (const format of new Set(train.repositories.map((each) => each.format)))
    for await (const { prn, name } of api.list<Repository>(`repositories/${apiPaths[format]}`))
      if (declared.has(name)) names.set(prn, name)

  const tasks: Task[] = []
  const query = {
    name__contains: syncTasks,
    state__in: 'completed,failed',
    started_at__gte: new Date(Date.now() - days * 86_400_000).toISOString(),
    fields: 'state,error,reserved_resources_record,finished_at',
  }
  for await (const task of api.list<Task>('tasks/', query)) tasks.push(task)
  return failingAmong(tasks, names)
}

type SyncTask = Pick<Task, 'state' | 'error' | 'reserved_resources_record' | 'finished_at'>

/** Tasks come oldest first; `names` has the repository of each PRN. */
export function failingAmong(tasks: readonly SyncTask[], names: ReadonlyMap<string, string>): FailingSync[] {
  const failing = new Map<string, FailingSync>()
  for (const { state, error, reserved_resources_record, finished_at } of tasks) {
    const repository = reserved_resources_record.map((each) => names.get(each)).find((each) => each !== undefined)
    if (repository === undefined) continue
    const before = failing.get(repository)
    if (state === 'completed') failing.delete(repository)
    else
      failing.set(repository, {
        repository,
        reason: reasonOf(error),
        since: before?.since ?? finished_at ?? '',
        times: (before?.times ?? 0) + 1,
      })
  }
  return [...failing.values()]
}

function reasonOf(error: Task['error']): string {
  return error?.description || error?.reason || 'for no known reason'
}
