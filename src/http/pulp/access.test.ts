import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify, { type InjectOptions } from 'fastify'
import { forEachDatabase } from '../../../tests/databases.ts'
import type { Ctx } from '../../core/ctx.ts'
import { ensureRoles } from '../../core/access/roles.ts'
import { ensureAdmin } from '../../core/access/users.ts'
import { file } from '../../formats/file/index.ts'
import type { Db } from '../../store/database.ts'
import { registerPulp } from './register.ts'

/* Users, groups, roles, guards and access policies over HTTP. Answers and texts are those of a real Pulp 3.81. */

const password = 'Yeech6ba'
const noPermission = { detail: 'You do not have permission to perform this action.' }
const anything = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/

forEachDatabase((engine, open) => {
  test(`${engine}: a user is made, changed, listed and deleted`, async (t) => {
    const { api } = await start(await open(t))
    const made = await api('POST', 'users/', { username: 'alice', password })
    assert.equal(made.status, 201)
    assert.equal(made.headers['location'], '/pulp/api/v3/users/2/')
    const { date_joined: joined, ...alice } = made.body
    assert.match(joined, anything)
    assert.deepEqual(alice, {
      pulp_href: '/pulp/api/v3/users/2/',
      prn: 'prn:auth.user:2',
      id: 2,
      username: 'alice',
      first_name: '',
      last_name: '',
      email: '',
      is_staff: false,
      is_active: true,
      groups: [],
      hidden_fields: [{ name: 'password', is_set: true }],
    })
    const changed = await api('PATCH', 'users/2/', { first_name: 'cli', last_name: 'test' })
    assert.deepEqual([changed.status, changed.body.first_name, changed.body.last_name], [200, 'cli', 'test'])
    const list = await api('GET', 'users/?username__icontains=LIC')
    assert.deepEqual([list.body.count, list.body.results[0].username], [1, 'alice'])
    assert.equal((await api('DELETE', 'users/2/')).status, 204)
    assert.deepEqual(await api.answer('GET', 'users/2/'), [404, { detail: 'No User matches the given query.' }])
  })

  for (const [body, problems] of [
    [{}, { username: ['This field is required.'] }],
    [
      { username: '', email: 'x' },
      { username: ['This field may not be blank.'], email: ['Enter a valid email address.'] },
    ],
    [{ username: 'admin' }, { username: ['This field must be unique.'] }],
    [{ username: 'x'.repeat(151) }, { username: ['Ensure this field has no more than 150 characters.'] }],
    [{ username: 'a', is_staff: 'maybe' }, { is_staff: ['Must be a valid boolean.'] }],
    [
      { username: 'a', password: '12345' },
      {
        non_field_errors: [
          'This password is too short. It must contain at least 8 characters.',
          'This password is too common.',
          'This password is entirely numeric.',
        ],
      },
    ],
  ] as const)
    test(`${engine}: a user is refused with ${JSON.stringify(problems)}`, async (t) => {
      const { api } = await start(await open(t))
      assert.deepEqual(await api.answer('POST', 'users/', body), [400, problems])
    })

  test(`${engine}: a form with empty texts makes a user who has no password`, async (t) => {
    const { api } = await start(await open(t))
    const made = await api('POST', 'users/', 'username=form&password=&first_name=&last_name=&email=&is_staff=')
    assert.deepEqual([made.status, made.body.is_staff, made.body.is_active], [201, false, true])
    assert.equal((await api('GET', 'login/', undefined, 'form:')).status, 401)
  })

  test(`${engine}: groups have members, as pulp-cli's test_group expects`, async (t) => {
    const { api } = await start(await open(t))
    assert.deepEqual(await api.answer('POST', 'groups/', { name: 'g' }), [
      201,
      { name: 'g', pulp_href: '/pulp/api/v3/groups/1/', prn: 'prn:core.group:1', id: 1 },
    ])
    assert.deepEqual(await api.answer('POST', 'groups/', { name: 'g' }), [400, { name: ['This field must be unique.'] }])
    const admin = { username: 'admin', pulp_href: '/pulp/api/v3/users/1/', prn: 'prn:auth.user:1' }
    for (let twice = 0; twice < 2; twice++)
      assert.deepEqual(await api.answer('POST', 'groups/1/users/', { username: 'admin' }), [201, admin])
    assert.deepEqual(await api.answer('POST', 'groups/1/users/', { username: 'nobody' }), [400, ['Could not find user nobody']])
    assert.deepEqual((await api('GET', 'groups/1/users/')).body, { count: 1, next: null, previous: null, results: [admin] })
    assert.deepEqual((await api('GET', 'users/1/')).body.groups, [
      { name: 'g', pulp_href: '/pulp/api/v3/groups/1/', prn: 'prn:core.group:1' },
    ])
    for (let twice = 0; twice < 2; twice++) assert.equal((await api('DELETE', 'groups/1/users/1/')).status, 204)
    assert.deepEqual(await api.answer('DELETE', 'groups/1/users/99/'), [404, { detail: 'No User matches the given query.' }])
    assert.equal((await api('GET', 'groups/1/users/')).body.count, 0)
    assert.deepEqual(await api.answer('GET', 'groups/1/users/1/'), [405, { detail: 'Method "GET" not allowed.' }])
    assert.equal((await api('PATCH', 'groups/1/', { name: 'h' })).body.name, 'h')
    assert.equal((await api('DELETE', 'groups/1/')).status, 204)
  })

  test(`${engine}: a group is invisible until a role shows it, as pulp-cli's test_role expects`, async (t) => {
    const { api } = await start(await open(t))
    const role = 'clitest.group_viewer'
    await api('POST', 'roles/', { name: role, permissions: ['core.view_group'] })
    await api('POST', 'users/', { username: 'alice', password })
    const group = (await api('POST', 'groups/', { name: 'g' })).body.pulp_href
    await api('POST', `${group}users/`, { username: 'alice' })
    const seen = async () => [
      (await api('GET', group, undefined, `alice:${password}`)).status,
      (await api('GET', 'groups/?name=g', undefined, `alice:${password}`)).body.count,
    ]
    assert.deepEqual(await seen(), [404, 0])
    for (const holder of ['users/2/', group]) {
      const given = await api('POST', `${holder}roles/`, { role, content_object: group })
      assert.deepEqual(
        [given.status, given.body.role, given.body.content_object, given.body.content_object_prn],
        [201, role, group, 'prn:core.group:1'],
      )
      assert.deepEqual(given.body.permissions, ['core.view_group'])
      assert.deepEqual(await seen(), [200, 1])
      for (const filter of [`role=${role}`, `role__in=${role},x`, 'role__startswith=clitest'])
        assert.equal((await api('GET', `${holder}roles/?${filter}&content_object=${group}`)).body.count, 1, filter)
      assert.equal((await api('GET', `${holder}roles/?content_object=null`)).body.count, 0)
      assert.equal((await api('DELETE', given.body.pulp_href)).status, 204)
      assert.deepEqual(await seen(), [404, 0])
    }
    assert.deepEqual(await api.answer('POST', 'groups/', { name: 'h' }, `alice:${password}`), [403, noPermission])
    const creator = await api('POST', 'users/2/roles/', 'role=core.group_creator&content_object=')
    assert.deepEqual([creator.status, creator.body.content_object], [201, null])
    const made = await api('POST', 'groups/', { name: 'h' }, `alice:${password}`)
    assert.equal(made.status, 201)
    assert.deepEqual((await api('GET', `${made.body.pulp_href}my_permissions/`, undefined, `alice:${password}`)).body, {
      permissions: ['core.change_group', 'core.delete_group', 'core.manage_roles_group', 'core.view_group'],
    })
    assert.equal((await api('POST', `${made.body.pulp_href}users/`, { username: 'admin' }, `alice:${password}`)).status, 201)
    assert.equal((await api('POST', `${group}users/`, { username: 'admin' }, `alice:${password}`)).status, 404)
  })

  for (const [body, problems] of [
    [{}, { role: ['This field is required.'] }],
    [
      { role: 'core.group_viewer' },
      {
        non_field_errors: [
          "Either 'content_object' or 'content_object_prn' needs to be specified. Use 'null' for global or domain level access.",
        ],
      },
    ],
    [{ role: 'core.group_viewer', content_object: '' }, { content_object: ['This field may not be blank.'] }],
    [
      { role: 'nope', content_object: '/pulp/api/v3/groups/99/' },
      { role: ['Object with name=nope does not exist.'], content_object: ['Invalid value: /pulp/api/v3/groups/99/.'] },
    ],
    [
      { role: 'core.task_owner', content_object: '/pulp/api/v3/groups/1/' },
      { non_field_errors: ["The role 'core.task_owner' does not carry any permission for that object."] },
    ],
    [
      { role: 'core.group_owner', content_object: '/pulp/api/v3/groups/1/' },
      { non_field_errors: ['The role is already assigned to this user.'] },
    ],
  ] as const)
    test(`${engine}: a role is not given with ${JSON.stringify(problems)}`, async (t) => {
      const { api } = await start(await open(t))
      await api('POST', 'groups/', { name: 'g' })
      assert.deepEqual(await api.answer('POST', 'users/1/roles/', body), [400, problems])
    })

  test(`${engine}: roles are listed by what they allow; built-in ones are locked`, async (t) => {
    const { api } = await start(await open(t))
    const names = async (query: string) =>
      (await api('GET', `roles/?${query}&fields=name&ordering=name`)).body.results.map(({ name }: { name: string }) => name)
    assert.deepEqual(await names('contains_permission=core.add_task'), ['core.task_user_dispatcher'])
    assert.deepEqual(await names('for_object_type=/pulp/api/v3/groups/'), [
      'core.group_creator',
      'core.group_owner',
      'core.group_viewer',
    ])
    assert.deepEqual(await names('locked=false'), [])
    assert.deepEqual(await api.answer('GET', 'roles/?for_object_type=x'), [400, ['URI not valid: x']])
    const locked = (await api('GET', 'roles/?name=core.task_owner')).body.results[0]
    assert.deepEqual([locked.locked, locked.description], [true, 'Allow all actions on a task.'])
    for (const method of ['PATCH', 'DELETE'] as const)
      assert.deepEqual(await api.answer(method, locked.pulp_href, method === 'PATCH' ? {} : undefined), [
        403,
        { detail: 'The role is locked.' },
      ])
    assert.deepEqual(await api.answer('POST', 'roles/', { name: 'a', permissions: ['core.nope'] }), [
      400,
      { permissions: ["Permission 'core.nope' does not exist."] },
    ])
    const made = await api('POST', 'roles/', 'name=form&permissions=core.view_group&permissions=core.add_group&description=')
    assert.deepEqual(
      [made.status, made.body.permissions, made.body.description],
      [201, ['core.add_group', 'core.view_group'], null],
    )
  })

  test(`${engine}: guards come and go, as pulp-cli's test_content_guards and the role pulp_content_guard expect`, async (t) => {
    const { api } = await start(await open(t))
    const role = 'core.rbaccontentguard_downloader'
    const made = await api('POST', 'contentguards/core/rbac/', 'name=release&description=')
    const { pulp_href: href } = made.body
    const admin = { username: 'admin', pulp_href: '/pulp/api/v3/users/1/', prn: 'prn:auth.user:1' }
    assert.deepEqual([made.status, made.body.description, made.body.users, made.body.groups], [201, null, [admin], []])
    await api('POST', 'groups/', { name: 'stackhpc' })
    const group = { name: 'stackhpc', pulp_href: '/pulp/api/v3/groups/1/', prn: 'prn:core.group:1', id: 1 }
    const form = `role=${role}&groups=stackhpc`
    assert.deepEqual(await api.answer('POST', `${href}add_role/`, form), [201, { users: [], groups: ['stackhpc'], role }])
    assert.deepEqual((await api('GET', href)).body.groups, [group])
    assert.deepEqual((await api('GET', `${href}list_roles/`)).body.roles, [
      { role: 'core.rbaccontentguard_owner', users: ['admin'], groups: [] },
      { role, users: ['admin'], groups: ['stackhpc'] },
    ])
    assert.equal((await api('PATCH', href, 'name=release&description=')).status, 200)
    const removed = await api('POST', `${href}remove_role/`, { role, users: ['admin'], groups: ['stackhpc'] })
    assert.equal(removed.status, 201)
    assert.deepEqual(await api.answer('POST', `${href}remove_role/`, form), [
      400,
      { non_field_errors: ["The role is not assigned to group 'stackhpc'."] },
    ])
    const shown = (await api('GET', 'contentguards/core/rbac/?name=release')).body.results[0]
    assert.deepEqual([shown.users, shown.groups], [[], []])

    const header = await api('POST', 'contentguards/core/header/', { name: 'h', header_name: 'to', header_value: 'ken' })
    assert.deepEqual([header.status, header.body.header_value, header.body.jq_filter], [201, 'ken', null])
    const composite = await api('POST', 'contentguards/core/composite/', { name: 'c', guards: [href, header.body.prn] })
    assert.deepEqual([composite.status, composite.body.guards], [201, [href, header.body.pulp_href]])
    const updated = await api('PATCH', composite.body.pulp_href, { guards: [href], description: 'x' })
    assert.deepEqual([updated.body.guards, updated.body.description], [[href], 'x'])
    const redirect = await api('POST', 'contentguards/core/content_redirect/', { name: 'r' })
    assert.deepEqual(Object.keys(redirect.body).sort(), [
      'description',
      'name',
      'prn',
      'pulp_created',
      'pulp_href',
      'pulp_last_updated',
    ])
    const all = await api('GET', 'contentguards/?ordering=name&fields=name,pulp_href')
    assert.deepEqual(
      all.body.results.map(({ name }: { name: string }) => name),
      ['c', 'h', 'r', 'release'],
    )
    assert.deepEqual((await api('GET', 'contentguards/?pulp_type__in=core.header,core.rbac')).body.count, 2)
    for (const guard of [composite, header, redirect, made]) assert.equal((await api('DELETE', guard.body.pulp_href)).status, 204)
    assert.equal((await api('GET', 'contentguards/')).body.count, 0)
  })

  for (const [type, body, problems] of [
    ['rbac', { name: 'a', z: 1 }, { z: ['Unexpected field'] }],
    ['header', { name: 'a' }, { header_name: ['This field is required.'], header_value: ['This field is required.'] }],
    ['header', { name: 'taken', header_name: 'x', header_value: 'y' }, { name: ['This field must be unique.'] }],
    ['composite', { name: 'a', guards: ['/pulp/api/v3/x/'] }, { guards: ['Invalid hyperlink - No URL match.'] }],
    ['composite', { name: 'a', guards: null }, { guards: ['This field may not be null.'] }],
    [
      'composite',
      { name: 'a', guards: ['/pulp/api/v3/contentguards/core/rbac/01980000-0000-7000-8000-000000000000/'] },
      { guards: ['Invalid hyperlink - Object does not exist.'] },
    ],
    [
      'header',
      { name: 'a', header_name: 'x', header_value: 'y', jq_filter: 'length' },
      { jq_filter: ['Only simple paths are supported, such as .identity.org_id; not "length".'] },
    ],
  ] as const)
    test(`${engine}: a ${type} guard is refused with ${JSON.stringify(problems)}`, async (t) => {
      const { api } = await start(await open(t))
      await api('POST', 'contentguards/core/rbac/', { name: 'taken' })
      assert.deepEqual(await api.answer('POST', `contentguards/core/${type}/`, body), [400, problems])
    })

  test(`${engine}: guards are visible to who may view them, one by one or by type`, async (t) => {
    const { api } = await start(await open(t))
    await api('POST', 'users/', { username: 'alice', password })
    const mine = (await api('POST', 'contentguards/core/rbac/', { name: 'mine' })).body.pulp_href
    await api('POST', 'contentguards/core/rbac/', { name: 'other' })
    await api('POST', 'contentguards/core/header/', { name: 'h', header_name: 'x', header_value: 'y' })
    const names = async () =>
      (await api('GET', 'contentguards/?ordering=name', undefined, `alice:${password}`)).body.results.map(
        ({ name }: { name: string }) => name,
      )
    assert.deepEqual(await names(), [])
    await api('POST', `${mine}add_role/`, { role: 'core.rbaccontentguard_viewer', users: ['alice'] })
    assert.deepEqual(await names(), ['mine'])
    assert.deepEqual(await api.answer('PATCH', mine, {}, `alice:${password}`), [403, noPermission])
    assert.deepEqual(await api.answer('GET', `${mine}list_roles/`, undefined, `alice:${password}`), [403, noPermission])
    await api('POST', 'users/2/roles/', { role: 'core.headercontentguard_viewer', content_object: null })
    assert.deepEqual(await names(), ['h', 'mine'])
  })

  test(`${engine}: only administrators have to do with users, roles and policies`, async (t) => {
    const { api } = await start(await open(t))
    await api('POST', 'users/', { username: 'alice', password })
    for (const path of ['users/', 'users/1/', 'users/2/roles/', 'roles/', 'access_policies/'])
      assert.deepEqual(await api.answer('GET', path, undefined, `alice:${password}`), [403, noPermission], path)
    for (const path of ['users/', 'roles/'])
      assert.deepEqual(await api.answer('POST', path, { username: 'x' }, `alice:${password}`), [403, noPermission], path)
    assert.deepEqual(await api.answer('GET', 'login/', undefined, `alice:${password}`), [
      200,
      { pulp_href: '/pulp/api/v3/users/2/', prn: 'prn:auth.user:2', username: 'alice' },
    ])
  })

  test(`${engine}: a disabled user and a changed password are refused at the next request`, async (t) => {
    const { api } = await start(await open(t))
    await api('POST', 'users/', { username: 'alice', password })
    const status = async () => (await api('GET', 'login/', undefined, `alice:${password}`)).status
    assert.equal(await status(), 200)
    await api('PATCH', 'users/2/', { is_active: false })
    assert.equal(await status(), 401)
    await api('PATCH', 'users/2/', { is_active: true })
    assert.equal(await status(), 200)
    await api('PATCH', 'users/2/', { password: 'another horse' })
    assert.deepEqual(await api.answer('GET', 'login/', undefined, `alice:${password}`), [
      401,
      { detail: 'Invalid username/password.' },
    ])
  })

  test(`${engine}: access policies say what is enforced; setting what they are is taken, anything else refused`, async (t) => {
    const { api } = await start(await open(t))
    const policy = (await api('GET', 'access_policies/?viewset_name=groups')).body.results[0]
    assert.deepEqual(policy.creation_hooks, [
      { function: 'add_roles_for_object_creator', parameters: { roles: 'core.group_owner' } },
    ])
    assert.deepEqual(policy.queryset_scoping, { function: 'scope_queryset' })
    const create = policy.statements.find(({ action }: { action: string[] }) => action.includes('create'))
    assert.deepEqual(create, {
      action: ['create'],
      principal: 'authenticated',
      effect: 'allow',
      condition: 'has_model_perms:core.add_group',
    })
    const { statements, creation_hooks } = policy
    for (const body of [{ statements }, { creation_hooks }, { statements, creation_hooks }]) {
      const set = await api('PATCH', policy.pulp_href, body)
      assert.deepEqual([set.status, set.body.customized], [200, true])
    }
    assert.deepEqual((await api('GET', 'access_policies/?customized=true&fields=viewset_name')).body.results, [
      { viewset_name: 'groups' },
    ])
    const reset = await api('POST', `${policy.pulp_href}reset/`)
    assert.deepEqual([reset.status, reset.body.customized], [200, false])
    const refused = await api('PATCH', policy.pulp_href, { statements: [] })
    assert.equal(refused.status, 400)
    assert.match(refused.body.statements[0], /The access policy of "groups" is fixed/)
    assert.deepEqual((await api('GET', policy.pulp_href)).body.statements, statements)
  })

  test(`${engine}: no answer holds a password or a secret`, async (t) => {
    const { api, ctx } = await start(await open(t))
    await api('POST', 'users/', { username: 'alice', password })
    await api('POST', 'contentguards/core/content_redirect/', { name: 'r' })
    const stored = await ctx.db.selectFrom('user').select('password').execute()
    const { settings } = await ctx.db.selectFrom('guard').select('settings').executeTakeFirstOrThrow()
    const secrets = [password, 'scrypt', ...stored.map((user) => user.password), JSON.parse(settings).secret]
    for (const path of [
      'users/',
      'users/2/',
      'contentguards/',
      'contentguards/core/content_redirect/',
      'login/',
      'users/2/roles/',
    ]) {
      const text = JSON.stringify((await api('GET', path)).body)
      for (const secret of secrets) assert.ok(!text.includes(secret), path)
    }
  })
})

interface Answered {
  status: number
  headers: Record<string, unknown>
  body: any
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** The API over an empty database with an administrator. Paths are below the root, or hrefs; a text is a form. */
async function start(db: Db) {
  let change = 0
  const changes = { current: () => change, bump: () => void change++ }
  // Only what these resources use: no blobs, no network.
  const ctx = {
    db,
    formats: [file],
    changes,
    config: { allowedChecksums: ['sha256'] },
    log: { error: console.error },
  } as unknown as Ctx
  await ensureRoles(db, ctx.formats)
  await ensureAdmin(db, 'password')
  const app = Fastify()
  await registerPulp(app, ctx)

  const call = async (
    method: Method,
    path: string,
    body?: object | string,
    credentials = 'admin:password',
  ): Promise<Answered> => {
    const url = path.startsWith('/') ? path : `/pulp/api/v3/${path}`
    const headers: Record<string, string> = { authorization: `Basic ${btoa(credentials)}` }
    if (body !== undefined)
      headers['content-type'] = typeof body === 'string' ? 'application/x-www-form-urlencoded' : 'application/json'
    const request: InjectOptions = { method, url, headers, ...(body !== undefined && { payload: body }) }
    const response = await app.inject(request)
    return {
      status: response.statusCode,
      headers: response.headers,
      body: response.payload === '' ? undefined : JSON.parse(response.payload),
    }
  }
  const api = Object.assign(call, {
    answer: async (...args: Parameters<typeof call>) => {
      const { status, body } = await call(...args)
      return [status, body]
    },
  })
  return { api, ctx }
}
