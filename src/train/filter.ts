import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'

interface Selectable {
  readonly name: string
  readonly group: string | undefined
}

/**
 * The repositories that filters select, in their own order; all when there is no filter. A filter is an exact name, a glob (`*`, `?`),
 * an expression between slashes that must match the whole name, or `group:NAME`. A filter that matches nothing is an error:
 * a mistyped name must never look like success.
 */
export function selectRepositories<T extends Selectable>(
  repositories: readonly T[],
  filters: readonly string[],
  what = 'repository',
): T[] {
  if (filters.length === 0) return [...repositories]
  const selected = new Set<T>()
  for (const filter of filters) {
    const matches = matcher(filter)
    const found = repositories.filter(matches)
    if (found.length === 0) throw new Failure('not_found', nothing(filter, repositories, what))
    for (const repository of found) selected.add(repository)
  }
  return repositories.filter((each) => selected.has(each))
}

const groupPrefix = 'group:'

function matcher(filter: string): (repository: Selectable) => boolean {
  if (filter.startsWith(groupPrefix)) return ({ group }) => group === filter.slice(groupPrefix.length)
  if (filter.length > 1 && filter.startsWith('/') && filter.endsWith('/')) {
    const expression = anchored(filter.slice(1, -1), filter)
    return ({ name }) => expression.test(name)
  }
  if (!/[*?]/.test(filter)) return ({ name }) => name === filter
  const glob = anchored(
    filter
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.'),
    filter,
  )
  return ({ name }) => glob.test(name)
}

function anchored(source: string, filter: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`, 'u')
  } catch (cause) {
    throw new Failure('invalid', `The filter ${filter} is not a regular expression.`, { cause })
  }
}

function nothing(filter: string, repositories: readonly Selectable[], what: string): string {
  if (filter.startsWith(groupPrefix)) {
    const groups = new Set(repositories.flatMap(({ group }) => group ?? []))
    return `No ${what} is in group ${filter.slice(groupPrefix.length)}.${hint(filter.slice(groupPrefix.length), groups)}`
  }
  return `No ${what} is called ${filter}.${hint(
    filter,
    repositories.map(({ name }) => name),
  )}`
}
