import { sql } from 'kysely'
import { modelOf } from '../../core/names.ts'
import { createRole, deleteRole, isAbout, permissionsOf, requireUnlocked, updateRole } from '../../core/access/roles.ts'
import { baseFields, lookups, nameFilters } from './engine/filters.ts'
import { apiRoot } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { showRow } from './engine/list.ts'
import { answerSchema, created, creating, deleting, listing, reading, updating } from './engine/operations.ts'
import type { Call, Fields, Filter, Resource } from './engine/resource.ts'

const fields: Fields = {
  name: { type: 'string', required: true, description: 'The name of this role.' },
  description: { type: 'string', nullable: true, description: 'An optional description.' },
  permissions: {
    type: 'array',
    items: { type: 'string' },
    required: true,
    description: 'List of permissions defining the role.',
  },
  locked: { type: 'boolean', readOnly: true, description: 'True if the role is system managed.' },
}

const answer = answerSchema('Role', baseFields, fields)
const body = { schema: 'Role', fields: fields }

/** Roles whose permissions are as they should be. There are few, so they are looked at one by one. */
function permissionFilter(
  description: string,
  test: (value: any, call: Call) => (permissions: string[]) => boolean,
  many: boolean,
): Filter {
  const one = { type: 'string', description } as const
  return {
    field: many ? { type: 'array', items: { type: 'string' }, description } : one,
    explode: many,
    async where(value, call) {
      const fits = test(value, call)
      const roles = await call.ctx.db.selectFrom('role').select(['id', 'permissions']).execute()
      const ids = roles.filter((role) => fits(permissionsOf(role))).map(({ id }) => id)
      return ids.length === 0 ? sql`false` : sql`role.id in (${sql.join(ids)})`
    },
  }
}

export const roles: Resource<'role'> = {
  path: 'roles',
  app: 'core',
  model: 'Role',
  table: 'role',
  kind: 'role',
  fields,
  filters: {
    ...nameFilters('role.name'),
    ...lookups('description', 'role.description', 'text', ['exact', 'iexact', 'icontains', 'contains']),
    ...lookups('locked', 'role.locked', 'boolean', ['exact']),
    contains_permission: permissionFilter(
      'Filter roles that have any of the permissions in the list.',
      (wanted: string[]) => (permissions) =>
        permissions.some(
          (permission) => wanted.includes(permission) || wanted.includes(permission.slice(permission.indexOf('.') + 1)),
        ),
      true,
    ),
    for_object_type: permissionFilter(
      'Filter roles that only have permissions for the specified object HREF.',
      (value: string, call) => {
        const model = modelOfHref(call, value)
        return (permissions) => permissions.length > 0 && permissions.every((permission) => isAbout(permission, model))
      },
      false,
    ),
  },
  ordering: { name: 'role.name', description: 'role.description', locked: 'role.locked' },
  show: async (_call, rows) =>
    rows.map((role) => ({
      name: role.name,
      description: role.description,
      permissions: permissionsOf(role),
      locked: role.locked === 1,
    })),
  operations: [
    listing(answer, 'admin'),
    reading(answer, 'admin'),
    creating({
      summary: 'Create a role',
      body,
      answers: { 201: answer },
      allow: 'admin',
      run: async (call) => created(call, await createRole(call.ctx, call.body as Parameters<typeof createRole>[1])),
    }),
    ...updating({
      summary: 'Update a role',
      body,
      answers: { 200: answer },
      allow: 'admin',
      async run(call) {
        requireUnlocked(call.row)
        return { status: 200, body: await showRow(call, roles, await updateRole(call.ctx, call.row, call.body)) }
      },
    }),
    deleting({
      summary: 'Delete a role',
      allow: 'admin',
      remove: (call) => deleteRole(call.ctx, call.row),
    }),
  ],
}

/** The model of what an href names, or would name: whether it exists does not matter. */
function modelOfHref({ ctx, registry }: Call, href: string): string {
  const path = href.startsWith(apiRoot) ? href.slice(apiRoot.length) : ''
  const resource = registry.resources.find(
    (each) => each.kind && !each.parent && !each.generic && path.startsWith(`${each.path}/`),
  )
  if (!resource) throw invalid([`URI not valid: ${href}`])
  return modelOf(ctx.formats, resource.kind!, resource.type)
}
