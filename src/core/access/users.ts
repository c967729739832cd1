import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { type Db, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { forgetObject, grantToCreator, hasherOf } from './auth.ts'
import type { Ctx } from '../ctx.ts'
import { openHasher, passwordProblems, unusablePassword } from './passwords.ts'

/*
 * Users, groups and who is in which. Everything here changes what somebody may do, so everything bumps ctx.changes: the next request of
 * whoever is concerned is judged anew.
 */

type Act = Pick<Ctx, 'db' | 'changes'>

/** What a client may set. A password of null means that none will do. */
export interface UserFields {
  username: string
  password?: string | null
  first_name?: string
  last_name?: string
  email?: string
  is_staff?: boolean
  is_active?: boolean
}

/** Throws Failure invalid for a name that is taken or a password that is too weak. */
export async function createUser(
  ctx: Act,
  { password = null, is_staff = false, is_active = true, ...fields }: UserFields,
): Promise<Row<'user'>> {
  // Looked at now, to say so before the password is judged; and again below, where it counts.
  await requireFree(ctx.db, 'user', 'username', fields.username)
  const values = {
    first_name: '',
    last_name: '',
    email: '',
    ...fields,
    password: await storedPassword(ctx, password),
    is_staff: bit(is_staff),
    is_active: bit(is_active),
    is_superuser: bit(false),
    created: now(),
  }
  const user = await transact(ctx.db, async (tx) => {
    await requireFree(tx, 'user', 'username', fields.username)
    return tx.insertInto('user').values(values).returningAll().executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return user
}

/** Changes what is given. Throws Failure invalid as createUser, conflict when nobody would be left to administer. */
export async function updateUser(ctx: Act, user: Row<'user'>, changes: Partial<UserFields>): Promise<Row<'user'>> {
  const { password, is_staff, is_active, ...fields } = changes
  const values = {
    ...fields,
    ...(password !== undefined && { password: await storedPassword(ctx, password) }),
    ...(is_staff !== undefined && { is_staff: bit(is_staff) }),
    ...(is_active !== undefined && { is_active: bit(is_active) }),
  }
  if (Object.keys(values).length === 0) return user
  const updated = await transact(ctx.db, async (tx) => {
    if (fields.username !== undefined && fields.username !== user.username)
      await requireFree(tx, 'user', 'username', fields.username)
    if (is_active === false || password === null) await requireAnotherAdministrator(tx, user)
    return tx.updateTable('user').set(values).where('id', '=', user.id).returningAll().executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return updated
}

/** Throws Failure conflict when nobody would be left to administer. */
export async function deleteUser(ctx: Act, user: Row<'user'>): Promise<void> {
  await transact(ctx.db, async (tx) => {
    await requireAnotherAdministrator(tx, user)
    await tx.deleteFrom('user').where('id', '=', user.id).execute()
  })
  ctx.changes.bump()
}

/** Makes a group, which its creator then owns. Throws Failure invalid for a name that is taken. */
export async function createGroup(ctx: Act, name: string, creatorId: number | null): Promise<Row<'user_group'>> {
  const group = await transact(ctx.db, async (tx) => {
    await requireFree(tx, 'user_group', 'name', name)
    const row = await tx.insertInto('user_group').values({ name }).returningAll().executeTakeFirstOrThrow()
    await grantToCreator(tx, creatorId, ['core.group_owner'], groupPrn(row))
    return row
  })
  ctx.changes.bump()
  return group
}

/** Throws Failure invalid for a name that is taken. */
export async function renameGroup(ctx: Act, group: Row<'user_group'>, name: string): Promise<Row<'user_group'>> {
  const renamed = await transact(ctx.db, async (tx) => {
    if (name !== group.name) await requireFree(tx, 'user_group', 'name', name)
    return tx.updateTable('user_group').set({ name }).where('id', '=', group.id).returningAll().executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return renamed
}

export async function deleteGroup(ctx: Act, group: Row<'user_group'>): Promise<void> {
  await transact(ctx.db, async (tx) => {
    await forgetObject(tx, groupPrn(group))
    await tx.deleteFrom('user_group').where('id', '=', group.id).execute()
  })
  ctx.changes.bump()
}

/** Who already is in the group stays in it. */
export async function addMember(ctx: Act, group: Row<'user_group'>, user: Pick<Row<'user'>, 'id'>): Promise<void> {
  const member = { group_id: group.id, user_id: user.id }
  await ctx.db
    .insertInto('group_member')
    .values(member)
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  ctx.changes.bump()
}

/** Who is not in the group is left alone. */
export async function removeMember(ctx: Act, group: Row<'user_group'>, user: Pick<Row<'user'>, 'id'>): Promise<void> {
  await ctx.db.deleteFrom('group_member').where('group_id', '=', group.id).where('user_id', '=', user.id).execute()
  ctx.changes.bump()
}

export function groupPrn({ id }: Pick<Row<'user_group'>, 'id'>): string {
  return `prn:core.group:${id}`
}

/** Sees to it at start that somebody can administer: makes `admin` when there is no superuser. Says whether it had to. */
export async function ensureAdmin(db: Db, password: string): Promise<boolean> {
  const known = await db.selectFrom('user').select('id').where('is_superuser', '=', 1).executeTakeFirst()
  if (known) return false
  const rights = {
    password: await openHasher().hash(password),
    is_staff: bit(true),
    is_superuser: bit(true),
    is_active: bit(true),
  }
  await db
    .insertInto('user')
    .values({ username: 'admin', first_name: '', last_name: '', email: '', ...rights, created: now() })
    .onConflict((conflict) => conflict.column('username').doUpdateSet(rights))
    .execute()
  return true
}

async function storedPassword(ctx: Pick<Ctx, 'changes'>, password: string | null): Promise<string> {
  if (password === null) return unusablePassword()
  const problems = passwordProblems(password)
  if (problems.length > 0) throw new Failure('invalid', problems[0]!, { problems: { non_field_errors: problems } })
  return hasherOf(ctx).hash(password)
}

async function requireFree(tx: Db, table: 'user' | 'user_group', field: 'username' | 'name', name: string): Promise<void> {
  const taken = await tx
    .selectFrom(table as 'user')
    .select('id')
    .where(field as 'username', '=', name)
    .executeTakeFirst()
  if (taken) throw new Failure('invalid', 'This field must be unique.', { field })
}

/** Pulp lets the last administrator go; nothing but a restart could bring one back. */
async function requireAnotherAdministrator(tx: Tx, { id, is_superuser, username }: Row<'user'>): Promise<void> {
  if (!is_superuser) return
  const other = await tx
    .selectFrom('user')
    .select('id')
    .where('is_superuser', '=', 1)
    .where('is_active', '=', 1)
    .where('password', 'not like', '!%')
    .where('id', '!=', id)
    .executeTakeFirst()
  if (!other) throw new Failure('conflict', `"${username}" is the last administrator: make another one first.`)
}

function bit(value: boolean): 0 | 1 {
  return value ? 1 : 0
}
