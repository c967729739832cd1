import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { latestVersion } from '../../src/core/versions.ts'
import { contentOf } from '../../src/core/versions.ts'
import type { Db } from '../../src/store/database.ts'
import { forEachDatabase } from '../databases.ts'
import { expectStatus, makeImage, makeIndex, openRegistry, pushImage } from '../registry.ts'
import { makeImageSigner, signatureBody } from '../signatures.ts'

/* Signatures beside images: https://github.com/containers/image/blob/main/docs/signature-protocols.md */

const signer = await makeImageSigner()
const at = (digest: string, name = 'team/app') => `/extensions/v2/${name}/signatures/${digest}`

async function signaturesIn(db: Db, name = 'team/app') {
  const { id } = await db.selectFrom('repository').select('id').where('name', '=', name).executeTakeFirstOrThrow()
  const rows = await contentOf(db, await latestVersion(db, id))
    .select(['content.key', 'content.meta'])
    .where('content.type', '=', 'container.signature')
    .orderBy('content.id')
    .execute()
  return rows.map(({ key, meta }) => ({ key, meta: JSON.parse(meta) }))
}

forEachDatabase((engine, open) => {
  test(`${engine}: a signature is sent, listed as it was sent, kept once, and goes with its image`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const { db } = registry.ctx
    const image = makeImage()
    await pushImage(registry, 'team/app', image, 'latest')
    expectStatus(await registry.send('GET', '/v2/', { as: null }), 401)
    for (const as of ['admin', null])
      assert.equal((await registry.send('GET', '/v2/', { as })).headers.get('x-registry-supports-signatures'), '1')
    assert.deepEqual((await registry.send('GET', at(image.digest))).body, { signatures: [] })

    const signature = await signer.sign(image.digest, 'registry.example/team/app:latest')
    const put = (body: string, digest = image.digest) => registry.send('PUT', at(digest), { body })
    for (let twice = 0; twice < 2; twice++) {
      const answer = await put(signatureBody(image.digest, signature))
      expectStatus(answer, 201)
      assert.equal(answer.headers.get('location'), at(image.digest))
    }
    const sha256 = createHash('sha256').update(signature).digest('hex')
    const [{ meta }, ...others] = (await signaturesIn(db)) as [{ key: string; meta: Record<string, unknown> }]
    assert.deepEqual(others, [])
    assert.deepEqual(meta, {
      name: `${image.digest}@${sha256.slice(0, 32)}`,
      digest: `sha256:${sha256}`,
      type: 'atomic',
      key_id: signer.keyId,
      timestamp: meta['timestamp'],
      creator: 'a test',
      signed_digest: image.digest,
      reference: 'registry.example/team/app:latest',
    })
    const listed = { schemaVersion: 2, type: 'atomic', name: meta['name'], content: signature.toString('base64') }
    assert.deepEqual((await registry.send('GET', at(image.digest))).body, { signatures: [listed] })
    const second = await signer.sign(image.digest, 'registry.example/team/app:1.0')
    expectStatus(await put(signatureBody(image.digest, second)), 201)
    const both = (await registry.send('GET', at(image.digest))).body.signatures
    assert.deepEqual(
      both.map(({ content }: { content: string }) => content),
      [second, signature].map((each) => each.toString('base64')),
    )

    expectStatus(await registry.send('DELETE', `/v2/team/app/manifests/${image.digest}`), 202)
    assert.deepEqual(await signaturesIn(db), [])
    const gone = await registry.send('GET', at(image.digest))
    assert.deepEqual([gone.status, gone.body.errors[0].code], [404, 'MANIFEST_UNKNOWN'])
  })

  test(`${engine}: what is no signature of the image is refused, and says why`, async (t) => {
    const registry = await openRegistry(t, await open(t))
    const image = makeImage()
    const other = makeImage()
    await pushImage(registry, 'team/app', makeIndex([image]), 'latest')
    const good = await signer.sign(image.digest, 'r/app:1')
    const body = (signature: Buffer) => signatureBody(image.digest, signature)
    const wrong: [string, string, RegExp][] = [
      ['no JSON', 'x', /sent as/],
      ['no object', '[]', /sent as/],
      ['another schema', body(good).replace('"schemaVersion":2', '"schemaVersion":1'), /sent as/],
      ['another type', body(good).replace('"type":"atomic"', '"type":"sigstore"'), /sent as/],
      ['no base64', body(good).replace(/"content":"/, '"content":"*'), /sent as/],
      ['no OpenPGP', body(randomBytes(100)), /no signature of an image/],
      ['of another image', body(await signer.sign(other.digest, 'r/app:1')), new RegExp(`a signature of ${other.digest}`)],
      [
        'of something else',
        body(await signer.sign(image.digest, 'r/app:1', { critical: { type: 'x' } })),
        /no signature of an image/,
      ],
      ['without a reference', body(await signer.sign(image.digest, undefined as never)), /no signature of an image/],
      ['of no digest', body(await signer.sign('latest', 'r/app:1')), /no signature of an image/],
    ]
    for (const [what, sent, message] of wrong) {
      const answer = await registry.send('PUT', at(image.digest), { body: sent })
      assert.equal(answer.status, 400, what)
      const [error] = answer.body.errors
      assert.deepEqual([error.code, error.detail], ['SIGNATURE_INVALID', { manifest_digest: image.digest }], what)
      assert.match(error.message, message, what)
    }
    const large = await registry.send('PUT', at(image.digest), { body: 'x'.repeat(200_000) })
    assert.equal(large.status, 413)
    const elsewhere = await registry.send('PUT', at(other.digest), {
      body: signatureBody(other.digest, await signer.sign(other.digest, 'r/app:1')),
    })
    assert.deepEqual([elsewhere.status, elsewhere.body.errors[0].code], [404, 'MANIFEST_UNKNOWN'])
    assert.equal((await registry.send('PUT', at('sha256:1'), { body: '{}' })).status, 400)
    assert.deepEqual(await signaturesIn(registry.ctx.db), [])
  })
})
