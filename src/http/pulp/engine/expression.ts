import { type Expression, sql, type SqlBool } from 'kysely'
import { Failure } from '../../../lib/failure.ts'
import { parseFilterValue } from './filters.ts'
import { invalidField } from './invalid.ts'
import type { Call, Filter, Filters } from './resource.ts'

type Condition = (call: Call) => Promise<Expression<SqlBool>>
interface Part {
  condition: Condition
  complexity: number
}

const maximumComplexity = 8
/** More than eight filters with what belongs between them, and so few that reading them by recursion is safe. */
const mostTokens = 100
const tokens =
  /\s*(?:(\()|(\))|([A-Za-z][A-Za-z0-9_]*)\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)'|([A-Za-z0-9À-ÖØ-öø-ÿ.,_*-]+))|([A-Za-z]+)\b)/y

interface Token {
  kind: '(' | ')' | 'filter' | 'NOT' | 'AND' | 'OR' | 'end'
  name?: string
  value?: string
}

/** The parameter `q`: filters combined with NOT, AND and OR (in this order of precedence) and parentheses. Throws Invalid. */
export function parseExpression(text: string, filters: Filters): Condition {
  const reader = openReader(tokenize(text))
  const whole = parseOr(reader, filters)
  if (reader.peek().kind !== 'end') throw syntaxError()
  if (whole.complexity > maximumComplexity) throw tooComplex()
  return whole.condition
}

const tooComplex = () => invalidField('q', 'Filter expression exceeds allowed complexity.')
const syntaxError = () => invalidField('q', 'Syntax error in expression.')

function tokenize(text: string): Token[] {
  const found: Token[] = []
  tokens.lastIndex = 0
  let at = 0
  while (text.slice(at).trim() !== '') {
    tokens.lastIndex = at
    const match = tokens.exec(text)
    if (!match) throw syntaxError()
    at = tokens.lastIndex
    if (found.length === mostTokens) throw tooComplex()
    const [, open, close, name, double, single, bare, word] = match
    if (open) found.push({ kind: '(' })
    else if (close) found.push({ kind: ')' })
    else if (name) found.push({ kind: 'filter', name, value: double ?? single ?? bare ?? '' })
    else if (word === 'NOT' || word === 'AND' || word === 'OR') found.push({ kind: word })
    else throw syntaxError()
  }
  return found
}

interface Reader {
  peek(): Token
  next(): Token
}

function openReader(found: readonly Token[]): Reader {
  let at = 0
  const end: Token = { kind: 'end' }
  return { peek: () => found[at] ?? end, next: () => found[at++] ?? end }
}

function parseOr(reader: Reader, filters: Filters): Part {
  return parseChain(reader, 'OR', () => parseChain(reader, 'AND', () => parseNot(reader, filters)))
}

function parseChain(reader: Reader, word: 'AND' | 'OR', parse: () => Part): Part {
  const parts = [parse()]
  while (reader.peek().kind === word) {
    reader.next()
    parts.push(parse())
  }
  if (parts.length === 1) return parts[0]!
  return {
    complexity: parts.reduce((sum, { complexity }) => sum + complexity, 1),
    async condition(call) {
      const conditions = await Promise.all(parts.map(({ condition }) => condition(call)))
      return sql`(${sql.join(conditions, word === 'AND' ? sql` and ` : sql` or `)})`
    },
  }
}

function parseNot(reader: Reader, filters: Filters): Part {
  const token = reader.next()
  if (token.kind === 'NOT') {
    const { condition, complexity } = parseNot(reader, filters)
    return { complexity: complexity + 1, condition: async (call) => sql`((${await condition(call)}) is not true)` }
  }
  if (token.kind === '(') {
    const inner = parseOr(reader, filters)
    if (reader.next().kind !== ')') throw syntaxError()
    return inner
  }
  if (token.kind !== 'filter') throw syntaxError()
  return parseFilter(token.name!, token.value!, filters)
}

function parseFilter(name: string, text: string, filters: Filters): Part {
  if (name === 'q') throw invalidField('q', "You cannot use 'q' in complex filtering.")
  if (name === 'ordering') throw invalidField('q', 'An ordering filter cannot be used in complex filtering.')
  const filter = filters[name]
  if (!filter) throw invalidField('q', `Filter '${name}' does not exist.`)
  const value = valueOf(name, text, filter)
  return { complexity: 1, condition: async (call) => (value === undefined ? sql`true` : filter.where(value, call)) }
}

function valueOf(name: string, text: string, filter: Filter): unknown {
  try {
    return parseFilterValue(name, filter, [text])
  } catch (error) {
    if (!(error instanceof Failure) || !error.problems) throw error
    const [message] = (error.problems as Record<string, string[]>)[name] ?? []
    // Pulp nests the errors of its inner form as JSON, with Python's spaces.
    throw invalidField('q', `{"${name}": [{"message": ${JSON.stringify(message)}, "code": "invalid"}]}`)
  }
}
