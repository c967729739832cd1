import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Db } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { addRole, assignRole, rolesOf } from './assignments.ts'
import { createGuard, deleteGuard, downloadersOf, updateGuard } from './guard-resources.ts'
import { decideFast, type GuardedRequest, mayDownload, parsePath, signUrl } from './guards.ts'
import { ensureRoles } from './roles.ts'
import { addMember, createGroup, createUser, ensureAdmin, removeMember, updateUser } from './users.ts'

const noCredentials = '403: Authentication credentials were not provided.'
const noPermission = '403: You do not have permission to perform this action.'
const denied = '403: Access denied.'
const nonePassed = '403: Access forbidden.'

/** Who comes, and what the guards `mine` (RBAC) and `sesame` (header) answer. All other guards answer as these make them. */
const people = {
  nobody: { mine: noCredentials, sesame: denied },
  'a wrong password': { mine: noCredentials, sesame: denied },
  'an unknown user': { mine: noCredentials, sesame: denied },
  'a user without a role': { mine: noPermission, sesame: denied },
  'a user with the role on another guard': { mine: noPermission, sesame: denied },
  'an owner who may not download': { mine: noPermission, sesame: denied },
  'a user with the role': { mine: true, sesame: denied },
  'a user with the role everywhere': { mine: true, sesame: denied },
  'a member of a group with the role': { mine: true, sesame: denied },
  'a former member': { mine: noPermission, sesame: denied },
  'a disabled user with the role': { mine: noCredentials, sesame: denied },
  'the administrator': { mine: true, sesame: denied },
  'whoever sends the header': { mine: noCredentials, sesame: true },
  'whoever sends the header twice': { mine: noCredentials, sesame: denied },
} as const

type Person = (typeof people)[keyof typeof people]

const guards: Record<string, (person: Person) => true | string> = {
  mine: ({ mine }) => mine,
  sesame: ({ sesame }) => sesame,
  either: ({ mine, sesame }) => mine === true || sesame === true || nonePassed,
  'either, deeper': ({ mine, sesame }) => mine === true || sesame === true || nonePassed,
  'open to all': () => true,
  'of deleted guards': () => nonePassed,
  'of itself': () => nonePassed,
  signed: () => '403: Access not authenticated',
}

forEachDatabase((engine, open) => {
  test(`${engine}: who may download, for all guards and all who come, slowly and from memory`, async (t) => {
    const { ctx, guard, requests } = await scene(await open(t))
    for (const [guardName, expected] of Object.entries(guards))
      for (const [personName, person] of Object.entries(people)) {
        const what = `${personName} at ${guardName}`
        const wanted = expected(person)
        const answer = wanted === true || { status: 403, text: wanted }
        assert.deepEqual(await mayDownload(ctx, guard(guardName), requests[personName]!), answer, what)
        const fast = decideFast(ctx, guard(guardName), requests[personName]!)
        if (fast !== undefined) assert.deepEqual(fast, answer, `${what}, from memory`)
      }
  })

  test(`${engine}: memory knows what was asked before, until something changes`, async (t) => {
    const { ctx, guard, requests } = await scene(await open(t))
    const request = requests['a member of a group with the role']!
    for (const name of ['mine', 'either']) {
      assert.equal(decideFast(ctx, guard(name), request), undefined)
      assert.equal(await mayDownload(ctx, guard(name), request), true)
      assert.equal(decideFast(ctx, guard(name), request), true)
      ctx.changes.bump()
    }
    assert.deepEqual(decideFast(ctx, guard('mine'), requests['nobody']!), { status: 403, text: noCredentials })
  })

  test(`${engine}: whoever leaves a group is refused at the next request`, async (t) => {
    const { ctx, guard, requests, group, idOf } = await scene(await open(t))
    const request = requests['a member of a group with the role']!
    assert.equal(await mayDownload(ctx, guard('mine'), request), true)
    await removeMember(ctx, group, { id: await idOf('a member of a group with the role') })
    assert.equal(decideFast(ctx, guard('mine'), request), undefined)
    assert.deepEqual(await mayDownload(ctx, guard('mine'), request), { status: 403, text: noPermission })
    assert.deepEqual(decideFast(ctx, guard('mine'), request), { status: 403, text: noPermission })
  })

  test(`${engine}: too many wrong passwords are told as such`, async (t) => {
    const { ctx, guard } = await scene(await open(t))
    const guess = (at: number) => mayDownload(ctx, guard('mine'), comesAs(basic('nobody-known', `guess ${at}`)))
    await Promise.all(Array.from({ length: 10 }, (_, at) => guess(at)))
    assert.deepEqual(await guess(10), {
      status: 403,
      text: '403: Too many wrong passwords for this user; try again in a minute.',
    })
  })

  test(`${engine}: a signed URL lets in until it expires, for its path and query only`, async (t) => {
    const { ctx, guard } = await scene(await open(t))
    const ask = (url: string, by = guard('signed')) => mayDownload(ctx, by, { headers: {}, url })
    const refused = { status: 403, text: '403: Access not authenticated' }
    const url = signUrl(guard('signed'), '/pulp/content/a/b.rpm')
    assert.match(url, /^\/pulp\/content\/a\/b\.rpm\?expires=\d+&validate_token=[0-9a-f]+:[0-9a-f]+$/)
    assert.equal(await ask(url), true)
    assert.equal(await ask(signUrl(guard('signed'), '/pulp/content/a?x=1')), true)
    assert.equal(decideFast(ctx, guard('signed'), { headers: {}, url }), true)
    assert.deepEqual(await ask(url.replace('b.rpm', 'c.rpm')), refused)
    assert.deepEqual(await ask(url.replace(/expires=\d/, 'expires=9')), refused)
    assert.deepEqual(await ask(`${url.slice(0, -1)}${url.endsWith('0') ? '1' : '0'}`), refused)
    assert.deepEqual(await ask('/pulp/content/a/b.rpm?expires=9999999999&validate_token=00:11'), refused)
    const other = await createGuard(ctx, 'core.content_redirect', { name: 'another' }, null)
    assert.deepEqual(await ask(url, other), refused)
    for (const old of [signUrl(guard('signed'), '/pulp/content/a/b.rpm', -10), '/x?expires=1&validate_token=00:11'])
      assert.deepEqual(await ask(old), { status: 403, text: '403: Authentication expired' })
  })

  test(`${engine}: a header guard with a filter compares what lies at its path`, async (t) => {
    const { ctx } = await scene(await open(t))
    const values = { header_name: 'X-RH', header_value: '123', jq_filter: '.identity.org_id' }
    const guard = await createGuard(ctx, 'core.header', { name: 'org', settings: values }, null)
    const ask = (header: string) => mayDownload(ctx, guard, { headers: { 'x-rh': header }, url: '/' })
    assert.equal(await ask(btoa('{"identity":{"org_id":"123"}}')), true)
    for (const header of [
      '{"identity":{"org_id":123}}',
      '{"identity":{"org_id":"124"}}',
      '{"identity":null}',
      '[]',
      '123',
      'not JSON',
    ].map(btoa))
      assert.deepEqual(await ask(header), { status: 403, text: denied })
    // What a client sends itself comes before what a proxy says of it; Node.js joins the two, and reads base64 up to its padding.
    const [forged, proven] = ['123', '124'].map((id) => btoa(`{"identity":{"org_id":"${id}"}}  `))
    assert.match(forged!, /=$/)
    assert.deepEqual(await ask(`${forged}, ${proven}`), { status: 403, text: denied })
  })

  test(`${engine}: making a guard gives its creator roles, and names are unique over all types`, async (t) => {
    const { ctx, idOf } = await scene(await open(t))
    const userId = await idOf('a user without a role')
    const guard = await createGuard(ctx, 'core.rbac', { name: 'new' }, userId)
    const held = await rolesOf(ctx, prnOf(guard))
    assert.deepEqual(
      held.map(({ role }) => role),
      ['core.rbaccontentguard_owner', 'core.rbaccontentguard_downloader'],
    )
    await assert.rejects(createGuard(ctx, 'core.header', { name: 'new' }, null), { code: 'invalid', field: 'name' })
    await assert.rejects(updateGuard(ctx, guard, { name: 'sesame' }), { code: 'invalid', field: 'name' })
    const changed = await updateGuard(ctx, guard, { name: 'newer', description: 'x' })
    assert.deepEqual([changed.name, changed.description], ['newer', 'x'])
    await deleteGuard(ctx, changed)
    assert.deepEqual(await rolesOf(ctx, prnOf(guard)), [])
  })

  test(`${engine}: a guard that protects a distribution cannot be deleted`, async (t) => {
    const { ctx, guard } = await scene(await open(t))
    await ctx.db
      .insertInto('distribution')
      .values({
        uuid: newUuid(),
        type: 'file.file',
        name: 'd',
        base_path: 'd',
        labels: '{}',
        settings: '{}',
        hidden: 0,
        created: 0,
        updated: 0,
        guard_id: guard('mine').id,
      })
      .execute()
    await assert.rejects(deleteGuard(ctx, guard('mine')), { code: 'conflict', message: /protects the distribution "d"/ })
  })

  test(`${engine}: downloaders are those with the role on the guard or everywhere, by name`, async (t) => {
    const { ctx, guard } = await scene(await open(t))
    const { uuid } = guard('mine')
    const found = (await downloadersOf(ctx, [uuid, newUuid()])).get(uuid)
    assert.deepEqual(
      found?.users.map(({ username }) => username),
      ['a user with the role', 'a user with the role everywhere', 'a disabled user with the role'],
    )
    assert.deepEqual(
      found?.groups.map(({ name }) => name),
      ['readers'],
    )
  })

  test(`${engine}: a filter that is not a simple path is refused when the guard is made or changed`, async (t) => {
    const { ctx, guard } = await scene(await open(t))
    const settings = { header_name: 'a', header_value: 'b', jq_filter: '.a | length' }
    await assert.rejects(createGuard(ctx, 'core.header', { name: 'filter', settings }, null), {
      code: 'invalid',
      field: 'jq_filter',
    })
    await assert.rejects(updateGuard(ctx, guard('sesame'), { settings: { jq_filter: '..' } }), {
      code: 'invalid',
      field: 'jq_filter',
    })
  })
})

for (const [filter, steps] of [
  ['.', []],
  ['.identity.org_id', ['identity', 'org_id']],
  [' .a?.b ', ['a', 'b']],
  ['.users[0].name', ['users', 0, 'name']],
  ['."first name"', ['first name']],
  ['.a["x-y"]', ['a', 'x-y']],
  ['.["x-y"]', ['x-y']],
] as const)
  test(`the filter ${filter} is a path of ${steps.length}`, () => assert.deepEqual(parsePath(filter), steps))

for (const filter of ['', 'a', '["a"]', '[0]', '..', '.a | .b', '.a[]', '.a[1:2]', '.a + 1', '.x-y', '$ENV', '.a.', '.["a\\"b"]'])
  test(`the filter "${filter}" is refused`, () => assert.throws(() => parsePath(filter), { code: 'invalid', field: 'jq_filter' }))

/** Everybody and everything of the matrix. */
async function scene(db: Db) {
  await ensureRoles(db, [])
  let count = 0
  const ctx = { db, formats: [], changes: { current: () => count, bump: () => void count++ } }
  const password = 'correct horse'
  // Hashed once: this test is not about passwords.
  await ensureAdmin(db, password)
  const { password: stored } = await db.selectFrom('user').select('password').executeTakeFirstOrThrow()
  await db.updateTable('user').set({ username: 'the administrator' }).execute()
  for (const username of Object.keys(people).slice(3, -3)) {
    const { id } = await createUser(ctx, { username })
    await db.updateTable('user').set({ password: stored }).where('id', '=', id).execute()
  }
  const user = (username: string) => db.selectFrom('user').selectAll().where('username', '=', username).executeTakeFirstOrThrow()
  const idOf = async (username: string) => (await user(username)).id

  const made = new Map<string, Row<'guard'>>()
  const make = async (name: string, type: string, settings: Record<string, unknown> = {}) => {
    const guard = await createGuard(ctx, type, { name, settings }, null)
    made.set(name, guard)
    return guard
  }
  const mine = await make('mine', 'core.rbac')
  const other = await make('other', 'core.rbac')
  const sesame = await make('sesame', 'core.header', { header_name: 'X-Open', header_value: 'sesame' })
  const either = await make('either', 'core.composite', { guards: [mine.uuid, sesame.uuid] })
  await make('either, deeper', 'core.composite', { guards: [other.uuid, either.uuid].slice(1) })
  await make('open to all', 'core.composite', { guards: [] })
  const doomed = await make('doomed', 'core.header', { header_name: 'X-Open', header_value: 'sesame' })
  await make('of deleted guards', 'core.composite', { guards: [doomed.uuid] })
  await deleteGuard(ctx, doomed)
  const itself = await make('of itself', 'core.composite', { guards: [] })
  made.set('of itself', await updateGuard(ctx, itself, { settings: { guards: [itself.uuid] } }))
  await make('signed', 'core.content_redirect')

  const role = 'core.rbaccontentguard_downloader'
  const group = await createGroup(ctx, 'readers', null)
  await addRole(ctx, prnOf(mine), { role, users: ['a user with the role', 'a disabled user with the role'], groups: ['readers'] })
  await addRole(ctx, prnOf(mine), { role: 'core.rbaccontentguard_owner', users: ['an owner who may not download'] })
  await addRole(ctx, prnOf(other), { role, users: ['a user with the role on another guard'] })
  const everywhere = await db.selectFrom('role').selectAll().where('name', '=', role).executeTakeFirstOrThrow()
  await assignRole(ctx, { user: await idOf('a user with the role everywhere') }, everywhere, null)
  for (const name of ['a member of a group with the role', 'a former member'])
    await addMember(ctx, group, { id: await idOf(name) })
  await removeMember(ctx, group, { id: await idOf('a former member') })
  await updateUser(ctx, await user('a disabled user with the role'), { is_active: false })

  const requests: Record<string, GuardedRequest> = Object.fromEntries(
    Object.keys(people).map((name) => [name, comesAs(basic(name, password))]),
  )
  requests['nobody'] = comesAs(undefined)
  requests['a wrong password'] = comesAs(basic('a user with the role', 'wrong'))
  requests['an unknown user'] = comesAs(basic('an unknown user', password))
  requests['whoever sends the header'] = { headers: { 'x-open': btoa('sesame') }, url: '/' }
  requests['whoever sends the header twice'] = { headers: { 'x-open': [btoa('sesame'), btoa('x')] }, url: '/' }
  return { ctx, guard: (name: string) => made.get(name)!, requests, group, idOf }
}

function comesAs(authorization: string | undefined): GuardedRequest {
  return { authorization, headers: authorization === undefined ? {} : { authorization }, url: '/pulp/content/x' }
}

function prnOf({ uuid }: { uuid: string }): string {
  return `prn:core.rbaccontentguard:${uuid}`
}

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}
