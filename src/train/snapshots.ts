import type { Api } from '../api/client.ts'
import type { Distribution } from '../api/resources.ts'
import { findStamp, nearestStamps } from './stamp.ts'
import { apiPaths, type FormatName, type TrainRepository } from './train.ts'

/** A dated distribution of one version of a repository. */
export interface Snapshot {
  readonly repository: string
  readonly stamp: string
  readonly href: string
  readonly name: string
  readonly path: string
  /** Href of the guard; null when anyone may read it. */
  readonly guard: string | null
  readonly publication: string | null
}

/** Snapshots by repository, oldest first. */
export type Snapshots = ReadonlyMap<string, readonly Snapshot[]>

/** Asking for each repository is quicker than reading every distribution only for a few. */
const few = 4

export async function findSnapshots(api: Api, repositories: readonly TrainRepository[]): Promise<Snapshots> {
  const found: Snapshot[] = []
  if (repositories.length <= few) {
    for (const repository of repositories) {
      for await (const distribution of listDistributions(api, repository.format, repository.distributionName)) {
        const snapshot = snapshotOf(distribution, repository)
        if (snapshot) found.push(snapshot)
      }
    }
  } else {
    const byName = new Map(repositories.map((each) => [`${each.format} ${each.distributionName}`, each]))
    for (const format of new Set(repositories.map((each) => each.format))) {
      for await (const distribution of listDistributions(api, format)) {
        const repository = byName.get(`${format} ${distribution.name.slice(0, -stampLength)}`)
        const snapshot = repository && snapshotOf(distribution, repository)
        if (snapshot) found.push(snapshot)
      }
    }
  }
  found.sort((a, b) => (a.stamp < b.stamp ? -1 : 1))
  const grouped = Map.groupBy(found, ({ repository }) => repository)
  return new Map(repositories.map(({ name }) => [name, grouped.get(name) ?? []]))
}

const stampLength = '20261123T020000'.length
const columns = 'pulp_href,name,base_path,content_guard,publication'

function listDistributions(api: Api, format: FormatName, startsWith?: string): AsyncGenerator<Distribution> {
  return api.list<Distribution>(`distributions/${apiPaths[format]}`, { fields: columns, name__startswith: startsWith })
}

/** A distribution is a snapshot when its name and its path both carry the stamp: others may have put things beside ours. */
export function snapshotOf(distribution: Distribution, repository: TrainRepository): Snapshot | undefined {
  const stamp = findStamp(distribution.name, repository.distributionName)
  if (stamp === undefined || distribution.base_path !== `${repository.path}/${stamp}`) return undefined
  const { pulp_href, name, base_path, content_guard, publication } = distribution
  return { repository: repository.name, stamp, href: pulp_href, name, path: base_path, guard: content_guard, publication }
}

/**
 * The snapshot that stands at a stage, of those of one repository, oldest first: the pinned one once it is there, or else the newest. After a
 * line went back to an older snapshot that is the older one, though the newer one may still be behind the same guard.
 */
export function standsAt(
  own: readonly Snapshot[],
  guards: ReadonlySet<string | null | undefined>,
  pin: string | undefined,
): Snapshot | undefined {
  const there = own.filter(({ guard }) => guard !== null && guards.has(guard))
  return there.find(({ stamp }) => stamp === pin) ?? there.at(-1)
}

/** Says that a repository has no such snapshot, and which are nearest. */
export function missingSnapshot(repository: string, stamp: string, existing: readonly Snapshot[]): string {
  const nearest = nearestStamps(
    stamp,
    existing.map((each) => each.stamp),
  )
  if (nearest.length === 0) return `no snapshot ${stamp}, nor any other. Run "signalbox sync ${repository}".`
  return `no snapshot ${stamp} (nearest: ${nearest.join(', ')}). Run "signalbox sync ${repository}" or pin the nearest.`
}
