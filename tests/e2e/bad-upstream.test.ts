import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type Files, pathOf, repomdOf, spoil, startGood } from './good-mirror.ts'
import { makeRepository, type MadePackage } from './made-repository.ts'
import { countOf } from './mirror.ts'
import { openFileScope } from './run.ts'
import { startServer, type TestServer } from './server.ts'

const scope = openFileScope()
let server: TestServer
before(async () => {
  server = await startServer(scope)
})

const doctype = '<!DOCTYPE metadata [<!ENTITY lol "lol"><!ENTITY lots "&lol;&lol;&lol;&lol;">]>'
const document = (text: string) => `<?xml version="1.0"?>\n${text}`
/** Much XML in a small file. */
const spaces = Buffer.alloc(1 << 20, ' ').toString()
const bomb = (start: string, end: string) => gzipSync(`${start}${spaces.repeat(320)}${end}`)

/* What an upstream may have become over night, and what must be told of it. */
const bad: Record<string, { files: (packages: Renewed) => Files; told: RegExp }> = {
  'a list of packages that is cut short': {
    files: (packages) => cut(packages, '-primary.xml'),
    told: /primary\.xml\.gz gave wrong bytes/,
  },
  'a list of packages with one bit wrong': {
    files: (packages) => spoiled(packages, '-primary.xml'),
    told: /primary\.xml\.gz gave wrong bytes/,
  },
  'a list of files with one bit wrong': {
    files: (packages) => spoiled(packages, '-filelists.xml'),
    told: /filelists\.xml\.gz gave wrong bytes/,
  },
  'a list of packages that is missing': {
    files: (packages) => without(packages, '-primary.xml'),
    told: /primary\.xml\.gz answered 404/,
  },
  'a packed file that ends in the middle, as its checksum says': {
    files: (packages) =>
      makeRepository(packages, { pack: (type, bytes) => (type === 'primary' ? bytes.subarray(0, 200) : bytes) }),
    told: /primary metadata cannot be unpacked: the gzip data is cut short/,
  },
  'an error page instead of a list of packages': {
    files: (packages) => replaced(packages, 'primary', '<html><body>502</body></html>'),
    told: /primary metadata is something else: its root element is html/,
  },
  'an entity declaration among the packages': {
    files: (packages) => replaced(packages, 'primary', document(`${doctype}<metadata packages="0">&lots;</metadata>`)),
    told: /primary metadata is not well-formed XML: .*declarations/,
  },
  'an entity declaration among the groups': {
    files: (packages) => replaced(packages, 'group', document(`${doctype}<comps>&lots;</comps>`)),
    told: /comps metadata is not well-formed XML: .*declarations/,
  },
  'an entity declaration among the advisories': {
    files: (packages) => replaced(packages, 'updateinfo', document(`${doctype}<updates>&lots;</updates>`)),
    told: /updateinfo metadata is not well-formed XML: .*declarations/,
  },
  'an error page instead of repomd.xml': {
    files: (packages) => makeRepository(packages).set('repodata/repomd.xml', Buffer.from('<html>We are sorry</html>')),
    told: /repomd/,
  },
  'a repomd.xml that names no packages': {
    files: (packages) =>
      makeRepository(packages).set('repodata/repomd.xml', Buffer.from('<repomd><revision>2</revision></repomd>')),
    told: /primary/,
  },
  '320 MiB of nothing in one package': {
    files: (packages) => bombed(packages, 'primary', '<metadata packages="1"><package>', '</package></metadata>'),
    told: /primary metadata .* more than 32 MiB/,
  },
  '320 MiB of nothing among the groups': {
    files: (packages) => bombed(packages, 'group', '<comps>', '</comps>'),
    told: /group metadata cannot be unpacked: the data is more than/,
  },
  '320 MiB of nothing among the advisories': {
    files: (packages) => bombed(packages, 'updateinfo', '<updates><update>', '</update></updates>'),
    told: /updateinfo metadata .* more than 32 MiB/,
  },
  'a package above the repository': { files: () => placed('../app-2.0.rpm'), told: /incompatible with 'mirror' sync/ },
  'a package in the root of the server': {
    files: () => placed('/etc/app-2.0.rpm'),
    told: /path "\/etc\/app-2\.0\.rpm" is absolute/,
  },
  'a package in the file system': {
    files: () => placed('file:///etc/passwd'),
    told: /file:\/\/\/etc\/passwd, which is no HTTP address/,
  },
  'metadata above the repository': {
    files: (packages) => makeRepository(packages, { hrefOf: (_, href) => `../${href}` }),
    told: /incompatible with 'mirror' sync/,
  },
  'a package whose bytes are not those that the metadata tells': {
    files: (packages) => spoiled(packages, 'app-2'),
    told: /app-2\.\w+-1\.noarch\.rpm gave wrong bytes/,
  },
  'a package that is missing': {
    files: (packages) => without(packages, 'more-1'),
    told: /more-1\.\w+-1\.noarch\.rpm answered 404/,
  },
}

type Renewed = readonly MadePackage[]

function without(packages: Renewed, part: string): Files {
  const files = makeRepository(packages)
  files.delete(pathOf(files, part))
  return files
}

function spoiled(packages: Renewed, part: string): Files {
  const files = makeRepository(packages)
  return spoil(files, pathOf(files, part))
}

function cut(packages: Renewed, part: string): Files {
  const files = makeRepository(packages)
  const path = pathOf(files, part)
  return files.set(path, files.get(path)!.subarray(0, -20))
}

const replaced = (packages: Renewed, type: string, text: string) => makeRepository(packages, { replace: { [type]: text } })
const placed = (href: string) => makeRepository([{ name: 'app', version: '2.0', href }, { name: 'lib' }])
const bombed = (packages: Renewed, type: string, start: string, end: string) =>
  makeRepository(packages, { replace: { [type]: '' }, pack: (each, bytes) => (each === type ? bomb(start, end) : bytes) })

for (const [what, { files, told }] of Object.entries(bad))
  test(`${what}: the sync fails, says so, and what was there stays`, { timeout: 60_000 }, async (t) => {
    const { name, upstream, mirror, renewed } = await startGood(t, server)
    const before = await repomdOf(server, name)
    upstream.files = files(renewed)
    await assert.rejects(mirror.sync(), (error: Error) => {
      t.diagnostic(error.message)
      assert.match(error.message, told)
      return true
    })
    assert.equal((await mirror.latest()).number, 1)
    assert.equal(await repomdOf(server, name), before)
    upstream.files = makeRepository(renewed)
    await mirror.sync()
    assert.equal(countOf(await mirror.latest(), 'rpm.package'), 3)
    assert.notEqual(await repomdOf(server, name), before)
  })

test('none of this made the server large', { skip: process.platform !== 'linux' && 'it is read from /proc' }, async () => {
  const peak = Number(/VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${server.pid()}/status`, 'utf8'))![1]) / 1024
  assert.ok(peak < 512, `${peak} MiB`)
})
