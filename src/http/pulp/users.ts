import type { Db } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { createUser, deleteUser, groupPrn, updateUser } from '../../core/access/users.ts'
import { renderTime } from '../../lib/time.ts'
import { lookups } from './engine/filters.ts'
import { hrefOf } from './engine/hrefs.ts'
import { showRow } from './engine/list.ts'
import { answerSchema, created, creating, deleting, listing, reading, updating } from './engine/operations.ts'
import type { Call, Fields, Resource } from './engine/resource.ts'
import { roleAssignments } from './role-assignments.ts'

const name = { type: 'string', maxLength: 150 } as const
const hrefAndPrn: Fields = {
  pulp_href: { type: 'string', format: 'uri', readOnly: true },
  prn: { type: 'string', readOnly: true, description: 'The Pulp Resource Name (PRN).' },
}

const fields: Fields = {
  id: { type: 'integer', format: 'int64', readOnly: true },
  username: { ...name, required: true, description: 'Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.' },
  password: {
    type: 'string',
    writeOnly: true,
    secret: true,
    nullable: true,
    default: null,
    description: 'Users password. Set to ``null`` to disable password authentication.',
  },
  first_name: { ...name, allowBlank: true, description: 'First name' },
  last_name: { ...name, allowBlank: true, description: 'Last name' },
  email: { type: 'string', format: 'email', allowBlank: true, description: 'Email address' },
  is_staff: { type: 'boolean', default: false, description: 'Designates whether the user can log into this admin site.' },
  is_active: { type: 'boolean', default: true, description: 'Designates whether this user should be treated as active.' },
  date_joined: { type: 'string', format: 'date-time', readOnly: true, description: 'Date joined' },
  groups: {
    type: 'array',
    readOnly: true,
    items: { type: 'object', properties: { name: { ...name, required: true }, ...hrefAndPrn } },
  },
  hidden_fields: {
    type: 'array',
    readOnly: true,
    items: {
      type: 'object',
      properties: { name: { type: 'string', required: true }, is_set: { type: 'boolean', required: true } },
    },
  },
}

const few = ['exact', 'iexact', 'in', 'contains', 'icontains'] as const
const answer = answerSchema('User', hrefAndPrn, fields)
const body = { schema: 'User', fields: fields, lenient: true }

/** Users; only administrators have to do with them. */
export const users: Resource<'user'> = {
  path: 'users',
  app: 'auth',
  model: 'User',
  placeholder: 'auth_user_href',
  schema: 'User',
  table: 'user',
  kind: 'user',
  key: 'id',
  fields,
  filters: {
    ...lookups('username', 'user.username', 'text', few),
    ...lookups('first_name', 'user.first_name', 'text', few),
    ...lookups('last_name', 'user.last_name', 'text', few),
    ...lookups('email', 'user.email', 'text', few),
    ...lookups('is_active', 'user.is_active', 'boolean', ['exact']),
    ...lookups('is_staff', 'user.is_staff', 'boolean', ['exact']),
  },
  ordering: {
    ...Object.fromEntries(
      ['id', 'username', 'first_name', 'last_name', 'email', 'is_staff', 'is_active', 'is_superuser'].map((column) => [
        column,
        `user.${column}`,
      ]),
    ),
    date_joined: 'user.created',
    last_login: '',
    password: '',
  },
  async show(call, rows) {
    const groups = await groupsOf(
      call.ctx.db,
      rows.map(({ id }) => id),
    )
    return rows.map((row) => ({
      id: row.id,
      username: row.username,
      first_name: row.first_name,
      last_name: row.last_name,
      email: row.email,
      is_staff: row.is_staff === 1,
      is_active: row.is_active === 1,
      date_joined: renderTime(row.created),
      groups: groups
        .filter(({ user_id }) => user_id === row.id)
        .map(({ id, name: called }) => ({
          name: called,
          pulp_href: hrefOf(call.registry, 'user_group', { uuid: id }),
          prn: groupPrn({ id }),
        })),
      hidden_fields: [{ name: 'password', is_set: true }],
    }))
  },
  operations: [
    listing(answer, 'admin'),
    reading(answer, 'admin'),
    creating({
      summary: 'Create an user',
      body,
      answers: { 201: answer },
      allow: 'admin',
      run: async (call) => created(call, await createUser(call.ctx, call.body as Parameters<typeof createUser>[1])),
    }),
    ...updating({
      summary: 'Update an user',
      body,
      answers: { 200: answer },
      allow: 'admin',
      async run(call) {
        const user = await updateUser(call.ctx, call.row, call.body)
        return { status: 200, body: await showRow(call, users, user) }
      },
    }),
    deleting({
      summary: 'Delete an user',
      allow: 'admin',
      remove: (call) => deleteUser(call.ctx, call.row),
    }),
  ],
}

/** `users/<id>/roles/`: what was given to a user, on an object or on all. */
export const userRoles = roleAssignments({
  parent: users,
  column: 'user_id',
  schema: 'UserRole',
  placeholder: 'auth_users_user_role_href',
  allow: 'admin',
  holder: (user) => ({ user: user.id }),
})

async function groupsOf(db: Db, ids: number[]): Promise<{ user_id: number; id: number; name: string }[]> {
  if (ids.length === 0) return []
  return db
    .selectFrom('group_member')
    .innerJoin('user_group', 'user_group.id', 'group_member.group_id')
    .select(['group_member.user_id', 'user_group.id', 'user_group.name'])
    .where('group_member.user_id', 'in', ids)
    .orderBy('user_group.id')
    .execute()
}

/** How groups and guards name users. */
export function showUserName(call: Call, user: Pick<Row<'user'>, 'id' | 'username'>): Record<string, unknown> {
  return { username: user.username, pulp_href: hrefOf(call.registry, 'user', { uuid: user.id }), prn: `prn:auth.user:${user.id}` }
}

/** The schema of showUserName. */
export const userNameFields: Fields = { username: { ...name, required: true }, ...hrefAndPrn }
