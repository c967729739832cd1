import type { User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { UpstreamFailure } from '../../core/fetch/fetch.ts'
import { openPullThrough as openFetching } from '../../core/serving/pull-through.ts'
import { insertResource, updateResource } from '../../core/resources.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { imageOf } from '../../formats/container/discover.ts'
import { openImageSource } from '../../formats/container/registry-requests.ts'
import { openTagFilter } from '../../formats/container/tag-filter.ts'
import { Failure } from '../../lib/failure.ts'
import { type Db, transact } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { type Caller, covers } from './callers.ts'
import { type Desk, type Exchange, findReadable } from './desk.ts'
import { OciFailure } from './failures.ts'
import { findManifest, sendManifest } from './manifests.ts'
import { madeOnce, type Place } from './places.ts'
import { containerType, guardedOf, mayPullNew, pullThroughType } from './rights.ts'
import { isName, isTag } from './target.ts'

/*
 * Below a pull-through distribution `mirror` lies what its remote has: the first pull of `mirror/library/alpine:3` by somebody who may pull
 * what is new makes a repository, a remote and a distribution of that name, and brings the manifests; layers come when they are asked for.
 * Later pulls by tag ask the remote whether the tag moved. What is here is served when the remote cannot be asked.
 */

export interface Pulls extends AsyncDisposable {
  /** Makes the place of this name, if there is none, somebody may pull it through and the remote has what they ask for. Says whether it did. */
  begin(desk: Pick<Desk, 'places'>, caller: Caller, name: string, reference: string): Promise<boolean>
  /** Whether somebody may pull through a name that is not there yet, as far as rights go. */
  mayBegin(user: User, name: string): Promise<boolean>
  /** Brings what a place is asked for, unless it is here or was asked for just now. Throws Failure upstream when it is not to be had. */
  refresh(desk: Desk, place: Place, reference: string): Promise<void>
  /** Whether an answer for this may be given without asking the remote. */
  isFresh(place: Place, reference: string): boolean
}

/** Milliseconds for which a tag is not asked for again, and a remote that failed is left alone. */
const usuallyFresh = 10_000
/** How long somebody waits for news of a tag that is here. */
const patience = 5_000
const mostRemembered = 50_000

export function openPulls(ctx: Ctx, freshFor = usuallyFresh): Pulls {
  const fetching = openFetching(ctx)
  const asked = new Map<string, number>()
  const isRecent = (key: string) => asked.get(key)! > performance.now() - freshFor
  const makers = openMakers(ctx)

  function note(key: string): void {
    if (asked.size > mostRemembered) asked.clear()
    asked.set(key, performance.now())
  }

  async function begin({ places }: Pick<Desk, 'places'>, caller: Caller, name: string, reference: string): Promise<boolean> {
    const maker = isName(name) && caller.user ? nearest(await makers(), name) : undefined
    const key = `${name} ${reference}`
    if (!maker || !covers(caller, name, 'pull') || isRecent(key)) return false
    if (!(await mayPullNew(ctx, caller.user!, guardOf(ctx, maker)))) return false
    if (await places.find(name)) return false
    const image = name.slice(maker.base_path.length + 1)
    if (!isOffered(maker.remote, image)) return false
    if (!(await hasReference(maker.remote, image, reference))) {
      note(key)
      return false
    }
    await makePlace(ctx, maker, name, image)
    return true
  }

  /** Whether the remote has something of that name. It may not say that it has none: whoever may not see it is refused. */
  async function hasReference(remote: Row<'remote'>, image: string, reference: string): Promise<boolean> {
    const { upstream } = await fetching.upstreams.of(remote.id)
    try {
      const source = openImageSource(upstream, imageOf(upstream, { upstream_name: image }), AbortSignal.timeout(2 * patience))
      return ((await source.digestOf(reference)) ?? (await source.manifest(reference))) !== undefined
    } catch (error) {
      if (!isRefusal(error)) throw error
      ctx.log.info({ image, reason: error.message }, 'an image is not pulled through')
      return false
    }
  }

  async function refresh(desk: Desk, place: Place, reference: string): Promise<void> {
    if (!place.pulled || !(isDigest(reference) || isTag(reference))) return
    const held = await findManifest(desk, place, reference)
    const key = keyOf(place, reference)
    if (held && (isDigest(reference) || isRecent(key))) return
    await followMaker(ctx, place.pulled)
    const wanted = { repositoryId: place.repository.id, remoteId: place.pulled.remoteId, reference }
    const fetched = fetching.fetch(wanted).then(
      () => note(key),
      (error: unknown) => {
        if (!held) throw error
        if (!(error instanceof Failure)) throw error
        note(key)
        ctx.log.warn(
          { name: place.name, reference, reason: error.message },
          'what is here is served, for the upstream cannot be asked',
        )
      },
    )
    if (!held) return fetched
    await Promise.race([fetched, sleep(patience)])
  }

  return {
    begin,
    async mayBegin(user, name) {
      const maker = isName(name) ? nearest(await makers(), name) : undefined
      return maker !== undefined && mayPullNew(ctx, user, guardOf(ctx, maker))
    },
    refresh,
    isFresh: (place, reference) => !place.pulled || isDigest(reference) || isRecent(keyOf(place, reference)),
    [Symbol.asyncDispose]: () => fetching[Symbol.asyncDispose](),
  }
}

function keyOf({ repository }: Place, reference: string): string {
  return `${repository.id} ${reference}`
}

/** GET and HEAD of a manifest, where it may have to be fetched first. */
export async function pullManifest(desk: Desk, exchange: Exchange, name: string, reference: string): Promise<void> {
  const { caller } = exchange
  const place = await findReadable(desk, caller, name)
  if (place?.pulled && caller.user && (await mayPullNew(desk.ctx, caller.user, place))) await bring(desk, place, reference)
  // Of what is hidden the same is asked as of what is absent.
  else if (!place && (await desk.pulls.begin(desk, caller, name, reference))) {
    const made = await findReadable(desk, caller, name)
    if (made) await bring(desk, made, reference)
  }
  return sendManifest(desk, exchange, name, reference)
}

async function bring(desk: Desk, place: Place, reference: string): Promise<void> {
  try {
    await desk.pulls.refresh(desk, place, reference)
  } catch (error) {
    if (isRefusal(error)) return
    if (statusOf(error) === 429)
      throw new OciFailure('TOOMANYREQUESTS', `The upstream of ${place.name} wants fewer requests.`, { status: 429 })
    throw error
  }
}

type Maker = Row<'distribution'> & { remote: Row<'remote'> }

/** The pull-through distributions by base path. There are few, so all of them are remembered while ctx.changes does not move. */
function openMakers(ctx: Pick<Ctx, 'db' | 'changes'>): () => Promise<ReadonlyMap<string, Maker>> {
  let known: { change: number; makers: ReadonlyMap<string, Maker> } | undefined
  return async () => {
    const change = ctx.changes.current()
    if (known?.change !== change) known = { change, makers: await readMakers(ctx.db) }
    return known.makers
  }
}

async function readMakers(db: Db): Promise<ReadonlyMap<string, Maker>> {
  const rows = await db.selectFrom('distribution').selectAll().where('type', '=', pullThroughType).execute()
  const ids = rows.flatMap(({ remote_id }) => remote_id ?? [])
  const remotes = ids.length === 0 ? [] : await db.selectFrom('remote').selectAll().where('id', 'in', ids).execute()
  return new Map(
    rows.flatMap((row) => {
      const remote = remotes.find(({ id }) => id === row.remote_id)
      return remote ? [[row.base_path, { ...row, remote }]] : []
    }),
  )
}

/** The pull-through distribution that a name lies below: the nearest. */
function nearest(makers: ReadonlyMap<string, Maker>, name: string): Maker | undefined {
  for (let end = name.lastIndexOf('/'); makers.size > 0 && end > 0; end = name.lastIndexOf('/', end - 1)) {
    const maker = makers.get(name.slice(0, end))
    if (maker) return maker
  }
  return undefined
}

function guardOf({ formats }: Ctx, { uuid, settings }: Maker) {
  return guardedOf(formats, { uuid, settings }, undefined, { uuid })
}

function isOffered({ settings }: Row<'remote'>, image: string): boolean {
  const { includes, excludes } = JSON.parse(settings)
  return openTagFilter({ include: includes ?? [], exclude: excludes ?? [] }).isIncluded(image)
}

/** Nobody owns what is made: rights on the maker, the namespace and everything count. */
async function makePlace(ctx: Ctx, maker: Maker, name: string, image: string): Promise<void> {
  const { url, policy, secrets, settings } = copyOf(maker.remote, image)
  const insert = () =>
    transact(ctx.db, async (tx) => {
      const there = await tx.selectFrom('distribution').select('id').where('base_path', '=', name).executeTakeFirst()
      if (there) return
      const { formats } = ctx
      const values = { name, url, policy, secrets, settings }
      const remote = await insertResource(tx, formats, 'remote', containerType, values, null)
      const repository = await insertResource(tx, formats, 'repository', containerType, { name, retain_versions: 1 }, null)
      const made = { remote_id: remote.id, repository_id: repository.id, made_by_id: maker.id }
      const isPrivate = JSON.parse(maker.settings)['private'] === true
      const distribution = { name, base_path: name, settings: { private: isPrivate }, ...made }
      await insertResource(tx, formats, 'distribution', containerType, distribution, null)
    })
  try {
    await madeOnce(insert)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    ctx.log.warn({ name, reason: error.message }, 'an image cannot be pulled through: its name is taken')
  }
  ctx.changes.bump()
}

/** What the remote of one image has of the remote that it is made after. */
function copyOf({ url, policy, secrets, settings }: Row<'remote'>, image: string) {
  const { includes: _, excludes: __, ...rest } = JSON.parse(settings)
  return { url, policy, secrets: JSON.parse(secrets), settings: { ...rest, upstream_name: image } }
}

/** New credentials, or another place, of the remote above are those of the image's from now on. */
async function followMaker(ctx: Ctx, { remoteId }: NonNullable<Place['pulled']>): Promise<void> {
  const row = await ctx.db
    .selectFrom('distribution')
    .innerJoin('distribution as maker', 'maker.id', 'distribution.made_by_id')
    .innerJoin('remote as above', 'above.id', 'maker.remote_id')
    .innerJoin('remote', 'remote.id', 'distribution.remote_id')
    .select(['above.id', 'above.updated as aboveUpdated', 'remote.updated', 'remote.settings', 'remote.secrets'])
    .where('distribution.remote_id', '=', remoteId)
    .limit(1)
    .executeTakeFirst()
  if (!row || row.aboveUpdated <= row.updated) return
  const above = await ctx.db.selectFrom('remote').selectAll().where('id', '=', row.id).executeTakeFirstOrThrow()
  const { url, policy, secrets, settings } = copyOf(above, JSON.parse(row.settings)['upstream_name'])
  await updateResource(ctx, 'remote', remoteId, {
    url,
    policy,
    secrets: { ...emptied(row.secrets), ...secrets },
    settings: { ...emptied(row.settings), ...settings },
  })
}

function emptied(json: string): Record<string, null> {
  return Object.fromEntries(Object.keys(JSON.parse(json)).map((key) => [key, null]))
}

/** What an upstream answered, wherever in the chain of causes it stands. */
function statusOf(error: unknown): number | undefined {
  for (let each = error; each instanceof Error; each = each.cause) if (each instanceof UpstreamFailure) return each.status
  return undefined
}

function isRefusal(error: unknown): error is Failure {
  return error instanceof Failure && [401, 403, 404, 410].includes(statusOf(error) ?? 0)
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref())
}
