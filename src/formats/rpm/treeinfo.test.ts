import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { type Upstream, UpstreamFailure } from '../../core/fetch/fetch.ts'
import { Failure } from '../../lib/failure.ts'
import { unitsOf } from '../../../tests/fixtures/version-of.ts'
import { discoverTree } from './discover-tree.ts'
import { parseTreeinfo, renderTreeinfo } from './treeinfo.ts'

const digest = 'a'.repeat(64)
const treeinfo = `[header]
type = productmd.treeinfo
version = 1.1

[release]
name = Zoo Linux
short = ZL
version = 9

[tree]
arch = x86_64
build_timestamp = 1539194952
platforms = x86_64,xen
variants = Base,App

; A comment
[checksums]
images/boot.iso = sha256:${digest}
repodata/repomd.xml = sha256:${digest}

[images-x86_64]
kernel = images/vmlinuz
boot.iso = images/boot.iso

[images-xen]
kernel = images/vmlinuz

[stage2]
mainimage = images/install.img

[media]
discnum = 1
totaldiscs = 2

[variant-Base]
id = Base
uid = Base
name = Base
type = variant
packages = Packages
repository = .
addons = Base-HA

[addon-Base-HA]
id = HA
uid = Base-HA
name = High
type = addon
packages = addons/HA
repository = addons/HA

[variant-App]
id = App
uid = App
name = App
type = variant
packages = ../App/Packages
repository = ../App

[variant-Unlisted]
id = Unlisted
repository = unlisted
`

const tree = parseTreeinfo(Buffer.from(treeinfo))!

test('what Pulp shows of a tree is read', () => {
  const { addons, variants, images, checksums, ...fields } = tree.meta as Record<string, any>
  assert.deepEqual(fields, {
    header_version: '1.2',
    release_name: 'Zoo Linux',
    release_short: 'ZL',
    release_version: '9',
    release_is_layered: false,
    base_product_name: null,
    base_product_short: null,
    base_product_version: null,
    arch: 'x86_64',
    build_timestamp: 1539194952,
    instimage: null,
    mainimage: 'images/install.img',
    discnum: 1,
    totaldiscs: 2,
  })
  assert.deepEqual(addons, [{ addon_id: 'HA', uid: 'Base-HA', name: 'High', type: 'addon', packages: 'addons/HA' }])
  assert.deepEqual(
    variants.map((each: any) => [each.variant_id, each.packages]),
    [
      ['Base', 'Packages'],
      ['App', 'App'],
    ],
  )
  assert.deepEqual(images, [
    { name: 'kernel', path: 'images/vmlinuz', platforms: 'x86_64, xen' },
    { name: 'boot.iso', path: 'images/boot.iso', platforms: 'x86_64' },
  ])
  assert.equal(checksums.length, 2)
})

test('the files to fetch are the images, each once, and not the metadata of repositories', () => {
  assert.deepEqual(tree.images, [
    { path: 'images/vmlinuz' },
    { path: 'images/boot.iso', checksum: `sha256:${digest}` },
    { path: 'images/install.img' },
  ])
})

test('a repository outside of the tree is served below its id, and the served file says so', () => {
  assert.deepEqual(tree.subRepositories, [
    { path: '../App', servedAt: 'App' },
    { path: 'addons/HA', servedAt: 'addons/HA' },
  ])
  assert.equal(tree.rewritten, true)
  assert.equal(tree.text, treeinfo.replace('packages = ../App/Packages\nrepository = ../App', 'packages = App\nrepository = App'))
})

test('a tree from before productmd is read by its general section', () => {
  const old = parseTreeinfo(
    Buffer.from('[general]\nfamily = Zoo\nversion = 5\narch = i386\ntimestamp = 12.5\n[images-i386]\nkernel = k\n'),
  )!
  assert.deepEqual(
    [old.meta['release_name'], old.meta['arch'], old.meta['build_timestamp'], old.rewritten],
    ['Zoo', 'i386', 12.5, false],
  )
})

test('an HTML page is no tree', () => {
  assert.equal(parseTreeinfo(Buffer.from('\n<!DOCTYPE html><html>')), undefined)
})

for (const [what, text] of [
  ['an option outside of a section', 'a = b\n'],
  ['no release', '[tree]\narch = x86_64\n'],
  ['an image outside of the tree', treeinfo.replace('kernel = images/vmlinuz', 'kernel = ../../etc/passwd')],
  ['a checksum without an algorithm', treeinfo.replace('sha256:', '')],
  ['an id that is no name', treeinfo.replace('id = App', 'id = ../x')],
] as const)
  test(`a treeinfo file with ${what} is refused`, () => {
    assert.throws(() => parseTreeinfo(Buffer.from(text)), { name: 'Failure', code: 'integrity' })
  })

/** An upstream with these files. */
function upstreamOf(files: Record<string, string>): Upstream {
  return {
    access: { url: 'http://up.example/os/' },
    async download([url]: readonly URL[]) {
      const text = files[url!.href]
      if (text === undefined) throw new UpstreamFailure('not there', { notFound: true })
      const digests = { sha256: 'f'.repeat(64) }
      return {
        digests,
        size: text.length,
        open: () => Readable.from([Buffer.from(text)]),
        keep: async () => {},
        [Symbol.asyncDispose]: async () => {},
      }
    },
  } as unknown as Upstream
}

const base = new URL('http://up.example/os/')

test('a tree carries the files of its sub-repositories, where they are served', async () => {
  const asked: string[] = []
  const found = await discoverTree(upstreamOf({ [`${base.href}treeinfo`]: treeinfo }), [base], async ([url]) => {
    asked.push(url!.href)
    if (url!.href.includes('HA')) return undefined
    return { fingerprint: 'print', files: async () => [{ path: 'repodata/repomd.xml' }, { path: 'b/bear.rpm', size: 3 }] }
  })
  assert.deepEqual(asked, ['http://up.example/App/', 'http://up.example/os/addons/HA/'])
  assert.equal(found!.fingerprint, `${'f'.repeat(64)} print`)
  const unit = await found!.describe()
  assert.deepEqual(
    unit.files.map(({ path, urls }) => [path, urls?.[0]?.href]),
    [
      ['images/vmlinuz', `${base.href}images/vmlinuz`],
      ['images/boot.iso', `${base.href}images/boot.iso`],
      ['images/install.img', `${base.href}images/install.img`],
      ['App/repodata/repomd.xml', undefined],
      ['App/b/bear.rpm', undefined],
    ],
  )
  const rendered = await renderTreeinfo(unitsOf([unit])[0]!)
  assert.deepEqual([rendered!.path, rendered!.body.toString()], ['treeinfo', tree.text])
})

test('a tree that needs no other places is served as it is', async () => {
  const plain = treeinfo.replaceAll('../App', 'App')
  const found = await discoverTree(upstreamOf({ [`${base.href}.treeinfo`]: plain }), [base], async () => undefined)
  const unit = await found!.describe()
  assert.deepEqual([unit.files[0]!.path, await renderTreeinfo(unitsOf([unit])[0]!)], ['.treeinfo', undefined])
})

test('an upstream without a tree has none; one that fails is not taken for that', async () => {
  assert.equal(await discoverTree(upstreamOf({}), [base], async () => undefined), undefined)
  const failing = { download: async () => Promise.reject(new Failure('upstream', 'broken')) } as unknown as Upstream
  await assert.rejects(
    discoverTree(failing, [base], async () => undefined),
    /broken/,
  )
})

test('a long line of spaces is read at once', () => {
  const from = process.cpuUsage()
  parseTreeinfo(Buffer.from(`${treeinfo}\na${' '.repeat(200_000)}=${' '.repeat(200_000)}x${' '.repeat(200_000)}y\n`))
  const { user } = process.cpuUsage(from)
  assert.ok(user < 1_000_000, `${user} µs`)
})
