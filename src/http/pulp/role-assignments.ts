import { sql } from 'kysely'
import { assignRole, type Holder, unassignRole } from '../../core/access/assignments.ts'
import { permissionsOf } from '../../core/access/roles.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups } from './engine/filters.ts'
import { findTarget, hrefsOfPrns } from './engine/hrefs.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import { answerSchema, created, creating, deleting, listing, reading } from './engine/operations.ts'
import type { Call, Fields, Filters, Resource, Rule } from './engine/resource.ts'

/* `users/<id>/roles/` and `groups/<id>/roles/`: the roles of one holder, on objects or on everything. */

const contentObject = (how: string) =>
  ({
    type: 'string',
    nullable: true,
    description: `${how} of the object for which role permissions should be asserted. If set to 'null', permissions will act on either domain or model-level.`,
  }) as const

const fields: Fields = {
  role: { type: 'string', required: true },
  content_object: contentObject('pulp_href'),
  content_object_prn: contentObject('prn'),
  description: { type: 'string', nullable: true, readOnly: true },
  permissions: { type: 'array', items: { type: 'string' }, readOnly: true },
  domain: {
    type: 'string',
    format: 'uri',
    nullable: true,
    description: 'Domain this role should be applied on, mutually exclusive with content_object.',
  },
}

/** What a role can be held on. */
const objects = [
  'repository',
  'remote',
  'publication',
  'distribution',
  'guard',
  'upload',
  'task',
  'user_group',
  'domain',
  'namespace',
]

const filters: Filters = {
  ...lookups('role', 'role.name', 'text', ['exact', 'in', 'contains', 'icontains', 'startswith']),
  content_object: {
    field: { type: 'string', description: 'content_object' },
    async where(value: string, call) {
      if (value === 'null') return sql`role_assignment.object is null`
      const target = await findTarget(call, value, objects)
      if (typeof target === 'string') throw invalid([`Invalid value for 'content_object': ${value}.`])
      return sql`role_assignment.object = ${target.prn}`
    },
  },
  // There is one domain and it needs no assignments of its own.
  domain: { field: { type: 'string', format: 'uuid' }, where: (value: string) => (value === 'null' ? sql`true` : sql`false`) },
}

interface Options {
  parent: Resource<'user'> | Resource<'user_group'>
  column: 'user_id' | 'group_id'
  schema: 'UserRole' | 'GroupRole'
  placeholder: string
  allow: Rule
  holder(parent: { id: number }): Holder
}

export function roleAssignments({ parent, column, schema, placeholder, allow, holder }: Options): Resource<'role_assignment'> {
  const answer = answerSchema(schema, baseFields, fields)
  return {
    path: 'roles',
    parent: { resource: parent, column },
    app: 'core',
    model: schema,
    placeholder,
    schema,
    table: 'role_assignment',
    fields,
    filters,
    ordering: { role: 'role.name', description: 'role.description' },
    where: (rows) => rows.innerJoin('role', 'role.id', 'role_assignment.role_id'),
    show: (call, rows) => showAssignments(call, rows, schema),
    operations: [
      listing(answer, allow),
      reading(answer, allow),
      creating({
        summary: `Create ${schema === 'UserRole' ? 'an user' : 'a group'} role`,
        body: { schema, fields: fields },
        answers: { 201: answer },
        allow,
        run: async (call) => created(call, await assign(call, holder(call.parent))),
      }),
      deleting({
        summary: `Delete ${schema === 'UserRole' ? 'an user' : 'a group'} role`,
        allow,
        remove: (call) => unassignRole(call.ctx, call.row),
      }),
    ],
  }
}

async function assign(call: Call, holder: Holder): Promise<Row<'role_assignment'>> {
  const { role: name, content_object: href, content_object_prn: prn, domain } = call.body
  const problems: Record<string, string[]> = {}
  const role = await call.ctx.db.selectFrom('role').selectAll().where('name', '=', name).executeTakeFirst()
  if (!role) problems['role'] = [`Object with name=${name} does not exist.`]
  const value: string | null | undefined = href ?? prn
  const target = typeof value === 'string' ? await findTarget(call, value, objects) : undefined
  if (typeof target === 'string')
    problems[href === value ? 'content_object' : 'content_object_prn'] = [`Invalid value: ${value}.`]
  if (!role || typeof target === 'string') throw invalid(problems)

  if (href === undefined && prn === undefined)
    throw invalidField(
      'non_field_errors',
      "Either 'content_object' or 'content_object_prn' needs to be specified. Use 'null' for global or domain level access.",
    )
  if (typeof domain === 'string')
    throw target
      ? invalidField('non_field_errors', 'Domain and content_object are mutually exclusive.')
      : invalidField('domain', 'Domains are not enabled: leave it out to give the role on all objects.')
  return assignRole(call.ctx, holder, role, target?.prn ?? null)
}

async function showAssignments(call: Call, rows: readonly Row<'role_assignment'>[], schema: Options['schema']) {
  const ids = [...new Set(rows.map(({ role_id }) => role_id))]
  const found = ids.length === 0 ? [] : await call.ctx.db.selectFrom('role').selectAll().where('id', 'in', ids).execute()
  const roles = new Map(found.map((role) => [role.id, role]))
  const prns = rows.flatMap(({ object }) => object ?? [])
  const hrefs = new Map((await hrefsOfPrns(call, prns)).map((href, at) => [prns[at], href]))
  return rows.map(({ uuid, role_id, object }) => {
    const role = roles.get(role_id)!
    return {
      prn: `prn:core.${schema.toLowerCase()}:${uuid}`,
      role: role.name,
      content_object: object === null ? null : hrefs.get(object),
      content_object_prn: object,
      description: role.description,
      permissions: permissionsOf(role),
      domain: null,
    }
  })
}
