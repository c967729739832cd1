import type { Api } from '../api/client.ts'
import type { Repository, Task } from '../api/resources.ts'
import { imagesOfLine, pathAt, type TagsByPath, wantedImages } from './images.ts'
import type { Pins } from './pins.ts'
import { type Snapshots, standsAt } from './snapshots.ts'
import { stampOfTag, tagPattern } from './tags.ts'
import { apiPaths, firstStage, lastStage, type Line, syncedRepositories, type Train } from './train.ts'

/** Where a line stands. */
export interface LineStatus {
  readonly line: string
  readonly repositories: number
  /** The newest of what stands at the last stage: what clients install from. */
  readonly released: string | undefined
  /** The newest snapshot of all. */
  readonly newest: string | undefined
  /** Repositories that have a snapshot newer than what is released. */
  readonly behind: number
  readonly images: number
  /** Images that have a newer tag for the line than what is released. */
  readonly imagesBehind: number
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

/**
 * Where a line stands by its pins and what the server has. Pure. `releaseGuard` is the href of the last stage's guard; `tags` are those of
 * its images at the first and the last stage.
 */
export function lineStatus(
  train: Train,
  line: Line,
  pins: Pins,
  snapshots: Snapshots,
  releaseGuard: string | undefined,
  tags: TagsByPath = new Map(),
): LineStatus {
  const all = line.repositories.map((name) => {
    const own = snapshots.get(name) ?? []
    const pin = pins.repositories.get(name)
    const pinned = own.find(({ stamp }) => stamp === pin)
    const newest = own.at(-1)?.stamp
    const released = standsAt(own, new Set([releaseGuard]), pin)?.stamp
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
  const images = imagesStatus(train, line, pins, tags)
  return {
    line: line.name,
    repositories: all.length,
    released: last([...all.map(({ released }) => released), ...images.released]),
    newest: last([...all.map(({ newest }) => newest), ...images.newest]),
    behind: all.filter(({ newest, released }) => newest !== undefined && (released === undefined || released < newest)).length,
    images: images.count,
    imagesBehind: images.behind,
    waiting: [...waiting, ...images.waiting].filter((each) => each !== ''),
  }
}

function imagesStatus(train: Train, line: Line, pins: Pins, tags: TagsByPath) {
  const { images } = train
  const nothing: (string | undefined)[] = []
  if (!images) return { count: 0, behind: 0, released: nothing, newest: nothing, waiting: [] }
  const wanted = Map.groupBy(wantedImages(images, line, pins).wanted, ({ image }) => image)
  const mirrored = new Set(images.mirrored.map(({ name }) => name))
  const all = imagesOfLine(images, line).map((name) => {
    const [here, there] = [firstStage(train), lastStage(train)].map(
      (stage) => tags.get(pathAt(images, stage, name)!) ?? new Map(),
    )
    const own = wanted.get(name) ?? []
    // Tags of other lines, and those of an upstream, say nothing of how new an image is.
    const patterns = line.images.includes(name)
      ? [tagPattern(line.name)]
      : line.distributions.map((distribution) => tagPattern(line.name, distribution))
    const newest = (among: Iterable<string>) =>
      patterns.map((pattern) => last([...among].filter((tag) => pattern.test(tag)).map(stampOfTag)))
    const [pushed, released] = [newest(here!.keys()), newest(there!.keys())]
    const pinned = newest(own.map(({ tag }) => tag))
    const older = (than: (string | undefined)[]) => pushed.some((stamp, at) => stamp !== undefined && (than[at] ?? '') < stamp)
    const absent = here!.size === 0
    return {
      name,
      pushed,
      released,
      behind: older(released),
      unsynced: absent && mirrored.has(name),
      unpushed: absent && !mirrored.has(name),
      unpinned: !absent && (own.length === 0 || older(pinned)),
      missing: !absent && own.some(({ tag }) => !here!.has(tag)),
      waits: own.some(({ tag }) => here!.has(tag) && there!.get(tag) !== here!.get(tag)),
    }
  })
  const those = (what: string, which: 'unsynced' | 'unpushed' | 'unpinned' | 'missing' | 'waits') =>
    few(
      all.filter((each) => each[which]),
      what,
      'image',
    )
  return {
    count: all.length,
    behind: all.filter(({ behind }) => behind).length,
    released: all.flatMap(({ released }) => released),
    newest: all.flatMap(({ pushed }) => pushed),
    waiting: [
      those('sync of', 'unsynced'),
      those('push of', 'unpushed'),
      those('pin of', 'unpinned'),
      those('missing tag of', 'missing'),
      those(`promotion to ${lastStage(train)} of`, 'waits'),
    ],
  }
}

/** `pin of grafana`, `pin of 12 repositories`, `pin of image nova-api`. */
function few(things: readonly { name: string }[], what: string, kind: 'repository' | 'image' = 'repository'): string {
  if (things.length === 0) return ''
  const [one, many] = kind === 'image' ? [`image ${things[0]!.name}`, 'images'] : [things[0]!.name, 'repositories']
  return `${what} ${things.length === 1 ? one : `${things.length} ${many}`}`
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
  const synced = syncedRepositories(train)
  const declared = new Set(synced.map(({ name }) => name))
  for (const format of new Set(synced.map((each) => each.format)))
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
