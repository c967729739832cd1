import { type Expression, type RawBuilder, sql, type SqlBool } from 'kysely'
import type { Fields, Lookup } from '../../../core/format.ts'
import { linearRegExp } from '../../../lib/linear-regexp.ts'
import { parseTime } from '../../../lib/time.ts'
import { type Db, engineOf } from '../../../store/database.ts'
import { findTarget, type TargetKinds } from './hrefs.ts'
import { invalid, invalidField } from './invalid.ts'
import type { Call, Column, Field, Filter, Filters } from './resource.ts'

export type FilterLookup = Lookup | 'isnull'

type Kind = 'text' | 'number' | 'time' | 'boolean'

const fieldOf: Record<Kind, Field> = {
  text: { type: 'string' },
  number: { type: 'integer' },
  time: { type: 'string', format: 'date-time' },
  boolean: { type: 'boolean' },
}

const nameLookups = ['exact', 'contains', 'icontains', 'iexact', 'in', 'iregex', 'istartswith', 'regex', 'startswith'] as const
const timeLookups = ['exact', 'gt', 'gte', 'isnull', 'lt', 'lte', 'range'] as const
export const numberLookups = ['exact', 'gt', 'gte', 'isnull', 'lt', 'lte', 'ne', 'range'] as const

/** `name`, `name__in`, `name__icontains` and so on: what names take. */
export const nameFilters = (column: Column, name = 'name'): Filters => lookups(name, column, 'text', nameLookups)

/** `pulp_created__gte` and so on: what times take. */
export const timeFilters = (name: string, column: Column): Filters => lookups(name, column, 'time', timeLookups)

/** Filters of one column, called as Pulp does: the name alone, or with `__` and the lookup. */
export function lookups(
  name: string,
  column: Column,
  kind: Kind,
  wanted: readonly FilterLookup[],
  choices?: readonly string[],
): Filters {
  return Object.fromEntries(
    wanted.map((lookup) => [lookup === 'exact' ? name : `${name}__${lookup}`, lookupFilter(name, column, kind, lookup, choices)]),
  )
}

function lookupFilter(name: string, column: Column, kind: Kind, lookup: FilterLookup, choices?: readonly string[]): Filter {
  const one: Field = { ...fieldOf[kind], ...(choices ? { enum: choices } : {}) }
  const field: Field =
    lookup === 'in' || lookup === 'range' ? { type: 'array', items: one } : lookup === 'isnull' ? { type: 'boolean' } : one
  const key = lookup === 'exact' ? name : `${name}__${lookup}`
  return {
    field: { ...field, description: `Filter results where ${name} ${meaning[lookup]} value${field.type === 'array' ? 's' : ''}` },
    ...(lookup === 'range' && { check: (value: unknown[]) => checkRange(key, value) }),
    where: (value, { ctx: { db } }) => compare(db, columnOf(db, column), lookup, value, key),
  }
}

function checkRange(key: string, { length }: readonly unknown[]): void {
  if (length !== 2) throw invalidField(key, 'Range query expects two values.')
}

const meaning: Record<FilterLookup, string> = {
  exact: 'matches',
  ne: 'not equal to',
  iexact: 'matches',
  in: 'is in a comma-separated list of',
  contains: 'contains',
  icontains: 'contains',
  startswith: 'starts with',
  istartswith: 'starts with',
  regex: 'matches regex',
  iregex: 'matches regex',
  lt: 'is less than',
  lte: 'is less than or equal to',
  gt: 'is greater than',
  gte: 'is greater than or equal to',
  range: 'is between two comma separated',
  isnull: 'has a null',
}

/** A column in a query. */
export function columnOf(db: Db, column: Column): RawBuilder<unknown> {
  return typeof column === 'string' ? sql.ref(column) : column(db)
}

/** A filter's condition on a column. */
export function compare(db: Db, column: RawBuilder<unknown>, lookup: FilterLookup, value: any, key: string): Expression<SqlBool> {
  const postgres = engineOf(db) === 'postgres'
  const position = (where: unknown, what: unknown) => (postgres ? sql`strpos(${where}, ${what})` : sql`instr(${where}, ${what})`)
  switch (lookup) {
    case 'exact':
      return sql`${column} = ${value}`
    case 'ne':
      return sql`${column} <> ${value}`
    case 'lt':
      return sql`${column} < ${value}`
    case 'lte':
      return sql`${column} <= ${value}`
    case 'gt':
      return sql`${column} > ${value}`
    case 'gte':
      return sql`${column} >= ${value}`
    case 'iexact':
      return sql`lower(${column}) = ${value.toLowerCase()}`
    case 'in':
      return sql`${column} in (${sql.join(value)})`
    case 'contains':
      return sql`${position(column, value)} > 0`
    case 'icontains':
      return sql`${position(sql`lower(${column})`, value.toLowerCase())} > 0`
    case 'startswith':
      return sql`substr(${column}, 1, ${sql.lit([...value].length)}) = ${value}`
    case 'istartswith':
      return sql`lower(substr(${column}, 1, ${sql.lit([...value].length)})) = ${value.toLowerCase()}`
    case 'range':
      return sql`${column} between ${value[0]} and ${value[1]}`
    case 'isnull':
      return value ? sql`${column} is null` : sql`${column} is not null`
    case 'regex':
    case 'iregex':
      return matches(column, lookup, value, key, postgres)
  }
}

function matches(
  column: RawBuilder<unknown>,
  lookup: 'regex' | 'iregex',
  pattern: string,
  key: string,
  postgres: boolean,
): Expression<SqlBool> {
  const ignoreCase = lookup === 'iregex'
  checkPattern(pattern, ignoreCase, key)
  if (postgres) return ignoreCase ? sql`${column} ~* ${pattern}` : sql`${column} ~ ${pattern}`
  return ignoreCase ? sql`iregexp(${pattern}, ${column})` : sql`regexp(${pattern}, ${column})`
}

/** One request must not keep the server busy for years: what might is refused, on both engines. */
function checkPattern(pattern: string, ignoreCase: boolean, key: string): void {
  try {
    linearRegExp(pattern, { ignoreCase })
  } catch {
    throw invalidField(key, `'${pattern}' is not a regular expression${isPattern(pattern) ? ` ${unbounded}` : ''}.`)
  }
}

const unbounded = 'that is sure to be matched soon: it may have no backreferences, lookahead or large repetitions'

function isPattern(text: string): boolean {
  try {
    return RegExp(text) instanceof RegExp
  } catch {
    return false
  }
}

/** `remote=<href or PRN>`: rows whose column holds the id of what is named. With `nullable`, `null` finds those that name nothing. */
export function targetFilter(
  column: string,
  kinds: TargetKinds,
  options: { nullable?: boolean; many?: boolean; empty?: Filter['empty'] } = {},
): Filter {
  const one: Field = { type: 'string', format: 'uuid', description: 'Foreign Key referenced by HREF' }
  return {
    field: options.many ? { type: 'array', items: one } : one,
    ...(options.empty && { empty: options.empty }),
    async where(value: string | string[], call) {
      if (options.nullable && value === 'null') return sql`${sql.ref(column)} is null`
      const targets = await Promise.all([value].flat().map((each) => filterTarget(call, each, kinds, column)))
      return targets.length === 0 ? sql`false` : sql`${sql.ref(column)} in (${sql.join(targets.map(({ id }) => id))})`
    },
  }
}

async function filterTarget(call: Call, value: string, kinds: TargetKinds, column: string) {
  const found = await findTarget(call, value, kinds)
  if (typeof found !== 'string') return found
  // Something that does not exist is not an error: nothing refers to it.
  if (found === 'absent') return { id: -1 }
  const name = column.slice(column.indexOf('.') + 1).replace(/_id$/, '')
  throw invalid([
    found === 'unknown' ? `URI couldn't be resolved: ${value}` : `URI/PRN is not a valid href for ${name} model: ${value}`,
  ])
}

/** `pulp_label_select=environment=production,!old`: conditions on a JSON column of labels, all of which must hold. */
export function labelFilter(column: string): Filter {
  return {
    field: { type: 'string', description: 'Filter labels by search string' },
    empty: { refusal: "Invalid search term: ''." },
    where: (value: string, { ctx: { db } }) =>
      sql`(${sql.join(
        value.split(',').map((term) => labelTerm(db, column, term)),
        sql` and `,
      )})`,
  }
}

function labelTerm(db: Db, column: string, term: string): RawBuilder<SqlBool> {
  const match = /^(!?[\p{L}\p{N}_\s]+)(=|!=|~)?(.*)$/su.exec(term)
  if (!match) throw invalid([`Invalid search term: '${term}'.`])
  const [, key = '', operator, text = ''] = match
  if (key.startsWith('!')) {
    if (operator) throw invalid([`Cannot use an operator with '${key}'.`])
    return sql`${hasLabel(db, column, key.slice(1))} is not true`
  }
  const value = labelValue(db, column, key)
  if (operator === '=') return sql`${value} = ${text}`
  if (operator === '!=') return sql`(${hasLabel(db, column, key)} and (${value} = ${text}) is not true)`
  if (operator === '~') return sql`${compare(db, value, 'icontains', text, 'pulp_label_select')}`
  return hasLabel(db, column, key)
}

function labelValue(db: Db, column: string, key: string): RawBuilder<string> {
  return engineOf(db) === 'postgres'
    ? sql`${sql.ref(column)} ->> ${key}::text`
    : sql`json_extract(${sql.ref(column)}, ${`$."${key}"`})`
}

function hasLabel(db: Db, column: string, key: string): RawBuilder<SqlBool> {
  return engineOf(db) === 'postgres'
    ? sql`jsonb_exists(${sql.ref(column)}, ${key}::text)`
    : sql`(json_type(${sql.ref(column)}, ${`$."${key}"`}) is not null)`
}

/** A filter's value: what the text of a query means. Undefined: as if it were not there. Throws Failure invalid. */
export function parseFilterValue(name: string, filter: Filter, texts: readonly string[]): unknown {
  const value = parseValue(name, filter.field, texts)
  if (value !== undefined) filter.check?.(value)
  return value
}

function parseValue(name: string, field: Field, texts: readonly string[]): unknown {
  if (field.type === 'array') {
    const parts = texts.flatMap((text) => text.split(',')).filter((text) => text.trim() !== '')
    return parts.length === 0 ? undefined : parts.map((text) => parseOne(name, field.items!, text))
  }
  const text = texts.at(-1)!.trim()
  return text === '' ? undefined : parseOne(name, field, text)
}

function parseOne(name: string, field: Field, text: string): unknown {
  if (text.includes('\0')) throw invalidField(name, 'Null characters are not allowed.')
  if (field.enum && !field.enum.includes(text))
    throw invalidField(name, `Select a valid choice. ${text} is not one of the available choices.`)
  if (field.type === 'integer') return parseWhole(name, text)
  if (field.type === 'number') return parseNumber(name, text)
  if (field.type === 'boolean') return { true: 1, '1': 1, false: 0, '0': 0 }[text.toLowerCase()]
  if (field.format === 'date-time') {
    const time = parseTime(text)
    if (time === undefined) throw invalidField(name, 'Enter a valid date/time.')
    return time
  }
  return text
}

/** A database compares whole numbers with nothing else. */
function parseWhole(name: string, text: string): number {
  const number = parseNumber(name, text)
  if (!Number.isSafeInteger(number)) throw invalidField(name, 'Enter a whole number.')
  return number
}

function parseNumber(name: string, text: string): number {
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number)) throw invalidField(name, 'Enter a number.')
  return number
}

/** Fields that lists show of every resource, for the document. */
export const baseFields: Fields = {
  pulp_href: { type: 'string', format: 'uri', readOnly: true },
  prn: { type: 'string', readOnly: true, description: 'The Pulp Resource Name (PRN).' },
  pulp_created: { type: 'string', format: 'date-time', readOnly: true, description: 'Timestamp of creation.' },
  pulp_last_updated: {
    type: 'string',
    format: 'date-time',
    readOnly: true,
    description: 'Timestamp of the last time this resource was updated.',
  },
}
