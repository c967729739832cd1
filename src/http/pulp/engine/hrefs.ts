import { isAllowed } from '../../../core/access/auth.ts'
import type { Ctx } from '../../../core/ctx.ts'
import { keyIn, type Kind, modelIn, modelOf, prnOf } from '../../../core/names.ts'
import { uuidPattern } from '../../../lib/uuid.ts'
import type { Db } from '../../../store/database.ts'
import type { Schema } from '../../../store/schema.ts'
import type { Call, Registry, Resource, Rows, Target } from './resource.ts'

export const apiRoot = '/pulp/api/v3/'

/** Kinds that a value may name, each with a type where only one will do: `remote`, `remote:rpm.rpm`. */
export type TargetKinds = readonly string[]

type Where = { ctx: Pick<Ctx, 'db' | 'formats'>; registry: Registry }

/** `/pulp/api/v3/repositories/rpm/rpm/`; below a parent, of that parent's item. */
export function collectionHref(resource: Resource, parentHref?: string): string {
  return resource.parent ? `${parentHref}${resource.path}/` : `${apiRoot}${resource.path}/`
}

/** The href of a row that is not below a parent. */
export function hrefOf(registry: Registry, kind: Kind, row: { uuid: string | number; type?: string | null }): string {
  const resource = registry.find(kind, row.type ?? undefined)
  if (!resource) throw new Error(`no resource for ${kind} ${row.type}`)
  return `${collectionHref(resource)}${row.uuid}/`
}

/** Hrefs of versions by their ids. Versions hang below their repository, so their names take a look at it. */
export async function versionHrefs(
  { ctx: { db }, registry }: Where,
  ids: readonly (number | null)[],
): Promise<Map<number, string>> {
  const wanted = [...new Set(ids.filter((id) => id !== null))]
  if (wanted.length === 0) return new Map()
  const rows = await db
    .selectFrom('version')
    .innerJoin('repository', 'repository.id', 'version.repository_id')
    .select(['version.id', 'version.number', 'repository.uuid', 'repository.type'])
    .where('version.id', 'in', wanted)
    .execute()
  return new Map(rows.map((row) => [row.id, `${hrefOf(registry, 'repository', row)}versions/${row.number}/`]))
}

/** Hrefs of PRNs, as many at once as there are. What no longer exists or is of no known model is `<unavailable>`. */
export async function hrefsOfPrns(where: Where, prns: readonly string[]): Promise<string[]> {
  const versions = prns.flatMap((prn) => (prn.startsWith('prn:core.repositoryversion:') ? [keyIn(prn)] : []))
  const rows =
    versions.length === 0
      ? []
      : await where.ctx.db.selectFrom('version').select(['id', 'uuid']).where('uuid', 'in', versions).execute()
  const ids = new Map(rows.map(({ id, uuid }) => [uuid, id]))
  const hrefs = await versionHrefs(where, [...ids.values()])
  return prns.map((prn) => {
    const id = ids.get(keyIn(prn))
    if (id !== undefined) return hrefs.get(id)!
    return hrefOfPrn(where.registry, prn) ?? '<unavailable>'
  })
}

/** The href of what a PRN names, whether that is there or not; undefined for what hangs below something else. */
export function hrefOfPrn(registry: Registry, prn: string): string | undefined {
  const resource = registry.named(modelIn(prn))
  return resource && !resource.parent ? `${collectionHref(resource)}${keyIn(prn)}/` : undefined
}

/**
 * What an href or PRN names, when it is of one of these kinds. Otherwise why not: `unknown` names no resource at all, `other` one of another
 * kind, `absent` nothing that exists. What the caller may not see does not exist: this is the only way from a reference in a request to a row.
 */
export async function findTarget(
  call: Call,
  value: string,
  kinds: TargetKinds,
): Promise<Target | 'unknown' | 'other' | 'absent'> {
  const named = await resolveTarget(call, value, kinds)
  return typeof named === 'string' || (await isSeen(call, named)) ? named : 'absent'
}

/** As findTarget, but whoever asks: for what was shown to the caller already. */
export async function resolveTarget(
  where: Where,
  value: string,
  kinds: TargetKinds,
): Promise<Target | 'unknown' | 'other' | 'absent'> {
  const named = value.startsWith('prn:') ? namedByPrn(where, value) : namedByHref(where, value)
  if (!named) return isCollection(where.registry, value) ? 'other' : 'unknown'
  const { resource, key, parentKey } = named
  const { kind } = resource
  if (!kind || !kinds.some((each) => each === kind || each.startsWith(`${kind}:`))) return 'other'
  const row = await findRow(where.ctx.db, resource, key, parentKey, value.startsWith('prn:'))
  if (!row) return 'absent'
  // Any of the resources for versions stands for a version's PRN: its type is that of its repository.
  const type = kind === 'version' ? await repositoryType(where.ctx.db, row) : (resource.type ?? row.type ?? '')
  if (!kinds.some((each) => each === kind || each === `${kind}:${type}`)) return resource.type === undefined ? 'absent' : 'other'
  const found = { uuid: row.uuid ?? row.id, type }
  return { kind, type, id: row.id, uuid: found.uuid, prn: prnOf(where.ctx.formats, kind, found) }
}

/** Whether the caller may see what a target stands for; a version is seen by whoever sees its repository. */
export async function isSeen(
  call: Call,
  { kind, type, id, prn }: Pick<Target, 'kind' | 'type' | 'id' | 'prn'>,
): Promise<boolean> {
  const { ctx, user, registry } = call
  if (user?.isSuperuser) return true
  if (kind === 'version') return isSeen(call, await repositoryOf(call, id))
  const resource = registry.find(kind, type)
  if (!user || !resource) return false
  if (resource.view && !resource.visible) return isAllowed(ctx, user, resource.view, prn)
  const condition = await resource.visible?.(call)
  let rows = ctx.db
    .selectFrom(resource.table as 'task')
    .selectAll()
    .where('id', '=', id) as Rows<any>
  if (condition) rows = rows.where(condition)
  if (resource.where) rows = await resource.where(rows, { ...call, resource, parent: undefined })
  return (await rows.executeTakeFirst()) !== undefined
}

/** The repository that a version is of. */
export async function repositoryOf({ ctx: { db, formats } }: Where, versionId: number): Promise<Target> {
  const row = await db
    .selectFrom('version')
    .innerJoin('repository', 'repository.id', 'version.repository_id')
    .select(['repository.id', 'repository.uuid', 'repository.type'])
    .where('version.id', '=', versionId)
    .executeTakeFirstOrThrow()
  return { kind: 'repository', ...row, prn: prnOf(formats, 'repository', row) }
}

async function repositoryType(db: Db, { repository_id }: { repository_id?: number }): Promise<string> {
  const { type } = await db.selectFrom('repository').select('type').where('id', '=', repository_id!).executeTakeFirstOrThrow()
  return type
}

interface Named {
  resource: Resource
  key: string
  parentKey?: string
}

function namedByPrn({ ctx, registry }: Where, prn: string): Named | undefined {
  const [, model = '', key = '', more] = prn.split(':')
  if (more !== undefined || !key) return undefined
  if (model === modelOf(ctx.formats, 'version'))
    return { resource: registry.resources.find(({ kind }) => kind === 'version')!, key }
  const resource = registry.named(model)
  return resource && { resource, key }
}

function namedByHref({ registry }: Where, value: string): Named | undefined {
  const path = value.replace(/^https?:\/\/[^/]+/, '').replace(/[?#].*$/, '')
  if (!path.startsWith(apiRoot) || !path.endsWith('/')) return undefined
  const segments = path.slice(apiRoot.length, -1).split('/')
  const key = decode(segments.at(-1)!)
  const flat = segments.slice(0, -1).join('/')
  const resource = registry.resources.find((each) => !each.parent && !each.generic && each.path === flat)
  if (resource) return { resource, key }
  const [parentKey, segment] = segments.slice(-3, -1)
  const parentPath = segments.slice(0, -3).join('/')
  const nested = registry.resources.find((each) => each.parent?.resource.path === parentPath && each.path === segment)
  return nested && { resource: nested, key, parentKey: decode(parentKey!) }
}

function isCollection({ resources }: Registry, value: string): boolean {
  return resources.some((resource) => !resource.parent && value.endsWith(collectionHref(resource)))
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/** What is no table of its own is selected from under its name. */
const sourceOf = ({ table, from }: Resource) => (from ? from.as(table) : table)

async function findRow(db: Db, resource: Resource, key: string, parentKey: string | undefined, byPrn: boolean) {
  const column = byPrn && resource.key === 'number' ? 'uuid' : (resource.key ?? 'uuid')
  if (!isKey(column, key)) return undefined
  let query = db
    .selectFrom(sourceOf(resource) as keyof Schema)
    .selectAll()
    .where(column as never, '=', (column === 'uuid' ? key : Number(key)) as never)
  if (resource.type && resource.kind !== 'version') query = query.where('type' as never, '=', resource.type as never)
  if (resource.parent && parentKey !== undefined) {
    const parent = await findRow(db, resource.parent.resource, parentKey, undefined, false)
    if (!parent) return undefined
    if (resource.parent.column) query = query.where(resource.parent.column as never, '=', parent.id as never)
  }
  return (await query.executeTakeFirst()) as { id: number; uuid?: string; type?: string; repository_id?: number } | undefined
}

/** Whether a text can be an item's key at all. */
export function isKey(column: 'uuid' | 'id' | 'number', key: string): boolean {
  return column === 'uuid' ? uuidPattern.test(key) : /^\d{1,15}$/.test(key)
}
