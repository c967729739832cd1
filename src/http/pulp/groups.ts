import { addMember, createGroup, deleteGroup, removeMember, renameGroup } from '../../core/access/users.ts'
import { lookups } from './engine/filters.ts'
import { hrefOf } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { noFilters, showRow } from './engine/list.ts'
import { answerSchema, created, creating, deleting, listing, reading, roleOperations, updating } from './engine/operations.ts'
import type { Call, Fields, Resource } from './engine/resource.ts'
import { roleAssignments } from './role-assignments.ts'
import { showUserName, userNameFields } from './users.ts'

const fields: Fields = {
  name: { type: 'string', required: true, maxLength: 150, description: 'Name' },
  id: { type: 'integer', format: 'int64', readOnly: true },
}
const hrefAndPrn: Fields = {
  pulp_href: { type: 'string', format: 'uri', readOnly: true },
  prn: { type: 'string', readOnly: true, description: 'The Pulp Resource Name (PRN).' },
}

const answer = answerSchema('Group', hrefAndPrn, fields)
const body = { schema: 'Group', fields: fields }
const view = 'core.view_group'
const mayChange = { object: ['core.change_group'] }

export const groups: Resource<'user_group'> = {
  path: 'groups',
  app: 'core',
  model: 'Group',
  table: 'user_group',
  kind: 'user_group',
  key: 'id',
  fields,
  filters: {
    ...lookups('id', 'user_group.id', 'number', ['exact', 'in']),
    ...lookups('name', 'user_group.name', 'text', ['exact', 'iexact', 'in', 'contains', 'icontains']),
  },
  ordering: { id: 'user_group.id', name: 'user_group.name' },
  view,
  show: async (_call, rows) => rows.map(({ id, name }) => ({ name, id })),
  operations: [
    listing(answer),
    reading(answer),
    creating({
      summary: 'Create a group',
      body,
      answers: { 201: answer },
      allow: { model: ['core.add_group'] },
      run: async (call) => created(call, await createGroup(call.ctx, call.body['name'], call.user!.id)),
    }),
    ...updating({
      summary: 'Update a group',
      body,
      answers: { 200: answer },
      allow: mayChange,
      async run(call) {
        const { name } = call.body
        const group = name === undefined ? call.row : await renameGroup(call.ctx, call.row, name)
        return { status: 200, body: await showRow(call, groups, group) }
      },
    }),
    deleting({
      summary: 'Delete a group',
      allow: { object: ['core.delete_group'] },
      remove: (call) => deleteGroup(call.ctx, call.row),
    }),
    ...roleOperations('core.group', [view]),
  ],
}

/** `groups/<id>/roles/`: what was given to a group, on an object or on all. Only administrators may see or change it. */
export const groupRoles = roleAssignments({
  parent: groups,
  column: 'group_id',
  schema: 'GroupRole',
  placeholder: 'groups_group_role_href',
  allow: 'admin',
  holder: (group) => ({ group: group.id }),
})

const memberAnswer = { schema: 'GroupUserResponse', fields: userNameFields }

/** `groups/<id>/users/`: who is in a group. */
export const groupUsers: Resource<'user'> = {
  path: 'users',
  parent: { resource: groups },
  app: 'auth',
  model: 'User',
  placeholder: 'groups_user_href',
  schema: 'GroupUser',
  table: 'user',
  key: 'id',
  base: false,
  fields: userNameFields,
  filters: noFilters,
  ordering: {},
  // The list holds members; taking one out may name any user.
  where: (rows, { method, parent }) =>
    method === 'GET'
      ? rows.where('user.id', 'in', (db) => db.selectFrom('group_member').select('user_id').where('group_id', '=', parent.id))
      : rows,
  show: async (call, rows) => rows.map((row) => showUserName(call, row)),
  operations: [
    listing(memberAnswer, { parent: [view] }),
    creating({
      summary: 'Add a user to a group',
      body: { schema: 'GroupUser', fields: userNameFields },
      answers: { 201: memberAnswer },
      allow: { parent: mayChange.object },
      async run(call) {
        const { username } = call.body
        const user = await call.ctx.db.selectFrom('user').selectAll().where('username', '=', username).executeTakeFirst()
        if (!user) throw invalid([`Could not find user ${username}`])
        await addMember(call.ctx, call.parent, user)
        return { status: 201, body: showUserName(call, user) }
      },
    }),
    deleting({
      summary: 'Remove a user from a group',
      allow: { parent: mayChange.object },
      remove: (call) => removeMember(call.ctx, call.parent, call.row),
    }),
  ],
}

/** How guards name groups. */
export function showGroup(call: Call, { id, name }: { id: number; name: string }): Record<string, unknown> {
  return { name, pulp_href: hrefOf(call.registry, 'user_group', { uuid: id }), prn: `prn:core.group:${id}`, id }
}

/** The schema of showGroup. */
export const groupFields: Fields = { ...hrefAndPrn, ...fields }
