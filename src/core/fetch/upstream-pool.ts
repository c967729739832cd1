import { Failure } from '../../lib/failure.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import type { Upstream } from './fetch.ts'
import type { Access } from './remotes.ts'
import { accessOf } from './remotes.ts'

/** One upstream per remote, opened anew when the remote was changed: connections and tokens last. */
export interface UpstreamPool extends AsyncDisposable {
  /** Throws Failure upstream when the remote was deleted. */
  of(remoteId: number): Promise<{ upstream: Upstream; remote: Row<'remote'> }>
}

/** `change` is what these upstreams have differently from their remotes. */
export function openUpstreamPool(ctx: Ctx, change: Partial<Access> = {}): UpstreamPool {
  const pool = new Map<number, { updated: number; upstream: Upstream }>()
  const opened: Upstream[] = []
  return {
    async of(remoteId) {
      const remote = await ctx.db.selectFrom('remote').selectAll().where('id', '=', remoteId).executeTakeFirst()
      if (!remote) throw new Failure('upstream', 'The remote was deleted.')
      let entry = pool.get(remoteId)
      if (entry?.updated !== remote.updated) {
        entry = { updated: remote.updated, upstream: ctx.fetch.open({ ...accessOf(remote), ...change }) }
        pool.set(remoteId, entry)
        opened.push(entry.upstream)
      }
      return { upstream: entry.upstream, remote }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map((upstream) => upstream[Symbol.asyncDispose]()))
    },
  }
}
