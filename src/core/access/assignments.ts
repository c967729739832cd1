import { Failure, type Problems } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { type Db, transact } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import { isAbout, permissionsOf } from './roles.ts'

/*
 * Who has which role: a user or a group, on one object or on everything. There are two ways in, as in Pulp: from the object (list_roles,
 * add_role, remove_role) and from the holder (users/<id>/roles/). What they refuse, and in which words, is Pulp's.
 */

type Act = Pick<Ctx, 'db' | 'changes'>

export interface HeldRole {
  role: string
  users: string[]
  groups: string[]
}

/** Who has which role on an object, as list_roles says it. */
export async function rolesOf(ctx: Pick<Ctx, 'db'>, prn: string): Promise<HeldRole[]> {
  const rows = await ctx.db
    .selectFrom('role_assignment')
    .innerJoin('role', 'role.id', 'role_assignment.role_id')
    .leftJoin('user', 'user.id', 'role_assignment.user_id')
    .leftJoin('user_group', 'user_group.id', 'role_assignment.group_id')
    .select(['role.name as role', 'user.username', 'user_group.name as group'])
    .where('role_assignment.object', '=', prn)
    .orderBy('role_assignment.id')
    .execute()
  const held = new Map<string, HeldRole>()
  for (const { role, username, group } of rows) {
    const entry = held.get(role) ?? { role, users: [], groups: [] }
    if (username !== null) entry.users.push(username)
    if (group !== null) entry.groups.push(group)
    held.set(role, entry)
  }
  return [...held.values()]
}

/** Names as a client sends them, unchecked. */
export interface RoleRequest {
  role?: unknown
  users?: unknown
  groups?: unknown
}

/** Gives a role on an object to users and groups; answers what it did. Throws Failure invalid. */
export async function addRole(ctx: Act, prn: string, request: RoleRequest): Promise<HeldRole> {
  const added = await transact(ctx.db, async (tx) => {
    const { role, holders, named } = await checkRequest(tx, prn, request)
    const has = await assignmentsOf(tx, role.id, prn)
    const again = holders.find((holder) => has.some((each) => isSame(each, holder)))
    if (again) throw wrong([`The role is already assigned to ${again.called}.`])
    await insertAssignments(tx, role.id, prn, holders)
    return named
  })
  ctx.changes.bump()
  return added
}

/** Takes a role on an object from users and groups; answers what it did. Throws Failure invalid. */
export async function removeRole(ctx: Act, prn: string, request: RoleRequest): Promise<HeldRole> {
  const removed = await transact(ctx.db, async (tx) => {
    const { role, holders, named } = await checkRequest(tx, prn, request)
    const has = await assignmentsOf(tx, role.id, prn)
    const without = holders.find((holder) => !has.some((each) => isSame(each, holder)))
    if (without) throw wrong([`The role is not assigned to ${without.called}.`])
    const ids = has.filter((each) => holders.some((holder) => isSame(each, holder))).map(({ id }) => id)
    if (ids.length > 0) await tx.deleteFrom('role_assignment').where('id', 'in', ids).execute()
    return named
  })
  ctx.changes.bump()
  return removed
}

/** One user or one group. */
export type Holder = { readonly user: number } | { readonly group: number }

/** Gives a role on an object, or on everything (null), to one holder. Throws Failure invalid. */
export async function assignRole(
  ctx: Act,
  holder: Holder,
  role: Row<'role'>,
  prn: string | null,
): Promise<Row<'role_assignment'>> {
  const assignment = await transact(ctx.db, async (tx) => {
    if (prn !== null && !permissionsOf(role).some((permission) => isAbout(permission, prn)))
      throw wrong([`The role '${role.name}' does not carry any permission for that object.`])
    const its = columnsOf(holder)
    if ((await assignmentsOf(tx, role.id, prn)).some((each) => isSame(each, its)))
      throw wrong([`The role is already assigned to this ${'user' in holder ? 'user' : 'group'}.`])
    return insertAssignments(tx, role.id, prn, [its])
  })
  ctx.changes.bump()
  return assignment[0]!
}

export async function unassignRole(ctx: Act, assignment: Pick<Row<'role_assignment'>, 'id'>): Promise<void> {
  await ctx.db.deleteFrom('role_assignment').where('id', '=', assignment.id).execute()
  ctx.changes.bump()
}

interface Columns {
  user_id: number | null
  group_id: number | null
}

function columnsOf(holder: Holder): Columns {
  return 'user' in holder ? { user_id: holder.user, group_id: null } : { user_id: null, group_id: holder.group }
}

function isSame(a: Columns, b: Columns): boolean {
  return a.user_id === b.user_id && a.group_id === b.group_id
}

function assignmentsOf(tx: Db, roleId: number, prn: string | null) {
  const object = prn === null ? 'is' : '='
  return tx
    .selectFrom('role_assignment')
    .select(['id', 'user_id', 'group_id'])
    .where('role_id', '=', roleId)
    .where('object', object, prn)
    .execute()
}

async function insertAssignments(
  tx: Db,
  roleId: number,
  prn: string | null,
  holders: readonly Columns[],
): Promise<Row<'role_assignment'>[]> {
  if (holders.length === 0) return []
  const created = now()
  const rows = holders.map(({ user_id, group_id }) => ({
    uuid: newUuid(),
    role_id: roleId,
    user_id,
    group_id,
    object: prn,
    created,
  }))
  return tx.insertInto('role_assignment').values(rows).returningAll().execute()
}

/** Finds what a request names, gathering all that is wrong with it. */
async function checkRequest(tx: Db, prn: string, request: RoleRequest) {
  const problems: Record<string, Problems> = {}
  const users = await checkNames(problems, 'users', request.users, 'username', (names) =>
    tx.selectFrom('user').select(['id', 'username as name']).where('username', 'in', names).execute(),
  )
  const groups = await checkNames(problems, 'groups', request.groups, 'name', (names) =>
    tx.selectFrom('user_group').select(['id', 'name']).where('name', 'in', names).execute(),
  )
  const role = await checkRole(tx, problems, request.role)
  if (Object.keys(problems).length > 0 || !role) throw wrong(problems)
  if (!permissionsOf(role).some((permission) => isAbout(permission, prn)))
    throw wrong(['The role does not contain any permission for that object.'])
  const holders = [
    ...users.map(({ id, name }) => ({ user_id: id, group_id: null, called: `user '${name}'` })),
    ...groups.map(({ id, name }) => ({ user_id: null, group_id: id, called: `group '${name}'` })),
  ]
  const named = { users: users.map(({ name }) => name), groups: groups.map(({ name }) => name), role: role.name }
  return { role, holders, named }
}

type Found = { id: number; name: string }

async function checkNames(
  problems: Record<string, Problems>,
  field: string,
  value: unknown,
  attribute: string,
  find: (names: string[]) => Promise<Found[]>,
): Promise<Found[]> {
  const list = value ?? []
  if (value === null || !Array.isArray(list)) {
    problems[field] = [
      value === null ? 'This field may not be null.' : `Expected a list of items but got type "${typeName(value)}".`,
    ]
    return []
  }
  // '' is what an empty field of a form says.
  const asked = list.map((name) => (name === null || name === '' ? undefined : String(name)))
  const names = [...new Set(asked.filter((name) => name !== undefined))]
  const found = new Map((names.length > 0 ? await find(names) : []).map((each) => [each.name, each]))
  const missing = asked.flatMap((name, at): [string, string[]][] =>
    name === undefined
      ? [[String(at), ['This field may not be null.']]]
      : found.has(name)
        ? []
        : [[String(at), [`Object with ${attribute}=${name} does not exist.`]]],
  )
  if (missing.length > 0) problems[field] = Object.fromEntries(missing)
  return names.flatMap((name) => found.get(name) ?? [])
}

async function checkRole(tx: Db, problems: Record<string, Problems>, name: unknown): Promise<Row<'role'> | undefined> {
  if (name === undefined) problems['role'] = ['This field is required.']
  else if (name === null || name === '') problems['role'] = ['This field may not be null.']
  else {
    const role = await tx.selectFrom('role').selectAll().where('name', '=', String(name)).executeTakeFirst()
    if (role) return role
    problems['role'] = [`Object with name=${String(name)} does not exist.`]
  }
  return undefined
}

/** Python's name of a JSON value's type, which is in the messages. */
function typeName(value: unknown): string {
  if (typeof value === 'string') return 'str'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'number') return Number.isInteger(value) ? 'int' : 'float'
  return 'dict'
}

/** A list is about no field in particular. */
function wrong(problems: Problems): Failure {
  const all = Array.isArray(problems) ? { non_field_errors: problems as readonly string[] } : problems
  return new Failure('invalid', firstOf(all), { problems: all })
}

function firstOf(problems: Problems): string {
  const first = Object.values(problems)[0] as Problems | string | undefined
  return typeof first === 'object' ? firstOf(first) : (first ?? 'The request is wrong.')
}
