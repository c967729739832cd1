import type { Api } from '../api/client.ts'
import type { Promotion as PromotionAnswer } from '../api/resources.ts'
import { Failure } from '../lib/failure.ts'
import { forEach } from '../lib/for-each.ts'
import { findGuards } from './apply.ts'
import type { ImageMove, ImageRefusal, Untag } from './images.ts'
import type { Pins } from './pins.ts'
import { findServedImages, readTags } from './served-images.ts'
import { missingSnapshot, type Snapshot, type Snapshots } from './snapshots.ts'
import type { Line, Train } from './train.ts'

export interface PromotionPlan {
  readonly line: string
  readonly stage: string
  /** Snapshots whose guard will change. */
  readonly promote: readonly Snapshot[]
  /** Snapshots that are at the stage already. */
  readonly there: readonly Snapshot[]
  /** Repositories of the line without a pin: they stay as they are. */
  readonly unpinned: readonly string[]
}

/** What cannot be promoted, one sentence each. Nothing may change while there is one. */
export type Refusal = SnapshotRefusal | ImageRefusal

interface SnapshotRefusal {
  readonly repository: string
  readonly reason: string
}

/** Resolves the pins of a line to snapshots. Pure. `guard` is the href of the stage's guard. */
export function planPromotion(
  line: Line,
  stage: string,
  guard: string,
  pins: Pins['repositories'],
  snapshots: Snapshots,
): PromotionPlan | { refused: SnapshotRefusal[] } {
  const refused: SnapshotRefusal[] = []
  const found: Snapshot[] = []
  for (const [repository, stamp] of pins) {
    const existing = snapshots.get(repository) ?? []
    const snapshot = existing.find((each) => each.stamp === stamp)
    if (!snapshot) refused.push({ repository, reason: missingSnapshot(repository, stamp, existing) })
    else if (snapshot.publication === null)
      refused.push({ repository, reason: `snapshot ${stamp} serves nothing: it has no publication.` })
    else found.push(snapshot)
  }
  if (refused.length > 0) return { refused }
  return {
    line: line.name,
    stage,
    promote: found.filter((each) => each.guard !== guard),
    there: found.filter((each) => each.guard === guard),
    unpinned: line.repositories.filter((each) => !pins.has(each)),
  }
}

/** The href of a stage's guard. Throws Failure not_found when the train was not applied yet. */
export async function getStageGuard(api: Api, train: Train, stage: string): Promise<string> {
  if (!train.stages.includes(stage))
    throw new Failure('not_found', `The train has no stage ${stage} (it has ${train.stages.join(', ')}).`)
  const guard = (await findGuards(api)).get(stage)
  if (guard === undefined) throw new Failure('not_found', `${api.url} has no guard ${stage} yet. Run "signalbox apply".`)
  return guard
}

/** All that a promotion changes. */
export interface Promotable {
  readonly snapshots: readonly Snapshot[]
  readonly move: readonly ImageMove[]
  readonly untag: readonly Untag[]
  /** Whether what images go to must be, and is made, private. */
  readonly private: boolean
}

export function isNothing({ snapshots, move, untag }: Promotable): boolean {
  return snapshots.length + move.length + untag.length === 0
}

/**
 * Puts all snapshots behind the guard of the stage and the tags of all images where they belong, in one transaction of the server. A plain
 * Pulp has no such act: Failure conflict, unless `oneByOne` accepts that it may be half done when it fails.
 */
export async function promote(api: Api, what: Promotable, guard: string, oneByOne = false): Promise<void> {
  if (isNothing(what)) return
  if (oneByOne) return promoteOneByOne(api, what, guard)
  const images = what.move.map(({ from, to, tag, digest }) => ({ from, to, tag, ...(digest !== undefined && { digest }) }))
  const untag = what.untag.map(({ path, tag }) => ({ path, tag }))
  const withImages = images.length + untag.length > 0 ? { images, untag, private: what.private } : {}
  try {
    const distributions = what.snapshots.map(({ href }) => href)
    await api.post<PromotionAnswer>('signalbox/promotions/', { distributions, guard, ...withImages })
  } catch (error) {
    // A Signalbox answers 400 when it cannot find what is named: 404 means that it has no promotions at all.
    if (!(error instanceof Failure) || error.code !== 'not_found') throw error
    throw new Failure(
      'conflict',
      `${api.url} is a plain Pulp, which cannot promote in one act. Nothing changed. Use --one-by-one to change its ${counted(what)} one after another.`,
      { cause: error },
    )
  }
}

function counted({ snapshots, move, untag }: Promotable): string {
  const images = move.length + untag.length
  return [
    ...(snapshots.length > 0 ? [`${snapshots.length} distributions`] : []),
    ...(images > 0 ? [`${images} images`] : []),
  ].join(' and ')
}

/** Copies are waited for, and looked at: a plain Pulp takes what it then fails to do. */
async function promoteOneByOne(api: Api, { snapshots, move, untag }: Promotable, guard: string): Promise<void> {
  if (move.length + untag.length > 0) {
    const served = await findServedImages(api)
    const repositoryAt = (path: string) => {
      const repository = served.get(path)?.repository
      if (!repository) throw new Failure('not_found', `${api.url} has no ${path} yet. Run "signalbox apply".`)
      return repository
    }
    const byPlace = Map.groupBy(move, ({ from, to }) => `${from} ${to}`)
    await forEach(byPlace.values(), 4, async ([first, ...others]) => {
      const { from, to } = first!
      const names = [first!, ...others].map(({ tag }) => tag)
      await api.act(`${repositoryAt(to)}copy_tags/`, { source_repository: repositoryAt(from), names })
    })
    for (const { path, tag } of untag) await api.act(`${repositoryAt(path)}untag/`, { tag })
    await verifyImages(api, move)
  }
  for (const { href } of snapshots) await api.update(href, { content_guard: guard })
}

async function verifyImages(api: Api, move: readonly ImageMove[]): Promise<void> {
  const served = await findServedImages(api)
  const tags = await readTags(
    api,
    served,
    move.flatMap(({ from, to }) => [from, to]),
  )
  const wrong = move.find(({ from, to, tag }) => tags.get(to)?.get(tag) !== tags.get(from)?.get(tag))
  if (wrong) throw new Failure('integrity', `${wrong.to}:${wrong.tag} is not ${wrong.from}:${wrong.tag} after it was copied.`)
}
