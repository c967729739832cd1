import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { makeImageSigner } from '../../../tests/signatures.ts'
import { digestOf, types } from '../../../tests/registry-upstream.ts'
import { addSynced, setUpSync } from '../../../tests/syncing-images.ts'
import { unitsById } from '../../core/content.ts'
import { type OnDemand, openOnDemand } from '../../core/serving/on-demand.ts'
import { addRole, removeRole } from '../../core/access/auth.ts'
import { prnOf } from '../../core/names.ts'
import { ensureRoles } from '../../core/access/roles.ts'
import { createUser } from '../../core/access/users.ts'
import { updateResource } from '../../core/resources.ts'
import { latestVersion } from '../../core/versions.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: a sync brings tags, manifests byte for byte, configs and layers`, async (t) => {
    const { registry, sync, rows, tags, storedBlobs, ctx, made } = await setUpSync(t, await open(t))
    const { digest } = registry.addImage('ns/app', '1.0', 'one')
    await sync()
    assert.deepEqual(await tags(), { '1.0': digest })
    assert.equal(made.length, 1)
    const content = await rows()
    assert.deepEqual(
      content.map(({ type }) => type),
      ['container.blob', 'container.blob', 'container.manifest', 'container.tag'],
    )
    const [manifest] = await Array.fromAsync(unitsById(ctx.db, [content[2]!.id]))
    assert.equal(digestOf(await manifest!.entry()), digest)
    const { architecture, os, labels, media_type: type } = manifest!.meta
    assert.deepEqual([architecture, os, labels, type], ['amd64', 'linux', { text: 'one' }, types.manifest])
    assert.deepEqual(await storedBlobs(), [...registry.image('ns/app').blobs.keys()].sort())
  })

  test(`${engine}: what did not change costs one request for each tag, downloads nothing and writes nothing`, async (t) => {
    const { registry, sync, number, ctx, made, repository } = await setUpSync(t, await open(t))
    for (const tag of ['1.0', '1.1', '2.0']) registry.addImage('ns/app', tag, tag)
    registry.image('ns/app').tags.set('latest', registry.image('ns/app').tags.get('2.0')!)
    await sync()
    registry.requests.length = made.length = 0
    const before = await latestVersion(ctx.db, repository.id)
    const row = await ctx.db.selectFrom('repository').selectAll().where('id', '=', repository.id).executeTakeFirstOrThrow()
    const changes = ctx.changes.current()
    await sync()
    const list = registry.requests.filter((request) => request.includes('/tags/list'))
    const heads = registry.requests.filter((request) => request.startsWith('HEAD /v2/ns/app/manifests/'))
    assert.equal(list.length, 1)
    assert.equal(heads.length, 4)
    // One question whether the registry knows referrers at all; it does not.
    assert.equal(registry.requests.filter((request) => request.includes('/referrers/')).length, 1)
    assert.equal(registry.requests.length, 6)
    assert.ok(!registry.requests.some((request) => /^GET .*\/(manifests|blobs)\//.test(request)), registry.requests.join('\n'))
    assert.deepEqual(made, [])
    assert.equal(await number(), before.number)
    assert.equal(ctx.changes.current(), changes)
    assert.deepEqual(
      await ctx.db.selectFrom('repository').selectAll().where('id', '=', repository.id).executeTakeFirstOrThrow(),
      row,
    )
  })

  test(`${engine}: a tag that moved is read anew, the others are not, and its blobs that are here are not downloaded again`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t))
    const shared = registry.addBlob('ns/app', 'a layer that both have')
    const old = registry.addImage('ns/app', 'latest', 'one', { layers: [shared] })
    const other = registry.addImage('ns/app', '1.0', 'other')
    await sync()
    registry.requests.length = 0
    const fresh = registry.addImage('ns/app', 'latest', 'two', { layers: [shared] })
    await sync()
    assert.deepEqual(await tags(), { latest: fresh.digest, '1.0': other.digest })
    const reads = registry.requests.filter((request) => /^GET .*\/(manifests|blobs)\//.test(request))
    assert.equal(reads[0], `GET /v2/ns/app/manifests/${fresh.digest}`)
    assert.equal(reads.length, 2, 'the manifest and its config')
    registry.image('ns/app').tags.set('latest', old.digest)
    registry.requests.length = 0
    await sync()
    assert.deepEqual(await tags(), { latest: old.digest, '1.0': other.digest })
    assert.ok(!registry.requests.some((request) => /^GET .*\/(manifests|blobs)\//.test(request)), 'it is held still')
  })

  test(`${engine}: without mirror tags that are gone stay; a mirror takes them away with what nothing else needs`, async (t) => {
    const { registry, sync, tags, keysOf } = await setUpSync(t, await open(t))
    const shared = registry.addBlob('ns/app', 'a layer that both have')
    const kept = registry.addImage('ns/app', 'kept', 'kept', { layers: [shared] })
    const gone = registry.addImage('ns/app', 'gone', 'gone', { layers: [shared, registry.addBlob('ns/app', 'its own')] })
    await sync()
    registry.image('ns/app').tags.delete('gone')
    await sync()
    assert.deepEqual(await tags(), { kept: kept.digest, gone: gone.digest })
    await sync({ mirror: true })
    assert.deepEqual(await tags(), { kept: kept.digest })
    assert.deepEqual(await keysOf('manifest'), [kept.digest])
    assert.equal((await keysOf('blob')).length, 2)
    assert.ok((await keysOf('blob')).includes(shared.digest))
  })

  test(`${engine}: on_demand brings manifests and configs, and leaves layers where they are`, async (t) => {
    const { registry, sync, keysOf, storedBlobs, ctx } = await setUpSync(t, await open(t), 'ns/app', { policy: 'on_demand' })
    registry.addImage('ns/app', '1.0', 'one')
    await sync()
    assert.equal((await keysOf('blob')).length, 2)
    const [config] = await storedBlobs()
    assert.equal((await storedBlobs()).length, 1)
    const layer = [...registry.image('ns/app').blobs.keys()].find((digest) => digest !== config)
    assert.ok(!registry.requests.includes(`GET /v2/ns/app/blobs/${layer}`))
    const sources = await ctx.db
      .selectFrom('source')
      .innerJoin('file', 'file.id', 'source.file_id')
      .select(['url', 'path'])
      .execute()
    assert.equal(sources.find(({ path }) => path === layer)!.url, `v2/ns/app/blobs/${layer}`)
  })

  test(`${engine}: a remote that becomes immediate downloads what is not here, and reads no manifest again`, async (t) => {
    const { registry, sync, storedBlobs, ctx, remote } = await setUpSync(t, await open(t), 'ns/app', { policy: 'on_demand' })
    registry.addImage('ns/app', '1.0', 'one')
    await sync()
    await updateResource(ctx, 'remote', remote.id, { policy: 'immediate' })
    registry.requests.length = 0
    await sync()
    assert.equal((await storedBlobs()).length, 2)
    assert.equal(registry.requests.filter((request) => request.startsWith('GET /v2/ns/app/manifests/')).length, 0)
    assert.equal(registry.requests.filter((request) => request.startsWith('GET /v2/ns/app/blobs/')).length, 1)
  })

  test(`${engine}: lists are kept whole, also lists of lists, and foreign layers are never fetched`, async (t) => {
    const { registry, sync, tags, keysOf } = await setUpSync(t, await open(t))
    const foreign = { mediaType: types.foreign, digest: digestOf('foreign'), size: 7, urls: [`${registry.url}/foreign`] }
    const layer = registry.addBlob('ns/app', 'a layer')
    const windows = registry.addImage('ns/app', undefined, 'windows', { layers: [foreign, layer] })
    const linux = registry.addImage('ns/app', undefined, 'linux')
    const inner = registry.addIndex('ns/app', undefined, [windows])
    const list = registry.addIndex('ns/app', 'multi', [{ ...linux, platform: { architecture: 'amd64', os: 'linux' } }, inner])
    await sync()
    assert.deepEqual(await tags(), { multi: list.digest })
    assert.deepEqual(await keysOf('manifest'), [windows, linux, inner, list].map(({ digest }) => digest).sort())
    assert.ok(!(await keysOf('blob')).includes(foreign.digest))
    assert.ok(!registry.requests.some((request) => request.includes('foreign') || request.includes(foreign.digest)))
    registry.requests.length = 0
    await sync({ mirror: true })
    assert.equal((await keysOf('manifest')).length, 4)
    assert.ok(!registry.requests.some((request) => /^GET .*\/(manifests|blobs)\//.test(request)))
  })

  test(`${engine}: lists deeper than four, or with more than a thousand members, are refused by name`, async (t) => {
    const { registry, sync, number } = await setUpSync(t, await open(t))
    let deep = registry.addImage('ns/app', undefined, 'bottom')
    for (let depth = 0; depth < 5; depth++) deep = registry.addIndex('ns/app', depth === 4 ? 'deep' : undefined, [deep])
    await assert.rejects(sync(), /^Failure: ns\/app:deep cannot be synced\. .*more than 4 deep/)
    registry.image('ns/app').tags.clear()
    const many = Array.from({ length: 1001 }, (_, index) => ({
      mediaType: types.manifest,
      digest: digestOf(`${index}`),
      size: 1,
    }))
    registry.addIndex('ns/app', 'wide', many)
    await assert.rejects(sync(), /^Failure: ns\/app:wide cannot be synced\. .*lists 1001 manifests/)
    assert.equal(await number(), 0)
  })

  test(`${engine}: include_tags and exclude_tags choose; only what is chosen is asked for`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t), 'ns/app', {
      include_tags: ['1.*', 'latest'],
      exclude_tags: ['*-rc?'],
    })
    for (const tag of ['1.0', '1.1-rc1', 'latest', '2.0']) registry.addImage('ns/app', tag, tag)
    await sync()
    assert.deepEqual(Object.keys(await tags()).sort(), ['1.0', 'latest'])
    assert.ok(!registry.requests.some((request) => request.includes('rc1') || request.includes('2.0')))
  })

  test(`${engine}: a list of tags in pages is followed to its end, and one that goes round is refused`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t))
    registry.pageSize = 3
    for (let index = 10; index < 20; index++) registry.addImage('ns/app', `v${index}`, 'same')
    await sync()
    assert.equal(Object.keys(await tags()).length, 10)
    assert.equal(registry.requests.filter((request) => request.includes('/tags/list')).length, 4)
    registry.whim = (_, response, path) => {
      if (!path.endsWith('/tags/list')) return false
      response.writeHead(200, { link: '</v2/ns/app/tags/list?last=x>; rel="next"' }).end('{"tags":[]}')
      return true
    }
    await assert.rejects(sync(), /does not end/)
  })

  test(`${engine}: bytes that are not those of their digest fail the sync, which names image and tag, and nothing is visible`, async (t) => {
    const { registry, sync, number, ctx } = await setUpSync(t, await open(t))
    registry.addImage('ns/app', 'good', 'good')
    const bad = registry.addImage('ns/app', 'bad', 'bad')
    const manifest = registry.image('ns/app').manifests.get(bad.digest)!
    const right = manifest.bytes
    manifest.bytes = Buffer.from(right.toString().replace('"schemaVersion":2', '"schemaVersion": 2'))
    await assert.rejects(sync(), (error: Error & { code?: string }) => {
      assert.match(error.message, /^ns\/app:bad cannot be synced\./)
      assert.equal(error.code, 'integrity')
      return true
    })
    manifest.bytes = right
    const layer = digestOf('layer of bad')
    registry.image('ns/app').blobs.set(layer, Buffer.from('layer of bax'))
    await assert.rejects(sync(), (error: Error) => {
      assert.match(error.message, new RegExp(`/v2/ns/app/blobs/${layer} gave wrong bytes.* It is part of bad\\.$`))
      return true
    })
    assert.equal(await number(), 0)
    registry.image('ns/app').blobs.set(layer, Buffer.from('layer of bad'))
    const here = await ctx.db.selectFrom('file').select('path').where('blob_id', 'is not', null).execute()
    registry.requests.length = 0
    await sync()
    assert.equal(await number(), 1)
    assert.ok(here.length >= 2, 'configs at least')
    const again = here.filter(({ path }) => registry.requests.includes(`GET /v2/ns/app/blobs/${path}`))
    assert.deepEqual(again, [], 'what is here is not downloaded again')
    assert.equal(await ctx.db.selectFrom('lease').select('content_id').executeTakeFirst(), undefined)
  })

  test(`${engine}: a manifest that calls itself something else than it comes as is refused`, async (t) => {
    const { registry, sync } = await setUpSync(t, await open(t))
    const { digest } = registry.addImage('ns/app', 'x', 'x')
    registry.image('ns/app').manifests.get(digest)!.type = types.index
    await assert.rejects(sync(), /ns\/app:x cannot be synced\. .*came as/)
    registry.image('ns/app').manifests.get(digest)!.type = 'application/json'
    await sync()
  })

  test(`${engine}: a tag that moves while it is read counts as it was when it was asked for`, async (t) => {
    const { registry, sync, tags, keysOf } = await setUpSync(t, await open(t))
    const first = registry.addImage('ns/app', 'moving', 'first')
    registry.whim = (request) => {
      if (request.method === 'GET' && request.url!.includes('/manifests/')) registry.addImage('ns/app', 'moving', 'second')
      return false
    }
    await sync()
    assert.deepEqual(await tags(), { moving: first.digest })
    assert.deepEqual(await keysOf('manifest'), [first.digest])
    registry.whim = undefined
    await sync()
    assert.notEqual((await tags())['moving'], first.digest)
  })

  test(`${engine}: a tag whose manifest is deleted while it is read is read as it is then`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t))
    const first = registry.addImage('ns/app', 'moving', 'first')
    registry.whim = (request) => {
      if (
        request.method === 'GET' &&
        request.url!.endsWith(first.digest) &&
        registry.image('ns/app').manifests.delete(first.digest)
      )
        registry.addImage('ns/app', 'moving', 'second')
      return false
    }
    await sync()
    assert.equal((await tags())['moving'], registry.image('ns/app').tags.get('moving'))
    assert.notEqual((await tags())['moving'], first.digest)
  })

  test(`${engine}: registries that tell no digests or do not answer HEAD are read by GET`, async (t) => {
    const { registry, sync, tags, number } = await setUpSync(t, await open(t))
    const { digest } = registry.addImage('ns/app', '1.0', 'one')
    registry.tellsDigests = false
    await sync()
    assert.deepEqual(await tags(), { '1.0': digest })
    registry.tellsDigests = true
    registry.answersHead = false
    await sync()
    assert.equal(await number(), 1)
  })

  test(`${engine}: a registry that asks to wait is asked again, and what it gave before is not read twice`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t), 'ns/app', { max_retries: 3 })
    for (const tag of ['1.0', '1.1']) registry.addImage('ns/app', tag, tag)
    const refused = new Set<string>()
    registry.whim = (request, response) => {
      if (refused.has(request.url!) || request.url!.includes('/referrers/')) return false
      refused.add(request.url!)
      response.writeHead(refused.size % 2 ? 429 : 503, { 'retry-after': '0' }).end()
      return true
    }
    await sync()
    assert.deepEqual(Object.keys(await tags()).sort(), ['1.0', '1.1'])
    const answered = registry.requests.filter((request, at) => registry.requests.indexOf(request) !== at)
    assert.equal(new Set(answered).size, answered.length, 'each was asked twice: once refused, once answered')
  })

  test(`${engine}: Basic credentials, and tokens that are asked for with them, open a protected registry`, async (t) => {
    const db = await open(t)
    for (const kind of ['basic', 'token'] as const) {
      const secret = { username: 'reader', password: 'pass:wörd' }
      const { registry, sync, tags } = await setUpSync(t, db, 'ns/app', secret)
      registry.auth = { kind, ...secret }
      const { digest } = registry.addImage('ns/app', '1.0', 'one')
      await sync()
      assert.deepEqual(await tags(), { '1.0': digest })
      if (kind === 'token') assert.equal(registry.tokens.length, 1)
      const wrong = await addSynced((await setUpSync(t, db)).ctx, registry, 'ns/app', { ...secret, password: 'wrong' })
      await assert.rejects(wrong.sync(), /401/)
    }
  })

  test(`${engine}: a public image of a registry with tokens needs no credentials`, async (t) => {
    const { registry, sync, tags } = await setUpSync(t, await open(t))
    registry.auth = { kind: 'token', username: 'a', password: 'b', life: 6 }
    registry.isPublic = true
    registry.addImage('ns/app', '1.0', 'one')
    await sync()
    assert.deepEqual(Object.keys(await tags()), ['1.0'])
  })

  test(`${engine}: what the registry knows to be about an image comes along, and goes with a mirror when it is taken back`, async (t) => {
    const { registry, sync, keysOf, number } = await setUpSync(t, await open(t))
    registry.hasReferrers = true
    const image = registry.addImage('ns/app', '1.0', 'one')
    await sync()
    const sbom = registry.addReferrer('ns/app', image, 'application/spdx+json')
    const signature = registry.addReferrer('ns/app', sbom, 'application/vnd.cncf.notary.signature')
    await sync()
    assert.deepEqual(await keysOf('manifest'), [image, sbom, signature].map(({ digest }) => digest).sort())
    registry.requests.length = 0
    await sync({ mirror: true })
    assert.equal((await keysOf('manifest')).length, 3)
    assert.equal(await number(), 2)
    registry.image('ns/app').manifests.delete(sbom.digest)
    registry.image('ns/app').manifests.delete(signature.digest)
    await sync({ mirror: true })
    assert.deepEqual(await keysOf('manifest'), [image.digest])
  })

  test(`${engine}: what is about one platform of a list comes along, and stays while the list is the same`, async (t) => {
    const { registry, sync, keysOf, made } = await setUpSync(t, await open(t))
    registry.hasReferrers = true
    const platform = registry.addImage('ns/app', undefined, 'arm')
    const list = registry.addIndex('ns/app', 'multi', [platform])
    const about = registry.addReferrer('ns/app', platform, 'application/spdx+json')
    const all = [platform, list, about].map(({ digest }) => digest).sort()
    await sync({ mirror: true })
    assert.deepEqual(await keysOf('manifest'), all)
    made.length = 0
    registry.addImage('ns/app', 'other', 'other')
    await sync({ mirror: true })
    const now = await keysOf('manifest')
    assert.deepEqual(
      all.filter((digest) => !now.includes(digest)),
      [],
    )
    registry.requests.length = made.length = 0
    await sync({ mirror: true })
    assert.deepEqual(made, [])
    assert.ok(!registry.requests.includes(`GET /v2/ns/app/referrers/${platform.digest}`))
  })

  test(`${engine}: tags that cosign and others name for a digest come along with its image, and those of other images do not`, async (t) => {
    const { registry, sync, tags, keysOf } = await setUpSync(t, await open(t), 'ns/app', {
      include_tags: ['1.0'],
      exclude_tags: ['*.att'],
    })
    const about = (digest: string, end = '') => `${digest.replace(':', '-')}${end}`
    const platform = registry.addImage('ns/app', undefined, 'platform')
    const image = registry.addIndex('ns/app', '1.0', [platform])
    const other = registry.addImage('ns/app', '2.0', 'other')
    const signature = registry.addImage('ns/app', about(image.digest, '.sig'), 'signature')
    registry.addImage('ns/app', about(image.digest, '.att'), 'attestation')
    registry.addImage('ns/app', about(platform.digest, '.sbom'), 'sbom')
    registry.addImage('ns/app', about(signature.digest, '.sig'), 'signature of the signature')
    registry.addImage('ns/app', about(other.digest, '.sig'), 'signature of another')
    const referrer = registry.addReferrer('ns/app', image, 'application/spdx+json')
    registry.addIndex('ns/app', about(image.digest), [referrer])
    await sync()
    const expected = [
      '1.0',
      about(image.digest),
      about(image.digest, '.sig'),
      about(platform.digest, '.sbom'),
      about(signature.digest, '.sig'),
    ]
    assert.deepEqual(Object.keys(await tags()).sort(), expected.sort())
    assert.ok((await keysOf('manifest')).includes(referrer.digest))
    registry.requests.length = 0
    await sync()
    assert.ok(!registry.requests.some((request) => /^GET .*\/(manifests|blobs)\//.test(request)))
    assert.equal(registry.requests.filter((request) => request.startsWith('HEAD')).length, 5)
  })

  test(`${engine}: signed_only takes what cosign signed or what a signature is about, with that, and nothing else`, async (t) => {
    const { registry, sync, tags, keysOf, number } = await setUpSync(t, await open(t))
    registry.hasReferrers = true
    const byTag = registry.addImage('ns/app', 'by-tag', 'by tag')
    registry.addImage('ns/app', `${byTag.digest.replace(':', '-')}.sig`, 'signature')
    const byReferrer = registry.addImage('ns/app', 'by-referrer', 'by referrer')
    const notation = registry.addReferrer('ns/app', byReferrer, 'application/vnd.cncf.notary.signature')
    const unsigned = registry.addImage('ns/app', 'unsigned', 'unsigned')
    registry.addReferrer('ns/app', unsigned, 'application/spdx+json')
    registry.addImage('ns/app', `${unsigned.digest.replace(':', '-')}.sbom`, 'sbom of the unsigned')
    await sync({ signed_only: true })
    assert.deepEqual(Object.keys(await tags()).sort(), ['by-referrer', 'by-tag', `${byTag.digest.replace(':', '-')}.sig`])
    assert.ok((await keysOf('manifest')).includes(notation.digest))
    assert.ok(!(await keysOf('manifest')).includes(unsigned.digest))
    await sync({ signed_only: true })
    assert.equal(await number(), 1)
  })

  for (const source of ['sigstore', 'extension'] as const)
    test(`${engine}: signatures beside images come along from a ${source}, and decide what is signed`, async (t) => {
      const { registry, ctx } = await setUpSync(t, await open(t))
      registry.supportsSignatures = source === 'extension'
      registry.auth = { kind: 'token', username: 'u', password: 'p' }
      const settings = { username: 'u', password: 'p', ...(source === 'sigstore' && { sigstore: `${registry.url}/sigstore/` }) }
      const { sync, tags, keysOf, number, rows } = await addSynced(ctx, registry, 'ns/app', settings)
      const signer = await makeImageSigner()
      const signed = registry.addImage('ns/app', 'signed', 'signed')
      const [one, two] = [registry.addImage('ns/app', undefined, 'one'), registry.addImage('ns/app', undefined, 'two')]
      registry.addIndex('ns/app', 'list', [one, two])
      registry.addImage('ns/app', 'unsigned', 'unsigned')
      const sign = async ({ digest }: { digest: string }, about = digest) => {
        const signature = await signer.sign(about, 'registry.example/ns/app:1')
        registry.signatures.set(digest, [...(registry.signatures.get(digest) ?? []), signature])
        return digestOf(signature)
      }
      const ofSigned = [await sign(signed), await sign(signed)]
      const ofOne = await sign(one)
      // Of another image: it does not count, nor does it end the list.
      await sign(two, signed.digest)

      await sync({ signed_only: true })
      assert.deepEqual(await tags(), { signed: signed.digest })
      assert.deepEqual(await keysOf('signature'), ofSigned.toSorted())
      const ofTwo = await sign(two)
      await sync({ signed_only: true })
      assert.deepEqual(Object.keys(await tags()).sort(), ['list', 'signed'])
      assert.deepEqual(await keysOf('signature'), [...ofSigned, ofOne, ofTwo].sort())
      const stored = (await rows()).find(({ key }) => key === ofTwo)!
      const [unit] = await Array.fromAsync(unitsById(ctx.db, [stored.id]))
      assert.deepEqual(await unit!.entry(), registry.signatures.get(two.digest)!.at(-1))
      await sync({ signed_only: true })
      assert.equal(await number(), 2)

      // One more makes a version, though no tag moved. A mirror keeps what is said of what it keeps, and nothing else.
      ofSigned.push(await sign(signed))
      await sync({ mirror: true, signed_only: true })
      assert.deepEqual([await number(), (await keysOf('signature')).length], [3, 5])
      registry.signatures.clear()
      registry.image('ns/app').tags.delete('list')
      await sync({ mirror: true })
      assert.deepEqual(await keysOf('signature'), ofSigned.toSorted())
      assert.deepEqual(Object.keys(await tags()).sort(), ['signed', 'unsigned'])
    })

  test(`${engine}: Docker's first manifests are stored as they are, under the digest of what they sign`, async (t) => {
    const { registry, sync, tags, ctx, rows, storedBlobs } = await setUpSync(t, await open(t))
    const layer = registry.addBlob('ns/app', 'a layer')
    const { bytes, digest } = signFirst({
      schemaVersion: 1,
      name: 'ns/app',
      tag: 'old',
      architecture: 's390x',
      fsLayers: [{ blobSum: layer.digest }],
    })
    registry.image('ns/app').manifests.set(digest, { bytes, type: types.firstSigned })
    registry.image('ns/app').tags.set('old', digest)
    await sync()
    assert.deepEqual(await tags(), { old: digest })
    const row = (await rows()).find(({ type }) => type === 'container.manifest')!
    const [unit] = await Array.fromAsync(unitsById(ctx.db, [row.id]))
    assert.deepEqual(await unit!.entry(), bytes)
    assert.equal(unit!.meta['architecture'], 's390x')
    assert.deepEqual(await storedBlobs(), [layer.digest])
    // Something else behind what is signed, where a reader might see it.
    const spoiled = Buffer.from(bytes.toString().replace('"signatures":', '"architecture":"evil","signatures":'))
    registry.image('ns/app').manifests.set(digest, { bytes: spoiled, type: types.firstSigned })
    await assert.rejects((await addSynced(ctx, registry, 'ns/app')).sync(), /ns\/app:old cannot be synced\. .*other bytes/)
  })

  test(`${engine}: a layer that was left upstream is fetched with a token when somebody asks, verified, and stored once`, async (t) => {
    const secret = { username: 'reader', password: 'pass' }
    const { registry, sync, ctx, storedBlobs } = await setUpSync(t, await open(t), 'ns/app', { policy: 'on_demand', ...secret })
    registry.auth = { kind: 'token', ...secret }
    registry.addImage('ns/app', '1', 'one')
    registry.addImage('ns/app', '2', 'two')
    await sync()
    await using onDemand = openOnDemand(ctx)
    const fileOf = (digest: string) => ctx.db.selectFrom('file').select('id').where('path', '=', digest).executeTakeFirstOrThrow()
    const good = digestOf('layer of one')
    registry.requests.length = 0
    const [first, second] = await Promise.all([
      readFile(onDemand, (await fileOf(good)).id),
      onDemand.fetch((await fileOf(good)).id),
    ])
    assert.deepEqual([first, second], ['layer of one', good.slice(7)])
    assert.ok((await storedBlobs()).includes(good))
    assert.ok(registry.requests.filter((request) => request === `GET /v2/ns/app/blobs/${good}`).length <= 3)
    registry.requests.length = 0
    assert.equal(await readFile(onDemand, (await fileOf(good)).id), 'layer of one')
    assert.deepEqual(registry.requests, [])
    const bad = digestOf('layer of two')
    registry.image('ns/app').blobs.set(bad, Buffer.from('layer of twx'))
    const { id } = await fileOf(bad)
    await assert.rejects(readFile(onDemand, id), { code: /integrity|upstream/ })
    assert.ok(!(await storedBlobs()).includes(bad))
  })

  test(`${engine}: a size that another upstream told wrong does not spoil a layer for those who have it right`, async (t) => {
    const { registry, sync, ctx, keysOf } = await setUpSync(t, await open(t), 'evil/app', { policy: 'on_demand' })
    const layer = registry.addBlob('good/app', 'a layer')
    registry.addImage('evil/app', '1', 'evil', { layers: [{ ...layer, size: 3 }] })
    await sync()
    assert.ok((await keysOf('blob')).includes(layer.digest))
    registry.addImage('good/app', '1', 'good', { layers: [layer] })
    const good = await addSynced(ctx, registry, 'good/app')
    await good.sync()
    assert.ok((await good.storedBlobs()).includes(layer.digest))
  })

  test(`${engine}: an upstream that names what it does not have gets nobody what is here for others`, async (t) => {
    const { registry, sync, ctx, repository } = await setUpSync(t, await open(t), 'secret/app')
    const layer = registry.addBlob('secret/app', 'a private layer')
    registry.addImage('secret/app', '1', 'secret', { layers: [layer] })
    await sync()
    await ensureRoles(ctx.db, ctx.formats)
    await createUser(ctx, { username: 'mallory', password: 'a-long-test-password' })
    const { id: userId } = await ctx.db.selectFrom('user').select('id').executeTakeFirstOrThrow()
    registry.addImage('evil/app', '1', 'evil', { layers: [layer] })
    for (const policy of ['immediate', 'on_demand']) {
      const evil = await addSynced(ctx, registry, 'evil/app', { userId, policy })
      await assert.rejects(evil.sync(), /v2\/evil\/app\/blobs\/sha256:.* answered 404\. It is part of 1\./)
      assert.deepEqual(await evil.rows(), [])
    }
    // Whoever may see the repository may have it, and so may those whose upstream has it.
    const prn = prnOf(ctx.formats, 'repository', repository)
    const role = { role: 'container.containerrepository_viewer', users: ['mallory'] }
    await addRole(ctx, prn, role)
    const friend = await addSynced(ctx, registry, 'evil/app', { userId })
    await friend.sync()
    assert.ok((await friend.storedBlobs()).includes(layer.digest))
    await removeRole(ctx, prn, role)
    registry.image('evil/app').blobs.set(layer.digest, Buffer.from('a private layer'))
    registry.requests.length = 0
    const honest = await addSynced(ctx, registry, 'evil/app', { userId })
    const shown = () => registry.requests.filter((request) => request === `GET /v2/evil/app/blobs/${layer.digest}`).length
    await ctx.db.deleteFrom('membership').where('repository_id', '=', friend.repository.id).execute()
    await honest.sync()
    assert.equal(shown(), 1)
    await honest.sync()
    assert.equal(shown(), 1, "what was shown once is the repository's own")
  })

  test(`${engine}: an image that is not there is named, and so is one whose name is none`, async (t) => {
    const { registry, sync } = await setUpSync(t, await open(t), 'ns/none')
    registry.addImage('ns/app', '1', '1')
    await assert.rejects(sync(), /v2\/ns\/none\/tags\/list answered 404/)
    for (const name of ['', 'UPPER', '../x', 'a//b', 'a b'])
      await assert.rejects((await setUpSync(t, await open(t), name)).sync(), { code: 'invalid', field: 'upstream_name' })
  })

  test(`${engine}: tags that are none and lists that are none are refused`, async (t) => {
    const { registry, sync } = await setUpSync(t, await open(t))
    registry.addImage('ns/app', '1', '1')
    for (const body of ['{"tags":["../../x"]}', '{"tags":[7]}', '{"tags":"x"}', '[]x', 'null']) {
      registry.whim = (_, response, path) => {
        if (path.endsWith('/tags/list')) response.end(body)
        return path.endsWith('/tags/list')
      }
      await assert.rejects(sync(), { code: 'integrity' })
    }
  })
})

async function readFile(onDemand: OnDemand, id: number): Promise<string> {
  const arrival = onDemand.open(id)
  try {
    return Buffer.concat(await Array.fromAsync(arrival.read())).toString()
  } finally {
    arrival.close()
  }
}

/** A manifest of the first kind with a signature, as Docker made them; who signed does not matter here. */
function signFirst(body: Record<string, unknown>): { bytes: Buffer; digest: string } {
  const payload = JSON.stringify(body, undefined, 3)
  const formatLength = payload.length - '\n}'.length
  const encode = (text: string) => Buffer.from(text).toString('base64url')
  const signed = encode(JSON.stringify({ formatLength, formatTail: encode('\n}'), time: '2015-01-01T00:00:00Z' }))
  const signatures = `,\n   "signatures": [{"header": {"alg": "ES256"}, "signature": "x", "protected": "${signed}"}]\n}`
  const bytes = Buffer.from((payload.slice(0, formatLength) + signatures).replace('"signatures": ', '"signatures":'))
  return { bytes, digest: digestOf(payload) }
}
