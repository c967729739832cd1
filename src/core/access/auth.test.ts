import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import type { Db } from '../../store/database.ts'
import { addRole, removeRole, rolesOf } from './assignments.ts'
import {
  authenticate,
  grantToCreator,
  hasherOf,
  isAllowed,
  isAllowedFast,
  myPermissions,
  refusalOf,
  remembered,
  scopeOf,
  type User,
} from './auth.ts'
import { createRole, ensureRoles } from './roles.ts'
import {
  addMember,
  createGroup,
  createUser,
  deleteGroup,
  deleteUser,
  ensureAdmin,
  groupPrn,
  removeMember,
  renameGroup,
  updateUser,
} from './users.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: the right password names the user, anything else nobody`, async (t) => {
    const ctx = await start(await open(t))
    const alice = await createUser(ctx, { username: 'alice', password: 'correct: horse' })
    const expected = { id: alice.id, username: 'alice', isSuperuser: false }
    assert.deepEqual(await authenticate(ctx, basic('alice', 'correct: horse')), expected)
    assert.deepEqual(await authenticate(ctx, basic('alice', 'correct: horse').replace('Basic', 'bAsIc')), expected)
    const wrong = [
      '',
      'Basic',
      'Basic ???',
      'Bearer x',
      `Basic ${btoa('alice')}`,
      basic('alice', 'wrong'),
      basic('bob', 'wrong'),
      basic('', ''),
    ]
    for (const header of wrong) assert.equal(await authenticate(ctx, header), undefined, header)
    assert.equal(await authenticate(ctx, undefined), undefined)
  })

  test(`${engine}: an unknown user costs as much as a wrong password`, async (t) => {
    const ctx = await start(await open(t))
    await createUser(ctx, { username: 'alice', password: 'correct horse' })
    const wrong = await shortestOf(() => authenticate(ctx, basic('alice', 'wrong')))
    const unknown = await shortestOf(() => authenticate(ctx, basic('nobody', 'wrong')))
    assert.ok(unknown > wrong / 4, `${unknown} ms against ${wrong} ms`)
  })

  test(`${engine}: a password is hashed once, however many requests bring it and whatever else changes meanwhile`, async (t) => {
    const ctx = await start(await open(t))
    await createUser(ctx, { username: 'alice', password: 'correct horse' })
    const checks = countChecks(t, ctx)
    const header = basic('alice', 'correct horse')
    assert.equal(remembered(ctx, header), undefined)
    await Promise.all(Array.from({ length: 20 }, () => authenticate(ctx, header)))
    assert.equal(remembered(ctx, header)?.username, 'alice')
    ctx.changes.bump()
    assert.equal(remembered(ctx, header), undefined)
    assert.equal((await authenticate(ctx, header))?.username, 'alice')
    assert.equal(remembered(ctx, header)?.username, 'alice')
    assert.equal(checks(), 1)
  })

  test(`${engine}: what is remembered lasts a minute`, async (t) => {
    const ctx = await start(await open(t))
    await createUser(ctx, { username: 'alice', password: 'correct horse' })
    const header = basic('alice', 'correct horse')
    await authenticate(ctx, header)
    const later = performance.now() + 60_001
    t.mock.method(performance, 'now', () => later)
    assert.equal(remembered(ctx, header), undefined)
    const checks = countChecks(t, ctx)
    ctx.changes.bump()
    assert.equal((await authenticate(ctx, header))?.username, 'alice')
    assert.equal(checks(), 1)
  })

  for (const [what, revoke] of [
    ['a changed password', (ctx, user) => updateUser(ctx, user, { password: 'another horse' })],
    ['a password taken away', (ctx, user) => updateUser(ctx, user, { password: null })],
    ['a disabled user', (ctx, user) => updateUser(ctx, user, { is_active: false })],
    ['a deleted user', (ctx, user) => deleteUser(ctx, user)],
    ['another name', (ctx, user) => updateUser(ctx, user, { username: 'alicia' })],
  ] as [string, (ctx: Test, user: Awaited<ReturnType<typeof createUser>>) => Promise<unknown>][])
    test(`${engine}: ${what} shuts out the next request`, async (t) => {
      const ctx = await start(await open(t))
      const alice = await createUser(ctx, { username: 'alice', password: 'correct horse' })
      const header = basic('alice', 'correct horse')
      assert.ok(await authenticate(ctx, header))
      assert.ok(remembered(ctx, header))
      await revoke(ctx, alice)
      assert.equal(remembered(ctx, header), undefined)
      assert.equal(await authenticate(ctx, header), undefined)
    })

  test(`${engine}: a check that was under way when the password changed does not serve later requests`, async (t) => {
    const ctx = await start(await open(t))
    const alice = await createUser(ctx, { username: 'alice', password: 'correct horse' })
    const header = basic('alice', 'correct horse')
    const early = authenticate(ctx, header)
    await updateUser(ctx, alice, { password: 'another horse' })
    assert.equal(await authenticate(ctx, header), undefined)
    await early
    assert.equal(remembered(ctx, header), undefined)
    assert.equal(await authenticate(ctx, header), undefined)
  })

  test(`${engine}: after ten wrong passwords a user at an address waits a minute, right password or not`, async (t) => {
    const ctx = await start(await open(t))
    await createUser(ctx, { username: 'alice', password: 'correct horse' })
    const good = basic('alice', 'correct horse')
    await authenticate(ctx, good, '10.0.0.3')
    const guesses = Array.from({ length: 14 }, (_, at) => authenticate(ctx, basic('alice', `guess ${at}`), '10.0.0.1'))
    const refused = (await Promise.allSettled(guesses)).filter(({ status }) => status === 'rejected') as PromiseRejectedResult[]
    assert.equal(refused.length, 4)
    assert.ok(refused.every(({ reason }) => reason.code === 'denied'))
    await assert.rejects(authenticate(ctx, basic('alice', 'guess'), '10.0.0.1'), { code: 'denied' })
    // Elsewhere, and where the password is known to be right, nobody is kept out.
    assert.equal(await authenticate(ctx, basic('alice', 'guess'), '10.0.0.2'), undefined)
    assert.ok(await authenticate(ctx, good, '10.0.0.1'))
    const later = performance.now() + 60_001
    t.mock.method(performance, 'now', () => later)
    assert.equal(await authenticate(ctx, basic('alice', 'guess'), '10.0.0.1'), undefined)
  })

  test(`${engine}: right passwords do not count as attempts`, async (t) => {
    const ctx = await start(await open(t))
    const alice = await createUser(ctx, { username: 'alice', password: 'horse number 0' })
    for (let round = 1; round <= 12; round++) {
      await updateUser(ctx, alice, { password: `horse number ${round}` })
      assert.ok(await authenticate(ctx, basic('alice', `horse number ${round}`)))
    }
  })

  test(`${engine}: rights come from roles, on everything or on one object, of a user or of a group, and go with them`, async (t) => {
    const ctx = await start(await open(t))
    const { id, username } = await createUser(ctx, { username: 'alice' })
    const alice: User = { id, username, isSuperuser: false }
    const group = await createGroup(ctx, 'readers', null)
    const [one, two] = [guard(1), guard(2)]
    const download = 'core.download_rbaccontentguard'
    const role = 'core.rbaccontentguard_downloader'
    const may = async () => [
      await isAllowed(ctx, alice, download),
      await isAllowed(ctx, alice, download, one),
      await isAllowed(ctx, alice, download, two),
    ]

    assert.deepEqual(await may(), [false, false, false])
    await addRole(ctx, one, { role, users: ['alice'] })
    assert.deepEqual(await may(), [false, true, false])
    assert.deepEqual(await scopeOf(ctx, alice, download), [one])
    await addRole(ctx, two, { role, groups: ['readers'] })
    assert.deepEqual(await may(), [false, true, false])
    await addMember(ctx, group, { id })
    assert.deepEqual(await may(), [false, true, true])
    assert.deepEqual([...(await scopeOf(ctx, alice, download))].sort(), [one, two])
    assert.equal(isAllowedFast(ctx, alice, download, two), true)
    await removeMember(ctx, group, { id })
    assert.equal(isAllowedFast(ctx, alice, download, two), undefined)
    assert.deepEqual(await may(), [false, true, false])
    assert.equal(isAllowedFast(ctx, alice, download, two), false)
    await removeRole(ctx, one, { role, users: ['alice'] })
    assert.deepEqual(await may(), [false, false, false])
    assert.deepEqual(await scopeOf(ctx, alice, download), [])

    await addMember(ctx, group, { id })
    assert.deepEqual(await may(), [false, false, true])
    await deleteGroup(ctx, group)
    assert.deepEqual(await may(), [false, false, false])
  })

  test(`${engine}: superusers may do everything and see all`, async (t) => {
    const ctx = await start(await open(t))
    assert.equal(await ensureAdmin(ctx.db, 'password'), true)
    assert.equal(await ensureAdmin(ctx.db, 'other'), false)
    const admin = await authenticate(ctx, basic('admin', 'password'))
    assert.deepEqual(admin && { ...admin, id: 0 }, { id: 0, username: 'admin', isSuperuser: true })
    assert.equal(await isAllowed(ctx, admin!, 'core.add_group'), true)
    assert.equal(await scopeOf(ctx, admin!, 'core.view_group'), 'all')
  })

  test(`${engine}: the last administrator can be neither deleted nor disabled nor left without a password`, async (t) => {
    const ctx = await start(await open(t))
    await ensureAdmin(ctx.db, 'password')
    const admin = await ctx.db.selectFrom('user').selectAll().executeTakeFirstOrThrow()
    await assert.rejects(deleteUser(ctx, admin), { code: 'conflict' })
    await assert.rejects(updateUser(ctx, admin, { is_active: false }), { code: 'conflict' })
    await assert.rejects(updateUser(ctx, admin, { password: null }), { code: 'conflict' })
    assert.ok(await authenticate(ctx, basic('admin', 'password')))
  })

  test(`${engine}: the creator of an object gets its roles`, async (t) => {
    const ctx = await start(await open(t))
    const { id, username } = await createUser(ctx, { username: 'alice' })
    const alice: User = { id, username, isSuperuser: false }
    const prn = guard(1)
    await ctx.db.transaction().execute(async (tx) => {
      await grantToCreator(tx, id, ['core.rbaccontentguard_owner', 'core.rbaccontentguard_downloader', 'core.no_such_role'], prn)
      await grantToCreator(tx, null, ['core.rbaccontentguard_owner'], prn)
    })
    assert.deepEqual(await rolesOf(ctx, prn), [
      { role: 'core.rbaccontentguard_owner', users: ['alice'], groups: [] },
      { role: 'core.rbaccontentguard_downloader', users: ['alice'], groups: [] },
    ])
    assert.deepEqual(await myPermissions(ctx, alice, prn), [
      'core.change_rbaccontentguard',
      'core.delete_rbaccontentguard',
      'core.download_rbaccontentguard',
      'core.manage_roles_rbaccontentguard',
      'core.view_rbaccontentguard',
    ])
  })

  test(`${engine}: my_permissions names what is about the object, not all that the role carries`, async (t) => {
    const ctx = await start(await open(t))
    const { id, username } = await createUser(ctx, { username: 'alice' })
    const group = await createGroup(ctx, 'readers', null)
    await createRole(ctx, { name: 'mixed', permissions: ['core.view_group', 'core.view_task'] })
    await addRole(ctx, groupPrn(group), { role: 'mixed', users: ['alice'] })
    assert.deepEqual(await myPermissions(ctx, { id, username, isSuperuser: false }, groupPrn(group)), ['core.view_group'])
  })

  test(`${engine}: names of users and groups are unique`, async (t) => {
    const ctx = await start(await open(t))
    const alice = await createUser(ctx, { username: 'alice' })
    await createUser(ctx, { username: 'bob' })
    await assert.rejects(createUser(ctx, { username: 'alice', password: '123' }), { code: 'invalid', field: 'username' })
    await assert.rejects(updateUser(ctx, alice, { username: 'bob' }), { code: 'invalid', field: 'username' })
    const group = await createGroup(ctx, 'one', null)
    await createGroup(ctx, 'two', null)
    await assert.rejects(createGroup(ctx, 'one', null), { code: 'invalid', field: 'name' })
    await assert.rejects(renameGroup(ctx, group, 'two'), { code: 'invalid', field: 'name' })
  })

  const prn = guard(1)
  for (const [what, request, problems] of [
    ['no role', {}, { role: ['This field is required.'] }],
    [
      'unknown names',
      { role: 'nope', users: ['nobody', 'alice', 'nix'], groups: ['g'] },
      {
        users: { 0: ['Object with username=nobody does not exist.'], 2: ['Object with username=nix does not exist.'] },
        groups: { 0: ['Object with name=g does not exist.'] },
        role: ['Object with name=nope does not exist.'],
      },
    ],
    ['null', { role: null, users: null }, { users: ['This field may not be null.'], role: ['This field may not be null.'] }],
    ['no list', { role: 'core.group_viewer', users: 'x' }, { users: ['Expected a list of items but got type "str".'] }],
    ['empty fields of a form', { role: 'core.group_viewer', users: [''] }, { users: { 0: ['This field may not be null.'] } }],
    [
      'a role for other objects',
      { role: 'core.task_owner' },
      { non_field_errors: ['The role does not contain any permission for that object.'] },
    ],
    [
      'a role that is there already',
      { role: 'core.rbaccontentguard_owner', users: ['alice'] },
      { non_field_errors: ["The role is already assigned to user 'alice'."] },
    ],
  ] as [string, object, unknown][])
    test(`${engine}: ${what} in add_role is refused in Pulp's words`, async (t) => {
      const ctx = await start(await open(t))
      await createUser(ctx, { username: 'alice' })
      await addRole(ctx, prn, { role: 'core.rbaccontentguard_owner', users: ['alice'] })
      const before = await rolesOf(ctx, prn)
      await assert.rejects(addRole(ctx, prn, request), { code: 'invalid', problems })
      assert.deepEqual(await rolesOf(ctx, prn), before)
    })

  test(`${engine}: roles are given and taken for several users and groups at once, or not at all`, async (t) => {
    const ctx = await start(await open(t))
    for (const username of ['alice', 'bob']) await createUser(ctx, { username })
    await createGroup(ctx, 'readers', null)
    const role = 'core.rbaccontentguard_downloader'
    const asked = { role, users: ['alice', 'bob'], groups: ['readers'] }
    assert.deepEqual(await addRole(ctx, prn, asked), asked)
    assert.deepEqual(await rolesOf(ctx, prn), [asked])
    assert.deepEqual(await removeRole(ctx, prn, { role, groups: ['readers'] }), { role, users: [], groups: ['readers'] })
    await assert.rejects(removeRole(ctx, prn, asked), {
      problems: { non_field_errors: ["The role is not assigned to group 'readers'."] },
    })
    assert.deepEqual(await rolesOf(ctx, prn), [{ role, users: ['alice', 'bob'], groups: [] }])
  })
})

for (const [header, text] of [
  [undefined, 'Authentication credentials were not provided.'],
  ['Bearer x', 'Authentication credentials were not provided.'],
  ['Basic', 'Invalid basic header. No credentials provided.'],
  ['Basic a b', 'Invalid basic header. Credentials string should not contain spaces.'],
  ['Basic xx!!', 'Invalid basic header. Credentials not correctly base64 encoded.'],
  [`Basic ${btoa('x')}`, 'Invalid basic header. Credentials not correctly base64 encoded.'],
  [`Basic ${btoa('x:y')}`, 'Invalid username/password.'],
] as const)
  test(`"${header}" is refused with "${text}"`, () => assert.equal(refusalOf(header), text))

type Test = Awaited<ReturnType<typeof start>>

async function start(db: Db) {
  await ensureRoles(db, [])
  let count = 0
  return { db, formats: [], changes: { current: () => count, bump: () => void count++ } }
}

/** How often a password was really checked. */
function countChecks(t: TestContext, ctx: Test): () => number {
  const spy = t.mock.method(hasherOf(ctx), 'verify')
  return () => spy.mock.callCount()
}

function guard(number: number): string {
  return `prn:core.rbaccontentguard:00000000-0000-7000-8000-00000000000${number}`
}

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** In milliseconds, of three: other work on the machine only ever makes it longer. */
async function shortestOf(act: () => Promise<unknown>): Promise<number> {
  const times = []
  for (let round = 0; round < 3; round++) {
    const begin = performance.now()
    await act()
    times.push(performance.now() - begin)
  }
  return Math.min(...times)
}
