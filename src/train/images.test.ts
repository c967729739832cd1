import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planImagePins } from './image-pins.ts'
import { imagesOfLine, planImages, type TagsByPath, wantedImages } from './images.ts'
import { parseTrain } from './load.ts'
import { type Pins, parsePins } from './pins.ts'
import { lineStatus } from './status.ts'

const [t1, t2, t3] = ['20261101T020000', '20261102T020000', '20261103T020000'] as const

const train = parseTrain(
  'train.yaml',
  `train: t
repositories:
images:
  registry: [nova-api, nova-compute, cron, hello]
  mirrored: { ceph: { upstream: "https://quay.io/ceph/ceph", tags: [v18] } }
  development: x-dev
  release: x
  map: kolla
  distributions: [rocky-9, ubuntu-jammy]
  unbuildable: { rocky-9: [hello] }
lines:
  "2024.1": { repositories: [], images: [rocky-9, ceph] }
  both: { repositories: [], images: [rocky-9, ubuntu-jammy] }
`,
)
const [line, both] = train.lines as [(typeof train.lines)[0], (typeof train.lines)[0]]
const plain = parseTrain(
  'train.yaml',
  `train: t
repositories:
images: { registry: [hello, bye], development: x-dev, release: x }
lines: { demo: { repositories: [], images: ["*"] } }
`,
)
const demo = plain.lines[0]!

const rocky = (stamp: string) => `2024.1-rocky-9-${stamp}`
const pins = (text: string, of = line): Pins => parsePins('p', text, of)
/** Tags by path; a tag stands for the manifest behind "=", or for one of its own. */
function tagsOf(declared: Record<string, readonly string[]>): TagsByPath {
  return new Map(
    Object.entries(declared).map(([path, tags]) => [
      path,
      new Map(
        tags.map((each) => {
          const [tag = '', manifest = `${path.split('/')[1]} ${tag}`] = each.split('=')
          return [tag, manifest]
        }),
      ),
    ]),
  )
}

test("a line has the images of its distributions, and wants the tags that Kolla's keys give them", () => {
  assert.deepEqual(imagesOfLine(train.images, line), ['nova-api', 'nova-compute', 'cron', 'ceph'])
  const digest = `sha256:${'a'.repeat(64)}`
  const { wanted, refused, unpinned } = wantedImages(
    train.images,
    line,
    pins(
      `images: { ceph: v18@${digest} }\nkolla_image_tags:\n  openstack: { rocky-9: ${rocky(t1)} }\n  nova: { rocky-9: ${rocky(t2)} }`,
    ),
  )
  assert.deepEqual(
    wanted.map(({ image, tag, digest: pinned }) => [image, tag, pinned]),
    [
      ['nova-api', rocky(t2), undefined],
      ['nova-compute', rocky(t2), undefined],
      ['cron', rocky(t1), undefined],
      ['ceph', 'v18', digest],
    ],
  )
  assert.deepEqual([refused, unpinned], [[], []])
})

test('an image for which no key has a tag is refused; without any tags all are unpinned', () => {
  const half = pins(`kolla_image_tags:\n  openstack: { rocky-9: both-rocky-9-${t1} }`, both)
  const { wanted, refused } = wantedImages(train.images, both, half)
  assert.equal(wanted.length, 3)
  assert.deepEqual(refused[0], {
    image: 'nova-api',
    reason: 'no tag for ubuntu-jammy: kolla_image_tags.openstack has none.',
  })
  assert.equal(refused.length, 4)
  assert.deepEqual(wantedImages(train.images, line, pins('')).unpinned, ['ceph', 'nova-api', 'nova-compute', 'cron', 'hello'])
})

test('what is pushed is promoted, what is there already is left, what is missing is refused with the nearest', () => {
  const wanted = [t1, t2].map((stamp) => ({ image: 'hello', tag: `demo-${stamp}`, digest: undefined }))
  const tags = tagsOf({ 'x-dev/hello': [`demo-${t1}`, `demo-${t2}`, `other-${t1}`], 'x/hello': [`demo-${t1}`] })
  const plan = planImages(plain, 'release', wanted, tags)
  assert.deepEqual(
    plan.move.map(({ from, to, tag }) => [from, to, tag]),
    [['x-dev/hello', 'x/hello', `demo-${t2}`]],
  )
  assert.deepEqual(
    plan.there.map(({ tag }) => tag),
    [`demo-${t1}`],
  )
  const missing = planImages(plain, 'release', [{ image: 'hello', tag: `demo-${t3}`, digest: undefined }], tags)
  assert.deepEqual(missing.refused, [
    { image: 'hello', reason: `no tag demo-${t3} in x-dev/hello (nearest: demo-${t2}). Push it, or pin the nearest.` },
  ])
  const never = planImages(plain, 'release', [{ image: 'bye', tag: 'v1', digest: undefined }], tags)
  assert.deepEqual(never.refused, [{ image: 'bye', reason: 'no tag v1 in x-dev/bye, nor any other. Push it, or pin another.' }])
})

test('a tag that stands for another image than before is promoted again', () => {
  const wanted = [{ image: 'hello', tag: 'demo', digest: undefined }]
  const plan = planImages(plain, 'release', wanted, tagsOf({ 'x-dev/hello': ['demo=new'], 'x/hello': ['demo=old'] }))
  assert.equal(plan.move.length, 1)
})

test('a promotion to an earlier stage takes tags back from later ones', () => {
  const wanted = [{ image: 'hello', tag: 'demo', digest: undefined }]
  const plan = planImages(plain, 'development', wanted, tagsOf({ 'x-dev/hello': ['demo=a'], 'x/hello': ['demo=a', 'old'] }))
  assert.deepEqual([plan.move, plan.there], [[], []])
  assert.deepEqual(plan.untag, [{ image: 'hello', path: 'x/hello', tag: 'demo' }])
})

const none = { digests: new Map<string, string>() }

test('an image is pinned to the newest tag of its line, or the newest at a time', () => {
  const tags = tagsOf({ 'x-dev/hello': [`demo-${t1}`, `demo-${t2}`, `demo-rocky-9-${t3}`, `other-${t3}`, 'latest'] })
  const plan = (at?: string) => planImagePins(plain, demo, ['hello'], pins('', demo), { tags, ...none }, at)
  assert.deepEqual(plan(), [{ path: ['images', 'hello'], from: undefined, value: `demo-${t2}` }])
  assert.equal(plan(t1)[0]!.value, `demo-${t1}`)
  assert.throws(() => plan('20261001T000000'), {
    message: 'hello: no tag demo-<time> in x-dev/hello at or before 20261001T000000.',
  })
  assert.deepEqual(planImagePins(plain, demo, ['hello'], pins(`images: { hello: demo-${t2} }`, demo), { tags, ...none }), [])
  assert.throws(() => planImagePins(plain, demo, ['bye'], pins('', demo), { tags, ...none }), {
    code: 'not_found',
    message: 'bye: no tag demo-<time> in x-dev/bye yet.',
  })
})

test('a mirrored image is pinned to the digest that its tag has now', () => {
  const digest = `sha256:${'b'.repeat(64)}`
  const plan = (digests: Map<string, string>) => planImagePins(train, line, ['ceph'], pins(''), { tags: new Map(), digests })
  assert.deepEqual(plan(new Map([['ceph', digest]])), [{ path: ['images', 'ceph'], from: undefined, value: `v18@${digest}` }])
  assert.throws(() => plan(new Map()), { message: 'ceph: no tag v18 in x-dev/ceph yet. Run "signalbox sync ceph".' })
})

test("Kolla's keys are pinned so that every image gets its newest tag; what is not chosen keeps its own", () => {
  const tags = tagsOf({
    'x-dev/nova-api': [rocky(t1), rocky(t2)],
    'x-dev/nova-compute': [rocky(t1), rocky(t2)],
    'x-dev/cron': [rocky(t1), `2024.1-ubuntu-jammy-${t3}`],
  })
  const all = ['nova-api', 'nova-compute', 'cron']
  const plan = (chosen: readonly string[], before = '') =>
    planImagePins(train, line, chosen, pins(before), { tags, ...none }).map(({ path, value }) => [path.slice(1).join(' '), value])
  assert.deepEqual(plan(all), [
    ['openstack rocky-9', rocky(t2)],
    ['cron rocky-9', rocky(t1)],
  ])
  const before = `kolla_image_tags:\n  openstack: { rocky-9: ${rocky(t1)} }`
  assert.deepEqual(plan(all, before), [
    ['openstack rocky-9', rocky(t2)],
    ['cron rocky-9', rocky(t1)],
  ])
  assert.deepEqual(plan(['nova-compute'], before), [['nova_compute rocky-9', rocky(t2)]])
  assert.deepEqual(plan(['cron'], before), [])
})

test('a line says how many images are behind, and what they wait for', () => {
  const status = (text: string, tags: Record<string, readonly string[]>) =>
    lineStatus(plain, demo, pins(text, demo), new Map(), undefined, tagsOf(tags))
  const nothing = status('', {})
  assert.deepEqual([nothing.images, nothing.imagesBehind, nothing.waiting], [2, 0, ['push of 2 images']])
  const pushed = status('', { 'x-dev/hello': [`demo-${t1}`], 'x-dev/bye': [`demo-${t2}`] })
  assert.deepEqual([pushed.newest, pushed.imagesBehind, pushed.waiting], [t2, 2, ['pin of 2 images']])
  const pinned = `images: { hello: demo-${t1}, bye: demo-${t1} }`
  const waiting = status(pinned, { 'x-dev/hello': [`demo-${t1}`], 'x-dev/bye': [`demo-${t2}`] })
  assert.deepEqual(waiting.waiting, ['pin of image bye', 'missing tag of image bye', 'promotion to release of image hello'])
  const done = status(pinned, {
    'x-dev/hello': [`demo-${t1}`],
    'x-dev/bye': [`demo-${t1}`],
    'x/hello': [`demo-${t1}`],
    'x/bye': [`demo-${t1}`],
  })
  assert.deepEqual([done.released, done.imagesBehind, done.waiting], [t1, 0, []])
})
