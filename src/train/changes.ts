import type { Api } from '../api/client.ts'
import type { Version } from '../api/resources.ts'

/** What a version has that the one before it had not. */
export interface Changes {
  readonly added: number
  readonly upgraded: number
  readonly downgraded: number
  readonly removed: number
  /** Units in all: packages, or files. */
  readonly present: number
  /** Other content that came or went (advisories, groups, modules, ...), by type. */
  readonly others: Readonly<Record<string, number>>
  /** Bytes of what is new; undefined when that was not worth finding out. */
  readonly bytes: number | undefined
}

interface Unit {
  /** The same for two releases of one thing. */
  thing: string
  time: number
  size: number | undefined
}

/** Reading what is new costs a request per thousand units: past this many, counts are enough. */
const worthReading = 10_000

const mainTypes = ['rpm.package', 'file.file'] as const
const columns = { 'rpm.package': 'name,arch,time_build,size_package', 'file.file': 'relative_path' } as const

export async function readChanges(api: Api, version: Version): Promise<Changes> {
  const { added, removed, present } = version.content_summary
  const type = mainTypes.find((each) => present[each] ?? added[each] ?? removed[each])
  const plus = (type && added[type]?.count) ?? 0
  const minus = (type && removed[type]?.count) ?? 0
  const readable = type !== undefined && plus + minus <= worthReading
  const came = readable && plus > 0 ? await readUnits(api, type, { repository_version_added: version.pulp_href }) : []
  const went = readable && minus > 0 && plus > 0 ? await readUnits(api, type, { repository_version_removed: version.pulp_href }) : []
  const counted = { present: (type && present[type]?.count) ?? 0, others: otherTypes(version, type) }
  if (!readable || (minus > 0 && plus === 0)) return { added: plus, upgraded: 0, downgraded: 0, removed: minus, bytes: undefined, ...counted }
  return { ...compareUnits(came, went), ...counted }
}

/** Pairs what came with what went: the same name and architecture in both is another release of one thing. */
export function compareUnits(came: readonly Unit[], went: readonly Unit[]): Omit<Changes, 'present' | 'others'> {
  const before = new Map(went.map((unit) => [unit.thing, unit.time]))
  const counts = { added: 0, upgraded: 0, downgraded: 0 }
  const replaced = new Set<string>()
  for (const { thing, time } of came) {
    const old = before.get(thing)
    // A release that was built later is the newer one: good for a summary, and it needs no version comparison of any format.
    counts[old === undefined ? 'added' : time >= old ? 'upgraded' : 'downgraded']++
    if (old !== undefined) replaced.add(thing)
  }
  const bytes = came.some(({ size }) => size === undefined) ? undefined : came.reduce((sum, { size }) => sum + size!, 0)
  return { ...counts, removed: went.filter(({ thing }) => !replaced.has(thing)).length, bytes }
}

const paths = { 'rpm.package': 'content/rpm/packages/', 'file.file': 'content/file/files/' } as const

async function readUnits(api: Api, type: (typeof mainTypes)[number], which: Record<string, string>): Promise<Unit[]> {
  const units: Unit[] = []
  for await (const unit of api.list<Record<string, unknown>>(paths[type], { ...which, fields: columns[type] })) {
    const { name, arch, relative_path: path, time_build: time, size_package: size } = unit
    units.push({
      thing: path === undefined ? `${String(name)}.${String(arch)}` : String(path),
      time: Number(time ?? 0),
      size: size === undefined ? undefined : Number(size),
    })
  }
  return units
}

function otherTypes({ content_summary: { added, removed } }: Version, main: string | undefined): Record<string, number> {
  const types = new Set([...Object.keys(added), ...Object.keys(removed)])
  if (main !== undefined) types.delete(main)
  return Object.fromEntries([...types].map((type) => [type, (added[type]?.count ?? 0) + (removed[type]?.count ?? 0)]))
}
