import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import {
  type Answer,
  digestOf,
  expectStatus,
  makeImage,
  openRegistry,
  pushBlob,
  pushImage,
  putManifest,
  type Registry,
  types,
} from '../registry.ts'

/* Pushing as the protocol has it: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push */

forEachDatabase((engine, open) => {
  test(`${engine}: an image that was pushed is pulled byte for byte, with its digest and type in the headers`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    await pushImage(registry, 'dev/app', image, 'latest')
    const { bytes, mediaType } = image.manifests.get(image.digest)!
    for (const reference of ['latest', image.digest])
      for (const method of ['GET', 'HEAD', 'GET']) {
        const got = await registry.send(method, `/v2/dev/app/manifests/${reference}`, { headers: { accept: mediaType } })
        assert.equal(got.status, 200)
        assert.equal(got.headers.get('docker-content-digest'), image.digest)
        assert.equal(got.headers.get('content-type'), mediaType)
        assert.equal(got.headers.get('content-length'), String(bytes.length))
        assert.ok(method === 'HEAD' ? got.bytes.length === 0 : got.bytes.equals(bytes))
      }
    for (const [digest, blob] of image.blobs)
      for (const method of ['HEAD', 'GET', 'GET']) {
        const got = await registry.send(method, `/v2/dev/app/blobs/${digest}`)
        assert.equal(got.status, 200)
        assert.equal(got.headers.get('docker-content-digest'), digest)
        assert.equal(got.headers.get('content-length'), String(blob.length))
        assert.ok(method === 'HEAD' ? got.bytes.length === 0 : got.bytes.equals(blob))
      }
  })

  test(`${engine}: the first push makes a namespace, a push repository and a private distribution`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    await pushImage(registry, 'dev/deep/app', makeImage(), '1')
    const { db } = registry.ctx
    const distribution = await db.selectFrom('distribution').selectAll().executeTakeFirstOrThrow()
    assert.deepEqual(
      [distribution.name, distribution.base_path, distribution.type],
      ['dev/deep/app', 'dev/deep/app', 'container.container'],
    )
    assert.equal(JSON.parse(distribution.settings).private, true)
    const repository = await db.selectFrom('repository').selectAll().executeTakeFirstOrThrow()
    assert.deepEqual(
      [repository.name, repository.type, repository.id],
      ['dev/deep/app', 'container.container-push', distribution.repository_id],
    )
    const namespace = await db.selectFrom('namespace').selectAll().executeTakeFirstOrThrow()
    assert.deepEqual([namespace.name, namespace.type], ['dev', 'container.namespace'])
    const hidden = await registry.send('GET', '/v2/dev/deep/app/manifests/1', { as: null })
    assert.equal(hidden.status, 401)
  })

  for (const how of ['post', 'post and put', 'chunks', 'chunks with the last one in the put', 'a stream'] as const)
    test(`${engine}: blobs of any size are pushed by ${how} to digests of both kinds`, async (t) => {
      const registry = await openRegistry(t, await open(t))
      for (const algorithm of ['sha256', 'sha512'] as const)
        for (const size of [0, 2, 300, 300_000]) {
          const bytes = randomBytes(size)
          const digest = digestOf(bytes, algorithm)
          const stored =
            how === 'post' ? await pushBlob(registry, 'a/b', bytes, { digest }) : await pushInSteps(registry, how, bytes, digest)
          assert.equal(stored.status, 201)
          assert.equal(stored.headers.get('docker-content-digest'), digest)
          const got = await registry.send('GET', stored.headers.get('location')!)
          assert.ok(got.bytes.equals(bytes))
        }
      assert.deepEqual(await registry.ctx.db.selectFrom('blob_upload').select('uuid').execute(), [])
      assert.deepEqual(await Array.fromAsync(registry.ctx.blobs.growing.list()), [])
    })

  test(`${engine}: a chunk out of order is refused with 416, and GET tells where to go on`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const { headers } = await registry.send('POST', '/v2/a/b/blobs/uploads/')
    const location = headers.get('location')!
    expectStatus(await registry.send('PATCH', location, { headers: { 'content-range': '0-4' }, body: 'hello' }), 202)
    for (const range of ['0-4', '6-10', 'nonsense']) {
      const refused = await registry.send('PATCH', location, { headers: { 'content-range': range }, body: 'world' })
      assert.deepEqual([refused.status, refused.headers.get('range')], [416, '0-4'])
      const put = `${location}?digest=${digestOf('helloworld')}`
      assert.equal((await registry.send('PUT', put, { headers: { 'content-range': range }, body: 'world' })).status, 416)
    }
    const status = await registry.send('GET', location)
    assert.deepEqual([status.status, status.headers.get('range'), status.headers.get('location')], [204, '0-4', location])
    const wrong = await registry.send('PATCH', location, { headers: { 'content-range': '5-10' }, body: 'world' })
    assert.deepEqual([wrong.status, wrong.body.errors[0].code], [400, 'SIZE_INVALID'])
    expectStatus(await registry.send('PATCH', location, { headers: { 'content-range': '5-9' }, body: 'world' }), 202)
    expectStatus(await registry.send('PUT', `${location}?digest=${digestOf('helloworld')}`), 201)
  })

  test(`${engine}: an upload that was given up, finished or never begun is unknown, and another user's too`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    await registry.addUser('a')
    const begin = async () => (await registry.send('POST', '/v2/a/b/blobs/uploads/')).headers.get('location')!
    const given = await begin()
    expectStatus(await registry.send('DELETE', given), 204)
    const finished = await begin()
    expectStatus(await registry.send('PUT', `${finished}?digest=${digestOf('x')}`, { body: 'x' }), 201)
    const elsewhere = (await begin()).replace('/a/b/', '/a/c/')
    await registry.send('POST', '/v2/a/c/blobs/uploads/')
    for (const location of [given, finished, elsewhere, '/v2/a/b/blobs/uploads/nonsense'])
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const body = method === 'GET' || method === 'DELETE' ? {} : { body: 'x' }
        const answer = await registry.send(method, `${location}?digest=${digestOf('x')}`, body)
        assert.deepEqual([answer.status, answer.body.errors[0].code], [404, 'BLOB_UPLOAD_UNKNOWN'], `${method} ${location}`)
      }
    const others = await begin()
    assert.equal((await registry.send('GET', others, { as: 'a' })).status, 403)
  })

  test(`${engine}: bytes that are not what the digest says are refused, and nothing is left of them`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const wrong = digestOf('other')
    const refused = await pushBlob(registry, 'a/b', Buffer.from('hello'), { digest: wrong })
    assert.deepEqual([refused.status, refused.body.errors[0].code], [400, 'DIGEST_INVALID'])
    for (const chunk of [undefined, 'hello']) {
      const location = (await registry.send('POST', '/v2/a/b/blobs/uploads/')).headers.get('location')!
      if (chunk) expectStatus(await registry.send('PATCH', location, { body: chunk }), 202)
      const put = await registry.send('PUT', `${location}?digest=${wrong}`, chunk ? {} : { body: 'hello' })
      assert.deepEqual([put.status, put.body.errors[0].code], [400, 'DIGEST_INVALID'])
    }
    for (const digest of ['', 'sha256:abc', 'md5:d41d8cd98f00b204e9800998ecf8427e', `sha256:${'A'.repeat(64)}`])
      assert.equal((await pushBlob(registry, 'a/b', Buffer.from('x'), { digest })).status, 400)
    assert.deepEqual(await Array.fromAsync(registry.ctx.blobs.list()), [])
    assert.deepEqual(await Array.fromAsync(registry.ctx.blobs.growing.list()), [])
  })

  test(`${engine}: a manifest that names what is not there is refused, naming all of it`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    const [first, ...others] = image.blobs
    await pushBlob(registry, 'a/b', first![1])
    const refused = await putManifest(registry, 'a/b', 'latest', image.manifests.get(image.digest)!)
    assert.equal(refused.status, 400)
    assert.deepEqual(
      refused.body.errors.map(({ code, detail }: any) => [code, detail.digest]),
      others.map(([digest]) => ['MANIFEST_BLOB_UNKNOWN', digest]),
    )
    // What another repository has is not there either.
    for (const [digest, bytes] of others) await pushBlob(registry, 'a/other', bytes, { digest })
    assert.equal((await putManifest(registry, 'a/b', 'latest', image.manifests.get(image.digest)!)).status, 400)
  })

  test(`${engine}: a manifest is refused under another digest, as another type, too large, or when it is none`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    await pushImage(registry, 'a/b', image)
    const manifest = image.manifests.get(image.digest)!
    const put = async (reference: string, changes: Partial<typeof manifest> = {}) => {
      const { status, body } = await putManifest(registry, 'a/b', reference, { ...manifest, ...changes })
      return [status, body?.errors[0].code]
    }
    assert.deepEqual(await put(digestOf('other')), [400, 'DIGEST_INVALID'])
    assert.deepEqual(await put('sha256:nonsense'), [400, 'DIGEST_INVALID'])
    assert.deepEqual(await put('-tag'), [400, 'MANIFEST_INVALID'])
    assert.deepEqual(await put('latest', { mediaType: types.index }), [400, 'MANIFEST_INVALID'])
    assert.deepEqual(await put('latest', { bytes: Buffer.from('{') }), [400, 'MANIFEST_INVALID'])
    assert.deepEqual(await put('latest', { bytes: Buffer.alloc(4 * 1024 * 1024 + 1, ' ') }), [413, 'MANIFEST_INVALID'])
    const first = {
      bytes: Buffer.from('{"schemaVersion":1,"fsLayers":[]}'),
      mediaType: 'application/vnd.docker.distribution.manifest.v1+json',
    }
    assert.deepEqual(await put('latest', first), [400, 'MANIFEST_INVALID'])
    const larger = JSON.parse(manifest.bytes.toString())
    larger.layers[0].size += 1
    assert.deepEqual(await put('latest', { bytes: Buffer.from(JSON.stringify(larger)) }), [400, 'MANIFEST_INVALID'])
    assert.deepEqual(await put('latest'), [201, undefined])
  })
})

async function pushInSteps(registry: Registry, how: string, bytes: Buffer, digest: string): Promise<Answer> {
  const size = bytes.length
  let { headers } = await registry.send('POST', '/v2/a/b/blobs/uploads/')
  let at = 0
  const chunk = async (end: number) => {
    const range = { 'content-range': `${at}-${end - 1}` }
    const added = await registry.send('PATCH', headers.get('location')!, { headers: range, body: bytes.subarray(at, end) })
    expectStatus(added, 202)
    assert.equal(added.headers.get('range'), `0-${end - 1}`)
    at = end
    headers = added.headers
  }
  if (how.startsWith('chunks') && size > 1) {
    await chunk(Math.floor(size / 2))
    if (how === 'chunks') await chunk(size)
  }
  if (how === 'a stream') {
    const added = await registry.send('PATCH', headers.get('location')!, { body: new Blob([new Uint8Array(bytes)]).stream() })
    expectStatus(added, 202)
    headers = added.headers
    at = size
  }
  return registry.send('PUT', `${headers.get('location')}?digest=${digest}`, { body: bytes.subarray(at) })
}
