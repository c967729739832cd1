import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeManifest, describeTag } from './describe.ts'
import { digestOf, isDigest } from './digest.ts'
import { dockerFirst, dockerFirstSigned, dockerList, dockerManifest, ociIndex, ociManifest } from './media-types.ts'
import { manifestLimit, parseManifest } from './manifest.ts'

const digest = (letter: string) => `sha256:${letter.repeat(64)}`
const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip'
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digest('c'), size: 2 }
const layer = { mediaType: layerType, digest: digest('1'), size: 10 }
const image = { schemaVersion: 2, mediaType: ociManifest, config, layers: [layer, { ...layer, digest: digest('2') }] }
const index = {
  schemaVersion: 2,
  mediaType: ociIndex,
  manifests: [{ mediaType: ociManifest, digest: digest('a'), size: 5, platform: { architecture: 'arm64', os: 'linux' } }],
}

const bytesOf = (body: unknown) => Buffer.from(JSON.stringify(body))
const parse = (body: unknown, type?: string) => parseManifest(bytesOf(body), type)

test('an image names its config and its layers', () => {
  const { mediaType, config: read, layers, manifests, subject } = parse(image, ociManifest)
  assert.deepEqual([mediaType, read, layers, manifests, subject], [ociManifest, config, image.layers, [], undefined])
})

test('a list names manifests, with their platforms', () => {
  const { manifests, config: read, layers } = parse(index, ociIndex)
  assert.deepEqual([manifests, read, layers], [index.manifests, undefined, []])
})

test('a manifest that does not say what it is, is what it came as, or what it looks like', () => {
  const { mediaType: _, ...silent } = image
  const { mediaType: __, ...list } = index
  assert.equal(parse(silent, dockerManifest).mediaType, dockerManifest)
  assert.equal(parse(silent, 'application/vnd.oci.image.manifest.v1+json; charset=utf-8').mediaType, ociManifest)
  assert.equal(parse(silent).mediaType, ociManifest)
  assert.equal(parse(list).mediaType, ociIndex)
  assert.equal(parse(list, dockerList).mediaType, dockerList)
})

test("Docker's first manifests are read, signed or not", () => {
  const first = { schemaVersion: 1, name: 'a', tag: 'b', architecture: 'amd64', fsLayers: [{ blobSum: digest('1') }] }
  for (const type of [dockerFirst, dockerFirstSigned]) {
    const { schemaVersion, layers, architecture } = parse(first, type)
    assert.deepEqual([schemaVersion, layers.map((each) => each.digest), architecture], [1, [digest('1')], 'amd64'])
  }
})

const refused: readonly [what: string, body: unknown, type: string | undefined, why: RegExp][] = [
  ['comes as something else than it says', image, dockerManifest, /came as .* and calls itself/],
  ['is of no known kind', { ...image, mediaType: 'text/plain' }, undefined, /"text\/plain" is not one of a manifest/],
  ['has no config', { ...image, config: undefined }, ociManifest, /config is not a descriptor/],
  ['has layers that are no list', { ...image, layers: {} }, ociManifest, /layers is not a list/],
  [
    'has a layer without a digest',
    { ...image, layers: [{ ...layer, digest: 'sha256:abc' }] },
    ociManifest,
    /layers\[0\] has no digest/,
  ],
  ['climbs with a digest', { ...image, layers: [{ ...layer, digest: `sha256:../${'0'.repeat(61)}` }] }, ociManifest, /no digest/],
  ['has a layer without a size', { ...image, layers: [{ ...layer, size: '10' }] }, ociManifest, /layers\[0\] has no size/],
  ['has a layer of less than nothing', { ...image, layers: [{ ...layer, size: -1 }] }, ociManifest, /layers\[0\] has no size/],
  ['is a list and an image at once', { ...index, layers: [] }, ociIndex, /a list has no layers/],
  ['is an image and a list at once', { ...image, manifests: [] }, ociManifest, /an image has no list/],
  ['is of another version', { ...image, schemaVersion: 3 }, ociManifest, /schemaVersion is not 2/],
  ['has annotations that are no texts', { ...image, annotations: { a: 1 } }, ociManifest, /annotations are not texts/],
  [
    'carries data that are not what they should be',
    { ...image, config: { ...config, data: 'e30=' } },
    ociManifest,
    /data of config/,
  ],
  ['has a subject that is none', { ...image, subject: 'x' }, ociManifest, /subject is not a descriptor/],
  ['is a list', [image], ociManifest, /not a JSON object/],
]
for (const [what, body, type, why] of refused)
  test(`a manifest that ${what} is refused`, () => {
    assert.throws(
      () => parse(body, type),
      (error: Error) => error.name === 'Failure' && why.test(error.message),
    )
  })

test('what is not JSON, not UTF-8 or too large is refused', () => {
  assert.throws(() => parseManifest(Buffer.from('{'), ociManifest), /not JSON/)
  assert.throws(() => parseManifest(Buffer.from([0x22, 0xff, 0x22]), ociManifest), /not JSON/)
  assert.throws(() => parseManifest(Buffer.alloc(manifestLimit + 1, ' '), ociManifest), /4194304 are allowed/)
})

test('data that a descriptor carries may be what its digest names', () => {
  const empty = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(Buffer.from('{}')), size: 2, data: 'e30=' }
  assert.equal(parse({ ...image, config: empty }, ociManifest).config?.digest, empty.digest)
})

for (const [text, good] of [
  [digest('a'), true],
  [`sha512:${'0'.repeat(128)}`, true],
  [digest('A'), false],
  [`md5:${'0'.repeat(32)}`, false],
  [`${digest('a')}\n`, false],
  [undefined, false],
] as const)
  test(`${JSON.stringify(text)?.slice(0, 24)} is ${good ? 'a' : 'no'} digest`, () => assert.equal(isDigest(text), good))

test('a manifest refers to all that it is made of, and to what it is about', () => {
  const foreign = { ...layer, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', digest: digest('f') }
  const body = { ...image, layers: [layer, foreign], subject: { mediaType: ociManifest, digest: digest('5'), size: 9 } }
  const { refers, meta, key } = describeManifest('sha256:m', parse(body), bytesOf(body), {
    architecture: 'amd64',
    os: 'linux',
    config: { Labels: { 'containers.bootc': '1' } },
  })
  assert.equal(key, 'sha256:m')
  assert.deepEqual(refers, [
    { type: 'container.blob', key: digest('c') },
    { type: 'container.blob', key: digest('1') },
    { type: 'container.manifest', key: digest('5'), about: true },
  ])
  assert.deepEqual(
    [meta['architecture'], meta['os'], meta['type'], meta['is_bootable'], meta['compressed_image_size'], meta['artifact_type']],
    ['amd64', 'linux', 'bootable', true, 20, config.mediaType],
  )
})

test('a tag is the name of one manifest', () => {
  const { name, refers, meta } = describeTag('1.0', digest('a'))
  assert.deepEqual(
    [name, refers, meta],
    ['1.0', [{ type: 'container.manifest', key: digest('a') }], { name: '1.0', digest: digest('a') }],
  )
})
