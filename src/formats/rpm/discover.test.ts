import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { createMessage, generateKey, readPrivateKey, sign } from 'openpgp'
import {
  checksumOf,
  discoverAt,
  filelistsOf,
  type Found,
  type MadePackage,
  makeRepository,
  serve,
} from '../../../tests/rpm-upstream.ts'
import { parseEntry } from './package-entry.ts'

const zoo: MadePackage[] = [
  { name: 'bear', version: '4.1', href: 'Packages/b/bear-4.1-1.noarch.rpm' },
  { name: 'bear', version: '5.0', href: 'Packages/b/bear-5.0-1.noarch.rpm' },
  { name: 'wolf', arch: 'src', href: 'Packages/w/wolf-1.0-1.src.rpm' },
]
const names = ({ units }: Found) => units.map(({ slot }) => slot)
const complete = { settings: { sync_policy: 'mirror_complete' } }
const mirrorFailure = {
  code: 'integrity',
  message: "This repository uses features which are incompatible with 'mirror' sync. Please sync without mirroring enabled.",
}
const pathOf = (files: Record<string, unknown>, part: string) => Object.keys(files).find((path) => path.includes(part))!

test('packages become content with their key, what lists need, their details and where they are', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const { units, fingerprint } = await discoverAt(t, upstream.url)
  assert.deepEqual(
    units.map(({ slot }) => slot),
    ['bear-0:4.1-1.noarch', 'bear-0:5.0-1.noarch', 'wolf-0:1.0-1.src'],
  )
  const [{ entry, variant, ...bear }] = units as [(typeof units)[number]]
  assert.match(variant!, /^[\w-]{44}$/)
  const checksum = checksumOf(zoo[0]!)
  assert.deepEqual(bear, {
    type: 'rpm.package',
    key: `sha256:${checksum} bear-0:4.1-1.noarch`,
    slot: 'bear-0:4.1-1.noarch',
    meta: {
      name: 'bear',
      epoch: '0',
      version: '4.1',
      release: '1',
      arch: 'noarch',
      checksum_type: 'sha256',
      pkgId: checksum,
      location_href: 'Packages/b/bear-4.1-1.noarch.rpm',
      filename: 'bear-4.1-1.noarch.rpm',
      size_package: 29,
      time_build: 1600000000,
      time_file: 1600000001,
      summary: 'Summary of bear',
      rpm_sourcerpm: 'bear-4.1-1.src.rpm',
      is_modular: false,
    },
    files: [
      {
        path: 'Packages/b/bear-4.1-1.noarch.rpm',
        size: 29,
        checksum: `sha256:${checksum}`,
        urls: [new URL(`${upstream.url}Packages/b/bear-4.1-1.noarch.rpm`)],
      },
    ],
  })
  assert.deepEqual(parseEntry(Buffer.from(entry!))['files'], [
    [null, '/usr/bin/', 'bear'],
    ['dir', '/usr/share/', 'bear'],
  ])
  assert.match(fingerprint, /^[0-9a-f]{64}$/)
})

test('an upstream that answers 403 for what it does not have is read all the same', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  upstream.missing = 403
  assert.equal((await discoverAt(t, upstream.url)).units.length, 3)
  assert.equal((await discoverAt(t, upstream.url, complete)).others.filter(({ kind }) => kind === 'verbatim').length, 4)
})

test('an unchanged upstream costs three requests', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const { fingerprint } = await discoverAt(t, upstream.url)
  upstream.requests.length = 0
  const again = await discoverAt(t, upstream.url, { unchanged: fingerprint })
  assert.deepEqual([again.unchanged, again.units.length, again.fingerprint], [true, 0, fingerprint])
  assert.deepEqual(upstream.requests.toSorted(), ['.treeinfo', 'repodata/repomd.xml', 'treeinfo'])
})

test('a change of the metadata alone is a change', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const { fingerprint } = await discoverAt(t, upstream.url)
  upstream.files = makeRepository({ packages: zoo.map((each) => ({ ...each, summary: 'Another' })) })
  assert.equal((await discoverAt(t, upstream.url, { unchanged: fingerprint })).unchanged, false)
})

test('where all packages are known the two large lists are not even downloaded', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const first = await discoverAt(t, upstream.url)
  upstream.requests.length = 0
  const { units } = await discoverAt(t, upstream.url, { known: knownFrom(first) })
  assert.deepEqual(
    units,
    first.units.map(({ entry: _, ...unit }) => unit),
  )
  assert.ok(!upstream.requests.some((path) => /filelists|other/.test(path)))
})

test('details of known packages are not given again', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const known = knownFrom(await discoverAt(t, upstream.url), 'wolf')
  const { units } = await discoverAt(t, upstream.url, { known })
  assert.deepEqual(
    units.map(({ entry }) => entry !== undefined),
    [true, true, false],
  )
})

/** What a repository holds that has what was found. */
function knownFrom({ units }: Found, part = '') {
  const variants = new Map(units.map(({ key, variant }) => [key, variant]))
  return async (_: string, keys: readonly string[]) => keys.map((key) => (key.includes(part) ? variants.get(key) : undefined))
}

const run = promisify(execFile)
const packings: Record<string, [suffix: string, pack: (bytes: Buffer) => Buffer | Promise<Buffer>]> = {
  none: ['', (bytes) => bytes],
  gzip: ['.gz', (bytes) => gzipSync(bytes)],
  zstd: ['.zst', (bytes) => zstdCompressSync(bytes)],
  xz: ['.xz', (bytes) => packBy('xz', bytes)],
  bzip2: ['.bz2', (bytes) => packBy('bzip2', bytes)],
}
async function packBy(command: string, bytes: Buffer): Promise<Buffer> {
  const running = run(command, ['-c'], { encoding: 'buffer' })
  running.child.stdin?.end(bytes)
  return (await running).stdout
}
for (const [name, [suffix, pack]] of Object.entries(packings))
  test(`metadata packed with ${name} is read`, async (t) => {
    // Packing happens before serving, because two of the packers are programs.
    const packed = new Map<string, Buffer>()
    const collect = (bytes: Buffer) => (packed.set(bytes.toString(), bytes), bytes)
    makeRepository({ packages: zoo, pack: collect })
    for (const [text, bytes] of packed) packed.set(text, await pack(bytes))
    const upstream = await serve(t, makeRepository({ packages: zoo, suffix, pack: (bytes) => packed.get(bytes.toString())! }))
    assert.equal((await discoverAt(t, upstream.url)).units.length, 3)
  })

test('packed metadata that unpacks to far more than it says is refused', async (t) => {
  const huge = Buffer.concat([Buffer.from('<metadata>'), Buffer.alloc(600 << 20, ' '), Buffer.from('</metadata>')])
  const files = makeRepository({ packages: zoo, pack: (bytes) => gzipSync(bytes.includes('<metadata') ? huge : bytes) })
  const upstream = await serve(t, files)
  await assert.rejects(discoverAt(t, upstream.url), { code: 'integrity', message: /when unpacked/ })
})

const broken: Record<string, [change: (files: Record<string, Buffer>) => unknown, message: RegExp]> = {
  'no repomd.xml': [(files) => delete files['repodata/repomd.xml'], /404/],
  'half a repomd.xml': [
    (files) => (files['repodata/repomd.xml'] = files['repodata/repomd.xml']!.subarray(0, 300)),
    /repomd\.xml/,
  ],
  'an HTML page as repomd.xml': [(files) => (files['repodata/repomd.xml'] = Buffer.from('<html></html>')), /repomd\.xml/],
  'metadata of other bytes': [(files) => (files[pathOf(files, 'primary')] = Buffer.alloc(10)), /primary/],
  'metadata outside of the repository': [
    (files) =>
      (files['repodata/repomd.xml'] = Buffer.from(
        files['repodata/repomd.xml']!.toString().replace(/href="repodata/, 'href="../repodata'),
      )),
    /\.\./,
  ],
}
for (const [what, [change, message]] of Object.entries(broken))
  test(`an upstream with ${what} is refused`, { timeout: 20_000 }, async (t) => {
    const files = makeRepository({ packages: zoo })
    change(files)
    const upstream = await serve(t, files)
    await assert.rejects(discoverAt(t, upstream.url), { name: 'Failure', message })
  })

const spoiled: Record<string, [edit: (xml: string) => string, message: RegExp]> = {
  'an entity declaration': [(xml) => xml.replace('?>', '?><!DOCTYPE m [<!ENTITY x "y">]>'), /declarations/],
  'a package outside of the repository': [(xml) => xml.replace('href="Packages', 'href="../Packages'), /\.\./],
  'a package at an absolute path': [(xml) => xml.replace('href="Packages', 'href="/etc'), /absolute/],
  'an unsound package': [(xml) => xml.replace('</summary>', ''), /not well-formed/],
  'half a package': [(xml) => xml.slice(0, 500), /cut short/],
}
for (const [what, [primary, message]] of Object.entries(spoiled))
  test(`primary metadata with ${what} is refused`, async (t) => {
    const upstream = await serve(t, makeRepository({ packages: zoo, edit: { primary } }))
    await assert.rejects(discoverAt(t, upstream.url), { code: 'integrity', message })
  })

test('checksums that are not allowed are refused, of metadata and of packages', async (t) => {
  const metadata = await serve(t, makeRepository({ packages: zoo, checksumType: 'md5' }))
  await assert.rejects(discoverAt(t, metadata.url), { code: 'integrity', message: /primary metadata has a checksum of type md5/ })
  const packages = await serve(t, makeRepository({ packages: [{ name: 'bear', checksumType: 'md5' }] }))
  await assert.rejects(discoverAt(t, packages.url), { code: 'integrity', message: /package bear has a checksum of type md5/ })
  assert.equal((await discoverAt(t, packages.url, { allowedChecksums: ['sha256', 'md5'] })).units.length, 1)
})

test('source packages and the tree are skipped if asked', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const found = await discoverAt(t, upstream.url, { settings: { skip_types: ['srpm', 'treeinfo'] } })
  assert.deepEqual(names(found), ['bear-0:4.1-1.noarch', 'bear-0:5.0-1.noarch'])
  assert.ok(!upstream.requests.includes('.treeinfo'))
  assert.deepEqual(found.reports.get('sync.skipped.packages'), { total: 1, done: 1, finished: true })
})

test('packages that lie elsewhere are taken from there, under a path of their own', async (t) => {
  const packages = [
    { name: 'a', href: 'x/a.rpm', base: 'http://example.org/r/' },
    { name: 'b', href: 'https://example.org/b/b.rpm?x=1' },
  ]
  const upstream = await serve(t, makeRepository({ packages }))
  const { units } = await discoverAt(t, upstream.url)
  assert.deepEqual(
    units.map(({ files: [file] }) => [file?.path, String(file?.urls?.[0])]),
    [
      ['a.rpm', 'http://example.org/r/x/a.rpm'],
      ['b.rpm', 'https://example.org/b/b.rpm?x=1'],
    ],
  )
  for (const each of packages) {
    const only = await serve(t, makeRepository({ packages: [each] }))
    await assert.rejects(discoverAt(t, only.url, complete), mirrorFailure)
  }
})

test('a complete mirror brings every file of the upstream as it is', async (t) => {
  const files = {
    ...makeRepository({
      packages: zoo,
      further: { productid: 'a certificate', primary_db: 'a database', primary_zck: 'z', prestodelta: 'd' },
    }),
    'repodata/repomd.xml.asc': Buffer.from('signature'),
    'repodata/repomd.xml.key': Buffer.from('key'),
    'extra_files.json': Buffer.from(
      JSON.stringify({
        data: [
          { file: 'EULA', size: 4, checksums: { sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08' } },
        ],
      }),
    ),
    EULA: Buffer.from('test'),
  }
  const upstream = await serve(t, files)
  const found = await discoverAt(t, upstream.url, complete)
  const verbatim = Object.fromEntries(
    found.others.flatMap((each) => (each.kind === 'verbatim' ? [[each.path, each.staged]] : [])),
  )
  assert.deepEqual(
    Object.keys(verbatim).toSorted(),
    Object.keys(files)
      .filter((path) => !path.endsWith('.rpm'))
      .toSorted(),
  )
  // They are still there when the discovery is over.
  for (const [path, staged] of Object.entries(verbatim))
    assert.deepEqual(Buffer.concat(await staged.open().toArray()), files[path as keyof typeof files])
  assert.deepEqual(
    found.units.filter(({ type }) => type === 'rpm.repo_metadata_file').map(({ meta }) => meta['data_type']),
    ['productid'],
  )
  assert.equal(found.units.filter(({ type }) => type === 'rpm.package').length, 3)
})

test('a package at two places of a complete mirror has both paths', async (t) => {
  const upstream = await serve(
    t,
    makeRepository({
      packages: [
        { name: 'a', href: 'x/a.rpm' },
        { name: 'a', href: 'y/a.rpm' },
      ],
    }),
  )
  const { units, others } = await discoverAt(t, upstream.url, complete)
  assert.deepEqual(
    units.map(({ files }) => files[0]?.path),
    ['x/a.rpm'],
  )
  assert.deepEqual(
    others.filter(({ kind }) => kind === 'verbatim-path'),
    [{ kind: 'verbatim-path', type: 'rpm.package', key: units[0]?.key, path: 'y/a.rpm' }],
  )
})

test('what cannot be mirrored is said so in the words of Pulp', async (t) => {
  for (const packages of [[{ name: 'a', href: '../a.rpm' }], [{ name: 'a', href: 'http://example.org/a.rpm' }]]) {
    const upstream = await serve(t, makeRepository({ packages }))
    await assert.rejects(discoverAt(t, upstream.url, complete), mirrorFailure)
  }
})

test('modules, groups, advisories and unknown metadata become content', async (t) => {
  const further = {
    modules: gzipSync(`---
document: modulemd
version: 2
data:
  name: zoo
  stream: "1"
  version: 1
  context: abc
  arch: noarch
  summary: A zoo
  description: A zoo
  license: {module: [MIT]}
  artifacts: {rpms: ["bear-0:4.1-1.noarch"]}
...
`),
    group_gz: gzipSync(
      '<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd"><comps><group><id>g</id><name>G</name></group></comps>',
    ),
    updateinfo:
      '<updates><update type="bugfix" status="final" version="1" from="x"><id>X-1</id><title>T</title></update></updates>',
    productid: 'certificate',
    updateinfo_zck: 'zck',
  }
  const upstream = await serve(t, makeRepository({ packages: zoo, further }))
  const { units } = await discoverAt(t, upstream.url)
  const types = Object.fromEntries([...Map.groupBy(units, ({ type }) => type)].map(([type, of]) => [type, of.length]))
  assert.deepEqual(types, {
    'rpm.package': 3,
    'rpm.modulemd': 1,
    'rpm.packagegroup': 1,
    'rpm.advisory': 1,
    'rpm.repo_metadata_file': 1,
  })
  assert.deepEqual(
    units.filter(({ meta }) => meta['is_modular']).map(({ slot }) => slot),
    ['bear-0:4.1-1.noarch'],
  )
})

test('an upstream that changes while it is read is read again, and never mixed', { timeout: 20_000 }, async (t) => {
  const old = makeRepository({ packages: zoo })
  const fresh = makeRepository({ packages: [...zoo, { name: 'zebra' }], revision: '2' })
  const upstream = await serve(t, old)
  // It changes just after its old repomd.xml was given out.
  upstream.before = (path) => {
    if (path.includes('primary')) upstream.files = fresh
  }
  const found = await discoverAt(t, upstream.url)
  assert.equal(found.units.length, 4)
  assert.equal(upstream.requests.filter((path) => path === 'repodata/repomd.xml').length, 2)
})

test('an upstream that is never whole is given up after three tries', { timeout: 20_000 }, async (t) => {
  const files = makeRepository({ packages: zoo })
  delete files[pathOf(files, 'filelists')]
  const upstream = await serve(t, files)
  await assert.rejects(discoverAt(t, upstream.url), { code: 'upstream', message: /filelists.*404/ })
  assert.equal(upstream.requests.filter((path) => path === 'repodata/repomd.xml').length, 3)
})

test('a repomd.xml must be signed by a key that the remote trusts, if it trusts one', { timeout: 30_000 }, async (t) => {
  const [ours, theirs] = await Promise.all(['us', 'them'].map((name) => generateKey({ userIDs: [{ name }], format: 'armored' })))
  const files: Record<string, Buffer> = makeRepository({ packages: zoo })
  const upstream = await serve(t, files)
  const signed = async (privateKey: string, bytes = files['repodata/repomd.xml']!) => {
    const signingKeys = await readPrivateKey({ armoredKey: privateKey })
    return Buffer.from(String(await sign({ message: await createMessage({ binary: bytes }), signingKeys, detached: true })))
  }
  const trusting = { remote: { gpgkey: ours!.publicKey } }
  await assert.rejects(discoverAt(t, upstream.url, trusting), { code: 'integrity', message: /no signature/ })

  files['repodata/repomd.xml.asc'] = await signed(ours!.privateKey)
  assert.equal((await discoverAt(t, upstream.url, trusting)).units.length, 3)
  const both = { remote: { gpgkey: `${theirs!.publicKey}\n${ours!.publicKey}` } }
  assert.equal((await discoverAt(t, upstream.url, both)).units.length, 3)

  files['repodata/repomd.xml.asc'] = await signed(theirs!.privateKey)
  const key = (await readPrivateKey({ armoredKey: theirs!.privateKey })).getKeyID().toHex().toUpperCase()
  await assert.rejects(discoverAt(t, upstream.url, trusting), { code: 'integrity', message: new RegExp(`signed by ${key}`) })
  files['repodata/repomd.xml.asc'] = await signed(ours!.privateKey, Buffer.from('something else'))
  await assert.rejects(discoverAt(t, upstream.url, trusting), { code: 'integrity' })
  files['repodata/repomd.xml.asc'] = Buffer.from('nonsense')
  await assert.rejects(discoverAt(t, upstream.url, trusting), { code: 'integrity', message: /damaged/ })
  await assert.rejects(discoverAt(t, upstream.url, { remote: { gpgkey: 'nonsense' } }), { code: 'invalid' })
})

test('a token is sent with every request', async (t) => {
  const files = makeRepository({ packages: zoo })
  const upstream = await serve(t, Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`${path}?secret`, bytes])))
  const { units } = await discoverAt(t, upstream.url, { remote: { sles_auth_token: 'secret' } })
  assert.equal(String(units[0]?.files[0]?.urls?.[0]), `${upstream.url}Packages/b/bear-4.1-1.noarch.rpm?secret`)
})

test('a sync that is canceled stops', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  await assert.rejects(discoverAt(t, upstream.url, { signal: AbortSignal.abort(new Error('canceled')) }), /canceled|abort/i)
})

test('many new packages are read in a thread of their own, and described as few ones are', async (t) => {
  const flock = Array.from({ length: 2100 }, (_, index): MadePackage => ({ name: `bird${index}`, epoch: String(index % 3) }))
  const few = await discoverAt(t, (await serve(t, makeRepository({ packages: flock.slice(0, 100) }))).url)
  const upstream = await serve(t, makeRepository({ packages: flock }))
  const many = await discoverAt(t, upstream.url, complete)
  assert.equal(many.units.length, 2100)
  for (const [index, { entry, ...unit }] of few.units.entries()) {
    const { packed, ...same } = many.units[index]!
    const files = unit.files.map((file) => ({ ...file, urls: [new URL(file.path, upstream.url)] }))
    assert.deepEqual(same, { ...unit, files })
    const { pack, at, length } = packed!
    assert.deepEqual(zstdDecompressSync(pack.bytes).subarray(at, at + length), entry)
  }
})

test('what is wrong with a list that is read in a thread is said', async (t) => {
  const flock = Array.from({ length: 2100 }, (_, index): MadePackage => ({ name: `bird${index}` }))
  const lacking = (xml: string) => xml.replace(filelistsOf(flock[2000]!), '')
  const upstream = await serve(t, makeRepository({ packages: flock, edit: { filelists: lacking } }))
  await assert.rejects(discoverAt(t, upstream.url), {
    name: 'Failure',
    code: 'integrity',
    message: 'The package bird2000-0:1.0-1.noarch is missing in the filelists metadata.',
  })
  const cut = (bytes: Buffer) => gzipSync(bytes).subarray(0, 2000)
  const short = await serve(
    t,
    makeRepository({ packages: flock, pack: (bytes) => (/<otherdata/.test(String(bytes)) ? cut(bytes) : gzipSync(bytes)) }),
  )
  await assert.rejects(discoverAt(t, short.url), {
    code: 'integrity',
    message: 'The other metadata cannot be unpacked: the gzip data is cut short.',
  })
})

test('a reader that leaves early leaves no thread behind', async (t) => {
  const flock = Array.from({ length: 2100 }, (_, index): MadePackage => ({ name: `bird${index}` }))
  const upstream = await serve(t, makeRepository({ packages: flock }))
  const progress = {
    report(code: string, _: string, { add }: { add?: number }) {
      if (code === 'sync.parsing.packages' && add) throw new Error('enough')
    },
  }
  await assert.rejects(discoverAt(t, upstream.url, { progress }), { message: 'enough' })
})

test('packages that are held as they are need no look at the large lists', async (t) => {
  const upstream = await serve(t, makeRepository({ packages: zoo }))
  const { units } = await discoverAt(t, upstream.url)
  const variants = new Map(units.map(({ key, variant }) => [key, variant]))
  const known = async (_: string, keys: readonly string[]) => keys.map((key) => variants.get(key))
  upstream.requests.length = 0
  const again = await discoverAt(t, upstream.url, { known, settled: true })
  assert.deepEqual(again.units, [])
  assert.deepEqual(
    again.others.filter(({ kind }) => kind === 'kept'),
    [{ kind: 'kept', type: 'rpm.package', keys: units.map(({ key }) => key) }],
  )
  assert.ok(!upstream.requests.some((path) => /filelists|other/.test(path)))
  upstream.files = makeRepository({ packages: [...zoo, { name: 'fox' }] })
  const more = await discoverAt(t, upstream.url, { known, settled: true })
  assert.deepEqual(names(more), ['fox-0:1.0-1.noarch'])
})
