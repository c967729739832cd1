import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import {
  type Answer,
  digestOf,
  expectStatus,
  type Image,
  makeImage,
  makeIndex,
  openRegistry,
  pushBlob,
  pushImage,
  putManifest,
  type Registry,
  types,
} from '../registry.ts'

/*
 * The matrix of the specification's own conformance program, which needs Go: every kind of thing that is pushed, with everything that can
 * be done with it. https://github.com/opencontainers/distribution-spec/tree/main/conformance
 */

interface DataSet {
  image: Image
  /** Manifests whose subject is this, with their artifact types. */
  referrers?: { subject: string; of: readonly { digest: string; artifactType: string | undefined; annotations?: object }[] }
}

const emptyConfig = { config: Buffer.from('{}'), configType: types.empty }
const about = (image: Image, digest = image.digest) => {
  const { bytes, mediaType } = image.manifests.get(digest)!
  return { mediaType, digest, size: bytes.length }
}
const together = (...images: readonly Image[]): Image => ({
  blobs: new Map(images.flatMap(({ blobs }) => [...blobs])),
  manifests: new Map(images.flatMap(({ manifests }) => [...manifests])),
  digest: images[0]!.digest,
})

const dataSets: Record<string, () => DataSet> = {
  'an image': () => ({ image: makeImage() }),
  'an image of Docker': () => ({
    image: makeImage({ mediaType: types.dockerManifest, configType: types.dockerConfig, layerType: types.dockerLayer }),
  }),
  'an image known by SHA-512': () => ({ image: makeImage({ algorithm: 'sha512' }) }),
  'an image without layers': () => ({ image: makeImage({ layers: [] }) }),
  'an image with the same layer twice': () => {
    const layer = randomBytes(100)
    return { image: makeImage({ layers: [layer, layer] }) }
  },
  'an image with layers that are nowhere here': () => {
    const foreign = {
      mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      digest: digestOf('elsewhere'),
      size: 123,
      urls: ['https://store.example.org/blob'],
    }
    return { image: makeImage({ more: { layers: [foreign] } }) }
  },
  'an image with a large manifest': () => ({
    image: makeImage({
      more: { annotations: Object.fromEntries(Array.from({ length: 390 }, (_, i) => [`a-${i}`, 'A'.repeat(10_000)])) },
    }),
  }),
  'an image with fields of its own': () => ({ image: makeImage({ more: { 'org.example': { custom: [1, 2] } } }) }),
  'an image with bytes in its descriptors': () => {
    const data = { mediaType: types.layer, digest: digestOf('hello'), size: 5, data: Buffer.from('hello').toString('base64') }
    const image = makeImage({ more: { layers: [data] } })
    return { image: { ...image, blobs: new Map([...image.blobs, [digestOf('hello'), Buffer.from('hello')]]) } }
  },
  'an index': () => ({ image: makeIndex([makeImage(), makeImage()]) }),
  'a list of Docker': () => ({
    image: makeIndex([makeImage({ mediaType: types.dockerManifest })], { mediaType: types.dockerList }),
  }),
  'an index of indexes': () => ({ image: makeIndex([makeIndex([makeImage(), makeImage()]), makeIndex([makeImage()])]) }),
  'an empty index': () => ({ image: makeIndex([]) }),
  'an artifact': () => ({ image: makeImage({ ...emptyConfig, more: { artifactType: 'application/vnd.example.one' } }) }),
  'an artifact index': () => ({ image: makeIndex([makeImage()], { more: { artifactType: 'application/vnd.example.one' } }) }),
  'a helm chart': () => ({
    image: makeImage({
      configType: 'application/vnd.cncf.helm.config.v1+json',
      layerType: 'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
    }),
  }),
  'an image and what is about it': () => {
    const image = makeImage()
    const subject = about(image)
    const annotations = { 'org.example.hello': 'world' }
    const plain = makeImage({ more: { subject } })
    const one = makeImage({ ...emptyConfig, more: { subject, artifactType: 'application/vnd.example.one', annotations } })
    const two = makeImage({ ...emptyConfig, more: { subject, artifactType: 'application/vnd.example.two' } })
    const index = makeIndex([makeImage()], { more: { subject } })
    return {
      image: together(image, plain, one, two, index),
      referrers: {
        subject: image.digest,
        of: [
          { digest: plain.digest, artifactType: types.config },
          { digest: one.digest, artifactType: 'application/vnd.example.one', annotations },
          { digest: two.digest, artifactType: 'application/vnd.example.two' },
          { digest: index.digest, artifactType: undefined },
        ],
      },
    }
  },
  'what is about something that is not there': () => {
    const subject = { mediaType: types.manifest, digest: digestOf('missing'), size: 123 }
    const image = makeImage({ ...emptyConfig, more: { subject, artifactType: 'application/vnd.example.one' } })
    return {
      image,
      referrers: { subject: subject.digest, of: [{ digest: image.digest, artifactType: 'application/vnd.example.one' }] },
    }
  },
}

forEachDatabase((engine, open) => {
  for (const [what, make] of Object.entries(dataSets))
    test(`${engine}: ${what} is pushed, listed, pulled and deleted`, async (t) => {
      const registry = await openRegistry(t, await open(t))
      const { image, referrers } = make()
      for (const tags of [[], ['one'], ['one', 'two-2', 'Three_3.x']]) {
        await push(registry, image, tags)
        assert.deepEqual((await registry.send('GET', '/v2/a/b/tags/list')).body, { name: 'a/b', tags: tags.toSorted() })
        await pull(registry, image, tags)
        if (referrers) await checkReferrers(registry, referrers)
        await deleteAll(registry, image, tags)
      }
    })

  test(`${engine}: tags come in pages, in the order of their bytes`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    await pushImage(registry, 'a/b', image)
    const tags = ['B', 'a', 'a-1', 'a.1', 'b', '_x', '9', 'latest']
    for (const tag of tags) await putManifest(registry, 'a/b', tag, image.manifests.get(image.digest)!)
    const sorted = tags.toSorted()
    const list = async (query: string) => (await registry.send('GET', `/v2/a/b/tags/list${query}`)).body.tags
    assert.deepEqual(await list(''), sorted)
    assert.deepEqual(await list('?last=a'), sorted.slice(sorted.indexOf('a') + 1))
    assert.deepEqual(await list('?last=a%20'), sorted.slice(sorted.indexOf('a') + 1))
    assert.deepEqual(await list('?n=100'), sorted)
    for (const n of [1, 3, 8]) {
      const seen: string[] = []
      let next: string | undefined = `/v2/a/b/tags/list?n=${n}`
      while (next !== undefined) {
        const { body, headers }: Answer = await registry.send('GET', next)
        assert.ok(body.tags.length <= n)
        seen.push(...body.tags)
        next = /^<([^>]+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1]
      }
      assert.deepEqual(seen, sorted)
    }
    const none = await registry.send('GET', '/v2/a/b/tags/list?n=0')
    assert.deepEqual([none.body.tags, none.headers.get('link')], [[], null])
    for (const n of ['-1', 'x', '1.5']) assert.equal((await registry.send('GET', `/v2/a/b/tags/list?n=${n}`)).status, 400)
  })

  test(`${engine}: a list of referrers comes in pages, filtered as asked`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    await pushImage(registry, 'a/b', image)
    const expected: string[] = []
    for (let i = 0; i < 7; i++) {
      const type = `application/vnd.example.${i % 2}`
      const signature = makeImage({
        ...emptyConfig,
        layers: [randomBytes(10)],
        more: { subject: about(image), artifactType: type },
      })
      await pushImage(registry, 'a/b', signature)
      if (i % 2 === 1) expected.push(signature.digest)
    }
    const seen: string[] = []
    let next: string | undefined = `/v2/a/b/referrers/${image.digest}?n=2&artifactType=application/vnd.example.1`
    while (next !== undefined) {
      const { body, headers }: Answer = await registry.send('GET', next)
      assert.equal(headers.get('oci-filters-applied'), 'artifactType')
      seen.push(...body.manifests.map(({ digest }: { digest: string }) => digest))
      next = /^<([^>]+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1]
    }
    assert.deepEqual(seen, expected.toSorted())
    const all = await registry.send('GET', `/v2/a/b/referrers/${image.digest}`)
    assert.deepEqual([all.body.manifests.length, all.headers.get('oci-filters-applied')], [7, null])
    assert.equal((await registry.send('GET', '/v2/a/b/referrers/sha256:nonsense')).status, 400)
    // Of what is not there nothing is said: neither of the manifest, nor of the repository.
    for (const path of [`/v2/a/b/referrers/${digestOf('x')}`, `/v2/nowhere/b/referrers/${image.digest}`]) {
      const { status, body } = await registry.send('GET', path)
      assert.deepEqual([status, body.manifests], [200, []])
    }
  })

  test(`${engine}: a range of a blob, and what the client has already, are honoured`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const bytes = randomBytes(2048)
    const digest = digestOf(bytes)
    const image = makeImage({ layers: [bytes] })
    await pushImage(registry, 'a/b', image, 'x')
    const ranges = [
      ['500-1499', 206, bytes.subarray(500, 1500)],
      ['500-', 206, bytes.subarray(500)],
      ['-500', 206, bytes.subarray(-500)],
      ['2000-5000', 206, bytes.subarray(2000)],
      ['500-0', 416, Buffer.alloc(0)],
      ['5000-10000', 416, Buffer.alloc(0)],
    ] as const
    for (const round of [1, 2])
      for (const [range, status, expected] of ranges) {
        const got = await registry.send('GET', `/v2/a/b/blobs/${digest}`, { headers: { range: `bytes=${range}` } })
        assert.deepEqual([got.status, got.bytes], [status, expected], `${range}, round ${round}`)
      }
    for (const path of [`/v2/a/b/blobs/${digest}`, '/v2/a/b/manifests/x', `/v2/a/b/manifests/${image.digest}`]) {
      const etag = (await registry.send('GET', path)).headers.get('etag')!
      for (const method of ['GET', 'HEAD']) {
        const again = await registry.send(method, path, { headers: { 'if-none-match': etag } })
        assert.deepEqual([again.status, again.bytes.length], [304, 0])
        assert.equal((await registry.send(method, path, { headers: { 'if-none-match': '"other"' } })).status, 200)
      }
    }
  })

  test(`${engine}: by tag only a kind of manifest that is asked for is given; by digest any`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    await pushImage(registry, 'a/b', image, 'x')
    const status = async (reference: string, accept: string) =>
      (await registry.send('GET', `/v2/a/b/manifests/${reference}`, { headers: { accept } })).status
    for (const round of [1, 2]) {
      assert.equal(await status('x', types.dockerManifest), 404, `round ${round}`)
      assert.equal(await status('x', `${types.manifest}x`), 404)
      assert.equal(await status(image.digest, types.dockerManifest), 200)
      for (const accept of [types.manifest, '*/*', `${types.index}, ${types.manifest};q=0.5`, 'text/html,*/*;q=0.8'])
        assert.equal(await status('x', accept), 200)
    }
  })

  test(`${engine}: what something is made of is not deleted; a manifest goes with its tags and what only it needs`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const shared = randomBytes(50)
    const child = makeImage({ layers: [shared, randomBytes(20)] })
    const index = makeIndex([child])
    const other = makeImage({ layers: [shared] })
    await pushImage(registry, 'a/b', index, 'index')
    await pushImage(registry, 'a/b', other, 'other')
    await endLeases(registry)
    const remove = async (path: string) => {
      const { status, body } = await registry.send('DELETE', `/v2/a/b/${path}`)
      return [status, body?.errors[0].code]
    }
    assert.deepEqual(await remove(`manifests/${child.digest}`), [405, 'UNSUPPORTED'])
    assert.deepEqual(await remove(`blobs/${digestOf(shared)}`), [405, 'UNSUPPORTED'])
    assert.deepEqual(await remove('manifests/index'), [202, undefined])
    await registry.send('GET', `/v2/a/b/manifests/${index.digest}`).then((answer) => expectStatus(answer, 200))
    assert.deepEqual(await remove(`manifests/${index.digest}`), [202, undefined])
    for (const digest of [index.digest, child.digest])
      assert.equal((await registry.send('GET', `/v2/a/b/manifests/${digest}`)).status, 404)
    for (const [digest, bytes] of child.blobs)
      assert.equal((await registry.send('GET', `/v2/a/b/blobs/${digest}`)).status, bytes === shared ? 200 : 404)
    assert.deepEqual(await remove(`manifests/${other.digest}`), [202, undefined])
    assert.deepEqual((await registry.send('GET', '/v2/a/b/tags/list')).body.tags, [])
    for (const path of [`manifests/${other.digest}`, 'manifests/other', `blobs/${digestOf(shared)}`])
      assert.equal((await remove(path))[0], 404)
  })

  test(`${engine}: tags that are immutable stay what they are`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const [first, second] = [makeImage(), makeImage()]
    for (const image of [first, second]) await pushImage(registry, 'a/b', image)
    const put = async (tag: string, image: Image) =>
      (await putManifest(registry, 'a/b', tag, image.manifests.get(image.digest)!)).status
    for (const [setting, kept, free] of [
      [true, ['x', 'v1'], []],
      [
        ['v*', 'rel-?'],
        ['v1', 'v', 'rel-1'],
        ['latest', 'rel-10', 'xv1'],
      ],
      [false, [], ['x', 'v1']],
    ] as const) {
      await set(registry, { immutable_tags: false })
      for (const tag of [...kept, ...free]) assert.equal(await put(tag, first), 201)
      await set(registry, { immutable_tags: setting })
      for (const tag of kept) {
        assert.equal(await put(tag, first), 201)
        assert.equal(await put(tag, second), 403)
        assert.equal((await registry.send('DELETE', `/v2/a/b/manifests/${tag}`)).status, 403)
      }
      if (kept.length > 0) assert.equal((await registry.send('DELETE', `/v2/a/b/manifests/${first.digest}`)).status, 403)
      for (const tag of free) assert.equal(await put(tag, second), 201)
      const byDigest = `${second.digest}?${kept.map((tag) => `tag=${tag}`).join('&')}`
      assert.equal(await put(byDigest, second), kept.length > 0 ? 403 : 201)
    }
  })

  test(`${engine}: many push the same image at once, and it is there once`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage({ layers: [randomBytes(200_000)] })
    await Promise.all(Array.from({ length: 8 }, (_, i) => pushImage(registry, `a/r${i % 3}`, image, `t${i}`)))
    const stored = await Array.fromAsync(registry.ctx.blobs.list())
    assert.equal(stored.length, image.blobs.size)
    for (let i = 0; i < 8; i++) expectStatus(await registry.send('GET', `/v2/a/r${i % 3}/manifests/t${i}`), 200)
    assert.deepEqual((await registry.send('GET', '/v2/a/r0/tags/list')).body.tags, ['t0', 't3', 't6'])
  })

  test(`${engine}: what is asked in a wrong way is refused in the protocol's words`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    await pushImage(registry, 'a/b', makeImage(), 'x')
    for (const [method, path, status, code] of [
      ['GET', '/v2/a/b/manifests/y', 404, 'MANIFEST_UNKNOWN'],
      ['GET', `/v2/a/b/manifests/${digestOf('x')}`, 404, 'MANIFEST_UNKNOWN'],
      ['GET', '/v2/a/b/manifests/sha256:nonsense', 404, 'MANIFEST_UNKNOWN'],
      ['GET', `/v2/a/b/blobs/${digestOf('x')}`, 404, 'BLOB_UNKNOWN'],
      ['GET', '/v2/a/b/blobs/nonsense', 404, 'BLOB_UNKNOWN'],
      ['GET', '/v2/a/c/tags/list', 404, 'NAME_UNKNOWN'],
      ['DELETE', '/v2/a/c/manifests/x', 404, 'NAME_UNKNOWN'],
      ['POST', '/v2/A/b/blobs/uploads/', 400, 'NAME_INVALID'],
      ['POST', `/v2/${'a'.repeat(256)}/blobs/uploads/`, 400, 'NAME_INVALID'],
      ['POST', '/v2/a/b/blobs/uploads/?digest-algorithm=md5', 400, 'DIGEST_INVALID'],
      ['PATCH', '/v2/a/b/manifests/x', 405, 'UNSUPPORTED'],
      ['GET', '/v2/a/b/nonsense', 404, 'UNSUPPORTED'],
      ['GET', '/v2/a%2Fb/manifests/x', 404, 'UNSUPPORTED'],
      ['GET', '/v2/../a/b/manifests/x', 404, undefined],
    ] as const) {
      const answer = await registry.send(method, path)
      assert.deepEqual([answer.status, answer.body?.errors[0].code], [status, code], `${method} ${path}`)
    }
  })
})

async function push(registry: Registry, image: Image, tags: readonly string[]) {
  for (const [digest, bytes] of image.blobs) expectStatus(await pushBlob(registry, 'a/b', bytes, { digest }), 201)
  for (const [digest, manifest] of image.manifests) {
    const isTagged = digest === image.digest
    const query = isTagged && tags.length > 0 ? `?${tags.map((tag) => `tag=${tag}`).join('&')}` : ''
    const answer = await putManifest(registry, 'a/b', `${digest}${query}`, manifest)
    expectStatus(answer, 201)
    assert.equal(answer.headers.get('docker-content-digest'), digest)
    const { subject } = JSON.parse(manifest.bytes.toString())
    assert.equal(answer.headers.get('oci-subject'), subject?.digest ?? null)
    assert.equal(answer.headers.get('oci-tag'), isTagged && tags.length > 0 ? tags.join(', ') : null)
    expectStatus(await registry.send('GET', answer.headers.get('location')!), 200)
  }
}

async function pull(registry: Registry, image: Image, tags: readonly string[]) {
  for (const method of ['HEAD', 'GET', 'GET']) {
    for (const [digest, { bytes, mediaType }] of image.manifests)
      for (const reference of [digest, ...(digest === image.digest ? tags : [])]) {
        const got = await registry.send(method, `/v2/a/b/manifests/${reference}`, { headers: { accept: mediaType } })
        assert.equal(got.status, 200)
        assert.equal(got.headers.get('docker-content-digest'), digest)
        assert.equal(got.headers.get('content-type'), mediaType)
        assert.equal(got.headers.get('content-length'), String(bytes.length))
        assert.ok(got.bytes.equals(method === 'HEAD' ? Buffer.alloc(0) : bytes))
      }
    for (const [digest, bytes] of image.blobs) {
      const got = await registry.send(method, `/v2/a/b/blobs/${digest}`)
      assert.equal(got.headers.get('docker-content-digest'), digest)
      assert.equal(got.headers.get('content-length'), String(bytes.length))
      assert.ok(got.bytes.equals(method === 'HEAD' ? Buffer.alloc(0) : bytes))
    }
  }
}

async function checkReferrers(registry: Registry, { subject, of }: NonNullable<DataSet['referrers']>) {
  const list = async (query = '') => {
    const answer = await registry.send('GET', `/v2/a/b/referrers/${subject}${query}`)
    expectStatus(answer, 200)
    assert.equal(answer.headers.get('content-type'), types.index)
    assert.deepEqual([answer.body.schemaVersion, answer.body.mediaType], [2, types.index])
    return answer.body.manifests as any[]
  }
  const simple = (each: any) => ({
    digest: each.digest,
    artifactType: each.artifactType,
    ...(each.annotations && { annotations: each.annotations }),
  })
  const byDigest = (a: { digest: string }, b: { digest: string }) => (a.digest < b.digest ? -1 : 1)
  assert.deepEqual((await list()).map(simple), of.map(simple).toSorted(byDigest))
  for (const { artifactType } of of)
    if (artifactType)
      assert.deepEqual(
        (await list(`?artifactType=${artifactType}`)).map(simple),
        of
          .filter((each) => each.artifactType === artifactType)
          .map(simple)
          .toSorted(byDigest),
      )
}

/** Tags first, then manifests from the last pushed to the first, then blobs: all of it is gone then, whatever went along with what. */
async function deleteAll(registry: Registry, image: Image, tags: readonly string[]) {
  const gone = async (path: string) => {
    assert.ok([202, 404].includes((await registry.send('DELETE', `/v2/a/b/${path}`)).status))
    for (const method of ['GET', 'HEAD']) assert.equal((await registry.send(method, `/v2/a/b/${path}`)).status, 404)
  }
  for (const tag of tags) await gone(`manifests/${tag}`)
  for (const digest of [...image.manifests.keys()].toReversed()) await gone(`manifests/${digest}`)
  for (const digest of image.blobs.keys()) await gone(`blobs/${digest}`)
}

async function endLeases({ ctx }: Registry) {
  await ctx.db.deleteFrom('lease').execute()
}

async function set({ ctx }: Registry, settings: object) {
  await ctx.db
    .updateTable('repository')
    .set({ settings: JSON.stringify(settings) })
    .execute()
  ctx.changes.bump()
}
