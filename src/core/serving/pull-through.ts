import { formatNamed } from '../ctx.ts'
import type { Lookups } from '../content.ts'
import type { Ctx } from '../ctx.ts'
import { collect, optionsOf } from '../discovery.ts'
import { endLeases } from '../leases.ts'
import { openUpstreamPool, type UpstreamPool } from '../fetch/upstream-pool.ts'
import { commitVersion, getRepository, latestVersion, markChanged } from '../versions.ts'
import { transact } from '../../store/database.ts'

/* Content that is fetched when clients ask for it: no more than that, and only what changed since. */

export interface Wanted {
  repositoryId: number
  remoteId: number
  /** The name or key by which clients ask for it. */
  reference: string
}

export interface PullThrough extends AsyncDisposable {
  readonly upstreams: UpstreamPool
  /**
   * Makes what the upstream has under a name a part of the repository; false when it has nothing. Those who want the same at one time wait
   * for one fetch. Throws Failure upstream or integrity.
   */
  fetch(wanted: Wanted): Promise<boolean>
}

/** A client waits: one more try is all it gets. */
const retries = 1

export function openPullThrough(ctx: Ctx): PullThrough {
  const upstreams = openUpstreamPool(ctx, { retries })
  const running = new Map<string, Promise<boolean>>()
  const stop = new AbortController()

  async function fetch({ repositoryId, remoteId, reference }: Wanted): Promise<boolean> {
    const repository = await getRepository(ctx.db, repositoryId)
    const { upstream, remote } = await upstreams.of(remoteId)
    const latest = await latestVersion(ctx.db, repositoryId)
    const { signal } = stop
    const lookups: Lookups = new Map()
    const options = optionsOf(ctx, { repository, remote, latest, settings: {}, lookups, progress: { report() {} }, signal })
    const format = formatNamed(ctx, repository.type.split('.')[0]!)
    const found = await collect(ctx, format.discoverOne!(upstream, options, reference), { repository, remote, signal, lookups })
    if (!found || found.ids.size === 0) return false
    if (!found.described) return true
    const version = await transact(ctx.db, async (tx) => {
      const made = await commitVersion(tx, { repositoryId, add: found.ids, remove: [] })
      if (made) await markChanged(tx, repositoryId)
      await endLeases(tx, repositoryId, found.ids)
      return made
    })
    if (version) ctx.changes.bump()
    return true
  }

  return {
    upstreams,
    fetch(wanted) {
      const key = `${wanted.repositoryId} ${wanted.reference}`
      const present = running.get(key)
      if (present) return present
      const run = fetch(wanted).finally(() => running.delete(key))
      running.set(key, run)
      return run
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('The server is stopping.'))
      await Promise.allSettled(running.values())
      await upstreams[Symbol.asyncDispose]()
    },
  }
}
