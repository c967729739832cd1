import type { Api } from '../api/client.ts'
import type { Version } from '../api/resources.ts'
import { compareEvr } from '../lib/evr.ts'

/*
 * What differs between two versions of one repository, read from the server: the steps between them, or both lists where that is less. Only
 * what changed is held in memory.
 */

/** A package (by name and architecture) or a file (by path) that is not the same in both. Without `from` it is new, without `to` gone. */
export interface UnitChange {
  readonly change: 'added' | 'removed' | 'upgraded' | 'downgraded' | 'changed'
  readonly name: string
  /** Of packages. */
  readonly arch?: string
  /** `[epoch:]version-release` of a package, the sha256 of a file. Of `changed` packages both are the same: their bytes are not. */
  readonly from?: string
  readonly to?: string
}

/** An advisory that one version has and the other has not. */
export interface Advisory {
  readonly id: string
  readonly type: string
  readonly severity: string
  readonly title: string
}

export interface Difference {
  /** What needs attention first: downgraded, changed, removed, upgraded, added; each by name. */
  readonly changes: readonly UnitChange[]
  /** Bytes that come; undefined for what has no size here. */
  readonly bytes: number | undefined
  readonly advisories: readonly Advisory[]
}

/** A unit of content as its list shows it; each format has some of the fields. */
interface Unit {
  readonly pulp_href: string
  readonly name?: string
  readonly arch?: string
  readonly epoch?: string
  readonly version?: string
  readonly release?: string
  readonly pkgId?: string
  readonly size_package?: number
  readonly relative_path?: string
  readonly sha256?: string
}

interface Kind {
  readonly type: string
  readonly path: string
  readonly fields: string
}

const kinds = {
  rpm: { type: 'rpm.package', path: 'content/rpm/packages/', fields: 'name,arch,epoch,version,release,pkgId,size_package' },
  file: { type: 'file.file', path: 'content/file/files/', fields: 'relative_path,sha256' },
} as const satisfies Record<string, Kind>

const advisoryKind: Kind = { type: 'rpm.advisory', path: 'content/rpm/advisories/', fields: 'id,type,severity,title' }

/** Compares two versions of one repository by their hrefs, in either order. */
export async function readDifference(api: Api, format: keyof typeof kinds, from: string, to: string): Promise<Difference> {
  const isForward = numberOf(from) <= numberOf(to)
  const range = isForward ? { older: from, newer: to } : { older: to, newer: from }
  const versions = { ...range, steps: await versionsBetween(api, range.older, range.newer) }
  const moved = await readMoved<Unit>(api, kinds[format], versions)
  const before = format === 'rpm' ? await readNamesakes(api, range.older, moved) : [...moved.went.values()]
  const after = [...before.filter(({ pulp_href }) => !moved.went.has(pulp_href)), ...moved.came.values()]
  const advisories = await readMoved<Advisory & Moving>(api, advisoryKind, versions)
  const [had, has] = isForward ? [before, after] : [after, before]
  const coming = isForward ? moved.came : moved.went
  return {
    changes: compareThings(had, has),
    bytes: format === 'rpm' ? [...coming.values()].reduce((sum, { size_package = 0 }) => sum + size_package, 0) : undefined,
    advisories: isForward ? newAdvisories(advisories.came, advisories.went) : newAdvisories(advisories.went, advisories.came),
  }
}

/** `3` of `/pulp/api/v3/repositories/rpm/rpm/<id>/versions/3/`. */
function numberOf(version: string): number {
  return Number(/\/versions\/(\d+)\/$/.exec(version)?.[1])
}

/** The versions after the older one up to the newer one, oldest first. */
async function versionsBetween(api: Api, older: string, newer: string): Promise<Version[]> {
  const found: Version[] = []
  const query = { number__gt: numberOf(older), number__lte: numberOf(newer), fields: 'pulp_href,number,content_summary' }
  for await (const version of api.list<Version>(newer.replace(/\d+\/$/, ''), query)) found.push(version)
  return found.toSorted((a, b) => a.number - b.number)
}

interface Moving {
  readonly pulp_href: string
}

interface Moved<T> {
  readonly came: ReadonlyMap<string, T>
  readonly went: ReadonlyMap<string, T>
}

interface Versions {
  readonly older: string
  readonly newer: string
  readonly steps: readonly Version[]
}

/** The units of a kind that only the newer version has, and those that only the older one has. */
async function readMoved<T extends Moving>(api: Api, kind: Kind, { older, newer, steps }: Versions): Promise<Moved<T>> {
  const came = new Map<string, T>()
  const went = new Map<string, T>()
  const list = (query: Record<string, string>) => api.list<T>(kind.path, { ...query, fields: `pulp_href,${kind.fields}` })
  const count = (step: Version, part: 'added' | 'removed' | 'present') => step.content_summary[part][kind.type]?.count ?? 0
  const moves = steps.reduce((sum, step) => sum + count(step, 'added') + count(step, 'removed'), 0)
  if (moves <= 2 * count(steps.at(-1)!, 'present')) {
    // What came and went again in between is in neither.
    for (const step of steps) {
      if (count(step, 'removed') > 0)
        for await (const unit of list({ repository_version_removed: step.pulp_href }))
          if (!came.delete(unit.pulp_href)) went.set(unit.pulp_href, unit)
      if (count(step, 'added') > 0)
        for await (const unit of list({ repository_version_added: step.pulp_href }))
          if (!went.delete(unit.pulp_href)) came.set(unit.pulp_href, unit)
    }
  } else {
    for await (const unit of list({ repository_version: older })) went.set(unit.pulp_href, unit)
    for await (const unit of list({ repository_version: newer })) if (!went.delete(unit.pulp_href)) came.set(unit.pulp_href, unit)
  }
  return { came, went }
}

/** Names in one request: a URL must not become too long. */
const namesAtATime = 100
/** Past this many names, reading the whole list is quicker. */
const manyNames = 3000

/** All packages of a version whose names moved: upstreams keep older packages beside newer ones, and only the newest is what clients get. */
async function readNamesakes(api: Api, version: string, { came, went }: Moved<Unit>): Promise<Unit[]> {
  const names = new Set([...came.values(), ...went.values()].map(({ name }) => name!))
  const found: Unit[] = []
  const { path, fields } = kinds.rpm
  const query = { repository_version: version, fields: `pulp_href,${fields}` }
  if (names.size > manyNames) {
    for await (const unit of api.list<Unit>(path, query)) if (names.has(unit.name!)) found.push(unit)
    return found
  }
  const all = [...names]
  // In the order of what is looked up: a database then begins with the index of names.
  const ordering = 'name,pulp_created'
  for (let at = 0; at < all.length; at += namesAtATime)
    for await (const unit of api.list<Unit>(path, { ...query, ordering, name__in: all.slice(at, at + namesAtATime) }))
      found.push(unit)
  return found
}

/** Compares what two versions have of things: of each thing, the newest counts. */
export function compareThings(before: readonly Unit[], after: readonly Unit[]): UnitChange[] {
  const [had, has] = [Map.groupBy(before, thingOf), Map.groupBy(after, thingOf)]
  const changes: UnitChange[] = []
  for (const thing of new Set([...had.keys(), ...has.keys()])) {
    const change = compareNewest(newestOf(had.get(thing)), newestOf(has.get(thing)))
    if (change) changes.push(change)
  }
  const weight = (each: UnitChange) => attention.indexOf(each.change)
  const order = (a: UnitChange, b: UnitChange) => (a.name < b.name ? -1 : Number(a.name > b.name))
  return changes.toSorted((a, b) => weight(a) - weight(b) || order(a, b))
}

/** What people should look at first. */
const attention: readonly UnitChange['change'][] = ['downgraded', 'changed', 'removed', 'upgraded', 'added']

function thingOf({ name, arch, relative_path }: Unit): string {
  return relative_path ?? `${name}.${arch}`
}

function newestOf(units: readonly Unit[] = []): Unit | undefined {
  return units.reduce<Unit | undefined>((best, each) => (best && compareUnits(best, each) > 0 ? best : each), undefined)
}

function compareUnits(a: Unit, b: Unit): number {
  return compareEvr(evrOf(a), evrOf(b))
}

/** Files have no versions: all are equal. */
function evrOf({ epoch = '', version = '', release = '' }: Unit) {
  return { epoch, version, release }
}

function compareNewest(from: Unit | undefined, to: Unit | undefined): UnitChange | undefined {
  const unit = to ?? from!
  const named = unit.relative_path === undefined ? { name: unit.name!, arch: unit.arch! } : { name: unit.relative_path }
  const sides = { ...(from && { from: versionOf(from) }), ...(to && { to: versionOf(to) }) }
  if (!from || !to) return { change: from ? 'removed' : 'added', ...named, ...sides }
  const order = compareUnits(to, from)
  if (order !== 0) return { change: order > 0 ? 'upgraded' : 'downgraded', ...named, ...sides }
  // Where only older packages came or went, clients see no difference.
  return bytesOf(from) === bytesOf(to) ? undefined : { change: 'changed', ...named, ...sides }
}

function bytesOf({ pkgId, sha256 }: Unit): string | undefined {
  return pkgId ?? sha256
}

function versionOf({ epoch, version, release, sha256 }: Unit): string {
  if (version === undefined) return sha256 ?? ''
  return `${epoch && epoch !== '0' ? `${epoch}:` : ''}${version}-${release}`
}

/** An advisory that was revised came and went: only what was not there at all is new. */
function newAdvisories(came: Moved<Advisory>['came'], went: Moved<Advisory>['went']): Advisory[] {
  const known = new Set([...went.values()].map(({ id }) => id))
  const found = [...came.values()].filter(({ id }) => !known.has(id))
  return found.map(({ id, type, severity, title }) => ({ id, type, severity, title })).toSorted((a, b) => (a.id < b.id ? -1 : 1))
}
