import { compareEvr, compareVersions } from '../../lib/evr.ts'
import type { Dependency } from './header.ts'
import { parseRule, type Rule } from './rich-dependency.ts'

/** What choosing packages needs to know about one. */
export interface PackageFacts {
  id: number
  name: string
  epoch: string
  version: string
  release: string
  arch: string
  provides: readonly Dependency[]
  requires: readonly Dependency[]
  /** Whole paths; those of primary metadata will do. */
  files: readonly string[]
}

/**
 * The packages of `source` that `chosen` ones need, and what these need in turn, beyond what `destination` has.
 * Where many provide a thing, the newest is taken, of the same architecture if there is one. What nobody provides is left out: a copy is no installation.
 */
export function solveDependencies(
  chosen: readonly PackageFacts[],
  source: readonly PackageFacts[],
  destination: readonly PackageFacts[],
): PackageFacts[] {
  const available = indexProviders(source.filter(({ arch }) => arch !== 'src'))
  const present = indexProviders([...destination, ...chosen])
  const added = new Map<number, PackageFacts>()
  const taken = new Set(chosen.map(({ id }) => id))
  /** Requirements whose conditions may come true when more is added. */
  const conditional: { rule: Rule; by: PackageFacts }[] = []
  const queue: { rule: Rule; by: PackageFacts }[] = []

  const enqueue = (by: PackageFacts) => {
    for (const dependency of by.requires) {
      const rule = readRule(dependency)
      if (!rule) continue
      queue.push({ rule, by })
      if (isConditional(rule)) conditional.push({ rule, by })
    }
  }
  const add = (found: PackageFacts) => {
    if (taken.has(found.id)) return
    taken.add(found.id)
    added.set(found.id, found)
    addProviders(present, found)
    enqueue(found)
  }
  const settle = () => {
    for (let next = queue.pop(); next; next = queue.pop())
      for (const found of missing(next.rule, next.by, present, available) ?? []) add(found)
  }

  for (const each of chosen) enqueue(each)
  for (let before = -1; before !== added.size; queue.push(...conditional)) {
    before = added.size
    settle()
  }
  return [...added.values()]
}

/** A rich dependency that cannot be read is one that cannot be met. */
function readRule(dependency: Dependency): Rule | undefined {
  try {
    return parseRule(dependency)
  } catch {
    return undefined
  }
}

function isConditional(rule: Rule): boolean {
  if (rule.is === 'simple') return false
  return 'rules' in rule ? rule.rules.some(isConditional) : true
}

/** The packages to add so that the rule holds: none when it does, undefined when nothing available makes it hold. */
function missing(rule: Rule, by: PackageFacts, present: Providers, available: Providers): PackageFacts[] | undefined {
  switch (rule.is) {
    case 'simple':
    case 'with':
    case 'without': {
      if (providersOf(rule, present).length > 0) return []
      const best = pickBest(providersOf(rule, available), by, rule)
      return best && [best]
    }
    case 'and': {
      const parts = rule.rules.map((each) => missing(each, by, present, available))
      return parts.every((part) => part === undefined) ? undefined : parts.flatMap((part) => part ?? [])
    }
    case 'or': {
      const parts = rule.rules.map((each) => missing(each, by, present, available))
      return parts.find((part) => part?.length === 0) ?? parts.find((part) => part !== undefined)
    }
    case 'if':
    case 'unless': {
      const holds = missing(rule.condition, by, present, present)?.length === 0
      const wanted = holds === (rule.is === 'if') ? rule.wanted : rule.otherwise
      return wanted ? missing(wanted, by, present, available) : []
    }
  }
}

/** The packages that meet a rule by themselves. */
function providersOf(rule: Rule, providers: Providers): PackageFacts[] {
  if (rule.is === 'simple')
    return (providers.get(rule.dependency.name) ?? [])
      .filter(({ provided }) => meets(provided, rule.dependency))
      .map(({ by }) => by)
  if (!('rules' in rule)) return []
  const [first, ...rest] = rule.rules.map((each) => new Set(providersOf(each, providers)))
  if (rule.is === 'or') return [...new Set([first!, ...rest].flatMap((each) => [...each]))]
  return [...first!].filter((each) => rest.every((others) => others.has(each) === (rule.is !== 'without')))
}

function pickBest(candidates: readonly PackageFacts[], by: PackageFacts, rule: Rule): PackageFacts | undefined {
  const wanted = rule.is === 'simple' ? rule.dependency.name : ''
  const rank = ({ name, arch }: PackageFacts) =>
    [arch === by.arch ? 3 : arch === 'noarch' ? 2 : secondary.test(arch) ? 0 : 1, name === wanted ? 1 : 0] as const
  return candidates.reduce<PackageFacts | undefined>((best, each) => {
    if (!best) return each
    const [archA, nameA] = rank(each)
    const [archB, nameB] = rank(best)
    // Of different names neither is newer: the first in the alphabet is as good as any, and always the same.
    const order =
      archA - archB || nameA - nameB || (each.name === best.name ? compareEvr(each, best) : each.name < best.name ? 1 : -1)
    return order > 0 ? each : best
  }, undefined)
}

/** Architectures of 32 bits, which most systems have beside their own. */
const secondary = /^(i\d86|athlon|ppc|s390|armv7)/

/** By name: who provides it, in which version. */
type Providers = Map<string, { provided: Dependency; by: PackageFacts }[]>

function indexProviders(packages: readonly PackageFacts[]): Providers {
  const providers: Providers = new Map()
  for (const each of packages) addProviders(providers, each)
  return providers
}

function addProviders(providers: Providers, by: PackageFacts): void {
  const { name, epoch, version, release } = by
  for (const provided of [
    { name, flags: 'EQ', epoch, version, release } as Dependency,
    ...by.provides,
    ...by.files.map((path) => ({ name: path })),
  ]) {
    const known = providers.get(provided.name)
    if (known) known.push({ provided, by })
    else providers.set(provided.name, [{ provided, by }])
  }
}

const below = new Set(['LT', 'LE'])
const above = new Set(['GT', 'GE'])
const equal = new Set(['EQ', 'LE', 'GE'])

/** Whether the range provided and the one required overlap. Something without a version does not meet a demand for one, as in libsolv. */
export function meets(provided: Dependency, required: Dependency): boolean {
  if (!required.flags) return true
  if (!provided.flags) return false
  const order = compareRanges(provided, required)
  const has = (set: ReadonlySet<string>, each: Dependency) => set.has(each.flags!)
  if (order < 0) return has(above, provided) || has(below, required)
  if (order > 0) return has(below, provided) || has(above, required)
  return [equal, below, above].some((set) => has(set, provided) && has(set, required))
}

/** A release that one side does not name is any. */
function compareRanges(a: Dependency, b: Dependency): number {
  const epochs = Number(a.epoch || 0) - Number(b.epoch || 0)
  const versions = epochs || compareVersions(a.version ?? '', b.version ?? '')
  return versions || (a.release && b.release ? compareVersions(a.release, b.release) : 0)
}
