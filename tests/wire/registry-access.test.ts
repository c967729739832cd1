import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { exportJWK, generateKeyPair, SignJWT, decodeJwt, decodeProtectedHeader, importJWK } from 'jose'
import { grantToCreator } from '../../src/core/access/auth.ts'
import { prnOf } from '../../src/core/names.ts'
import { updateUser } from '../../src/core/access/users.ts'
import { forEachDatabase } from '../databases.ts'
import {
  type Answer,
  basic,
  digestOf,
  expectStatus,
  makeImage,
  openRegistry,
  pushBlob,
  pushImage,
  putManifest,
  type Registry,
  type Sending,
} from '../registry.ts'

/* Who gets in, with what, and who learns of what. */

forEachDatabase((engine, open) => {
  test(`${engine}: whoever does not log in is told how, with a token or with a password`, async (t) => {
    const db = await open(t)
    const withTokens = await openRegistry(t, db)
    const challenge = async (registry: Registry, method: string, path: string, sending: Sending = { as: null }) => {
      const { status, headers, body } = await registry.send(method, path, sending)
      assert.deepEqual([status, body.errors[0].code], [401, 'UNAUTHORIZED'])
      assert.equal(headers.get('docker-distribution-api-version'), 'registry/2.0')
      return headers.get('www-authenticate')
    }
    const realm = `Bearer realm="${withTokens.url}/token",service="signalbox"`
    assert.equal(await challenge(withTokens, 'GET', '/v2/'), realm)
    assert.equal(await challenge(withTokens, 'GET', '/v2/a/b/tags/list'), `${realm},scope="repository:a/b:pull"`)
    assert.equal(await challenge(withTokens, 'POST', '/v2/a/b/blobs/uploads/'), `${realm},scope="repository:a/b:pull,push"`)
    assert.equal(await challenge(withTokens, 'DELETE', '/v2/a/b/manifests/x'), `${realm},scope="repository:a/b:pull,push,delete"`)
    assert.equal(await challenge(withTokens, 'GET', '/v2/_catalog'), `${realm},scope="registry:catalog:*"`)
    const mount = `/v2/a/b/blobs/uploads/?mount=${digestOf('x')}&from=c/d`
    assert.equal(await challenge(withTokens, 'POST', mount), `${realm},scope="repository:a/b:pull,push repository:c/d:pull"`)
    const other = await withTokens.token('admin', 'repository:a/other:pull,push')
    assert.equal(
      await challenge(withTokens, 'GET', '/v2/a/b/tags/list', { token: other }),
      `${realm},scope="repository:a/b:pull",error="insufficient_scope"`,
    )
    assert.equal(await challenge(withTokens, 'GET', '/v2/', { token: 'nonsense' }), `${realm},error="invalid_token"`)
    assert.equal(
      await challenge(withTokens, 'GET', '/v2/', { as: null, headers: { authorization: basic('admin', 'wrong') } }),
      realm,
    )

    const withPasswords = await openRegistry(t, db, { auth: 'basic' })
    assert.equal(await challenge(withPasswords, 'GET', '/v2/'), 'Basic realm="registry"')
    assert.equal(await challenge(withPasswords, 'GET', '/v2/a/b/tags/list'), 'Basic realm="registry"')
    assert.equal(await challenge(withPasswords, 'GET', '/v2/', { token: other }), 'Basic realm="registry"')
    assert.equal((await withPasswords.send('GET', '/token')).status, 404)
    for (const registry of [withTokens, withPasswords]) expectStatus(await registry.send('GET', '/v2/'), 200)
    const origin = await openRegistry(t, db, {}, { origin: 'https://packages.example.org' })
    assert.equal(
      await challenge(origin, 'GET', '/v2/'),
      'Bearer realm="https://packages.example.org/token",service="packages.example.org"',
    )
  })

  test(`${engine}: a token is for what was asked for and may be had, by GET and by POST`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    await registry.addUser('eve')
    await pushImage(registry, 'a/b', makeImage(), 'x')
    await pushImage(registry, 'open/b', makeImage(), 'x')
    await publish(registry, 'open/b')
    const access = async (as: string | null, ...scopes: string[]) => decodeJwt(await registry.token(as, ...scopes))['access']
    const one = (name: string, ...actions: string[]) => ({ type: 'repository', name, actions })
    assert.deepEqual(await access('admin', 'repository:a/b:pull'), [one('a/b', 'pull')])
    assert.deepEqual(await access('admin', 'repository:a/b:pull,push'), [one('a/b', 'pull', 'push')])
    assert.deepEqual(await access('admin', 'repository:a/b:*'), [one('a/b', 'pull', 'push', 'delete')])
    assert.deepEqual(await access('admin', 'repository:a/new:pull,push repository:a/b:pull'), [
      one('a/new', 'pull', 'push'),
      one('a/b', 'pull'),
    ])
    assert.deepEqual(await access('eve', 'repository:a/b:pull,push', 'repository:open/b:pull,push'), [
      one('a/b'),
      one('open/b', 'pull'),
    ])
    assert.deepEqual(await access('eve', 'repository:eve/x:push,pull'), [one('eve/x', 'pull', 'push')])
    // What is hidden and what is absent are granted alike.
    assert.deepEqual(await access('eve', 'repository:a/absent:pull', 'repository:absent/x:pull,push'), [
      one('a/absent'),
      one('absent/x'),
    ])
    assert.deepEqual(await access(null, 'repository:a/b:pull', 'repository:open/b:pull', 'nonsense', 'plugin:x:pull'), [
      one('a/b'),
      one('open/b', 'pull'),
      { type: 'plugin', name: 'x', actions: [] },
    ])
    const { body, headers } = await registry.send('GET', '/token?service=signalbox&scope=repository:a/b:pull')
    assert.deepEqual([body.expires_in, body.access_token, headers.get('cache-control')], [300, body.token, 'no-store'])
    const { sub, aud, iss, iat = 0, exp = 0, nbf } = decodeJwt(body.token)
    assert.deepEqual([sub, aud, iss, exp - iat, nbf], ['admin', 'signalbox', 'signalbox', 300, iat])

    const form = (fields: Record<string, string>) =>
      registry.send('POST', '/token', {
        as: null,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ grant_type: 'password', service: 'signalbox', client_id: 'test', ...fields }).toString(),
      })
    const granted = await form({ username: 'admin', password: 'a-long-test-password', scope: 'repository:a/b:pull,push' })
    assert.deepEqual([granted.status, granted.body.scope], [200, 'repository:a/b:pull,push'])
    expectStatus(await registry.send('GET', '/v2/a/b/tags/list', { token: granted.body.access_token }), 200)
    assert.equal((await form({ username: 'admin', password: 'wrong' })).status, 401)
    assert.equal((await form({ grant_type: 'refresh_token', refresh_token: 'x' })).status, 400)
    assert.equal((await registry.send('GET', '/token?service=other')).status, 400)
    assert.equal(
      (await registry.send('GET', '/token', { as: null, headers: { authorization: basic('admin', 'wrong') } })).status,
      401,
    )
    assert.equal((await registry.send('DELETE', '/token')).status, 405)
  })

  test(`${engine}: a token that is forged, foreign, over or for another service is refused`, async (t) => {
    const db = await open(t)
    const registry = await openRegistry(t, db)
    await pushImage(registry, 'a/b', makeImage(), 'x')
    const good = await registry.token('admin', 'repository:a/b:pull')
    const status = async (token: string) => (await registry.send('GET', '/v2/a/b/tags/list', { token })).status
    assert.equal(await status(good), 200)

    const claims = decodeJwt(good)
    const { kid } = decodeProtectedHeader(good)
    const row = await db.selectFrom('setting').select('value').where('key', '=', 'registry_token_keys').executeTakeFirstOrThrow()
    const own = await importJWK(JSON.parse(row.value)[0].jwk, 'ES256')
    const foreign = await generateKeyPair('ES256', { extractable: true })
    const sign = (changes: object, header: object = {}, key: Parameters<SignJWT['sign']>[0] = own) =>
      new SignJWT({ ...claims, ...changes }).setProtectedHeader({ alg: 'ES256', kid: kid!, typ: 'JWT', ...header }).sign(key)
    assert.equal(await status(await sign({})), 200)
    const now = Math.floor(Date.now() / 1000)
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const [header, payload, signature] = good.split('.')
    const hmac = (key: string) => {
      const signed = `${part({ alg: 'HS256', kid, typ: 'JWT' })}.${payload}`
      return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
    }
    const bad: Record<string, string> = {
      'of another key under our name': await sign({}, {}, foreign.privateKey),
      'that brings its key along': await sign({}, { jwk: await exportJWK(foreign.publicKey) }, foreign.privateKey),
      'of a key nobody knows': await sign({}, { kid: 'nobody' }, foreign.privateKey),
      'of a key from a path': await sign({}, { kid: '../../dev/null' }, foreign.privateKey),
      'that is over': await sign({ exp: now - 1 }),
      'that is not good yet': await sign({ nbf: now + 60 }),
      'for another service': await sign({ aud: 'other' }),
      'of another issuer': await sign({ iss: 'other' }),
      'of another kind': await sign({}, { typ: 'refresh' }),
      'of a user who is not there': await sign({ uid: 987_654 }),
      'of a user called otherwise': await sign({ sub: 'other' }),
      'of another password': await sign({ pwd: 'other' }),
      'without a signature': `${header}.${payload}.`,
      'of no algorithm': `${part({ alg: 'none', kid, typ: 'JWT' })}.${payload}.`,
      'signed with what is public': hmac(row.value),
      'with other claims': `${header}.${part({ ...claims, uid: 1, sub: 'admin', access: [] })}.${signature}`,
      'cut off': good.slice(0, -4),
      empty: '',
    }
    for (const [what, token] of Object.entries(bad)) assert.equal(await status(token), 401, `a token ${what}`)
    // A second registry on the same database knows the key, and none is made anew.
    const second = await openRegistry(t, db)
    expectStatus(await second.send('GET', '/v2/a/b/tags/list', { token: good }), 200)
    assert.equal(decodeProtectedHeader(await second.token('admin')).kid, kid)
  })

  test(`${engine}: keys take turns, and the one before is good until its tokens are over`, async (t) => {
    const db = await open(t)
    const registry = await openRegistry(t, db)
    const before = await registry.token('admin')
    const read = async () =>
      JSON.parse(
        (await db.selectFrom('setting').select('value').where('key', '=', 'registry_token_keys').executeTakeFirstOrThrow()).value,
      )
    const age = async (days: number) => {
      const keys = (await read()).map((key: { created: number }) => ({ ...key, created: key.created - days * 86_400_000_000 }))
      await db
        .updateTable('setting')
        .set({ value: JSON.stringify(keys) })
        .where('key', '=', 'registry_token_keys')
        .execute()
    }
    await age(31)
    const next = await openRegistry(t, db)
    const after = await next.token('admin')
    assert.notEqual(decodeProtectedHeader(after).kid, decodeProtectedHeader(before).kid)
    for (const token of [before, after]) expectStatus(await next.send('GET', '/v2/', { token }), 200)
    assert.equal((await read()).length, 2)
    await age(31)
    const last = await openRegistry(t, db)
    await last.token('admin')
    assert.equal((await read()).length, 2)
    assert.equal((await last.send('GET', '/v2/', { token: before })).status, 401)
  })

  test(`${engine}: who is disabled, has another password or loses a right is refused at once, whatever they hold`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const { ctx } = registry
    await pushImage(registry, 'a/b', makeImage(), 'x')
    const scope = 'repository:a/b:pull'
    for (const [how, change, expected] of [
      ['is disabled', (user: any) => updateUser(ctx, user, { is_active: false }), [401, 401]],
      ['has another password', (user: any) => updateUser(ctx, user, { password: 'another-long-password' }), [401, 401]],
      ['loses the role', removeRoles, [404, 404]],
    ] as const) {
      const name = how.replaceAll(' ', '-')
      await registry.addUser(name)
      await give(registry, name, 'container.containerdistribution_consumer', 'a/b')
      const token = await registry.token(name, scope)
      const statuses = async () => [
        (await registry.send('GET', '/v2/a/b/manifests/x', { token })).status,
        (await registry.send('GET', '/v2/a/b/manifests/x', { as: name })).status,
      ]
      assert.deepEqual(await statuses(), [200, 200])
      assert.deepEqual(await statuses(), [200, 200])
      const user = await ctx.db.selectFrom('user').selectAll().where('username', '=', name).executeTakeFirstOrThrow()
      await change(user)
      assert.deepEqual(await statuses(), expected, how)
    }
    async function removeRoles(user: { id: number }) {
      await ctx.db.deleteFrom('role_assignment').where('user_id', '=', user.id).execute()
      ctx.changes.bump()
    }
  })

  test(`${engine}: a token for one name is for no other that begins or ends alike`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const names = ['a/b', 'a/bc', 'a/b/c', 'a', 'b', 'x/a/b']
    for (const name of names) await pushImage(registry, name, makeImage(), 'x')
    for (const own of names) {
      const token = await registry.token('admin', `repository:${own}:pull,push`)
      for (const name of names) {
        const expected = name === own
        assert.equal((await registry.send('GET', `/v2/${name}/manifests/x`, { token })).status, expected ? 200 : 401)
        assert.equal((await registry.send('POST', `/v2/${name}/blobs/uploads/`, { token })).status, expected ? 202 : 401)
      }
    }
    const reader = await registry.token('admin', 'repository:a/b:pull')
    assert.equal((await registry.send('POST', '/v2/a/b/blobs/uploads/', { token: reader })).status, 401)
    assert.equal((await registry.send('DELETE', '/v2/a/b/manifests/x', { token: reader })).status, 401)
  })

  test(`${engine}: every caller gets of every repository, by every route, what an independent table says`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const stage = await setStage(registry)
    let cells = 0
    for (const caller of callers)
      for (const [repository, kind] of Object.entries(repositories))
        for (const [route, { method, path, needs }] of Object.entries(stage.routes))
          for (const by of caller === 'nobody' ? (['nothing', 'token'] as const) : (['password', 'token'] as const)) {
            const name = kind.path
            const as = caller === 'nobody' ? null : caller
            const sending: Sending = by === 'token' ? { token: await stage.token(as, name) } : { as }
            const body = method === 'PUT' || method === 'PATCH' ? { body: 'x' } : {}
            const answer = await registry.send(method, path(name, stage.image), { ...sending, ...body })
            const expected = expectedOf(caller, repository, needs, route, by)
            assert.ok(
              expected.includes(answer.status),
              `${caller} by ${by}, ${repository}, ${route}: ${answer.status}, not ${expected.join(' or ')}`,
            )
            cells++
          }
    assert.ok(cells > 1500, String(cells))
  })

  test(`${engine}: what is hidden and what is absent are answered alike, to the letter`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const stage = await setStage(registry)
    const plain = ({ status, headers, body }: Answer, name: string) =>
      JSON.stringify([status, [...headers].filter(([each]) => each !== 'date' && each !== 'content-length'), body]).replaceAll(
        name,
        'NAME',
      )
    for (const as of [null, 'stranger'])
      for (const [route, { method, path }] of Object.entries(stage.routes))
        for (const by of ['password', 'token']) {
          const ask = async (name: string) => {
            const sending: Sending = by === 'token' ? { token: await stage.token(as, name) } : { as }
            const body = method === 'PUT' || method === 'PATCH' ? { body: 'x' } : {}
            return plain(await registry.send(method, path(name, stage.image), { ...sending, ...body }), name)
          }
          const absent = await ask('team/absent')
          for (const hidden of ['team/private', 'team/target', 'elsewhere/private'])
            assert.equal(await ask(hidden), absent, `${as} by ${by}: ${route} of ${hidden}`)
          assert.equal(await ask('nowhere/absent'), absent, `${as} by ${by}: ${route}`)
        }
  })

  test(`${engine}: a layer is mounted only from where the caller may read it`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    await registry.addUser('eve')
    const secret = Buffer.from('a secret layer')
    const digest = digestOf(secret)
    await pushBlob(registry, 'team/private', secret)
    await pushBlob(registry, 'eve/own', Buffer.from('other'), { as: 'eve' })
    const scopes = ['repository:eve/own:pull,push', 'repository:team/private:pull', 'repository:team/absent:pull']
    const mount = async (query: string, as = 'eve') => {
      const statuses = []
      for (const sending of [{ as }, { token: await registry.token(as, ...scopes) }])
        statuses.push((await registry.send('POST', `/v2/eve/own/blobs/uploads/?mount=${query}`, sending)).status)
      return statuses
    }
    for (const query of [
      `${digest}&from=team/private`,
      `${digest}&from=team/absent`,
      digest,
      `${digestOf('absent')}&from=team/private`,
    ])
      assert.deepEqual(await mount(query), [202, 202], query)
    assert.equal((await registry.send('GET', `/v2/eve/own/blobs/${digest}`, { as: 'eve' })).status, 404)
    assert.equal((await registry.send('HEAD', `/v2/eve/own/blobs/${digest}`, { as: 'eve' })).status, 404)
    // Nor does a manifest that names it make it theirs.
    const image = makeImage({ layers: [secret] })
    for (const [each, bytes] of image.blobs) if (each !== digest) await pushBlob(registry, 'eve/own', bytes, { as: 'eve' })
    const put = await putManifest(registry, 'eve/own', 'x', image.manifests.get(image.digest)!, { as: 'eve' })
    assert.deepEqual([put.status, put.body.errors[0].code], [400, 'MANIFEST_BLOB_UNKNOWN'])

    await give(registry, 'eve', 'container.containernamespace_consumer', 'team')
    for (const query of [`${digest}&from=team/private`, digest]) {
      assert.deepEqual(await mount(query), [201, 201], query)
      expectStatus(await registry.send('GET', `/v2/eve/own/blobs/${digest}`, { as: 'eve' }), 200)
      expectStatus(await registry.send('DELETE', `/v2/eve/own/blobs/${digest}`, { as: 'eve' }), 202)
    }
    // A token that was not asked for the other place shall be: distribution says so too.
    const narrow = await registry.token('eve', scopes[0]!)
    const asked = await registry.send('POST', `/v2/eve/own/blobs/uploads/?mount=${digest}&from=team/private`, { token: narrow })
    assert.equal(asked.status, 401)
    assert.match(asked.headers.get('www-authenticate')!, /scope="repository:eve\/own:pull,push repository:team\/private:pull"/)
  })

  test(`${engine}: a client that may push is told "it is here" only with a promise; readers cause no writes`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const { db } = registry.ctx
    await registry.addUser('reader')
    const image = makeImage()
    await pushImage(registry, 'a/b', image, 'x')
    await give(registry, 'reader', 'container.containerdistribution_consumer', 'a/b')
    await db.deleteFrom('lease').execute()
    const leases = async () => (await db.selectFrom('lease').select('content_id').execute()).length
    const fresh = await openRegistry(t, db)
    for (const digest of image.blobs.keys())
      expectStatus(await fresh.send('HEAD', `/v2/a/b/blobs/${digest}`, { as: 'reader' }), 200)
    assert.equal(await leases(), 0)
    for (const digest of image.blobs.keys()) expectStatus(await fresh.send('HEAD', `/v2/a/b/blobs/${digest}`), 200)
    assert.equal(await leases(), image.blobs.size)
  })

  test(`${engine}: the catalog has what the caller may pull, in pages`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    for (const name of ['eve', 'bob']) await registry.addUser(name)
    for (const name of ['team/a', 'team/b', 'other/c', 'open/d', 'open/E', 'eve/own'])
      await pushImage(registry, name.toLowerCase(), makeImage(), 'x')
    await publish(registry, 'open/d')
    await publish(registry, 'open/e')
    await give(registry, 'eve', 'container.containernamespace_consumer', 'team')
    await give(registry, 'bob', 'container.containerdistribution_consumer', 'other/c')
    const list = async (as: string, query = '') => (await registry.send('GET', `/v2/_catalog${query}`, { as })).body.repositories
    assert.deepEqual(await list('admin'), ['eve/own', 'open/d', 'open/e', 'other/c', 'team/a', 'team/b'])
    assert.deepEqual(await list('eve'), ['open/d', 'open/e', 'team/a', 'team/b'])
    assert.deepEqual(await list('bob'), ['open/d', 'open/e', 'other/c'])
    assert.deepEqual(await list('eve', '?last=open/d&n=2'), ['open/e', 'team/a'])
    const page = await registry.send('GET', '/v2/_catalog?n=1', { as: 'eve' })
    assert.equal(page.headers.get('link'), '</v2/_catalog?n=1&last=open%2Fd>; rel="next"')
    const token = await registry.token('bob', 'registry:catalog:*')
    assert.equal((await registry.send('GET', '/v2/_catalog', { token })).body.repositories.length, 3)
    assert.equal((await registry.send('GET', '/v2/_catalog', { token: await registry.token('bob') })).status, 401)
  })

  test(`${engine}: only who may begins a repository, in a namespace of their own name or one that they may add to`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    for (const name of ['eve', 'owner', 'collaborator', 'consumer', 'adder']) await registry.addUser(name)
    await pushImage(registry, 'team/first', makeImage(), 'x')
    await give(registry, 'owner', 'container.containernamespace_owner', 'team')
    await give(registry, 'collaborator', 'container.containernamespace_collaborator', 'team')
    await give(registry, 'consumer', 'container.containernamespace_consumer', 'team')
    await give(registry, 'adder', 'container.containernamespace_creator', null)
    const begin = async (as: string, name: string) => (await registry.send('POST', `/v2/${name}/blobs/uploads/`, { as })).status
    for (const [as, name, status] of [
      ['eve', 'eve/a', 202],
      ['eve', 'eve/deep/b', 202],
      ['eve', 'evelyn/a', 403],
      ['eve', 'team/a', 403],
      ['owner', 'team/b', 202],
      ['collaborator', 'team/c', 202],
      ['consumer', 'team/d', 403],
      ['adder', 'fresh/a', 202],
      ['adder', 'fresh/b', 202],
      ['adder', 'team/e', 403],
      ['eve', 'fresh/c', 403],
    ] as const)
      assert.equal(await begin(as, name), status, `${as} ${name}`)
    // Whoever began it owns it, and others get nothing of it.
    assert.equal(await begin('collaborator', 'team/b'), 202)
    assert.equal(await begin('owner', 'team/c'), 202)
    expectStatus(await registry.send('GET', '/v2/eve/a/tags/list', { as: 'eve' }), 200)
    assert.equal((await registry.send('GET', '/v2/eve/a/tags/list', { as: 'owner' })).status, 404)
  })
})

const callers = [
  'nobody',
  'stranger',
  'admin',
  'ns-owner',
  'ns-collaborator',
  'ns-consumer',
  'owner',
  'collaborator',
  'consumer',
] as const
type CallerName = (typeof callers)[number]

/** Roles are on the namespace `team`, or on each of its distributions. */
const repositories = {
  public: { path: 'team/public' },
  private: { path: 'team/private' },
  target: { path: 'team/target' },
  'public target': { path: 'team/public-target' },
  absent: { path: 'team/absent' },
  'elsewhere, private': { path: 'elsewhere/private' },
  'elsewhere, absent': { path: 'nowhere/absent' },
} as const

type Needs = 'pull' | 'push' | 'begin'

/** The table: nothing of the program that it is about is used here. */
function expectedOf(caller: CallerName, repository: string, needs: Needs, route: string, by: string): readonly number[] {
  const isHere = !repository.includes('absent')
  const isElsewhere = repository.startsWith('elsewhere')
  const isPublic = repository.startsWith('public')
  const isTarget = repository.endsWith('target')
  const isAdmin = caller === 'admin'
  const onNamespace = caller.startsWith('ns-') && !isElsewhere
  const onObject = ['owner', 'collaborator', 'consumer'].includes(caller) && isHere && !isElsewhere
  const reads = isAdmin || (isHere && isPublic) || ((onNamespace || onObject) && isHere)
  const writes = isAdmin || ((onNamespace || onObject) && !caller.endsWith('consumer') && (isHere || onNamespace))
  const found = foundStatus[route]!

  if (needs === 'pull') {
    if (reads && isHere) return [found]
    if (caller === 'nobody') return [401]
    if (by === 'token' && !reads && !writes) return [401]
    return route === 'referrers' ? [200] : [404]
  }
  if (caller === 'nobody') return [401]
  if (!writes) return [by === 'token' ? 401 : 403]
  if (isHere && isTarget) return [403]
  if (isHere) return [found]
  // It could be begun: by what begins something it is, once.
  return needs === 'begin' ? [found] : [404]
}

const foundStatus: Record<string, number> = {
  tags: 200,
  manifest: 200,
  'manifest head': 200,
  blob: 200,
  'blob head': 200,
  referrers: 200,
  'upload status': 404,
  'upload chunk': 404,
  'upload end': 404,
  'upload cancel': 404,
  'delete a tag': 404,
  'delete a blob': 404,
}

interface Route {
  method: string
  path: (name: string, image: ReturnType<typeof makeImage>) => string
  needs: Needs
}

const upload = '0197a000-0000-7000-8000-000000000000'
const blobOf = (image: ReturnType<typeof makeImage>) => [...image.blobs.keys()][0]!
const routes: Record<string, Route> = {
  tags: { method: 'GET', path: (name) => `/v2/${name}/tags/list`, needs: 'pull' },
  manifest: { method: 'GET', path: (name) => `/v2/${name}/manifests/x`, needs: 'pull' },
  'manifest head': { method: 'HEAD', path: (name, { digest }) => `/v2/${name}/manifests/${digest}`, needs: 'pull' },
  blob: { method: 'GET', path: (name, image) => `/v2/${name}/blobs/${blobOf(image)}`, needs: 'pull' },
  'blob head': { method: 'HEAD', path: (name, image) => `/v2/${name}/blobs/${blobOf(image)}`, needs: 'pull' },
  referrers: { method: 'GET', path: (name, { digest }) => `/v2/${name}/referrers/${digest}`, needs: 'pull' },
  'upload status': { method: 'GET', path: (name) => `/v2/${name}/blobs/uploads/${upload}`, needs: 'push' },
  'upload chunk': { method: 'PATCH', path: (name) => `/v2/${name}/blobs/uploads/${upload}`, needs: 'push' },
  'upload end': { method: 'PUT', path: (name) => `/v2/${name}/blobs/uploads/${upload}?digest=${digestOf('x')}`, needs: 'push' },
  'upload cancel': { method: 'DELETE', path: (name) => `/v2/${name}/blobs/uploads/${upload}`, needs: 'push' },
  'delete a tag': { method: 'DELETE', path: (name) => `/v2/${name}/manifests/no-such-tag`, needs: 'push' },
  'delete a blob': { method: 'DELETE', path: (name) => `/v2/${name}/blobs/${digestOf('no such blob')}`, needs: 'push' },
}

async function setStage(registry: Registry) {
  const image = makeImage()
  for (const name of callers) if (name !== 'nobody' && name !== 'admin') await registry.addUser(name)
  for (const [what, { path }] of Object.entries(repositories)) {
    if (what.includes('absent')) continue
    await pushImage(registry, path, image, 'x')
    if (what.startsWith('public')) await publish(registry, path)
    if (what.endsWith('target')) await makeTarget(registry, path)
    if (what.startsWith('elsewhere')) continue
    for (const role of ['owner', 'collaborator', 'consumer'])
      await give(registry, role, `container.containerdistribution_${role}`, path)
  }
  for (const role of ['owner', 'collaborator', 'consumer'])
    await give(registry, `ns-${role}`, `container.containernamespace_${role}`, 'team')
  const tokens = new Map<string, Promise<string>>()
  return {
    image,
    routes,
    token(as: string | null, name: string): Promise<string> {
      const key = `${as} ${name}`
      if (!tokens.has(key)) tokens.set(key, registry.token(as, `repository:${name}:pull,push,delete`))
      return tokens.get(key)!
    },
  }
}

/** Gives a role on a distribution, on a namespace, or on everything. */
async function give({ ctx }: Registry, username: string, role: string, on: string | null) {
  const user = await ctx.db.selectFrom('user').select('id').where('username', '=', username).executeTakeFirstOrThrow()
  const [kind, type, column] = role.includes('namespace')
    ? (['namespace', 'container.namespace', 'name'] as const)
    : (['distribution', 'container.container', 'base_path'] as const)
  const prn = on === null ? null : await prnOn()
  await grantToCreator(ctx.db, user.id, [role], prn as string)
  ctx.changes.bump()

  async function prnOn() {
    const row = await ctx.db
      .selectFrom(kind as 'namespace')
      .select('uuid')
      .where(column as 'name', '=', on!)
      .executeTakeFirstOrThrow()
    return prnOf(ctx.formats, kind, { uuid: row.uuid, type })
  }
}

async function publish({ ctx }: Registry, path: string) {
  await ctx.db.updateTable('distribution').set({ settings: '{"private":false}' }).where('base_path', '=', path).execute()
  ctx.changes.bump()
}

async function makeTarget({ ctx }: Registry, name: string) {
  await ctx.db.updateTable('repository').set({ type: 'container.container' }).where('name', '=', name).execute()
  ctx.changes.bump()
}
