import type { Snapshot } from '../src/train/snapshots.ts'

/** A snapshot as a server would show it. */
export function snapshot(
  repository: string,
  stamp: string,
  guard: string | null = '/guards/development/',
  publication: string | null = '/publications/1/',
): Snapshot {
  return {
    repository,
    stamp,
    href: `/distributions/${repository}-${stamp}/`,
    name: `${repository}-${stamp}`,
    path: `${repository}/${stamp}`,
    guard,
    publication,
  }
}
