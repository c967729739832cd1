import { randomBytes } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { type Db, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { forgetObject, grantToCreator } from './auth.ts'
import type { Ctx } from '../ctx.ts'
import { downloadPermission, parsePath, rbacPrn } from './guards.ts'
import { modelOf, prnOf } from '../names.ts'

/* Making, changing and deleting guards, and who was given the right to read behind them. What they decide stands in guards.ts. */

export interface GuardValues {
  name: string
  description?: string | null
  /** What the type has: see above. Members of a composite guard are uuids. */
  settings?: Record<string, unknown>
}

type Act = Pick<Ctx, 'db' | 'changes' | 'formats'>

/** Makes a guard, which its creator then owns. Throws Failure invalid for a name that is taken or a filter that is not supported. */
export async function createGuard(ctx: Act, type: string, values: GuardValues, userId: number | null): Promise<Row<'guard'>> {
  const time = now()
  const settings = { ...(type === 'core.content_redirect' && { secret: randomBytes(32).toString('hex') }), ...values.settings }
  checkSettings(settings)
  const guard = await transact(ctx.db, async (tx) => {
    await requireFreeName(tx, values.name)
    const row = await tx
      .insertInto('guard')
      .values({
        uuid: newUuid(),
        type,
        name: values.name,
        description: values.description ?? null,
        labels: '{}',
        settings: JSON.stringify(settings),
        created: time,
        updated: time,
      })
      .returningAll()
      .executeTakeFirstOrThrow()
    const model = modelOf(ctx.formats, 'guard', type)
    // Whoever makes an RBAC guard may read what is behind it.
    const roles = [`${model}_owner`, ...(type === 'core.rbac' ? [`${model}_downloader`] : [])]
    await grantToCreator(tx, userId, roles, prnOf(ctx.formats, 'guard', row))
    return row
  })
  ctx.changes.bump()
  return guard
}

/** The guard of content that is reached by signed links only; made when there is none. */
export async function ensureRedirectGuard(tx: Tx): Promise<number> {
  const name = 'content redirect'
  const find = () => tx.selectFrom('guard').select('id').where('name', '=', name).executeTakeFirst()
  const known = await find()
  if (known) return known.id
  const time = now()
  const settings = JSON.stringify({ secret: randomBytes(32).toString('hex') })
  const values = { uuid: newUuid(), type: 'core.content_redirect', name, description: null, labels: '{}', settings }
  const made = await tx
    .insertInto('guard')
    .values({ ...values, created: time, updated: time })
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .executeTakeFirst()
  return (made ?? (await find())!).id
}

/** Changes what is given; settings one by one. Throws Failure invalid as createGuard. */
export async function updateGuard(ctx: Act, guard: Row<'guard'>, changes: Partial<GuardValues>): Promise<Row<'guard'>> {
  const { name, description, settings } = changes
  const updated = await transact(ctx.db, async (tx) => {
    if (name !== undefined && name !== guard.name) await requireFreeName(tx, name)
    const { settings: stored } = await tx
      .selectFrom('guard')
      .select('settings')
      .where('id', '=', guard.id)
      .executeTakeFirstOrThrow()
    const merged = { ...JSON.parse(stored), ...settings }
    checkSettings(merged)
    return tx
      .updateTable('guard')
      .set({
        ...(name !== undefined && { name }),
        ...(description !== undefined && { description }),
        settings: JSON.stringify(merged),
        updated: now(),
      })
      .where('id', '=', guard.id)
      .returningAll()
      .executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return updated
}

/** Throws Failure conflict while a distribution is behind it: Pulp would open that distribution to everybody. */
export async function deleteGuard(ctx: Act, guard: Row<'guard'>): Promise<void> {
  await transact(ctx.db, async (tx) => {
    const behind = await tx.selectFrom('distribution').select('name').where('guard_id', '=', guard.id).limit(1).executeTakeFirst()
    if (behind)
      throw new Failure(
        'conflict',
        `The guard "${guard.name}" protects the distribution "${behind.name}": give that another guard, or none, first.`,
      )
    await forgetObject(tx, prnOf(ctx.formats, 'guard', guard))
    await tx.deleteFrom('guard').where('id', '=', guard.id).execute()
  })
  ctx.changes.bump()
}

/** Who was given the right to read behind a guard, itself or all; not through a group. */
export interface Downloaders {
  users: { id: number; username: string }[]
  groups: { id: number; name: string }[]
}

/** The downloaders of RBAC guards, by uuid. Superusers, who may read everything, are not named. */
export async function downloadersOf(ctx: Pick<Ctx, 'db'>, uuids: readonly string[]): Promise<Map<string, Downloaders>> {
  const prns = uuids.map((uuid) => rbacPrn({ uuid }))
  if (prns.length === 0) return new Map()
  const roles = await rolesToDownload(ctx.db)
  const rows = await ctx.db
    .selectFrom('role_assignment')
    .leftJoin('user', 'user.id', 'role_assignment.user_id')
    .leftJoin('user_group', 'user_group.id', 'role_assignment.group_id')
    .select(['role_assignment.object', 'user_id', 'user.username', 'group_id', 'user_group.name'])
    .where('role_id', 'in', roles)
    .where((row) => row.or([row('role_assignment.object', 'in', prns), row('role_assignment.object', 'is', null)]))
    .execute()
  return new Map(
    uuids.map((uuid) => {
      const users = new Map<number, string>()
      const groups = new Map<number, string>()
      for (const { object, user_id, username, group_id, name } of rows) {
        if (object !== null && object !== rbacPrn({ uuid })) continue
        if (user_id !== null) users.set(user_id, username ?? '')
        if (group_id !== null) groups.set(group_id, name ?? '')
      }
      const sorted = (map: Map<number, string>) => [...map].sort(([a], [b]) => a - b)
      const its = {
        users: sorted(users).map(([id, username]) => ({ id, username })),
        groups: sorted(groups).map(([id, name]) => ({ id, name })),
      }
      return [uuid, its]
    }),
  )
}

async function rolesToDownload(db: Db): Promise<number[]> {
  const roles = await db.selectFrom('role').select(['id', 'permissions']).execute()
  const carrying = roles
    .filter(({ permissions }) => (JSON.parse(permissions) as string[]).includes(downloadPermission))
    .map(({ id }) => id)
  // An empty list is not SQL everywhere; no role has this id.
  return carrying.length > 0 ? carrying : [-1]
}

function checkSettings(settings: Record<string, unknown>): void {
  if (typeof settings['jq_filter'] === 'string') parsePath(settings['jq_filter'])
}

/** As in Pulp, a guard's name is unique over all types: distributions and clients name guards without one. */
async function requireFreeName(tx: Tx, name: string): Promise<void> {
  const taken = await tx.selectFrom('guard').select('id').where('name', '=', name).executeTakeFirst()
  if (taken) throw new Failure('invalid', 'This field must be unique.', { field: 'name' })
}
