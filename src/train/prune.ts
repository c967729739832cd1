import type { Api } from '../api/client.ts'
import type { Distribution } from '../api/resources.ts'
import { Failure } from '../lib/failure.ts'
import { forEach } from '../lib/for-each.ts'
import { findPublished } from './published.ts'
import type { Snapshot, Snapshots } from './snapshots.ts'
import type { TrainRepository } from './train.ts'

/** Which snapshots stay however old they are. */
export interface Needed {
  /** Href of the first stage's guard: what is behind another one was shown to somebody, and stays. */
  readonly firstGuard: string
  /** Stamps that lines are pinned to, by repository. */
  readonly pinned: ReadonlyMap<string, ReadonlySet<string>>
}

/** Snapshots from before a stamp that nobody needs. The newest of a repository always stays. Pure. */
export function planPrune(snapshots: Snapshots, { firstGuard, pinned }: Needed, before: string): Snapshot[] {
  return [...snapshots.values()].flatMap((own) =>
    own
      .slice(0, -1)
      .filter(({ stamp, guard, repository }) => stamp < before && guard === firstGuard && !pinned.get(repository)?.has(stamp)),
  )
}

const atATime = 4

/** Deletes snapshots, the versions that only they served, and then what no version has any more. */
export async function prune(
  api: Api,
  repositories: readonly TrainRepository[],
  unneeded: readonly Snapshot[],
  done: (count: number) => void,
): Promise<void> {
  const byName = new Map(repositories.map((each) => [each.name, each]))
  let count = 0
  for (const [repository, own] of Map.groupBy(unneeded, (each) => each.repository)) {
    const publications = own.flatMap(({ publication }) => publication ?? [])
    const versions = await findPublished(api, byName.get(repository)!.format, publications)
    await forEach(own, atATime, async ({ href, path, guard }) => {
      const now = await api.get<Distribution>(href)
      if (now.content_guard !== guard)
        throw new Failure('conflict', `${path} was promoted meanwhile, so it stays. Run "signalbox prune" again for the others.`)
      await api.remove(href)
      done(++count)
    })
    for (const version of new Set(versions.values())) await removeUnserved(api, version)
  }
  if (unneeded.length > 0) await api.act('orphans/cleanup/')
}

/** The server keeps a version that something else still serves, and says so with 400. */
async function removeUnserved(api: Api, version: string): Promise<void> {
  try {
    await api.remove(version)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'invalid') throw error
  }
}
