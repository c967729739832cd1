import type { TestContext } from 'node:test'
import { contentOf, latestVersion } from '../src/core/versions.ts'
import type { Ctx } from '../src/core/ctx.ts'
import { openFetcher } from '../src/core/fetch/fetch.ts'
import { createResource } from '../src/core/resources.ts'
import { syncRepository } from '../src/core/sync.ts'
import type { Job } from '../src/core/tasks/tasks.ts'
import { container } from '../src/formats/container/index.ts'
import { newUuid } from '../src/lib/uuid.ts'
import type { Db } from '../src/store/database.ts'
import { startRegistry, type TestRegistry } from './registry-upstream.ts'
import { openTestCtx } from './serving.ts'

export interface RemoteSettings {
  policy?: string
  username?: string
  password?: string
  url?: string
  /** Who syncs; somebody who may do everything by default. */
  userId?: number | null
  [setting: string]: unknown
}

/** A context that knows images, and fails soon. */
export async function openImageCtx(t: TestContext, db: Db): Promise<Ctx> {
  const ctx = await openTestCtx(t, db)
  return { ...ctx, formats: [container], fetch: openFetcher({ blobs: ctx.blobs, patience: { pause: 5, slow: 30_000 } }) }
}

export function openJob(ctx: Ctx, userId: number | null = null) {
  const made: string[] = []
  const reports = new Map<string, object>()
  const job: Job = {
    ctx,
    task: { id: 1, uuid: newUuid(), userId, cid: '' },
    progress: { report: (code, _, change) => void reports.set(code, { ...reports.get(code), ...change }) },
    signal: new AbortController().signal,
    created: async (prn) => void made.push(prn),
    hold: async () => {},
  }
  return { job, made, reports }
}

/** A registry, and a repository that is synced from an image in it. */
export async function setUpSync(t: TestContext, db: Db, image = 'ns/app', given: RemoteSettings = {}) {
  const registry = await startRegistry(t)
  const ctx = await openImageCtx(t, db)
  return { registry, ...(await addSynced(ctx, registry, image, given)) }
}

export async function addSynced(ctx: Ctx, registry: Pick<TestRegistry, 'url'>, image: string, given: RemoteSettings = {}) {
  const { db } = ctx
  const name = `${image} ${newUuid()}`
  const { policy = 'immediate', url = registry.url, username, password, userId = null, ...settings } = given
  const values = {
    name,
    url,
    policy,
    secrets: { username, password },
    settings: { upstream_name: image, max_retries: 0, ...settings },
  }
  const remote = await createResource(ctx, 'remote', 'container.container', values, null)
  const repository = await createResource(ctx, 'repository', 'container.container', { name }, null)
  const { job, made, reports } = openJob(ctx, userId)

  async function rows() {
    const version = await latestVersion(db, repository.id)
    return contentOf(db, version).selectAll('content').orderBy('content.type').orderBy('content.key').execute()
  }
  const keysOf = async (type: string) => (await rows()).filter((row) => row.type === `container.${type}`).map((row) => row.key)
  return {
    ctx,
    remote,
    repository,
    made,
    reports,
    rows,
    keysOf,
    sync: (settings: Record<string, unknown> = {}) =>
      syncRepository(job, {
        repositoryId: repository.id,
        remoteId: remote.id,
        settings: { mirror: false, signed_only: false, ...settings },
      }),
    /** Digests by tag. */
    async tags() {
      const tags = (await rows()).filter((row) => row.type === 'container.tag').map((row) => JSON.parse(row.meta))
      return Object.fromEntries(tags.map(({ name, digest }) => [name, digest]))
    },
    async number() {
      return (await latestVersion(db, repository.id)).number
    },
    /** The digests of blobs whose bytes are here. */
    async storedBlobs() {
      const ids = (await rows()).map(({ id }) => id)
      const files = await db
        .selectFrom('file')
        .select('path')
        .where('content_id', 'in', [-1, ...ids])
        .where('blob_id', 'is not', null)
        .orderBy('path')
        .execute()
      return files.map(({ path }) => path)
    },
  }
}
