import { Failure } from '../lib/failure.ts'
import type { Pins } from './pins.ts'
import type { Snapshots } from './snapshots.ts'

export interface PinChange {
  readonly repository: string
  /** Undefined when it was not pinned. */
  readonly from: string | undefined
  readonly to: string
}

/**
 * The pins that change when these repositories are pinned to their newest snapshot, or their newest at or before `at`.
 * Throws Failure not_found for a repository without such a snapshot: then none is pinned.
 */
export function planPins(
  repositories: readonly string[],
  pins: Pins['repositories'],
  snapshots: Snapshots,
  at?: string,
): PinChange[] {
  const stampsOf = (repository: string) => (snapshots.get(repository) ?? []).map(({ stamp }) => stamp)
  const newest = (repository: string) => stampsOf(repository).findLast((stamp) => at === undefined || stamp <= at)
  const missing = repositories.filter((repository) => newest(repository) === undefined)
  if (missing.length > 1) throw new Failure('not_found', noneOf(missing, at))
  return repositories.flatMap((repository) => {
    const to = newest(repository)
    if (to === undefined) throw new Failure('not_found', none(repository, stampsOf(repository), at))
    const from = pins.get(repository)
    return from === to ? [] : [{ repository, from, to }]
  })
}

function noneOf(repositories: readonly string[], at: string | undefined): string {
  const what = `${repositories.length} repositories have no snapshot ${at === undefined ? 'yet' : `at or before ${at}`}: ${repositories.join(', ')}.`
  return `${what} Nothing was pinned: ${at === undefined ? 'sync them, or ' : ''}name those that you want to pin.`
}

function none(repository: string, stamps: readonly string[], at: string | undefined): string {
  if (stamps.length === 0) return `${repository}: no snapshot yet. Run "signalbox sync ${repository}".`
  return `${repository}: no snapshot at or before ${at} (the first is ${stamps[0]}).`
}
