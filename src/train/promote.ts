import type { Api } from '../api/client.ts'
import type { Promotion } from '../api/resources.ts'
import { Failure } from '../lib/failure.ts'
import { findGuards } from './apply.ts'
import type { Pins } from './pins.ts'
import type { Snapshot, Snapshots } from './snapshots.ts'
import { nearestStamps } from './stamp.ts'
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
export interface Refusal {
  readonly repository: string
  readonly reason: string
}

/** Resolves the pins of a line to snapshots. Pure. `guard` is the href of the stage's guard. */
export function planPromotion(
  line: Line,
  stage: string,
  guard: string,
  pins: Pins,
  snapshots: Snapshots,
): PromotionPlan | { refused: Refusal[] } {
  const refused: Refusal[] = []
  const found: Snapshot[] = []
  for (const [repository, stamp] of pins) {
    const existing = snapshots.get(repository) ?? []
    const snapshot = existing.find((each) => each.stamp === stamp)
    if (!snapshot) refused.push({ repository, reason: missing(repository, stamp, existing) })
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

function missing(repository: string, stamp: string, existing: readonly Snapshot[]): string {
  const nearest = nearestStamps(
    stamp,
    existing.map((each) => each.stamp),
  )
  if (nearest.length === 0) return `no snapshot ${stamp}, nor any other. Run "signalbox sync ${repository}".`
  return `no snapshot ${stamp} (nearest: ${nearest.join(', ')}). Run "signalbox sync ${repository}" or pin the nearest.`
}

/** The href of a stage's guard. Throws Failure not_found when the train was not applied yet. */
export async function getStageGuard(api: Api, train: Train, stage: string): Promise<string> {
  if (!train.stages.includes(stage))
    throw new Failure('not_found', `The train has no stage ${stage} (it has ${train.stages.join(', ')}).`)
  const guard = (await findGuards(api)).get(stage)
  if (guard === undefined) throw new Failure('not_found', `${api.url} has no guard ${stage} yet. Run "signalbox apply".`)
  return guard
}

/**
 * Puts all snapshots behind the guard of the stage, in one transaction of the server. A plain Pulp has no such act:
 * Failure conflict, unless `oneByOne` accepts that it may be half done when it fails.
 */
export async function promoteSnapshots(api: Api, snapshots: readonly Snapshot[], guard: string, oneByOne = false): Promise<void> {
  if (snapshots.length === 0) return
  if (oneByOne) {
    for (const { href } of snapshots) await api.update(href, { content_guard: guard })
    return
  }
  try {
    await api.post<Promotion>('signalbox/promotions/', { distributions: snapshots.map(({ href }) => href), guard })
  } catch (error) {
    // A Signalbox answers 400 when it cannot find what is named: 404 means that it has no promotions at all.
    if (!(error instanceof Failure) || error.code !== 'not_found') throw error
    throw new Failure(
      'conflict',
      `${api.url} is a plain Pulp, which cannot promote in one act. Nothing changed. Use --one-by-one to change its ${snapshots.length} distributions one after another.`,
      { cause: error },
    )
  }
}
