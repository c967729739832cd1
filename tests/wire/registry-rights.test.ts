import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { test, type TestContext } from 'node:test'
import { generateKeyPair, importJWK, type JWTPayload, SignJWT } from 'jose'
import { addRole, assignRole } from '../../src/core/access/assignments.ts'
import { prnOf } from '../../src/core/names.ts'
import { updateUser } from '../../src/core/access/users.ts'
import type { RegistryOptions } from '../../src/http/registry/handler.ts'
import type { Target } from '../../src/http/registry/target.ts'
import type { Db } from '../../src/store/database.ts'
import { forEachDatabase } from '../databases.ts'
import {
  type Answer,
  digestOf,
  expectStatus,
  type Image,
  makeImage,
  makeIndex,
  openRegistry,
  password,
  pushBlob,
  pushImage,
  putManifest,
  type Registry,
  type Sending,
  types,
} from '../registry.ts'
import { addDistribution, addMember, addRepository } from '../serving.ts'

/*
 * Who may do what in the registry, as a table that is written down here and not taken from the code: every route, every kind of caller, every
 * kind of repository. What is absent and what is hidden are one answer.
 */

// ---- Who asks. Roles are on the namespace `team` or on each of its distributions, as Pulp's built-in roles have them.

const people = {
  admin: {},
  plain: {},
  'ns-consumer': { namespace: 'consumer' },
  'ns-collaborator': { namespace: 'collaborator' },
  'ns-owner': { namespace: 'owner' },
  'dist-consumer': { distribution: 'consumer' },
  'dist-collaborator': { distribution: 'collaborator' },
  'dist-owner': { distribution: 'owner' },
  rival: {},
  founder: { everywhere: 'container.containernamespace_creator' },
  solo: {},
  disabled: { namespace: 'owner' },
} as const satisfies Record<string, { namespace?: string; distribution?: string; everywhere?: string }>

type Person = keyof typeof people
type Asker = Person | 'nobody'
const askers: readonly Asker[] = ['nobody', ...(Object.keys(people) as Person[])]

// ---- What they ask of.

const readers: readonly Asker[] = [
  'admin',
  'ns-consumer',
  'ns-collaborator',
  'ns-owner',
  'dist-consumer',
  'dist-collaborator',
  'dist-owner',
]
const writers: readonly Asker[] = ['admin', 'ns-collaborator', 'ns-owner', 'dist-collaborator', 'dist-owner']
const everybody = askers.filter((each) => each !== 'disabled')
/** Whose rights differ most. */
const few: readonly Asker[] = ['admin', 'ns-owner', 'plain']

interface Kind {
  /** `*` is another number for each request: what a push makes is not absent any more. */
  name: string
  isThere: boolean
  pull: readonly Asker[]
  /** To push to what is there, or to make it by pushing. */
  push: readonly Asker[]
  /** Nobody pushes, whatever their rights: what it serves is promoted. */
  isTarget?: boolean
}

const kinds: readonly Kind[] = [
  { name: 'team/public', isThere: true, pull: everybody, push: writers },
  { name: 'team/private', isThere: true, pull: readers, push: writers },
  { name: 'team/target', isThere: true, pull: readers, push: writers, isTarget: true },
  { name: 'team/open-target', isThere: true, pull: everybody, push: writers, isTarget: true },
  { name: 'team/absent-*', isThere: false, pull: [], push: ['admin', 'ns-collaborator', 'ns-owner'] },
  { name: 'rival/private', isThere: true, pull: ['admin', 'rival'], push: ['admin', 'rival'] },
  { name: 'rival/absent-*', isThere: false, pull: [], push: ['admin', 'rival'] },
  { name: 'nowhere*/absent', isThere: false, pull: [], push: ['admin', 'founder'] },
  { name: 'solo/absent-*', isThere: false, pull: [], push: ['admin', 'solo'] },
]

// ---- What they ask. `granted` is the answer for who may; of what is not there, for who may begin it, it is `begun`.

interface Route {
  method: string
  kind: Target['kind']
  path: (name: string, image: Image) => string
  sending?: (image: Image) => Sending
  right: 'pull' | 'push' | 'nothing'
  granted: Expected
  begun?: Expected
}

type Expected = readonly [status: number, code?: string]

const ghost = `sha256:${'0'.repeat(64)}`
const noUpload = '0198c0de-0000-7000-8000-000000000000'
const layerOf = (image: Image) => [...image.blobs.keys()].at(-1)!
const unknown = [404, 'NAME_UNKNOWN'] as const

const routes: readonly Route[] = [
  ...reads('tags', (name) => `/v2/${name}/tags/list`, [200]),
  ...reads('manifest', (name) => `/v2/${name}/manifests/latest`, [200]),
  ...reads('manifest', (name, { digest }) => `/v2/${name}/manifests/${digest}`, [200]),
  ...reads('manifest', (name) => `/v2/${name}/manifests/missing`, [404, 'MANIFEST_UNKNOWN']),
  ...reads('blob', (name, image) => `/v2/${name}/blobs/${layerOf(image)}`, [200]),
  ...reads('blob', (name) => `/v2/${name}/blobs/${ghost}`, [404, 'BLOB_UNKNOWN']),
  ...reads(
    'blob',
    (name, image) => `/v2/${name}/blobs/${layerOf(image)}`,
    [206],
    () => ({ headers: { range: 'bytes=0-3' } }),
  ),
  ...reads('referrers', (name) => `/v2/${name}/referrers/${ghost}`, [200]),
  ...reads('signatures', (name, { digest }) => `/extensions/v2/${name}/signatures/${digest}`, [200]),
  ...reads('signatures', (name) => `/extensions/v2/${name}/signatures/${ghost}`, [404, 'MANIFEST_UNKNOWN']),
  {
    ...write(
      'PUT',
      'signatures',
      (name, { digest }) => `/extensions/v2/${name}/signatures/${digest}`,
      [400, 'SIGNATURE_INVALID'],
      unknown,
    ),
    sending: () => ({ body: '{}' }),
  },
  {
    ...write('PUT', 'manifest', (name) => `/v2/${name}/manifests/latest`, [201], [400, 'MANIFEST_BLOB_UNKNOWN']),
    sending: ({ manifests, digest }) => {
      const { bytes, mediaType } = manifests.get(digest)!
      return { body: bytes, headers: { 'content-type': mediaType } }
    },
  },
  write('DELETE', 'manifest', (name) => `/v2/${name}/manifests/missing`, [404, 'MANIFEST_UNKNOWN'], unknown),
  write('DELETE', 'manifest', (name) => `/v2/${name}/manifests/${ghost}`, [404, 'MANIFEST_UNKNOWN'], unknown),
  write('DELETE', 'blob', (name) => `/v2/${name}/blobs/${ghost}`, [404, 'BLOB_UNKNOWN'], unknown),
  write('POST', 'uploads', (name) => `/v2/${name}/blobs/uploads/`, [202], [202]),
  {
    ...write('POST', 'uploads', (name) => `/v2/${name}/blobs/uploads/?digest=${digestOf('small')}`, [201], [201]),
    sending: () => ({ body: 'small' }),
  },
  write('POST', 'uploads', (name) => `/v2/${name}/blobs/uploads/?mount=${ghost}&from=${name}`, [202], [202]),
  ...['GET', 'HEAD', 'PATCH', 'PUT', 'DELETE'].map((method) => ({
    ...write(
      method,
      'upload',
      (name) => `/v2/${name}/blobs/uploads/${noUpload}?digest=${digestOf('')}`,
      [404, 'BLOB_UPLOAD_UNKNOWN'],
      unknown,
    ),
  })),
]

function reads(kind: Target['kind'], path: Route['path'], granted: Expected, sending?: Route['sending']): Route[] {
  return ['GET', 'HEAD'].map((method) => {
    return { method, kind, path, right: 'pull', granted, ...(sending && { sending }) }
  })
}

function write(method: string, kind: Target['kind'], path: Route['path'], granted: Expected, begun: Expected): Route {
  return { method, kind, path, right: 'push', granted, begun }
}

// ---- How they show who they are, and what that changes.

interface Credential {
  how: string
  /** Everybody by default. */
  askers?: readonly Asker[]
  kinds?: readonly Kind[]
  give: (stage: Stage, asker: Asker, name: string) => Promise<Pick<Sending, 'as' | 'token'>>
  /** Not good for anything. */
  isBad?: boolean
  /** A token is for what was granted when it was asked for; a password for whatever its owner may. */
  scope?: 'pull' | 'all' | 'elsewhere'
}

const forgeries = [
  'expired',
  'without an end',
  'not yet good',
  'of another service',
  'of another issuer',
  'tampered',
  'of a foreign key',
  'unsigned',
  'of a symmetric key',
  'nonsense',
] as const

const usual: readonly Credential[] = [
  { how: 'a password', give: async (_, asker) => ({ as: asker === 'nobody' ? null : asker }) },
  {
    how: 'a token for all',
    scope: 'all',
    give: async ({ token }, asker, name) => ({ token: await token(asker, `repository:${name}:pull,push,delete`) }),
  },
]

const special: readonly Credential[] = [
  {
    how: 'a token to pull',
    scope: 'pull',
    askers: few,
    give: async ({ token }, asker, name) => ({ token: await token(asker, `repository:${name}:pull`) }),
  },
  {
    how: 'a token for another repository',
    scope: 'elsewhere',
    askers: few,
    give: async ({ token }, asker) => ({ token: await token(asker, 'repository:team/other:pull,push,delete') }),
  },
  {
    how: 'a token for nothing',
    scope: 'elsewhere',
    askers: few,
    give: async ({ token }, asker) => ({ token: await token(asker) }),
  },
  { how: 'a token of before', isBad: true, askers: ['disabled'], give: async ({ before }) => ({ token: before }) },
  ...forgeries.map(
    (how): Credential => ({
      how: `a token ${how}`,
      isBad: true,
      askers: ['admin'],
      kinds: kinds.filter(({ name }) => ['team/public', 'team/private', 'team/absent-*'].includes(name)),
      give: async ({ forge }, _, name) => ({ token: await forge(name, how) }),
    }),
  ),
]

// ---- The table.

function expected(asker: Asker, { isBad, scope }: Credential, kind: Kind, route: Route): Expected {
  const unauthorized = [401, 'UNAUTHORIZED'] as const
  if (isBad) return unauthorized
  const [reads, writes] = [kind.pull.includes(asker), kind.push.includes(asker)]
  if (scope === 'elsewhere') return unauthorized
  if (route.right === 'pull') {
    if (reads) return route.granted
    // Nobody in particular is asked to log in, whatever is there; and a token for what was not granted is none.
    if (asker === 'nobody') return unauthorized
    if (scope !== undefined && !(writes && scope === 'all'))
      return kind.isThere || asker !== 'admin' ? unauthorized : unknownOf(route)
    return unknownOf(route)
  }
  if (asker === 'nobody' || scope === 'pull') return unauthorized
  if (!writes) return scope === 'all' ? unauthorized : [403, 'DENIED']
  if (kind.isTarget) return [403, 'DENIED']
  return kind.isThere ? route.granted : route.begun!
}

/** Referrers of what is not there are none. */
const unknownOf = ({ kind }: Route): Expected => (kind === 'referrers' ? [200] : unknown)

// ---- The stage.

interface Stage {
  registry: Registry
  /** In team/*. */
  image: Image
  /** In rival/private. */
  secret: Image
  token: (asker: Asker, ...scopes: string[]) => Promise<string>
  /** A token of the administrator that is nearly good. */
  forge: (name: string, how: (typeof forgeries)[number]) => Promise<string>
  /** A token that somebody got before they were disabled. */
  before: string
}

async function setTheStage(t: TestContext, db: Db, options?: RegistryOptions): Promise<Stage> {
  const registry = await openRegistry(t, db, options)
  const { ctx } = registry
  for (const person of Object.keys(people)) if (person !== 'admin') await registry.addUser(person)
  const image = makeImage()
  const secret = makeImage({ layers: [Buffer.from(`a secret ${randomBytes(20).toString('hex')}`)] })
  for (const name of ['team/public', 'team/private', 'team/other']) await pushImage(registry, name, image, 'latest')
  await pushImage(registry, 'rival/private', secret, 'latest')
  // That this namespace is somebody else's does not keep the user of its name out.
  expectStatus(await registry.send('POST', '/v2/solo/first/blobs/uploads/'), 202)
  await db
    .updateTable('distribution')
    .set({ settings: '{"private":false}' })
    .where('base_path', 'in', ['team/public', 'team/other'])
    .execute()
  for (const [name, isPrivate] of [
    ['team/target', true],
    ['team/open-target', false],
  ] as const)
    await promote(registry, name, isPrivate)
  await cast(registry)
  const tokens = new Map<string, Promise<string>>()
  const token: Stage['token'] = (asker, ...scopes) => {
    const key = [asker, ...scopes].join(' ')
    const got = tokens.get(key) ?? registry.token(asker === 'nobody' ? null : asker, ...scopes)
    tokens.set(key, got)
    return got
  }
  const before =
    options?.auth === 'basic' ? 'none' : await token('disabled', ...kinds.map(({ name }) => `repository:${name}:pull,push`))
  const usable = options?.auth === 'basic' ? { as: 'disabled' } : { token: before }
  expectStatus(await registry.send('GET', '/v2/team/private/tags/list', usable), 200)
  const disabled = await db.selectFrom('user').selectAll().where('username', '=', 'disabled').executeTakeFirstOrThrow()
  await updateUser(ctx, disabled, { is_active: false })
  return { registry, image, secret, token, before, forge: (name, how) => forge(registry, token, name, how) }
}

/** A repository that is not pushed to, with what team/private has. */
async function promote({ ctx }: Registry, name: string, isPrivate: boolean): Promise<void> {
  const { id } = await addRepository(ctx, 'container', 1)
  await addDistribution(ctx, name, { repository_id: id, settings: JSON.stringify({ private: isPrivate }) }, 'container')
  const from = await ctx.db.selectFrom('repository').select('id').where('name', '=', 'team/private').executeTakeFirstOrThrow()
  const members = await ctx.db
    .selectFrom('membership')
    .select(['content_id', 'name'])
    .where('repository_id', '=', from.id)
    .where('removed_in', 'is', null)
    .execute()
  for (const { content_id, name: called } of members) {
    await addMember(ctx, id, content_id)
    await ctx.db
      .updateTable('membership')
      .set({ name: called })
      .where('repository_id', '=', id)
      .where('content_id', '=', content_id)
      .execute()
  }
}

/** Gives everybody their roles; rival owns what is below rival/. */
async function cast({ ctx }: Registry): Promise<void> {
  const { db, formats } = ctx
  const namespaces = await db.selectFrom('namespace').selectAll().execute()
  const namespace = (name: string) => prnOf(formats, 'namespace', namespaces.find((each) => each.name === name)!)
  const distributions = await db.selectFrom('distribution').selectAll().where('base_path', 'like', 'team/%').execute()
  for (const [person, roles] of Object.entries(people) as [
    string,
    { namespace?: string; distribution?: string; everywhere?: string },
  ][]) {
    if (roles.namespace)
      await addRole(ctx, namespace('team'), { role: `container.containernamespace_${roles.namespace}`, users: [person] })
    if (roles.distribution)
      for (const row of distributions)
        await addRole(ctx, prnOf(formats, 'distribution', row), {
          role: `container.containerdistribution_${roles.distribution}`,
          users: [person],
        })
    if (!roles.everywhere) continue
    const role = await db.selectFrom('role').selectAll().where('name', '=', roles.everywhere).executeTakeFirstOrThrow()
    const { id } = await db.selectFrom('user').select('id').where('username', '=', person).executeTakeFirstOrThrow()
    await assignRole(ctx, { user: id }, role, null)
  }
  await addRole(ctx, namespace('rival'), { role: 'container.containernamespace_owner', users: ['rival'] })
}

/** A token that is nearly good. */
async function forge({ ctx }: Registry, token: Stage['token'], name: string, how: (typeof forgeries)[number]): Promise<string> {
  if (how === 'nonsense') return how
  const good = await token('admin', `repository:${name}:pull,push,delete`)
  const [head, body, signature] = good.split('.') as [string, string, string]
  const header = JSON.parse(Buffer.from(head, 'base64url').toString())
  const claims: JWTPayload = JSON.parse(Buffer.from(body, 'base64url').toString())
  const all = { ...claims, access: [{ type: 'repository', name, actions: ['pull', 'push', 'delete'] }] }
  const write = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url')
  if (how === 'tampered') return [head, write({ ...all, exp: claims.exp! + 1 }), signature].join('.')
  if (how === 'unsigned') return [write({ ...header, alg: 'none' }), write(all), ''].join('.')
  const { value } = await ctx.db
    .selectFrom('setting')
    .select('value')
    .where('key', '=', 'registry_token_keys')
    .executeTakeFirstOrThrow()
  const { jwk } = JSON.parse(value).at(-1)
  const sign = (payload: JWTPayload, key: Parameters<SignJWT['sign']>[0], changes = {}) =>
    new SignJWT(payload).setProtectedHeader({ ...header, ...changes }).sign(key)
  if (how === 'of a foreign key') return sign(all, (await generateKeyPair('ES256')).privateKey)
  if (how === 'of a symmetric key') return sign(all, Buffer.from(jwk.x, 'base64url'), { alg: 'HS256' })
  // What follows is signed with the server's own key, which nobody else has.
  const key = await importJWK(jwk, 'ES256')
  const at = Math.floor(Date.now() / 1000)
  if (how === 'expired') return sign({ ...all, iat: at - 400, nbf: at - 400, exp: at - 100 }, key)
  if (how === 'not yet good') return sign({ ...all, nbf: at + 200, exp: at + 300 }, key)
  if (how === 'of another service') return sign({ ...all, aud: 'another' }, key)
  if (how === 'of another issuer') return sign({ ...all, iss: 'another' }, key)
  assert.equal(how, 'without an end')
  const { exp: _, ...endless } = all
  return sign(endless, key)
}

// ---- The tests.

let serial = 0

async function ask({ registry, image, secret }: Stage, credentials: Sending, name: string, route: Route): Promise<Answer> {
  const its = name.startsWith('rival/') ? secret : image
  const { headers, ...sending } = route.sending?.(its) ?? {}
  return registry.send(route.method, route.path(name, its), {
    ...sending,
    ...credentials,
    headers: { ...headers, ...credentials.headers },
  })
}

/** All of an answer that a client sees, but for the time and the name that it asked for. */
function seen({ status, headers, bytes }: Answer, name: string): unknown {
  const plain = (text: string) => text.replaceAll(name, '<name>').replaceAll(encodeURIComponent(name), '<name>')
  const its = [...headers]
    .filter(([key]) => key !== 'date')
    .map(([key, value]) => [key, key === 'content-length' ? '' : plain(value)])
  return { status, headers: its, body: plain(bytes.toString()) }
}

forEachDatabase((engine, open) => {
  // Whose rights are the same gets the same answers: on the second engine one of each will do.
  const callers = engine === 'SQLite' ? everybody : (['nobody', 'plain', 'dist-consumer', 'rival'] as const)
  const strangers = ['nobody', 'plain', 'ns-owner', 'rival'] as const

  test(`${engine}: every caller, with a password or a token, gets of every repository what the table says`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const wrong: string[] = []
    let cells = 0
    // What a token is worth does not depend on the database.
    for (const credential of engine === 'SQLite' ? [...usual, ...special] : usual)
      for (const asker of credential.askers ?? callers)
        for (const kind of credential.kinds ?? kinds)
          for (const route of routes) {
            const name = kind.name.replace('*', `${++serial}`)
            const given = await credential.give(stage, asker, name)
            const [status, code] = expected(asker, credential, kind, route)
            // Twice: the second answer may come from memory.
            const answers =
              route.method === 'GET' && ['manifest', 'blob'].includes(route.kind) && usual.includes(credential) ? 2 : 1
            for (let turn = 0; turn < answers; turn++) {
              const answer = await ask(stage, given, name, route)
              cells++
              const got = [answer.status, answer.body?.errors?.[0]?.code]
              const isRight = got[0] === status && (route.method === 'HEAD' || got[1] === code)
              if (!isRight)
                wrong.push(
                  `${asker} with ${credential.how}: ${route.method} ${route.path(name, stage.image)}: ${got.join(' ')}, not ${status} ${code ?? ''}`,
                )
              if (answer.status === 401 && !answer.headers.get('www-authenticate'))
                wrong.push(`no challenge: ${asker} ${route.method} ${name}`)
            }
          }
    // Wrong passwords are counted: few of them are refused for what they are.
    for (const as of ['disabled', 'nobody-of-this-name'])
      for (const [method, path] of [
        ['GET', '/v2/'],
        ['GET', '/v2/team/public/tags/list'],
        ['POST', '/v2/team/private/blobs/uploads/'],
        ['GET', '/token?scope=repository:team/public:pull'],
      ] as const)
        assert.equal((await stage.registry.send(method, path, { as })).status, 401, `${as} ${method} ${path}`)
    t.diagnostic(`${cells} requests`)
    assert.deepEqual(wrong.slice(0, 40), [], `${wrong.length} of ${cells}`)
  })

  test(`${engine}: what is hidden from a caller looks as what is absent, in all of the answer`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    for (const credential of usual)
      for (const asker of strangers)
        for (const [hidden, absent] of [
          ['rival/private', 'rival/absence'],
          ['team/private', 'team/absence'],
          ['team/target', 'team/absence'],
        ] as const) {
          const kind = kinds.find(({ name }) => name === hidden)!
          if (kind.pull.includes(asker) || kind.push.includes(asker)) continue
          for (const route of routes)
            for (let turn = 0; turn < 2; turn++) {
              const answers = []
              for (const name of [hidden, absent])
                answers.push(seen(await ask(stage, await credential.give(stage, asker, name), name, route), name))
              assert.deepEqual(answers[0], answers[1], `${asker} with ${credential.how}: ${route.method} ${hidden}`)
            }
        }
  })

  test(`${engine}: tokens grant what the table says, and say the same of what is hidden and what is absent`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    for (const asker of everybody)
      for (const kind of kinds) {
        const name = kind.name.replace('*', `${++serial}`)
        const token = await stage.token(asker, `repository:${name}:pull,push`)
        const { access } = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
        const writes = asker !== 'nobody' && kind.push.includes(asker)
        const reads = kind.pull.includes(asker) || writes
        assert.deepEqual(
          access,
          [{ type: 'repository', name, actions: [...(reads ? ['pull'] : []), ...(writes ? ['push'] : [])] }],
          `${asker} ${name}`,
        )
      }
  })

  test(`${engine}: the catalog lists to everybody what they may pull`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { registry } = stage
    for (const asker of everybody) {
      const names = kinds.filter(({ isThere, pull }) => isThere && pull.includes(asker)).map(({ name }) => name)
      const listed = [...names, 'team/other', ...(asker === 'admin' ? ['solo/first'] : [])].toSorted()
      const answer = await registry.send('GET', '/v2/_catalog', { as: asker === 'nobody' ? null : asker })
      if (asker === 'nobody') assert.equal(answer.status, 401)
      else assert.deepEqual(answer.body.repositories, listed, asker)
      const withToken = await registry.send('GET', '/v2/_catalog', { token: await stage.token(asker, 'registry:catalog:*') })
      assert.deepEqual(withToken.body.repositories, listed, asker)
      const without = await registry.send('GET', '/v2/_catalog', {
        token: await stage.token(asker, 'repository:team/public:pull'),
      })
      assert.equal(without.status, 401)
    }
  })

  test(`${engine}: a private layer or manifest is not had by its digest through another repository`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { registry, secret, image } = stage
    const layer = layerOf(secret)
    const manifest = secret.manifests.get(secret.digest)!
    for (const asker of ['ns-owner', 'dist-owner', 'plain', 'nobody'] as const) {
      const as = asker === 'nobody' ? null : asker
      for (const name of ['team/public', 'team/private', 'team/other'])
        for (const [path, headers] of [
          [`blobs/${layer}`, {}],
          [`blobs/${layer}`, { range: 'bytes=0-0' }],
          [`manifests/${secret.digest}`, {}],
          [`signatures/${secret.digest}`, {}],
        ] as const)
          for (const method of ['GET', 'HEAD']) {
            const root = path.startsWith('signatures') ? '/extensions/v2' : '/v2'
            const { status } = await registry.send(method, `${root}/${name}/${path}`, { as, headers })
            assert.ok([401, 404].includes(status), `${asker} ${method} ${name}/${path}: ${status}`)
          }
    }
    for (const as of ['ns-owner', 'dist-owner'] as const) {
      for (const from of ['&from=rival/private', '', '&from=team/public', '&from=rival/absent', '&from=rival%2Fprivate']) {
        const path = `/v2/team/private/blobs/uploads/?mount=${layer}${from}`
        assert.equal((await registry.send('POST', path, { as })).status, 202, `${as} ${from}`)
        const scopes = [
          'repository:team/private:pull,push',
          'repository:rival/private:pull',
          'repository:rival/absent:pull',
          'repository:team/public:pull',
        ]
        assert.equal(
          (await registry.send('POST', path, { token: await stage.token(as, ...scopes) })).status,
          202,
          `${as} ${from}`,
        )
      }
      assert.equal((await registry.send('GET', `/v2/team/private/blobs/${layer}`, { as })).status, 404)
      // Nor by naming it in a manifest, or in a list.
      const named = makeImage({ layers: [secret.blobs.get(layer)!], config: image.blobs.values().next().value! })
      const answer = await putManifest(registry, 'team/private', 'stolen', named.manifests.get(named.digest)!, { as })
      assert.deepEqual([answer.status, answer.body.errors[0].code], [400, 'MANIFEST_BLOB_UNKNOWN'])
      const list = makeIndex([secret])
      const listed = await putManifest(registry, 'team/private', 'stolen', list.manifests.get(list.digest)!, { as })
      assert.deepEqual([listed.status, listed.body.errors[0].code], [400, 'MANIFEST_BLOB_UNKNOWN'])
      assert.equal((await putManifest(registry, 'team/private', 'stolen', manifest, { as })).status, 400)
    }
    // Whoever may read it may mount it; and then it is in the other repository, and hidden with that.
    const mount = `/v2/rival/other/blobs/uploads/?mount=${layer}`
    assert.equal((await registry.send('POST', `${mount}&from=rival/private`, { as: 'rival' })).status, 201)
    assert.equal((await registry.send('GET', `/v2/rival/other/blobs/${layer}`, { as: 'rival' })).status, 200)
    assert.equal((await registry.send('GET', `/v2/rival/other/blobs/${layer}`, { as: 'ns-owner' })).status, 404)
    // A token that was asked for one repository does not read the other.
    const narrow = await stage.token('admin', 'repository:team/private:pull,push')
    assert.equal(
      (await registry.send('POST', `/v2/team/private/blobs/uploads/?mount=${layer}&from=rival/private`, { token: narrow }))
        .status,
      401,
    )
    // Nor when it does not say from where, though its owner may read it; one for both does, and so does what is public.
    const unnamed = async (token: string, digest = layer) =>
      (await registry.send('POST', `/v2/team/private/blobs/uploads/?mount=${digest}`, { token })).status
    assert.equal(await unnamed(narrow), 202)
    const both = await stage.token('admin', 'repository:team/private:pull,push', 'repository:rival/private:pull')
    assert.equal(await unnamed(both), 201)
    const fresh = makeImage()
    await pushImage(registry, 'team/public', fresh)
    assert.equal(await unnamed(narrow, layerOf(fresh)), 201)
    await registry.send('DELETE', `/v2/team/private/blobs/${layer}`)
    // Another one pushes the same bytes: that gives them nothing of the first, and the first nothing of them.
    expectStatus(await pushBlob(registry, 'team/private', secret.blobs.get(layer)!, { as: 'ns-owner' }), 201)
    assert.equal((await registry.send('GET', `/v2/team/private/blobs/${layer}`, { as: 'rival' })).status, 404)
    assert.equal((await registry.send('GET', `/v2/rival/private/blobs/${layer}`, { as: 'ns-owner' })).status, 404)
  })

  test(`${engine}: whoever loses a right has lost it at the next request, with the token they had`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { registry } = stage
    const { ctx } = registry
    const path = '/v2/team/private/manifests/latest'
    const token = await stage.token('ns-consumer', 'repository:team/private:pull')
    const ownToken = await stage.token('ns-owner', 'repository:team/private:pull,push')
    const open_ = await stage.token('nobody', 'repository:team/public:pull')
    const status = async (sending: Sending, at = path) => (await registry.send('GET', at, sending)).status
    for (let turn = 0; turn < 2; turn++)
      for (const sending of [{ token }, { token: ownToken }, { as: 'ns-consumer' }, { as: 'ns-owner' }])
        assert.equal(await status(sending), 200)
    // A role is taken.
    const assignment = await ctx.db
      .selectFrom('role_assignment')
      .innerJoin('user', 'user.id', 'role_assignment.user_id')
      .select('role_assignment.id')
      .where('username', '=', 'ns-consumer')
      .executeTakeFirstOrThrow()
    await ctx.db.deleteFrom('role_assignment').where('id', '=', assignment.id).execute()
    ctx.changes.bump()
    assert.deepEqual([await status({ token }), await status({ as: 'ns-consumer' })], [404, 404])
    // A user is disabled, or has another password.
    const user = await ctx.db.selectFrom('user').selectAll().where('username', '=', 'ns-owner').executeTakeFirstOrThrow()
    await updateUser(ctx, user, { is_active: false })
    assert.deepEqual([await status({ token: ownToken }), await status({ as: 'ns-owner' })], [401, 401])
    await updateUser(ctx, user, { is_active: true, password: `another ${password}` })
    assert.deepEqual([await status({ token: ownToken }), await status({ as: 'ns-owner' })], [401, 401])
    // What was public is private.
    const public_ = '/v2/team/public/manifests/latest'
    for (let turn = 0; turn < 2; turn++)
      assert.deepEqual([await status({ as: null }, public_), await status({ token: open_ }, public_)], [200, 200])
    await ctx.db
      .updateTable('distribution')
      .set({ settings: '{"private":true}' })
      .where('base_path', '=', 'team/public')
      .execute()
    ctx.changes.bump()
    assert.deepEqual([await status({ as: null }, public_), await status({ token: open_ }, public_)], [401, 401])
  })

  test(`${engine}: odd paths and headers lead nobody to what they may not read`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { registry, secret } = stage
    const layer = layerOf(secret)
    const bodies = [...secret.blobs.values(), secret.manifests.get(secret.digest)!.bytes]
    // For who may read it: 200 where the path is another way to write the same, undefined where it may be either.
    const paths: readonly (readonly [path: string, admin: number])[] = [
      ['/v2/rival/private/manifests/latest', 200],
      ['/v2/rival/%70rivate/manifests/latest', 200],
      ['/v2/rival/private/manifests/latest?x=1', 200],
      [`/v2/rival/private/blobs/${layer.replace(':', '%3A')}`, 200],
      ['/v2//rival/private/manifests/latest', 404],
      ['//v2/rival/private/manifests/latest', 404],
      ['/v2/rival//private/manifests/latest', 404],
      ['/v2/rival/private//manifests/latest', 404],
      ['/v2/rival/private/manifests//latest', 404],
      ['/v2/rival/private/manifests/latest/', 404],
      [`/v2/rival/private/blobs/${layer}/`, 404],
      ['/v2/rival%2Fprivate/manifests/latest', 404],
      ['/v2/rival%2fprivate/manifests/latest', 404],
      ['/v2/rival%252Fprivate/manifests/latest', 404],
      ['/v2/rival%5Cprivate/manifests/latest', 404],
      ['/v2/rival\\private/manifests/latest', 404],
      ['/v2/Rival/Private/manifests/latest', 404],
      ['/V2/rival/private/manifests/latest', 404],
      ['/v2/rival/private/Manifests/latest', 404],
      ['/v2/rival/private/manifests/LATEST', 404],
      [`/v2/rival/private/blobs/${layer.toUpperCase()}`, 404],
      ['/v2/team/../rival/private/manifests/latest', 404],
      ['/v2/team/public/../../rival/private/manifests/latest', 404],
      ['/v2/team/public/%2e%2e/%2e%2e/rival/private/manifests/latest', 404],
      ['/v2/./rival/private/manifests/latest', 404],
      ['/v2/team/public/manifests/../../../rival/private/manifests/latest', 404],
      [`/v2/team/public/blobs/../../../rival/private/blobs/${layer}`, 404],
      ['/v2/rival/private;a=b/manifests/latest', 404],
      ['/v2/rival/private/manifests/latest;a=b', 404],
      ['/v2/rival/private/manifests/latest%00', 404],
      ['/v2/rival/private%00/manifests/latest', 404],
      ['/v2/rival/private%/manifests/latest', 404],
      ['/v2/rival/private/tags/list?last=%00', 404],
      ['/token?scope=repository:rival/private%00:pull', 200],
      ['/v2/rival/private/manifests/latest%20', 404],
      ['/v2/%72ival/private/blobs/uploads/../../manifests/latest', 404],
      ['/v2/rival/private/manifests/latest%3Fx=1', 404],
      ['/v2/rival/private/manifests/latest%23', 404],
      ['/v2/team/public/manifests/latest/rival/private/manifests/latest', 404],
      ['/v2/team/public/blobs/uploads/rival/private/manifests/latest', 404],
      ['/v2/rival/private/tags/list/', 404],
      ['/v2/rival/private/tags/%6cist', 200],
      ['/v2/rival/private/', 404],
      ['/v2/rival/private', 404],
      ['/v2/..', 404],
      ['/v2/.', 404],
      ['/v2x/rival/private/manifests/latest', 404],
      [`/extensions/v2/rival/private/signatures/${secret.digest}`, 200],
      [`/extensions/v2/rival/%70rivate/signatures/${secret.digest}?x=1`, 200],
      [`/extensions/v2//rival/private/signatures/${secret.digest}`, 404],
      [`/extensions/v2/team/public/../../rival/private/signatures/${secret.digest}`, 404],
      [`/extensions/v2/rival%2Fprivate/signatures/${secret.digest}`, 404],
      [`/v2/rival/private/signatures/${secret.digest}`, 404],
      ['/extensions/v2/rival/private/manifests/latest', 404],
      ['/extensions/v2/rival/private/tags/list', 404],
      [`/extensions/v2/rival/private/blobs/${layer}`, 404],
      ['/extensions/v2/', 404],
    ]
    const tricks: Record<string, string>[] = [
      {},
      {
        'x-http-method-override': 'GET',
        'x-original-url': '/v2/rival/private/manifests/latest',
        'x-rewrite-url': '/v2/rival/private/manifests/latest',
      },
      { 'x-forwarded-user': 'admin', 'x-remote-user': 'admin', remote_user: 'admin' },
    ]
    const plain = await stage.token('plain', 'repository:rival/private:pull', 'repository:team/public:pull')
    for (const [path, admin] of paths) {
      assert.equal((await rawGet(registry, path, basicOf('admin'))).status, admin, path)
      for (const headers of tricks)
        for (const authorization of [undefined, basicOf('plain'), basicOf('ns-owner'), `Bearer ${plain}`]) {
          const { status, bytes } = await rawGet(registry, path, authorization, headers)
          assert.ok(
            [400, 401, 404, ...(path.startsWith('/token') ? [200] : [])].includes(status),
            `${path} ${authorization?.slice(0, 12)}: ${status}`,
          )
          for (const body of bodies) assert.ok(!bytes.includes(body), path)
          assert.ok(!bytes.includes(secret.digest), path)
        }
    }
  })

  test(`${engine}: where only passwords are taken, tokens are not, and what is private is private`, async (t) => {
    const stage = await setTheStage(t, await open(t), { auth: 'basic' })
    const { registry } = stage
    for (const asker of ['nobody', ...few] as Asker[])
      for (const kind of kinds)
        for (const route of routes) {
          const name = kind.name.replace('*', `${++serial}`)
          const [status] = expected(asker, usual[0]!, kind, route)
          const answer = await ask(stage, await usual[0]!.give(stage, asker, name), name, route)
          assert.equal(answer.status, status, `${asker} ${route.method} ${name}`)
          if (status === 401) assert.equal(answer.headers.get('www-authenticate'), 'Basic realm="registry"')
        }
    assert.equal((await registry.send('GET', '/v2/team/public/tags/list', { token: 'x.y.z' })).status, 401)
    assert.equal((await registry.send('GET', '/token?scope=repository:team/public:pull')).status, 404)
  })

  test(`${engine}: these are all routes that there are: every other method is refused, to whoever asks`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { registry } = stage
    // A kind of target that is added to the code does not type-check until it is here.
    const kindsOfTarget: Record<Target['kind'], readonly [path: string, ...methods: string[]]> = {
      root: ['/v2/', 'GET', 'HEAD'],
      catalog: ['/v2/_catalog', 'GET', 'HEAD'],
      unknown: ['/v2/team/private/else'],
      tags: ['/v2/team/private/tags/list', 'GET', 'HEAD'],
      manifest: ['/v2/team/private/manifests/missing', 'GET', 'HEAD', 'PUT', 'DELETE'],
      blob: [`/v2/team/private/blobs/${ghost}`, 'GET', 'HEAD', 'DELETE'],
      uploads: ['/v2/team/private/blobs/uploads/', 'POST'],
      upload: [`/v2/team/private/blobs/uploads/${noUpload}?digest=${ghost}`, 'GET', 'HEAD', 'PATCH', 'PUT', 'DELETE'],
      referrers: [`/v2/team/private/referrers/${ghost}`, 'GET', 'HEAD'],
      signatures: [`/extensions/v2/team/private/signatures/${ghost}`, 'GET', 'HEAD', 'PUT'],
    }
    const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'LINK', 'SEARCH', 'QUERY']
    for (const [kind, [path, ...known]] of Object.entries(kindsOfTarget)) {
      const covered = new Set(routes.filter((route) => route.kind === kind).map(({ method }) => method))
      if (!['root', 'catalog', 'unknown'].includes(kind)) assert.deepEqual([...covered].toSorted(), known.toSorted(), kind)
      for (const method of methods) {
        const body = ['POST', 'PUT', 'PATCH'].includes(method) ? { body: '{' } : {}
        for (const as of ['admin', 'plain', null]) {
          const answer = await registry.send(method, path, { as, ...body, headers: { 'content-type': types.manifest } })
          const refused = kind === 'unknown' ? 404 : 405
          const isRoute = known.includes(method)
          if (isRoute) assert.notEqual(answer.status, 405, `${method} ${path}`)
          else assert.equal(answer.status, refused, `${method} ${path}`)
        }
      }
    }
  })
})

const basicOf = (username: string) => `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

/** A request for a path as it is written: fetch would tidy it. */
function rawGet(
  { url }: Registry,
  path: string,
  authorization: string | undefined,
  headers: Record<string, string> = {},
): Promise<{ status: number; bytes: Buffer }> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    request({ hostname, port, path, headers: { ...headers, ...(authorization && { authorization }) } }, async (res) => {
      const chunks = await Array.fromAsync(res as AsyncIterable<Buffer>)
      resolve({ status: res.statusCode!, bytes: Buffer.concat(chunks) })
    })
      .on('error', reject)
      .end()
  })
}
