import { type Expression, type RawBuilder, sql, type SqlBool } from 'kysely'
import { keyIn, prnOf } from '../../../core/names.ts'
import { Failure } from '../../../lib/failure.ts'
import { renderTime } from '../../../lib/time.ts'
import { textRows } from '../../../store/bulk.ts'
import { scopeOf } from '../../../core/access/auth.ts'
import { parseExpression } from './expression.ts'
import { columnOf, parseFilterValue } from './filters.ts'
import { collectionHref, findTarget, hrefOf, isKey } from './hrefs.ts'
import { invalid } from './invalid.ts'
import type { Answer, Call, Column, Field, Filter, Filters, Resource, Rows } from './resource.ts'

/** What a list takes besides filters. */
const controls = new Set(['exclude_fields', 'fields', 'limit', 'minimal', 'offset', 'page_size', 'ordering', 'format', 'q'])
const defaultLimit = 100
const maximumLimit = 10_000

/** One page of a resource: filtered, ordered, newest first by default. */
export async function listPage(call: Call & { resource: Resource }): Promise<Answer> {
  const { resource, query } = call
  const asked = parseFilters(call, resource)
  // With a name or a digest given, the few rows that have it are looked at; else a join that comes in the order of the list is quicker.
  const few = asked.filters.some(({ name, filter }) => !filter.join && !filter.broad && isSelective(name))
  // One alone: two would join the same table.
  const joining = few ? undefined : asked.filters.find(({ filter }) => filter.join)
  let rows = await rowsOf(call, resource, joining !== undefined)
  let newestFirst: RawBuilder<unknown> = sql`${sql.ref(`${resource.table}.id`)} desc`
  for (const each of asked.filters) {
    const { filter, value } = each
    const joined = each === joining ? await filter.join?.(rows, value, call) : undefined
    if (joined) {
      rows = joined.rows
      newestFirst = joined.newestFirst
    } else rows = rows.where(await filter.where(value, call))
  }
  if (asked.expression) rows = rows.where(await asked.expression(call))

  const { limit, offset } = windowOf(query)
  const plain = rows.clearSelect()
  const known = resource.count ? await resource.count(call, asked.filters, asked.expression !== undefined) : undefined
  const count =
    known ?? Number((await plain.select(({ fn }) => fn.countAll<number>().as('count')).executeTakeFirstOrThrow()).count)
  // Nothing is more than anything, as PostgreSQL has it.
  for (const { column, descending } of asked.order)
    rows = rows.orderBy(columnOf(call.ctx.db, column), (by) => (descending ? by.desc().nullsFirst() : by.asc().nullsLast()))
  const page = offset >= count ? [] : await rows.orderBy(newestFirst).limit(limit).offset(offset).execute()
  return {
    status: 200,
    body: {
      count,
      next: offset + limit < count ? pageUrl(call, limit, offset + limit) : null,
      previous: offset > 0 ? pageUrl(call, limit, offset - limit) : null,
      results: await showRows(call, resource, page),
    },
  }
}

/** Whether a filter asks for equality with something of which there are few. */
function isSelective(name: string): boolean {
  const isExact = !name.includes('__') || name.endsWith('__in')
  return isExact && !['pulp_type', 'pulp_label_select', 'orphaned_for'].some((common) => name.startsWith(common))
}

/** The rows that the caller may see, in no order yet. `joined`: a join is all that chooses them. */
export async function rowsOf(call: Call, resource: Resource, joined = false): Promise<Rows<any>> {
  const { db } = call.ctx
  const source = resource.from ? resource.from.as(resource.table) : resource.table
  let rows = db.selectFrom(source as 'task').selectAll(resource.table as 'task') as Rows<any>
  const column = (name: string) => sql.ref(`${resource.table}.${name}`)
  if (resource.type && resource.kind !== 'version') {
    // An expression has no index: the database then begins with what was joined, which comes in the order of the list.
    const type = joined ? sql`(${column('type')} || '')` : column('type')
    rows = rows.where(sql<SqlBool>`${type} = ${resource.type}`)
  }
  if (resource.parent?.column && call.parent)
    rows = rows.where(sql<SqlBool>`${column(resource.parent.column)} = ${call.parent.id}`)
  const visible = await visibleRows(call, resource)
  if (visible) rows = rows.where(visible)
  return resource.where ? resource.where(rows, call) : rows
}

/** The condition that keeps what the user may see of a resource; undefined when that is everything. */
export async function visibleRows(call: Call, resource: Resource): Promise<Expression<SqlBool> | undefined> {
  if (resource.visible) return resource.visible(call)
  return resource.view ? visibleTo(call, resource, resource.view) : undefined
}

/** The condition that keeps what the user may view with this permission; undefined when that is everything. */
export async function visibleTo(call: Call, resource: Resource, permission: string): Promise<Expression<SqlBool> | undefined> {
  const scope = await scopeOf(call.ctx, call.user!, permission)
  if (scope === 'all') return undefined
  const keys = scope.map(keyIn)
  if (resource.key === 'id') return sql`${sql.ref(`${resource.table}.id`)} in (${sql.join([-1, ...keys.map(Number)])})`
  return sql`${sql.ref(`${resource.table}.uuid`)} in (select text from ${textRows(call.ctx.db, keys)} as k)`
}

/** Rows as the API shows them, with the fields that were asked for. */
export async function showRows(call: Call, resource: Resource, rows: readonly any[]): Promise<Record<string, unknown>[]> {
  const wanted = wantedFields(call)
  const shown = await resource.show(call, rows, wanted)
  return shown.map((view, index) => {
    const whole = resource.base === false ? view : { ...baseOf(call, resource, rows[index]), ...view }
    return Object.fromEntries(Object.entries(whole).filter(([name]) => wanted(name)))
  })
}

/** A row alone, whole unless the request is a GET that asks for fewer fields. */
export async function showRow(call: Call, resource: Resource, row: any): Promise<Record<string, unknown>> {
  const [shown] = await showRows(call, resource, [row])
  return shown!
}

function baseOf(call: Call, resource: Resource, row: any): Record<string, unknown> {
  const key = row[resource.key ?? 'uuid']
  return {
    pulp_href: resource.parent
      ? call.parent && `${collectionHref(resource, parentHref(call, resource))}${key}/`
      : resource.generic
        ? // A version's href is made of its repository's: it shows it itself.
          resource.kind !== 'version' && hrefOf(call.registry, resource.kind!, row)
        : `${collectionHref(resource)}${key}/`,
    ...(resource.kind ? { prn: prnOf(call.ctx.formats, resource.kind, { uuid: row.uuid ?? row.id, type: row.type }) } : {}),
    ...('uuid' in row && 'created' in row
      ? { pulp_created: renderTime(row.created), pulp_last_updated: renderTime(row.updated ?? row.created) }
      : {}),
  }
}

function parentHref(call: Call, { parent }: Resource): string {
  return `${collectionHref(parent!.resource)}${call.parent[parent!.resource.key ?? 'uuid']}/`
}

/** Tells which fields a GET asks for with `fields` and `exclude_fields`. */
export function wantedFields({ method, query }: Pick<Call, 'method' | 'query'>): (field: string) => boolean {
  if (method !== 'GET' && method !== 'HEAD') return () => true
  const named = (key: string) => new Set(query.getAll(key).flatMap((names) => names.split(',').filter(Boolean)))
  const included = named('fields')
  const excluded = named('exclude_fields')
  return (field) => (included.size === 0 || included.has(field)) && !excluded.has(field)
}

interface Asked {
  filters: { name: string; filter: Filter; value: unknown }[]
  expression: ((call: Call) => Promise<Expression<SqlBool>>) | undefined
  order: { column: Column; descending: boolean }[]
}

/** Reads the query of a list. Everything that is wrong with it is said at once. */
function parseFilters(call: Call, resource: Resource): Asked {
  const known = filtersOf(resource)
  const problems: Record<string, string[]> = {}
  const collect = <T>(act: () => T): T | undefined => {
    try {
      return act()
    } catch (error) {
      if (!(error instanceof Failure) || !error.problems || Array.isArray(error.problems)) throw error
      Object.assign(problems, error.problems)
      return undefined
    }
  }
  const filters: Asked['filters'] = []
  const names = [...new Set(call.query.keys())]
  for (const name of names) {
    const filter = known[name]
    if (!filter) continue
    const texts = call.query.getAll(name)
    const value = collect(() => parseFilterValue(name, filter, texts))
    if (value !== undefined) filters.push({ name, filter, value })
    else if (filter.empty && texts.every((text) => text.trim() === ''))
      filters.push({ name, filter: ofNothing(filter), value: undefined })
  }
  const order = collect(() => parseOrdering(resource, call.query.getAll('ordering').at(-1) ?? '')) ?? []
  const text = call.query.get('q')?.trim()
  const expression = text ? collect(() => parseExpression(text, known)) : undefined
  const unknown = resource.filters === noFilters ? [] : names.filter((name) => !controls.has(name) && !known[name])
  if (unknown.length > 0) problems['errors'] = unknown.map((name) => `Invalid Filter: '${name}'`)
  if (Object.keys(problems).length > 0) throw invalid(problems)
  return { filters, expression, order }
}

/** Whoever names nothing must not get everything. */
function ofNothing({ field, empty }: Filter): Filter {
  return {
    field,
    where() {
      if (typeof empty === 'object') throw invalid([empty.refusal])
      return sql`false`
    },
  }
}

/** A look at one item takes the filters of its list, or refuses what is none. Throws Failure invalid. */
export function checkQuery(call: Call & { resource: Resource }): void {
  parseFilters(call, call.resource)
}

/** All filters of a resource: the declared ones and those by name that every resource with a uuid has. */
export function filtersOf(resource: Resource): Filters {
  if (resource.filters === noFilters) return {}
  return { ...identityFilters(resource), ...resource.filters }
}

/** For lists that take nothing but a page; Pulp lets them be asked for anything. */
export const noFilters: Filters = {}

function identityFilters(resource: Resource): Filters {
  const key = resource.key === 'id' ? 'id' : 'uuid'
  const column = sql.ref(`${resource.table}.${key}`)
  const text: Field = { type: 'string' }
  const among = (keys: readonly string[]): Expression<SqlBool> =>
    key === 'id' ? sql`${column} in (${sql.join([-1, ...keys.map(Number)])})` : sql`${column} in (${sql.join(['', ...keys])})`
  return {
    pulp_href__in: {
      field: { type: 'array', items: text },
      empty: 'nothing',
      async where(values: string[], call) {
        if (resource.kind !== 'version') return among(values.map((value) => keyOf(value)))
        const found = await Promise.all(values.map((value) => findTarget(call, value, ['version'])))
        const wrong = found.findIndex((each) => each === 'unknown' || each === 'other')
        if (wrong >= 0) throw invalid([`Invalid RepositoryVersion HREF: ${values[wrong]}`])
        return among(found.flatMap((each) => (typeof each === 'string' ? [] : [String(each.uuid)])))
      },
    },
    prn__in: {
      field: { type: 'array', items: text },
      empty: 'nothing',
      where(values: string[]) {
        for (const value of values)
          if (!value.startsWith('prn:')) throw invalid([`Not a valid PRN: ${value}, must start with 'prn:'`])
        return among(values.map(keyIn))
      },
    },
    ...(resource.kind === 'version'
      ? {}
      : {
          pulp_id__in: {
            field: { type: 'array', items: { type: 'string', format: 'uuid' } },
            empty: 'nothing',
            check(values: string[]) {
              if (!values.every((value) => isKey(key, value))) throw invalid({ pulp_id__in: ['Enter a valid UUID.'] })
            },
            where: among,
          } satisfies Filter,
        }),
  }
}

/** The last segment of an href, or of a PRN. */
function keyOf(value: string): string {
  if (value.startsWith('prn:')) return keyIn(value)
  const match = /^(?:https?:\/\/[^/]+)?\/pulp\/api\/v3\/.+\/([^/]+)\/$/.exec(value)
  if (!match) throw invalid([`URI not valid: ${value}`])
  return match[1]!
}

/** Orders that a list takes, by Pulp's names. An empty column changes nothing: an order by something that has no meaning here. */
export function orderingsOf(resource: Resource): Record<string, Column> {
  if (resource.filters === noFilters) return {}
  if (resource.ordering === onlyByKey) return { pk: `${resource.table}.id` }
  const id = `${resource.table}.id`
  if (resource.key === 'id') return { ...resource.ordering, pk: id }
  const { table } = resource
  return {
    ...resource.ordering,
    pk: `${table}.uuid`,
    pulp_id: `${table}.uuid`,
    pulp_created: id,
    pulp_last_updated: `${table}.updated`,
  }
}

/** Ordering of lists that cannot be ordered but by their primary key. */
export const onlyByKey: Readonly<Record<string, Column>> = {}

function parseOrdering(resource: Resource, text: string): Asked['order'] {
  const known = orderingsOf(resource)
  return text
    .split(',')
    .filter(Boolean)
    .flatMap((name) => {
      const descending = name.startsWith('-')
      const column = known[descending ? name.slice(1) : name]
      if (column === undefined)
        throw invalid({ ordering: [`Select a valid choice. ${name} is not one of the available choices.`] })
      return column === '' ? [] : [{ column, descending }]
    })
}

function windowOf(query: URLSearchParams): { limit: number; offset: number } {
  const number = (name: string) => (/^\d{1,12}$/.test(query.get(name) ?? '') ? Number(query.get(name)) : 0)
  // As in Pulp, limit=0 and nonsense mean the default.
  return { limit: Math.min(number('limit') || defaultLimit, maximumLimit), offset: number('offset') }
}

function pageUrl({ origin, path, query }: Call, limit: number, offset: number): string {
  const members = new Map<string, string[]>()
  for (const [key, value] of query) members.set(key, [...(members.get(key) ?? []), value])
  members.set('limit', [String(limit)])
  members.set('offset', [String(offset)])
  if (offset <= 0) members.delete('offset')
  const pairs = [...members]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, values]) => values.map((value) => `${quote(key)}=${quote(value)}`))
  return `${origin}${path}?${pairs.join('&')}`
}

function quote(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+')
}
