import { setTimeout as sleep } from 'node:timers/promises'
import { type Api, Unreachable } from '../api/client.ts'
import type { Distribution, Publication, Repository, TaskProgress, Version } from '../api/resources.ts'
import { Failure } from '../lib/failure.ts'
import { forEach } from '../lib/for-each.ts'
import { type Changes, readChanges } from './changes.ts'
import { trainLabel } from './plan.ts'
import { findSnapshots, type Snapshot } from './snapshots.ts'
import { stampFor } from './stamp.ts'
import { apiPaths, type Train, type TrainRepository } from './train.ts'

/** What a sync came to. */
type Result =
  | { readonly state: 'new'; readonly stamp: string; readonly path: string; readonly changes: Changes }
  | { readonly state: 'unchanged'; readonly stamp: string }
  /** `stamp` is the newest snapshot there was before, if any. */
  | { readonly state: 'failed'; readonly stamp: string | undefined; readonly reason: string; readonly tries: number }

/** How the sync of one repository ended. */
export type Outcome = { readonly repository: string; readonly seconds: number } & Result

/** What is being done for one repository, whenever that changes. */
export interface Progress {
  readonly repository: string
  readonly doing: 'syncing' | 'publishing' | 'retrying' | 'done'
  readonly report?: TaskProgress | undefined
  readonly outcome?: Outcome
}

export interface SyncOptions {
  /** Repositories at a time. */
  jobs: number
  /** Tries after the first. */
  retries: number
  /** Milliseconds before the second try; doubles with each. */
  pause: number
  signal: AbortSignal | undefined
  progress(progress: Progress): void
}

/** Syncs each repository and makes a snapshot of what is new, behind the guard. What fails does not stop the others. */
export async function syncRepositories(
  api: Api,
  train: Train,
  repositories: readonly TrainRepository[],
  guard: string,
  options: SyncOptions,
): Promise<Outcome[]> {
  const outcomes = new Map<string, Outcome>()
  await forEach(repositories, options.jobs, async (repository) => {
    const outcome = await syncWithRetries(api, train, repository, guard, options)
    outcomes.set(repository.name, outcome)
    options.progress({ repository: repository.name, doing: 'done', outcome })
  })
  return repositories.map(({ name }) => outcomes.get(name)!)
}

async function syncWithRetries(
  api: Api,
  train: Train,
  repository: TrainRepository,
  guard: string,
  options: SyncOptions,
): Promise<Outcome> {
  const started = performance.now()
  const seconds = () => Math.round(performance.now() - started) / 1000
  for (let tries = 1; ; tries++) {
    try {
      return { repository: repository.name, ...(await syncOne(api, train, repository, guard, options)), seconds: seconds() }
    } catch (error) {
      if (!(error instanceof Failure) || error instanceof Unreachable) throw error
      // Nobody's upstream gets better by asking again for what is not declared or not allowed.
      const hopeless = error.code === 'not_found' || error.code === 'denied' || error.code === 'invalid'
      if (hopeless || tries > options.retries) {
        const kept = await newestStamp(api, repository)
        return { repository: repository.name, state: 'failed', reason: error.message, tries, stamp: kept, seconds: seconds() }
      }
      options.progress({ repository: repository.name, doing: 'retrying' })
      await sleep(options.pause * 2 ** (tries - 1), undefined, { signal: options.signal })
    }
  }
}

/** Of the newest snapshot; of an image, of the newest version that is more than empty. */
async function newestStamp(api: Api, repository: TrainRepository): Promise<string | undefined> {
  if (repository.format !== 'container') return (await findSnapshots(api, [repository])).get(repository.name)?.at(-1)?.stamp
  const found = await api.find<Repository>(`repositories/${apiPaths.container}`, { name: repository.name })
  const version = found?.latest_version_href ? await api.get<Version>(found.latest_version_href) : undefined
  return version && version.number > 0 ? stampFor(version.pulp_created, new Set()) : undefined
}

async function syncOne(
  api: Api,
  train: Train,
  repository: TrainRepository,
  guard: string,
  { progress, signal }: SyncOptions,
): Promise<Result> {
  const { name, format } = repository
  progress({ repository: name, doing: 'syncing' })
  const path = apiPaths[format]
  const { pulp_href: href, latest_version_href: before } = await getRepository(api, repository)
  await api.act(`${href}sync/`, repository.sync, {
    progress: (task) => progress({ repository: name, doing: 'syncing', report: latestReport(task.progress_reports) }),
    ...(signal && { signal }),
  })
  const { latest_version_href } = await api.get<Repository>(href)
  const version = await api.get<Version>(latest_version_href!)
  if (Object.keys(version.content_summary.present).length === 0)
    throw new Failure('upstream', `its upstream is empty (${repository.url}), which is not worth a snapshot`)

  // Images are released tag by tag, so a mirrored one has no snapshots: what is new is at its first stage already.
  if (format === 'container') {
    const stamp = stampFor(version.pulp_created, new Set())
    if (latest_version_href === before) return { state: 'unchanged', stamp }
    return { state: 'new', stamp, path: repository.path, changes: await readChanges(api, version) }
  }

  const snapshots = (await findSnapshots(api, [repository])).get(name)!
  const publications = await listPublications(api, path, version)
  const existing = snapshots.find(({ publication }) => publication !== null && publications.includes(publication))
  if (existing) return { state: 'unchanged', stamp: existing.stamp }

  progress({ repository: name, doing: 'publishing' })
  const publication =
    publications[0] ??
    (await api.create<Publication>(`publications/${path}`, { repository_version: version.pulp_href })).pulp_href
  const snapshot = await makeSnapshot(api, train, repository, { version, publication, guard, snapshots })
  return { state: 'new', ...snapshot, changes: await readChanges(api, version) }
}

async function getRepository(api: Api, { name, format }: TrainRepository): Promise<Repository> {
  const found = await api.find<Repository>(`repositories/${apiPaths[format]}`, { name })
  if (!found) throw new Failure('not_found', `${api.url} has no ${format} repository ${name} yet; run "signalbox apply"`)
  return found
}

/** Hrefs of the publications of a version, the oldest last: a mirrored repository has one from its sync. */
async function listPublications(api: Api, path: string, version: Version): Promise<string[]> {
  const hrefs: string[] = []
  for await (const { pulp_href } of api.list<Publication>(`publications/${path}`, { repository_version: version.pulp_href }))
    hrefs.unshift(pulp_href)
  return hrefs
}

interface NewSnapshot {
  version: Version
  publication: string
  guard: string
  snapshots: readonly Snapshot[]
}

/** The distribution is made with its guard: there is no moment at which anyone may read it. */
async function makeSnapshot(
  api: Api,
  train: Train,
  repository: TrainRepository,
  { version, publication, guard, snapshots }: NewSnapshot,
) {
  const stamp = stampFor(version.pulp_created, new Set(snapshots.map((each) => each.stamp)))
  const path = `${repository.path}/${stamp}`
  await api.create<Distribution>(`distributions/${apiPaths[repository.format]}`, {
    name: `${repository.distributionName}${stamp}`,
    base_path: path,
    publication,
    content_guard: guard,
    pulp_labels: { [trainLabel]: train.name },
  })
  return { stamp, path }
}

/** The report worth showing: the last that still counts something. */
function latestReport(reports: readonly TaskProgress[]): TaskProgress | undefined {
  return reports.findLast(({ state }) => state === 'running') ?? reports.at(-1)
}
