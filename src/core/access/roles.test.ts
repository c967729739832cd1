import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { container } from '../../formats/container/index.ts'
import { file } from '../../formats/file/index.ts'
import { rpm } from '../../formats/rpm/index.ts'
import { forEachDatabase } from '../../../tests/databases.ts'
import type { Db } from '../../store/database.ts'
import {
  builtInRoles,
  createRole,
  deleteRole,
  ensureRoles,
  isAbout,
  knownPermissions,
  sortPermissions,
  updateRole,
} from './roles.ts'

const formats = [rpm, file, container]

test('the built-in roles are those of Pulp 3.81', () => {
  const roles = builtInRoles(formats).map(({ name, description, permissions }) => ({
    name,
    description,
    permissions: sortPermissions(permissions),
  }))
  const permissions = (name: string) => roles.find((role) => role.name === name)?.permissions
  assert.equal(roles.length, 92)
  assert.deepEqual(permissions('core.rbaccontentguard_downloader'), ['core.download_rbaccontentguard'])
  assert.deepEqual(permissions('core.group_creator'), ['core.add_group'])
  assert.deepEqual(permissions('file.filepublication_owner'), [
    'file.delete_filepublication',
    'file.manage_roles_filepublication',
    'file.view_filepublication',
  ])
  assert.deepEqual(permissions('rpm.rpmrepository_owner'), [
    'rpm.change_rpmrepository',
    'rpm.delete_rpmrepository',
    'rpm.delete_rpmrepository_version',
    'rpm.manage_roles_rpmrepository',
    'rpm.modify_content_rpmrepository',
    'rpm.repair_rpmrepository',
    'rpm.sync_rpmrepository',
    'rpm.view_rpmrepository',
  ])
  // Over names, descriptions and permissions of all roles of core, container, file and rpm that a new Pulp lists, in the order of their names.
  const all = roles
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, description, permissions: its }) => [name, description, its])
  assert.equal(
    createHash('sha256').update(JSON.stringify(all)).digest('hex'),
    'd743ce675697245e5203fcb3c5cb6b609e35ae2940d84850d1ce10fcf8207710',
  )
})

for (const [permission, model, expected] of [
  ['core.view_group', 'prn:core.group:7', true],
  ['core.view_task_profile_artifacts', 'core.task', true],
  ['rpm.delete_rpmrepository_version', 'rpm.rpmrepository', true],
  ['core.view_task', 'core.taskgroup', false],
  ['file.view_group', 'core.group', false],
  ['core.download_rbaccontentguard', 'prn:core.headercontentguard:0', false],
] as const)
  test(`${permission} is ${expected ? '' : 'not '}about ${model}`, () => assert.equal(isAbout(permission, model), expected))

test('roles may name what Django knows of each model, and nothing else', () => {
  const known = knownPermissions(formats)
  for (const permission of [
    'core.add_group',
    'file.sync_filerepository',
    'auth.view_user',
    'core.manage_content_labels',
    'rpm.add_ulnremote',
  ])
    assert.ok(known.has(permission), permission)
  assert.ok(!known.has('core.nope'))
})

forEachDatabase((engine, open) => {
  test(`${engine}: built-in roles are made once, restored when changed, and not rewritten when they are right`, async (t) => {
    const db = await open(t)
    assert.equal(await ensureRoles(db, formats), true)
    const before = await rolesIn(db)
    assert.equal(before.length, 92)
    assert.equal(await ensureRoles(db, formats), false)
    assert.deepEqual(await rolesIn(db), before)
    await db.updateTable('role').set({ permissions: '[]' }).where('name', '=', 'core.group_owner').execute()
    await db.deleteFrom('role').where('name', '=', 'core.group_viewer').execute()
    assert.equal(await ensureRoles(db, formats), true)
    assert.deepEqual(essence(await rolesIn(db)), essence(before))
  })

  test(`${engine}: a role of the site's own is made, changed and deleted; a built-in one is locked`, async (t) => {
    const db = await open(t)
    const ctx = { db, formats, changes: changes() }
    await ensureRoles(db, formats)
    const role = await createRole(ctx, {
      name: 'site.looker',
      permissions: ['file.view_filerepository', 'core.view_group', 'core.view_group'],
    })
    assert.deepEqual(JSON.parse(role.permissions), ['core.view_group', 'file.view_filerepository'])
    const changed = await updateRole(ctx, role, { description: 'looks', permissions: ['core.add_group'] })
    assert.deepEqual(
      [changed.name, changed.description, JSON.parse(changed.permissions)],
      ['site.looker', 'looks', ['core.add_group']],
    )
    await assert.rejects(createRole(ctx, { name: 'site.looker', permissions: [] }), { code: 'invalid', field: 'name' })
    await assert.rejects(updateRole(ctx, changed, { name: 'core.group_owner' }), { code: 'invalid', field: 'name' })
    await assert.rejects(updateRole(ctx, changed, { permissions: ['nope'] }), {
      message: "Permission 'nope' is not in the format '<app_label>.<codename>'.",
    })
    await assert.rejects(updateRole(ctx, changed, { permissions: ['core.nope'] }), {
      message: "Permission 'core.nope' does not exist.",
    })
    await deleteRole(ctx, changed)
    assert.equal((await rolesIn(db)).length, 92)
    const locked = await db.selectFrom('role').selectAll().where('name', '=', 'core.group_owner').executeTakeFirstOrThrow()
    await assert.rejects(updateRole(ctx, locked, { description: 'x' }), { code: 'denied', message: 'The role is locked.' })
    await assert.rejects(deleteRole(ctx, locked), { code: 'denied', message: 'The role is locked.' })
    assert.equal(ctx.changes.current(), 3)
  })

  test(`${engine}: a role that somebody made under a built-in name stays as it is`, async (t) => {
    const db = await open(t)
    const ctx = { db, formats, changes: changes() }
    await createRole(ctx, { name: 'core.group_owner', permissions: ['core.view_group'] })
    await ensureRoles(db, formats)
    const role = await db.selectFrom('role').selectAll().where('name', '=', 'core.group_owner').executeTakeFirstOrThrow()
    assert.deepEqual([role.locked, JSON.parse(role.permissions)], [0, ['core.view_group']])
  })
})

function rolesIn(db: Db) {
  return db.selectFrom('role').select(['name', 'description', 'permissions', 'locked', 'updated']).orderBy('name').execute()
}

function essence(roles: Awaited<ReturnType<typeof rolesIn>>) {
  return roles.map(({ name, description, permissions, locked }) => ({
    name,
    description,
    permissions: JSON.parse(permissions),
    locked,
  }))
}

function changes() {
  let count = 0
  return { current: () => count, bump: () => void count++ }
}
