import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Insertable } from 'kysely'
import type { Db } from '../store/database.ts'
import type { Row, Schema } from '../store/schema.ts'
import type { Ctx } from './ctx.ts'
import type { Format, FormatRoles } from './format.ts'

/*
 * A permission is `<app>.<action>_<model>`, as in `rpm.sync_rpmrepository`; a role is a named list of them. The built-in roles follow one
 * pattern: `_creator` may add, `_owner` may do everything with what is there, `_viewer` may look. What differs is data below.
 */

export interface BuiltInRole {
  name: string
  description: string | null
  permissions: readonly string[]
}

/** A kind of object that permissions are about. */
interface Model {
  app: string
  name: string
  /** What its owner may do; `*` stands for the name. */
  owner: readonly string[]
  /** Roles beyond the usual three, or other permissions for those. */
  roles?: Readonly<Record<string, readonly string[]>>
  described?: readonly string[]
}

const may = ['change_*', 'delete_*', 'manage_roles_*', 'view_*']
const mayNotChange = may.slice(1)

const coreModels: readonly Model[] = [
  { app: 'core', name: 'compositecontentguard', owner: may },
  { app: 'core', name: 'contentredirectcontentguard', owner: may },
  { app: 'core', name: 'headercontentguard', owner: may },
  { app: 'core', name: 'rbaccontentguard', owner: may, roles: { downloader: ['download_*'] } },
  { app: 'core', name: 'domain', owner: may },
  { app: 'core', name: 'group', owner: may },
  { app: 'core', name: 'openpgpkeyring', owner: [...may, 'modify_*', 'repair_*'] },
  {
    app: 'core',
    name: 'task',
    owner: [...may, 'view_*_profile_artifacts'],
    roles: { creator: [], user_dispatcher: ['add_*'] },
    described: ['owner'],
  },
  { app: 'core', name: 'taskschedule', owner: ['manage_roles_*', 'view_*'], roles: { creator: [] }, described: ['owner'] },
  { app: 'core', name: 'upload', owner: may },
  { app: 'core', name: 'upstreampulp', owner: [...may, 'replicate_*'], roles: { user: ['replicate_*', 'view_*'] } },
  { app: 'core', name: 'content', owner: [], roles: { creator: [], owner: [], viewer: [], labeler: ['manage_*_labels'] } },
]

/** Models that have permissions but no roles: a role of the site's own may name them. */
const furtherModels = [
  'core.accesspolicy',
  'core.artifact',
  'core.progressreport',
  'core.role',
  'core.taskgroup',
  'core.worker',
  'auth.user',
]

/** The roles that are always there, of the core and of these formats. */
export function builtInRoles(formats: readonly Format[]): BuiltInRole[] {
  return [...coreModels.flatMap(rolesOfModel), ...formats.flatMap(rolesOfFormat)]
}

/** Every permission that a role may name. */
export function knownPermissions(formats: readonly Format[]): ReadonlySet<string> {
  const models = [...coreModels, ...formats.flatMap(modelsOfFormat)].map(({ app, name }) => `${app}.${name}`)
  const content = formats.flatMap(({ name, contentTypes }) => contentTypes.map(({ model }) => `${name}.${model.toLowerCase()}`))
  const usual = [...models, ...furtherModels, ...content].flatMap((model) => {
    const [app, name] = model.split('.')
    return ['add', 'change', 'delete', 'view'].map((action) => `${app}.${action}_${name}`)
  })
  return new Set([...usual, ...builtInRoles(formats).flatMap(({ permissions }) => permissions)])
}

/** The permission to do `action` with repositories of a format, where formats call it differently: `modify`, `delete_version`. */
export function repositoryPermission(format: Format, action: 'modify' | 'sync' | 'repair' | 'delete_version'): string {
  const model = repositoryModel(format)
  const actions = ownerActions(format.roles)
  const wanted = action === 'delete_version' ? /^delete_\*_version$/ : new RegExp(`^${action}(_content)?_\\*$`)
  const found = actions.find((each) => wanted.test(each)) ?? (action === 'delete_version' ? 'delete_*' : `${action}_*`)
  return `${format.name}.${found.replace('*', model)}`
}

/** Whether a permission is about objects of this model (`core.group`, or a PRN of one). */
export function isAbout(permission: string, modelOrPrn: string): boolean {
  const [app, model] = modelOrPrn.replace(/^prn:([^:]+):.*$/, '$1').split('.')
  const [permissionApp, codename = ''] = permission.split('.')
  return app === permissionApp && model !== undefined && codename.split('_').includes(model)
}

/** In the order in which Pulp lists them: by app, by model, by name. */
export function sortPermissions(permissions: Iterable<string>): string[] {
  const keyed = [...new Set(permissions)].map((permission) => {
    const [app = '', codename = ''] = permission.split('.')
    return { permission, key: [app, modelOfCodename(codename), codename].join('\n') }
  })
  return keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)).map(({ permission }) => permission)
}

/** Makes the built-in roles what this version says they are. Writes only what differs; says whether anything did. */
export async function ensureRoles(db: Db, formats: readonly Format[]): Promise<boolean> {
  const stored = await db.selectFrom('role').select(['id', 'name', 'description', 'permissions', 'locked']).execute()
  const byName = new Map(stored.map((role) => [role.name, role]))
  const time = now()
  const missing: Insertable<Schema['role']>[] = []
  const changed: { id: number; description: string | null; permissions: string }[] = []
  for (const { name, description, permissions } of builtInRoles(formats)) {
    const known = byName.get(name)
    const values = { description, permissions: JSON.stringify(sortPermissions(permissions)) }
    if (!known) missing.push({ uuid: newUuid(), name, ...values, locked: 1, created: time, updated: time })
    // A role that somebody made under this name stays theirs: turning it into another would give rights to whoever holds it.
    else if (known.locked && (known.description !== description || !sameList(known.permissions, values.permissions)))
      changed.push({ id: known.id, ...values })
  }
  if (missing.length + changed.length === 0) return false
  await db.transaction().execute(async (tx) => {
    if (missing.length > 0)
      await tx
        .insertInto('role')
        .values(missing)
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute()
    for (const { id, ...values } of changed)
      await tx
        .updateTable('role')
        .set({ ...values, updated: time })
        .where('id', '=', id)
        .execute()
  })
  return true
}

export interface RoleFields {
  name: string
  description?: string | null
  permissions: readonly string[]
}

type Act = Pick<Ctx, 'db' | 'changes' | 'formats'>

/** Throws Failure invalid for a name that is taken or a permission that does not exist. */
export async function createRole(ctx: Act, { name, description = null, permissions }: RoleFields): Promise<Row<'role'>> {
  const checked = JSON.stringify(checkPermissions(ctx.formats, permissions))
  const time = now()
  const role = await ctx.db.transaction().execute(async (tx) => {
    await requireFreeName(tx, name)
    const values = { uuid: newUuid(), name, description, permissions: checked, locked: 0 as const, created: time, updated: time }
    return tx.insertInto('role').values(values).returningAll().executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return role
}

/** Changes what is given. Throws Failure denied for a built-in role, else as createRole. */
export async function updateRole(ctx: Act, role: Row<'role'>, changes: Partial<RoleFields>): Promise<Row<'role'>> {
  requireUnlocked(role)
  const { name, description, permissions } = changes
  const values = {
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
    ...(permissions !== undefined && { permissions: JSON.stringify(checkPermissions(ctx.formats, permissions)) }),
    updated: now(),
  }
  const updated = await ctx.db.transaction().execute(async (tx) => {
    if (name !== undefined && name !== role.name) await requireFreeName(tx, name)
    return tx.updateTable('role').set(values).where('id', '=', role.id).returningAll().executeTakeFirstOrThrow()
  })
  ctx.changes.bump()
  return updated
}

/** Takes the role from everyone who holds it, too. Throws Failure denied for a built-in one. */
export async function deleteRole(ctx: Pick<Ctx, 'db' | 'changes'>, role: Row<'role'>): Promise<void> {
  requireUnlocked(role)
  await ctx.db.deleteFrom('role').where('id', '=', role.id).execute()
  ctx.changes.bump()
}

export function requireUnlocked(role: Pick<Row<'role'>, 'locked'>): void {
  if (role.locked) throw new Failure('denied', 'The role is locked.')
}

export function permissionsOf(role: Pick<Row<'role'>, 'permissions'>): string[] {
  return JSON.parse(role.permissions)
}

/** Sorted and without doubles. Throws Failure invalid, naming what is wrong with the first that is. */
function checkPermissions(formats: readonly Format[], permissions: readonly string[]): string[] {
  const known = knownPermissions(formats)
  for (const permission of permissions) {
    if (!permission.includes('.'))
      throw new Failure('invalid', `Permission '${permission}' is not in the format '<app_label>.<codename>'.`, {
        field: 'permissions',
      })
    if (!known.has(permission))
      throw new Failure('invalid', `Permission '${permission}' does not exist.`, { field: 'permissions' })
  }
  return sortPermissions(permissions)
}

async function requireFreeName(tx: Db, name: string): Promise<void> {
  const taken = await tx.selectFrom('role').select('id').where('name', '=', name).executeTakeFirst()
  if (taken) throw new Failure('invalid', 'This field must be unique.', { field: 'name' })
}

function rolesOfModel({ app, name, owner, roles, described }: Model): BuiltInRole[] {
  const all: Record<string, readonly string[]> = { creator: ['add_*'], owner, viewer: ['view_*'], ...roles }
  return Object.entries(all)
    .filter(([, permissions]) => permissions.length > 0)
    .map(([role, permissions]) => ({
      name: `${app}.${name}_${role}`,
      description: described?.includes(role) ? `Allow all actions on a ${name}.` : null,
      permissions: permissions.map((permission) => `${app}.${permission.replace('*', name)}`),
    }))
}

function rolesOfFormat(format: Format): BuiltInRole[] {
  const models = modelsOfFormat(format)
  const roles = models.flatMap(rolesOfModel)
  if (!format.roles?.overall) return roles
  const everything = roles.flatMap(({ permissions }) => permissions)
  const overall = (role: string, permissions: readonly string[]) => ({
    name: `${format.name}.${role}`,
    description: null,
    permissions,
  })
  return [
    ...roles,
    overall('admin', everything),
    overall(
      'viewer',
      everything.filter((permission) => permission.includes('.view_')),
    ),
  ]
}

function modelsOfFormat(format: Format): Model[] {
  const app = format.name
  const model = format.pulp.model.toLowerCase()
  return [
    { app, name: `${model}alternatecontentsource`, owner: [...may, 'refresh_*'] },
    { app, name: `${model}distribution`, owner: may },
    { app, name: `${model}publication`, owner: mayNotChange },
    ...[`${model}remote`, ...(format.roles?.remotes ?? [])].map((name) => ({ app, name, owner: may })),
    { app, name: repositoryModel(format), owner: [...may, ...ownerActions(format.roles)] },
  ]
}

function ownerActions(roles: FormatRoles | undefined): readonly string[] {
  return roles?.repository ?? ['modify_*', 'repair_*', 'sync_*']
}

function repositoryModel({ pulp }: Format): string {
  return `${pulp.model.toLowerCase()}repository`
}

/** PostgreSQL writes JSON with other spaces than we do. */
function sameList(a: string, b: string): boolean {
  return JSON.stringify(JSON.parse(a)) === b
}

function modelOfCodename(codename: string): string {
  // Models have no underscore; what follows one is part of the permission, as in delete_rpmrepository_version.
  return codename.replace(/^(manage_roles|modify_content|[a-z]+)_/, '').split('_')[0] ?? ''
}
