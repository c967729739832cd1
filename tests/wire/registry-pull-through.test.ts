import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { addRole } from '../../src/core/access/auth.ts'
import { openFetcher } from '../../src/core/fetch/fetch.ts'
import { prnOf } from '../../src/core/names.ts'
import { createResource, updateResource } from '../../src/core/resources.ts'
import type { Db } from '../../src/store/database.ts'
import { forEachDatabase } from '../databases.ts'
import { openRegistry, types } from '../registry.ts'
import { digestOf, startRegistry } from '../registry-upstream.ts'
import { makeImageSigner } from '../signatures.ts'

/* What an upstream has is pulled below a pull-through distribution. */

forEachDatabase((engine, open) => {
  test(`${engine}: the first pull makes a place for the image and brings it; layers come when they are asked for`, async (t) => {
    const { upstream, registry, ctx } = await setUp(t, await open(t))
    const image = upstream.addImage('library/app', '1.0', 'one')
    const answer = await registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('docker-content-digest'), image.digest)
    assert.equal(digestOf(answer.bytes), image.digest)
    const layer = digestOf('layer of one')
    assert.ok(!upstream.requests.includes(`GET /v2/library/app/blobs/${layer}`))
    for (let times = 0; times < 2; times++)
      assert.equal((await registry.send('GET', `/v2/hub/library/app/blobs/${layer}`)).bytes.toString(), 'layer of one')
    assert.ok(upstream.requests.filter((request) => request === `GET /v2/library/app/blobs/${layer}`).length <= 1)
    const made = await ctx.db
      .selectFrom('distribution')
      .selectAll()
      .where('base_path', '=', 'hub/library/app')
      .executeTakeFirstOrThrow()
    assert.equal(made.type, 'container.container')
    const remote = await ctx.db.selectFrom('remote').selectAll().where('id', '=', made.remote_id!).executeTakeFirstOrThrow()
    assert.deepEqual([remote.name, JSON.parse(remote.settings)['upstream_name']], ['hub/library/app', 'library/app'])
    assert.equal((await registry.send('GET', '/v2/hub/library/app/tags/list')).body.tags.join(), '1.0')
  })

  test(`${engine}: signatures beside an image come along where the upstream gives them`, async (t) => {
    const { upstream, registry } = await setUp(t, await open(t), { freshFor: 0 })
    upstream.supportsSignatures = true
    const image = upstream.addImage('library/app', '1.0', 'one')
    const signer = await makeImageSigner()
    const contents = async () => {
      assert.equal((await registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)).status, 200)
      const { body } = await registry.send('GET', `/extensions/v2/hub/library/app/signatures/${image.digest}`)
      return body.signatures.map(({ content }: { content: string }) => content)
    }
    assert.deepEqual(await contents(), [])
    const signature = await signer.sign(image.digest, 'upstream.example/library/app:1.0')
    upstream.signatures.set(image.digest, [signature])
    assert.deepEqual(await contents(), [signature.toString('base64')])
  })

  test(`${engine}: pulls that come together are one fetch`, async (t) => {
    const { upstream, registry } = await setUp(t, await open(t))
    const image = upstream.addImage('library/app', '1.0', 'one')
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)),
    )
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
    assert.ok(upstream.requests.filter((request) => request === `GET /v2/library/app/manifests/${image.digest}`).length <= 2)
  })

  test(`${engine}: a tag that moved is seen, and what is here is served while the upstream is away`, async (t) => {
    const { upstream, registry } = await setUp(t, await open(t), { freshFor: 0 })
    const digestAt = async (tag: string) =>
      (await registry.send('HEAD', `/v2/hub/library/app/manifests/${tag}`, accept)).headers.get('docker-content-digest')
    const old = upstream.addImage('library/app', 'latest', 'old')
    assert.equal(await digestAt('latest'), old.digest)
    upstream.requests.length = 0
    assert.equal(await digestAt('latest'), old.digest)
    assert.ok(!upstream.requests.some((request) => request.startsWith('GET') && !request.includes('/referrers/')))
    const fresh = upstream.addImage('library/app', 'latest', 'new')
    assert.equal(await digestAt('latest'), fresh.digest)
    upstream.whim = (_, response) => {
      response.destroy()
      return true
    }
    assert.equal(await digestAt('latest'), fresh.digest)
    assert.equal(await digestAt(old.digest), old.digest, 'whoever pinned it still gets it')
    assert.equal((await registry.send('GET', '/v2/hub/library/app/manifests/other', accept)).status, 502)
  })

  test(`${engine}: within some seconds the upstream is not asked again`, async (t) => {
    const { upstream, registry } = await setUp(t, await open(t))
    upstream.addImage('library/app', '1.0', 'one')
    await registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)
    await registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)
    upstream.requests.length = 0
    await registry.send('GET', '/v2/hub/library/app/manifests/1.0', accept)
    assert.deepEqual(upstream.requests, [])
  })

  test(`${engine}: lists come whole, and a platform of them by its digest`, async (t) => {
    const { upstream, registry } = await setUp(t, await open(t))
    const platform = upstream.addImage('app', undefined, 'arm')
    const list = upstream.addIndex('app', 'multi', [platform])
    const single = upstream.addImage('app', undefined, 'untagged')
    for (const [reference, digest] of [
      ['multi', list.digest],
      [platform.digest, platform.digest],
      [single.digest, single.digest],
    ]) {
      const answer = await registry.send('GET', `/v2/hub/app/manifests/${reference}`, accept)
      assert.equal(answer.headers.get('docker-content-digest'), digest)
    }
  })

  test(`${engine}: nobody but those who may pull what is new makes anything, and to others the image is absent`, async (t) => {
    const { upstream, registry, ctx, maker } = await setUp(t, await open(t), { private: true })
    upstream.addImage('app', '1.0', 'one')
    await registry.addUser('stranger')
    await registry.addUser('consumer')
    await addRole(ctx, prnOf(ctx.formats, 'distribution', maker), {
      role: 'container.containerpullthroughdistribution_consumer',
      users: ['consumer'],
    })
    const strange = { ...accept, as: 'stranger' }
    const hidden = await registry.send('GET', '/v2/hub/app/manifests/1.0', strange)
    const absent = await registry.send('GET', '/v2/other/app/manifests/1.0', strange)
    assert.equal(hidden.status, 404)
    assert.deepEqual(hidden.body.errors[0].code, absent.body.errors[0].code)
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', { ...accept, as: null })).status, 401)
    assert.deepEqual(upstream.requests, [])

    const token = await registry.token('consumer', 'repository:hub/app:pull')
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', { ...accept, token })).status, 200)
    assert.equal((await registry.send('GET', `/v2/hub/app/blobs/${digestOf('layer of one')}`, { as: 'consumer' })).status, 200)
    const made = await ctx.db.selectFrom('distribution').selectAll().where('base_path', '=', 'hub/app').executeTakeFirstOrThrow()
    assert.equal(JSON.parse(made.settings)['private'], true)
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', strange)).status, 404)
    const denied = await registry.token('stranger', 'repository:hub/app:pull')
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', { ...accept, token: denied })).status, 401)
  })

  test(`${engine}: what the upstream does not have, does not show or is not to be offered makes nothing`, async (t) => {
    const { upstream, registry, ctx } = await setUp(t, await open(t), { excludes: ['secret/*'] })
    upstream.addImage('secret/app', '1.0', 'one')
    upstream.addImage('app', '1.0', 'one')
    for (const path of ['secret/app/manifests/1.0', 'none/manifests/1.0', 'app/manifests/none', 'Bad/manifests/1.0'])
      assert.equal((await registry.send('GET', `/v2/hub/${path}`, accept)).status, 404, path)
    const made = await ctx.db.selectFrom('distribution').select('base_path').where('base_path', '!=', 'hub').execute()
    assert.deepEqual(made, [])
  })

  test(`${engine}: the remote's credentials are used, and new ones when they change`, async (t) => {
    const { upstream, registry, ctx, remote } = await setUp(t, await open(t), { freshFor: 0 })
    upstream.auth = { kind: 'token', username: 'reader', password: 'first' }
    upstream.addImage('app', '1.0', 'one')
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', accept)).status, 404)
    await updateResource(ctx, 'remote', remote.id, { secrets: { username: 'reader', password: 'first' } })
    const wait = () => new Promise((resolve) => setTimeout(resolve, 5))
    await wait()
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/1.0', accept)).status, 200)
    upstream.auth = { kind: 'token', username: 'reader', password: 'second' }
    upstream.tokens.length = 0
    upstream.addImage('app', '2.0', 'two')
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/2.0', accept)).status, 404)
    await wait()
    await updateResource(ctx, 'remote', remote.id, { secrets: { password: 'second' } })
    assert.equal((await registry.send('GET', '/v2/hub/app/manifests/2.0', accept)).status, 200)
  })
})

const accept = { headers: { accept: `${types.manifest}, ${types.index}` } }

interface Setting {
  freshFor?: number
  private?: boolean
  excludes?: string[]
}

async function setUp(t: TestContext, db: Db, { freshFor, private: isPrivate = false, excludes }: Setting = {}) {
  const upstream = await startRegistry(t)
  const registry = await openRegistry(t, db, { freshFor })
  Object.assign(registry.ctx, { fetch: openFetcher({ blobs: registry.ctx.blobs, patience: { pause: 1, slow: 10_000 } }) })
  const { ctx } = registry
  const values = { name: 'hub', url: upstream.url, policy: 'on_demand', settings: { excludes, max_retries: 0 } }
  const remote = await createResource(ctx, 'remote', 'container.pull-through', values, null)
  const place = { name: 'hub', base_path: 'hub', remote_id: remote.id, settings: { private: isPrivate } }
  const maker = await createResource(ctx, 'distribution', 'container.pull-through', place, null)
  return { upstream, registry, ctx, remote, maker }
}
