import type { Api } from '../api/client.ts'
import type { Version } from '../api/resources.ts'

/** What a version has that the one before it had not. */
export interface Changes {
  readonly added: number
  readonly upgraded: number
  readonly downgraded: number
  readonly removed: number
  /** Units in all: packages, files, or tags. */
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

const mainTypes = ['rpm.package', 'file.file', 'container.tag'] as const
const columns = {
  'rpm.package': 'name,arch,time_build,size_package',
  'file.file': 'relative_path',
  'container.tag': 'name',
} as const

export async function readChanges(api: Api, version: Version): Promise<Changes> {
  const { added, removed, present } = version.content_summary
  const type = mainTypes.find((each) => present[each] ?? added[each] ?? removed[each])
  const others = otherTypes(version, type)
  if (type === undefined) return { ...nothing, present: 0, others }

  const count = (counts: Record<string, { count: number }>) => counts[type]?.count ?? 0
  const [plus, minus] = [count(added), count(removed)]
  const counted = { present: count(present), others }
  if (plus === 0 || plus + minus > worthReading) return { ...nothing, added: plus, removed: minus, ...counted }
  const came = await readUnits(api, type, { repository_version_added: version.pulp_href })
  const went = minus > 0 ? await readUnits(api, type, { repository_version_removed: version.pulp_href }) : []
  return { ...compareUnits(came, went), ...counted }
}

const nothing = { added: 0, upgraded: 0, downgraded: 0, removed: 0, bytes: undefined }

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

const paths = {
  'rpm.package': 'content/rpm/packages/',
  'file.file': 'content/file/files/',
  'container.tag': 'content/container/tags/',
} as const

interface Listed {
  name?: string
  arch?: string
  time_build?: number
  size_package?: number
  relative_path?: string
}

async function readUnits(api: Api, type: (typeof mainTypes)[number], which: Record<string, string>): Promise<Unit[]> {
  const units: Unit[] = []
  for await (const unit of api.list<Listed>(paths[type], { ...which, fields: columns[type] })) {
    const thing = unit.relative_path ?? `${unit.name}.${unit.arch}`
    units.push({ thing, time: unit.time_build ?? 0, size: unit.size_package })
  }
  return units
}

function otherTypes({ content_summary: { added, removed } }: Version, main: string | undefined): Record<string, number> {
  const types = new Set([...Object.keys(added), ...Object.keys(removed)])
  if (main !== undefined) types.delete(main)
  return Object.fromEntries([...types].map((type) => [type, (added[type]?.count ?? 0) + (removed[type]?.count ?? 0)]))
}
