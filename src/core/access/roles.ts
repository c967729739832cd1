import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Insertable } from 'kysely'
import { type Db, transact } from '../../store/database.ts'
import type { Row, Schema } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import type { Format, RepositoryRight, RepositoryType, ResourceType } from '../format.ts'

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
  // Models may have permissions that no built-in role has.
  const rights = formats.flatMap((format) =>
    format.repositories.flatMap((type) =>
      Object.keys(type.rights ?? {}).map((right) => repositoryPermission(format, type, right as RepositoryRight)),
    ),
  )
  return new Set([...usual, ...rights, ...builtInRoles(formats).flatMap(({ permissions }) => permissions)])
}

/** The permission to do something with repositories of a type, where types call it differently. */
export function repositoryPermission(format: Format, { model, rights = {} }: RepositoryType, right: RepositoryRight): string {
  const called = rights[right] ?? (right === 'delete_version' ? 'delete_*' : `${right}_*`)
  return `${format.name}.${called.replace('*', `${model.toLowerCase()}repository`)}`
}

/** Whether a permission is about objects of this model (`core.group`, or a PRN of one). */
export function isAbout(permission: string, modelOrPrn: string): boolean {
  return modelOfPermission(permission) === modelOrPrn.replace(/^prn:([^:]+):.*$/, '$1')
}

/** In the order in which Pulp lists them: by app, by model, by name. */
export function sortPermissions(permissions: Iterable<string>): string[] {
  const keyed = [...new Set(permissions)].map((permission) => {
    return { permission, key: [modelOfPermission(permission).replace('.', '\n'), permission].join('\n') }
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
  await transact(db, async (tx) => {
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
  const role = await transact(ctx.db, async (tx) => {
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
  const updated = await transact(ctx.db, async (tx) => {
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
  const { name: app, publications, namespaces } = format
  const usual = format.repositories[0]!.model.toLowerCase()
  const named = (kind: string, types: readonly ResourceType[], actions: readonly string[] = []): Model[] =>
    types.map(({ model, owner = actions, roles }) => ({
      app,
      name: `${model.toLowerCase()}${kind}`,
      owner: [...may, ...owner],
      ...(roles && { roles }),
    }))
  return [
    // In Pulp, what is published also has alternate sources.
    ...(publications ? [{ app, name: `${usual}alternatecontentsource`, owner: [...may, 'refresh_*'] }] : []),
    ...named('distribution', format.distributions),
    ...(publications ? [{ app, name: `${usual}publication`, owner: mayNotChange }] : []),
    ...named('remote', format.remotes),
    ...(format.roles?.remotes ?? []).map((name) => ({ app, name, owner: may })),
    ...named('repository', format.repositories, ['modify_*', 'repair_*', 'sync_*']),
    ...(namespaces
      ? [{ app, name: namespaces.model.toLowerCase(), owner: [...mayNotChange, ...namespaces.owner], roles: namespaces.roles }]
      : []),
  ]
}

/** PostgreSQL writes JSON with other spaces than we do. */
function sameList(a: string, b: string): boolean {
  return JSON.stringify(JSON.parse(a)) === b
}

/** The model that a permission is about: `rpm.rpmrepository`. */
function modelOfPermission(permission: string): string {
  const [app = '', codename = ''] = permission.split('.')
  // What holds for all that lies in a namespace is given on the namespace.
  if (codename.startsWith('namespace_')) return `${app}.${app}namespace`
  // Models have no underscore; what follows one is part of the permission, as in delete_rpmrepository_version.
  const [model = ''] = codename.replace(/^(manage_roles|modify_content|build_image|pull_new|[a-z]+)_/, '').split('_')
  // Whoever may pull what is new may do so through a distribution that fetches it.
  return `${app}.${codename.startsWith('pull_new_') ? model.replace('distribution', 'pullthroughdistribution') : model}`
}
