import { Failure } from '../../lib/failure.ts'
import type { Advisory, AdvisoryPackage, Collection } from './updateinfo.ts'

/**
 * Decides between two advisories of one id, as pulp_rpm does: the newer one where they speak of the same packages; both in one
 * where they are equally old and speak of different ones (a repository and its debuginfo). Throws Failure conflict when neither is right.
 */
export function resolveAdvisories(previous: Advisory, added: Advisory): 'before' | 'added' | Advisory {
  const before = nevrasOf(previous)
  const after = nevrasOf(added)
  const shared = [...before].some((nevra) => after.has(nevra))
  const newer = newerOf(previous, added)
  if (newer === 'same') {
    if (!shared) return mergeAdvisories(previous, added)
    if (isSubset(before, after)) return 'added'
    if (isSubset(after, before)) return 'before'
    throw new Failure(
      'conflict',
      `Advisory ${added.id} is there twice, of the same date, with different packages. At least one of the two is wrong: add only one of them.`,
    )
  }
  if (shared || sharesNames(previous, added)) return newer
  throw new Failure(
    'conflict',
    `Advisory ${added.id} is there twice, of different dates and about different packages. They are probably of repositories that do not belong together.`,
  )
}

function newerOf(previous: Advisory, added: Advisory): 'before' | 'added' | 'same' {
  const date = (each: Advisory) => each.updated_date || each.issued_date
  const seconds = (text: string) => (/^\d+$/.test(text) ? Number(text) : Date.parse(`${text.replace(' ', 'T')}Z`) / 1000)
  const before = seconds(date(previous))
  const after = seconds(date(added))
  if (date(previous) !== date(added) && before !== after) return before < after || Number.isNaN(before) ? 'added' : 'before'
  if (previous.version === added.version) return 'same'
  return isOlderVersion(previous.version, added.version) ? 'added' : 'before'
}

/** Numbers, or as many numbers with dots between them. */
function isOlderVersion(version: string, than: string): boolean {
  const parts = [version, than].map((each) => each.split('.').map(Number)) as [number[], number[]]
  if (parts[0].length !== parts[1].length || parts.flat().some(Number.isNaN)) return false
  const at = parts[0].findIndex((part, index) => part !== parts[1][index])
  return at >= 0 && parts[0][at]! < parts[1][at]!
}

function packagesOf({ pkglist }: Advisory): AdvisoryPackage[] {
  return pkglist.flatMap(({ packages }) => packages)
}

function nevrasOf(advisory: Advisory): Set<string> {
  return new Set(
    packagesOf(advisory).map(({ name, epoch, version, release, arch }) => [name, epoch, version, release, arch].join('\n')),
  )
}

function sharesNames(a: Advisory, b: Advisory): boolean {
  const names = new Set(packagesOf(a).map(({ name }) => name))
  return packagesOf(b).some(({ name }) => names.has(name))
}

function isSubset(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return [...a].every((each) => b.has(each))
}

/** The first with the collections of both, each under a name of its own. */
function mergeAdvisories(previous: Advisory, added: Advisory): Advisory {
  const names = new Set(['collection'])
  const pkglist: Collection[] = []
  for (const collection of [...previous.pkglist, ...added.pkglist]) {
    if (collection.packages.length === 0) continue
    const base = (collection.name || 'collection').replace(/_\d+$/, '')
    let name = collection.name || 'collection'
    for (let index = 0; names.has(name); index++) name = `${base}_${index}`
    names.add(name)
    pkglist.push({ ...collection, name })
  }
  return { ...previous, pkglist }
}
