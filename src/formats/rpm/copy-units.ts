import type { Unit, VersionView } from '../../core/format.ts'
import { parseComps } from './comps.ts'
import { solveDependencies } from './depsolve.ts'
import { compareEvr } from '../../lib/evr.ts'
import type { ModuleEntry } from './modulemd.ts'
import { readFacts } from './package-facts.ts'
import { parseAdvisory } from './updateinfo.ts'

type Version = Pick<VersionView, 'units'>

/** What a copy takes along. */
export interface CopyRequest {
  /** Units that a user named, all in `source`. */
  chosen: readonly Unit[]
  source: Version
  /** Where copies go: what is there need not come along. */
  destinations: readonly Version[]
  dependencySolving: boolean
}

/**
 * The ids of the units to copy: the chosen ones, what they are made of (an advisory's packages and modules, a group's packages,
 * a module's artifacts) and, with dependency solving, what those need.
 */
export async function unitsToCopy({ chosen, source, destinations, dependencySolving }: CopyRequest): Promise<Set<number>> {
  const ids = new Set(chosen.map(({ id }) => id))
  const packages = await collect(source.units('rpm.package'))
  const modules = await Promise.all((await collect(source.units('rpm.modulemd'))).map(openModule))
  for (const { id } of await childrenOf(chosen, source, packages, modules)) ids.add(id)
  if (!dependencySolving) return ids

  addModules(ids, packages, modules)
  const there = (await Promise.all(destinations.map(({ units }) => collect(units('rpm.package'))))).flat()
  // A unit may be in the source and in a destination.
  const facts = new Map(
    (await readFacts([...new Map([...packages, ...there].map((unit) => [unit.id, unit])).values()])).map((each) => [
      each.id,
      each,
    ]),
  )
  const factsOf = (units: readonly Unit[]) => units.map(({ id }) => facts.get(id)!)
  const starting = packages.filter(({ id }) => ids.has(id))
  for (const { id } of solveDependencies(factsOf(starting), factsOf(packages), factsOf(there))) ids.add(id)
  // What came along may be modular: its modules come too, or clients would hide it.
  addModules(ids, packages, modules)
  return ids
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

interface Module {
  unit: Unit
  artifacts: ReadonlySet<string>
  dependencies: { requires?: Record<string, unknown[]> }[]
}

async function openModule(unit: Unit): Promise<Module> {
  const { artifacts, dependencies } = JSON.parse((await unit.entry()).toString('utf8')) as ModuleEntry
  return {
    unit,
    artifacts: new Set(artifacts as string[] | null),
    dependencies: Array.isArray(dependencies) ? dependencies : [],
  }
}

/** `bear-0:4.1-1.noarch` */
function nevraOf({ name, epoch, version, release, arch }: Record<string, any>): string {
  return `${name}-${epoch || 0}:${version}-${release}.${arch}`
}

function nsvcaOf({ name, stream, version, context, arch }: Record<string, unknown>): string {
  return [name, stream, version, context, arch].join(':')
}

async function childrenOf(
  chosen: readonly Unit[],
  source: Version,
  packages: readonly Unit[],
  modules: readonly Module[],
): Promise<Unit[]> {
  const nevras = new Set<string>()
  const nsvcas = new Set<string>()
  for (const unit of chosen)
    if (unit.type === 'rpm.advisory')
      for (const { packages, module } of parseAdvisory((await unit.entry()).toString('utf8')).pkglist) {
        for (const each of packages) nevras.add(nevraOf({ ...each }))
        if (module) nsvcas.add(nsvcaOf(module))
      }
  const wantedModules = modules.filter(({ unit }) => nsvcas.has(nsvcaOf(unit.meta)))
  const chosenIds = new Set(chosen.map(({ id }) => id))
  for (const { unit, artifacts } of modules) if (chosenIds.has(unit.id)) for (const nevra of artifacts) nevras.add(nevra)

  const groups = await groupsOf(chosen, source)
  const members = await membersOf(groups, chosen, packages)
  return [
    ...packages.filter(({ meta }) => nevras.has(nevraOf(meta))),
    ...wantedModules.map(({ unit }) => unit),
    ...groups,
    ...members,
  ]
}

/** The chosen groups and those of chosen categories and environments. */
async function groupsOf(chosen: readonly Unit[], source: Version): Promise<Unit[]> {
  const wanted = new Set<string>()
  for (const unit of chosen)
    if (unit.type === 'rpm.packagecategory' || unit.type === 'rpm.packageenvironment') {
      const { group_ids, option_ids } = parseComps(unit.type, await unit.entry()) as Record<
        string,
        { name: string }[] | undefined
      >
      for (const { name } of [...(group_ids ?? []), ...(option_ids ?? [])]) wanted.add(name)
    }
  const own = chosen.filter(({ type }) => type === 'rpm.packagegroup')
  if (wanted.size === 0) return own
  const others = (await collect(source.units('rpm.packagegroup'))).filter(({ meta }) => wanted.has(meta['id']))
  return [...new Map([...own, ...others].map((unit) => [unit.id, unit])).values()]
}

/** The newest package of each architecture for each name in a group of which none was chosen. */
async function membersOf(groups: readonly Unit[], chosen: readonly Unit[], packages: readonly Unit[]): Promise<Unit[]> {
  const names = new Set<string>()
  for (const group of groups)
    for (const { name } of parseComps(group.type, await group.entry())['packages'] as { name: string }[]) names.add(name)
  for (const { type, meta } of chosen) if (type === 'rpm.package') names.delete(meta['name'])

  const newest = new Map<string, Unit>()
  for (const unit of packages) {
    if (!names.has(unit.meta['name'])) continue
    const place = `${unit.meta['name']}.${unit.meta['arch']}`
    const best = newest.get(place)
    if (!best || compareEvr(unit.meta as Evr, best.meta as Evr) > 0) newest.set(place, unit)
  }
  return [...newest.values()]
}

type Evr = Parameters<typeof compareEvr>[0]

/** Adds the modules of modular packages, the modules these need, and the artifacts of all of them. */
function addModules(ids: Set<number>, packages: readonly Unit[], modules: readonly Module[]): void {
  if (modules.length === 0) return
  const byNevra = new Map(packages.map((unit) => [nevraOf(unit.meta), unit.id]))
  const nevraOfId = new Map([...byNevra].map(([nevra, id]) => [id, nevra]))
  const containing = new Map<string, Module[]>()
  for (const module of modules)
    for (const nevra of module.artifacts) containing.set(nevra, [...(containing.get(nevra) ?? []), module])

  const queue = modules.filter(({ unit }) => ids.has(unit.id))
  for (const id of ids) queue.push(...(containing.get(nevraOfId.get(id) ?? '') ?? []))
  const seen = new Set<Module>()
  for (let module = queue.pop(); module; module = queue.pop()) {
    if (seen.has(module)) continue
    seen.add(module)
    ids.add(module.unit.id)
    for (const nevra of module.artifacts) {
      const id = byNevra.get(nevra)
      if (id !== undefined) ids.add(id)
    }
    for (const { requires = {} } of module.dependencies)
      for (const [name, streams] of Object.entries(requires)) queue.push(...neededModules(modules, module, name, streams))
  }
}

/** The newest build of that module in one of these streams (`-x`: in any but x; none named: in any). */
function neededModules(modules: readonly Module[], by: Module, name: string, streams: readonly unknown[] | null): Module[] {
  const listed = (streams ?? []).map(String)
  const denied = new Set(listed.flatMap((stream) => (stream.startsWith('-') ? stream.slice(1) : [])))
  const wanted = new Set(listed.filter((stream) => !stream.startsWith('-')))
  const fitting = modules.filter(({ unit: { meta } }) => {
    const { stream } = meta
    return (
      meta['name'] === name &&
      meta['arch'] === by.unit.meta['arch'] &&
      (wanted.size > 0 ? wanted.has(stream) : !denied.has(stream))
    )
  })
  const newest = fitting.reduce<bigint>(
    (best, { unit }) => (BigInt(unit.meta['version']) > best ? BigInt(unit.meta['version']) : best),
    0n,
  )
  return fitting.filter(({ unit }) => BigInt(unit.meta['version']) === newest)
}
