import { sql, type SqlBool } from 'kysely'
import { createGuard, deleteGuard, downloadersOf, updateGuard } from '../../core/access/guard-resources.ts'
import { prnOf } from '../../core/names.ts'
import { Failure } from '../../lib/failure.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups, nameFilters } from './engine/filters.ts'
import { groupFields, showGroup } from './groups.ts'
import { hrefOf, isSeen } from './engine/hrefs.ts'
import { showRow, visibleTo } from './engine/list.ts'
import { answerSchema, created, creating, deleting, listing, reading, roleOperations, updating } from './engine/operations.ts'
import type { Call, Fields, Filters, Resource, Target } from './engine/resource.ts'
import { showUserName, userNameFields } from './users.ts'

const commonFields: Fields = {
  name: { type: 'string', required: true, description: 'The unique name.' },
  description: { type: 'string', nullable: true, description: 'An optional description.' },
}

const filters: Filters = nameFilters('guard.name')
const ordering = { name: 'guard.name', description: 'guard.description', pulp_type: 'guard.type' }

/** A type of guard: its names in Pulp, and what it has beyond a name and a description. */
interface GuardType {
  type: string
  path: string
  model: string
  fields: Fields
  /** Settings out of a request; those that it names. */
  settings(body: Call['body']): Record<string, unknown>
  show(call: Call, rows: readonly Row<'guard'>[]): Promise<Record<string, unknown>[]>
}

const rbac: GuardType = {
  type: 'core.rbac',
  path: 'rbac',
  model: 'RBACContentGuard',
  fields: {
    users: { type: 'array', readOnly: true, items: { type: 'object', properties: userNameFields } },
    groups: { type: 'array', readOnly: true, items: { type: 'object', properties: groupFields } },
  },
  settings: () => ({}),
  async show(call, rows) {
    const found = await downloadersOf(
      call.ctx,
      rows.map(({ uuid }) => uuid),
    )
    return rows.map(({ uuid }) => ({
      users: found.get(uuid)?.users.map((user) => showUserName(call, user)) ?? [],
      groups: found.get(uuid)?.groups.map((group) => showGroup(call, group)) ?? [],
    }))
  },
}

const header: GuardType = {
  type: 'core.header',
  path: 'header',
  model: 'HeaderContentGuard',
  fields: {
    header_name: { type: 'string', required: true, description: 'The header name the guard will check on.' },
    header_value: { type: 'string', required: true, description: 'The value that will authorize the request.' },
    jq_filter: {
      type: 'string',
      nullable: true,
      description:
        'A JQ syntax compatible filter: a simple path such as .identity.org_id. If jq_filter is not set, then the value will only be Base64 decoded and checked as an explicit string match.',
    },
  },
  settings: (body) => pick(body, ['header_name', 'header_value', 'jq_filter']),
  show: async (_call, rows) => rows.map(({ settings }) => ({ jq_filter: null, ...JSON.parse(settings) })),
}

const composite: GuardType = {
  type: 'core.composite',
  path: 'composite',
  model: 'CompositeContentGuard',
  fields: {
    guards: {
      type: 'array',
      items: { type: 'href', to: 'guard', nullable: true },
      description: 'List of ContentGuards to ask for access-permission.',
    },
  },
  settings: ({ guards }) =>
    guards === undefined
      ? {}
      : { guards: [...new Set((guards as (Target | null)[]).flatMap((guard) => (guard ? [guard.uuid] : [])))] },
  async show(call, rows) {
    const lists = rows.map(({ settings }): string[] => JSON.parse(settings)['guards'] ?? [])
    const uuids = lists.flat()
    const members =
      uuids.length === 0
        ? []
        : await call.ctx.db.selectFrom('guard').select(['uuid', 'type']).where('uuid', 'in', uuids).execute()
    const hrefs = new Map(members.map((member) => [member.uuid, hrefOf(call.registry, 'guard', member)]))
    return lists.map((list) => ({ guards: list.flatMap((uuid) => hrefs.get(uuid) ?? []) }))
  },
}

const contentRedirect: GuardType = {
  type: 'core.content_redirect',
  path: 'content_redirect',
  model: 'ContentRedirectContentGuard',
  fields: {},
  settings: () => ({}),
  show: async (_call, rows) => rows.map(() => ({})),
}

const guardTypes = [rbac, header, composite, contentRedirect]

/** The guards of each type. */
export const guards: readonly Resource<'guard'>[] = guardTypes.map(guardResource)

/** `contentguards/`: those of all types, as far as the caller may see them. */
export const guardsList: Resource<'guard'> = {
  path: 'contentguards',
  app: 'core',
  model: 'ContentGuard',
  table: 'guard',
  kind: 'guard',
  generic: true,
  fields: commonFields,
  filters: {
    ...filters,
    ...lookups(
      'pulp_type',
      'guard.type',
      'text',
      ['exact', 'in'],
      guardTypes.map(({ type }) => type),
    ),
  },
  ordering,
  async where(rows, call) {
    if (call.user?.isSuperuser) return rows
    const visible = await Promise.all(
      guards.map(async (resource) => {
        const condition = await visibleTo(call, resource, resource.view!)
        return sql<SqlBool>`(guard.type = ${resource.type} and ${condition ?? sql`true`})`
      }),
    )
    return rows.where(sql<SqlBool>`(${sql.join(visible, sql` or `)})`)
  },
  show: async (_call, rows) => rows.map(showCommon),
  operations: [listing(answerSchema('ContentGuard', baseFields, commonFields))],
}

function guardResource({ type, path, model, fields: own, settings, show }: GuardType): Resource<'guard'> {
  const fields = { ...commonFields, ...own }
  const lower = model.toLowerCase()
  const may = (action: string) => `core.${action}_${lower}`
  const answer = answerSchema(model, baseFields, fields)
  const body = { schema: model, fields: fields }
  return {
    path: `contentguards/core/${path}`,
    app: 'core',
    model,
    table: 'guard',
    kind: 'guard',
    type,
    fields,
    filters,
    ordering,
    view: may('view'),
    async show(call, rows) {
      const views = await show(call, rows)
      return rows.map((row, at) => ({ ...showCommon(row), ...views[at] }))
    },
    operations: [
      listing(answer),
      reading(answer),
      creating({
        summary: `Create a ${path} content guard`,
        body,
        answers: { 201: answer },
        allow: { model: [may('add')] },
        async run(call) {
          const values = valuesOf(call.body, settings)
          const made = type === composite.type ? { ...values, settings: { guards: [], ...values.settings } } : values
          return created(call, await createGuard(call.ctx, type, { ...made, name: call.body['name'] }, call.user!.id))
        },
      }),
      ...updating({
        summary: `Update a ${path} content guard`,
        body,
        answers: { 200: answer },
        allow: { object: [may('change')] },
        async run(call) {
          const guard = await updateGuard(call.ctx, call.row, valuesOf(call.body, settings))
          return { status: 200, body: await showRow(call, call.resource!, guard) }
        },
      }),
      deleting({
        summary: `Delete a ${path} content guard`,
        allow: { object: [may('delete')] },
        remove: (call) => deleteGuard(call.ctx, call.row).catch((error: unknown) => refuseUnnamed(call, error)),
      }),
      ...roleOperations(`core.${lower}`, [may('view')]),
    ],
  }
}

/** What a guard protects is told by name to whoever sees that. */
async function refuseUnnamed(call: Call, error: unknown): Promise<never> {
  const { db, formats } = call.ctx
  const behind = db.selectFrom('distribution').select(['id', 'uuid', 'type']).where('guard_id', '=', call.row.id).orderBy('id')
  for (const row of await behind.execute())
    if (!(await isSeen(call, { kind: 'distribution', ...row, prn: prnOf(formats, 'distribution', row) })))
      throw new Failure(
        'conflict',
        `The guard "${call.row.name}" protects a distribution that you may not see: that must get another guard, or none, first.`,
        { cause: error },
      )
  throw error
}

function showCommon({ name, description }: Row<'guard'>): Record<string, unknown> {
  return { name, description }
}

function valuesOf(body: Call['body'], settings: GuardType['settings']) {
  return { ...(pick(body, ['name', 'description']) as { name?: string; description?: string | null }), settings: settings(body) }
}

function pick(body: Call['body'], names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.flatMap((name) => (name in body ? [[name, body[name]]] : [])))
}
