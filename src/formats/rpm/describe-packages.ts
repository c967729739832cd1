import type { Described } from '../../core/format.ts'
import { describePackage } from './package.ts'
import { openSlabs } from './package-entry.ts'
import { keyOf, type PackageLists, type ReadPackage, readPackages, type Selection } from './package-lists.ts'
import { nevraOf, pathOf, type PrimaryPackage } from './primary.ts'
import { placesOf } from './upstream-repository.ts'

/** What describing packages needs to know beside their lists: plain data, because another thread may do it. */
export interface PackageOrder {
  selection: Selection
  /** Where the repository is: mirrors of it. */
  bases: readonly string[]
  /** Packages that belong to modules. */
  modular: ReadonlySet<string> | undefined
  /** Packages that are known need not be described again. */
  onlyNew: boolean
  /** Where packages are found a second time, that is told. */
  isComplete: boolean
}

export interface DescribedPackages {
  units: Described[]
  /** Packages that were there before, at another place. */
  elsewhere: { key: string; path: string }[]
  /** How many packages of the lists this is. */
  count: number
}

/** Reads packages and describes them as content, some hundreds at a time. Throws Failure integrity. */
export async function* describePackages(lists: PackageLists, order: PackageOrder): AsyncGenerator<DescribedPackages> {
  const bases = order.bases.map((base) => new URL(base))
  const allocate = openSlabs()

  function describe(found: PrimaryPackage, lists: NonNullable<ReadPackage['lists']>): Described {
    const { path = nameOf(found.href), urls } = placesOf(found.href, found.base, bases)
    return describePackage(found, {
      lists,
      isModular: order.modular?.has(nevraOf(found)) ?? false,
      allocate,
      file: { path, size: found.size, checksum: `${found.checksumType}:${found.checksum}`, urls },
    })
  }
  for await (const packages of readPackages(lists, order.selection, order.onlyNew))
    yield {
      units: packages.flatMap(({ found, lists }) => (lists === undefined ? [] : describe(found, lists))),
      elsewhere: order.isComplete
        ? packages.flatMap(({ found, lists }) => (lists === undefined ? { key: keyOf(found), path: pathOf(found.href) } : []))
        : [],
      count: packages.length,
    }
}

/** The last segment of a location, as a path. Throws Failure integrity. */
export function nameOf(href: string): string {
  return pathOf(href.replace(/[?#].*$/, '').replace(/^.*\//, ''))
}
