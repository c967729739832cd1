import { Failure } from '../lib/failure.ts'
import { parseTime, renderStamp } from '../lib/time.ts'

const second = 1_000_000

/** `20261123T020000`. */
export function isStamp(text: string): boolean {
  return /^\d{8}T\d{6}$/.test(text)
}

/**
 * The stamp of a version: the second in which it was synced, or the first free one after it when another version of the repository
 * was synced in the same second.
 */
export function stampFor(created: string, taken: ReadonlySet<string>): string {
  let time = parseTime(created)
  if (time === undefined) throw new Error(`not a time: ${created}`)
  while (taken.has(renderStamp(time))) time += second
  return renderStamp(time)
}

/** The stamp in the name of a snapshot; undefined when the distribution is none of this name. */
export function findStamp(distribution: string, distributionName: string): string | undefined {
  if (!distribution.startsWith(distributionName)) return undefined
  const stamp = distribution.slice(distributionName.length)
  return isStamp(stamp) ? stamp : undefined
}

/** The stamp up to which a snapshot may be for `--at`: a stamp, any ISO 8601 time, or a day, which counts to its end. */
export function parseAt(text: string): string {
  if (isStamp(text)) return text
  const day = /^(\d{4})-?(\d\d)-?(\d\d)$/.exec(text)
  if (day) return `${day[1]}${day[2]}${day[3]}T235959`
  const time = parseTime(text)
  if (time === undefined) throw new Failure('invalid', `"${text}" is not a time. Write 2026-11-23, 2026-11-23T02:00 or a stamp.`)
  return renderStamp(time)
}

/** The stamps around a missing one: the last before it and the first after it. */
export function nearestStamps(stamp: string, existing: readonly string[]): string[] {
  const sorted = existing.toSorted()
  const before = sorted.findLast((each) => each < stamp)
  const after = sorted.find((each) => each > stamp)
  return [before, after].filter((each) => each !== undefined)
}
