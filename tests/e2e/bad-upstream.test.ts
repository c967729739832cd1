import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { before, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import type { Task } from '../../src/api/resources.ts'
import { makeRepository, type MadePackage } from './made-repository.ts'
import { countOf, makeMirror } from './mirror.ts'
import { openFileScope } from './run.ts'
import { getContent, startServer, type TestServer } from './server.ts'
import { serveFiles, type Served } from './upstream.ts'

const scope = openFileScope()
let server: TestServer
before(async () => {
  server = await startServer(scope)
})

let serial = 0
const old: MadePackage[] = [{ name: 'app' }, { name: 'lib' }]
/** Other packages in each test: what the server has, it does not ask for again. */
const renewed = (): MadePackage[] => [
  { name: 'app', version: `2.${serial}` },
  { name: 'lib' },
  { name: 'more', version: `1.${serial}` },
]
type Files = Map<string, Buffer>

const pathOf = (files: Files, type: string) => [...files.keys()].find((path) => path.includes(`-${type}.xml`))!
const change = (files: Files, path: string, by: (bytes: Buffer) => Buffer) => files.set(path, by(files.get(path)!))
const flipped = (bytes: Buffer) => Buffer.from(bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 1 : byte)))
const doctype = '<!DOCTYPE metadata [<!ENTITY lol "lol"><!ENTITY lots "&lol;&lol;&lol;&lol;">]>'
const document = (text: string) => `<?xml version="1.0"?>\n${text}`
/** Much XML in a small file. */
const spaces = Buffer.alloc(1 << 20, ' ').toString()
const bomb = (start: string, end: string) => gzipSync(`${start}${spaces.repeat(320)}${end}`)

/* What an upstream may have become over night, and what must be told of it. */
const bad: Record<string, { files: () => Files; told: RegExp }> = {
  'a list of packages that is cut short': {
    files: () => broken('primary', (bytes) => bytes.subarray(0, bytes.length - 20)),
    told: /primary\.xml\.gz gave wrong bytes/,
  },
  'a list of packages with one bit wrong': { files: () => broken('primary', flipped), told: /primary\.xml\.gz gave wrong bytes/ },
  'a list of files with one bit wrong': {
    files: () => broken('filelists', flipped),
    told: /filelists\.xml\.gz gave wrong bytes/,
  },
  'a list of packages that is missing': { files: () => without('primary'), told: /primary\.xml\.gz answered 404/ },
  'a packed file that ends in the middle, as its checksum says': {
    files: () => makeRepository(renewed(), { pack: (type, bytes) => (type === 'primary' ? bytes.subarray(0, 200) : bytes) }),
    told: /primary metadata cannot be unpacked: the gzip data is cut short/,
  },
  'an error page instead of a list of packages': {
    files: () => replaced('primary', '<html><body>502</body></html>'),
    told: /primary metadata is something else: its root element is html/,
  },
  'an entity declaration among the packages': {
    files: () => replaced('primary', document(`${doctype}<metadata packages="0">&lots;</metadata>`)),
    told: /primary metadata is not well-formed XML: .*declarations/,
  },
  'an entity declaration among the groups': {
    files: () => replaced('group', document(`${doctype}<comps>&lots;</comps>`)),
    told: /comps metadata is not well-formed XML: .*declarations/,
  },
  'an entity declaration among the advisories': {
    files: () => replaced('updateinfo', document(`${doctype}<updates>&lots;</updates>`)),
    told: /updateinfo metadata is not well-formed XML: .*declarations/,
  },
  'an error page instead of repomd.xml': {
    files: () => makeRepository(renewed()).set('repodata/repomd.xml', Buffer.from('<html>We are sorry</html>')),
    told: /repomd/,
  },
  'a repomd.xml that names no packages': {
    files: () => makeRepository(renewed()).set('repodata/repomd.xml', Buffer.from('<repomd><revision>2</revision></repomd>')),
    told: /primary/,
  },
  '320 MiB of nothing in one package': {
    files: () => bombed('primary', '<metadata packages="1"><package>', '</package></metadata>'),
    told: /primary metadata .* more than 32 MiB/,
  },
  '320 MiB of nothing among the groups': {
    files: () => bombed('group', '<comps>', '</comps>'),
    told: /group metadata cannot be unpacked: the data is more than/,
  },
  '320 MiB of nothing among the advisories': {
    files: () => bombed('updateinfo', '<updates><update>', '</update></updates>'),
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
    files: () => makeRepository(renewed(), { hrefOf: (_, href) => `../${href}` }),
    told: /incompatible with 'mirror' sync/,
  },
  'a package whose bytes are not those that the metadata tells': {
    files: () => {
      const files = makeRepository(renewed())
      return change(files, `Packages/app-2.${serial}-1.noarch.rpm`, flipped)
    },
    told: /app-2\.\d+-1\.noarch\.rpm gave wrong bytes/,
  },
  'a package that is missing': {
    files: () => {
      const files = makeRepository(renewed())
      files.delete(`Packages/more-1.${serial}-1.noarch.rpm`)
      return files
    },
    told: /more-1\.\d+-1\.noarch\.rpm answered 404/,
  },
}

function broken(type: string, by: (bytes: Buffer) => Buffer): Files {
  const files = makeRepository(renewed())
  return change(files, pathOf(files, type), by)
}

function without(type: string): Files {
  const files = makeRepository(renewed())
  files.delete(pathOf(files, type))
  return files
}

const replaced = (type: string, text: string) => makeRepository(renewed(), { replace: { [type]: text } })
const placed = (href: string) => makeRepository([{ name: 'app', version: '2.0', href }, { name: 'lib' }])
const bombed = (type: string, start: string, end: string) =>
  makeRepository(renewed(), { replace: { [type]: '' }, pack: (each, bytes) => (each === type ? bomb(start, end) : bytes) })

/** A mirror of a good upstream, synced once and served. */
async function startGood(t: TestContext, settings: { remote?: object; sync?: object } = {}) {
  const name = `bad-${++serial}`
  const upstream = await serveFiles(t, makeRepository(old))
  const remote = { max_retries: 1, ...settings.remote }
  const mirror = await makeMirror(server, {
    name,
    url: upstream.url,
    remote,
    sync: { sync_policy: 'mirror_complete', ...settings.sync },
  })
  await mirror.sync()
  if (!(await mirror.findPublication())) await mirror.publish()
  await mirror.distribute(name, { publication: null, repository: mirror.repository.pulp_href })
  return { name, upstream, mirror }
}

const repomdOf = async (name: string) => (await getContent(server, `${name}/repodata/repomd.xml`)).text()

for (const [what, { files, told }] of Object.entries(bad))
  test(`${what}: the sync fails, says so, and what was there stays`, { timeout: 60_000 }, async (t) => {
    const { name, upstream, mirror } = await startGood(t)
    const before = await repomdOf(name)
    upstream.files = files()
    await assert.rejects(mirror.sync(), (error: Error) => {
      t.diagnostic(error.message)
      assert.match(error.message, told)
      return true
    })
    assert.equal((await mirror.latest()).number, 1)
    assert.equal(await repomdOf(name), before)
    upstream.files = makeRepository(renewed())
    await mirror.sync()
    assert.equal(countOf(await mirror.latest(), 'rpm.package'), 3)
    assert.notEqual(await repomdOf(name), before)
  })

test('none of this made the server large', { skip: process.platform !== 'linux' && 'it is read from /proc' }, async () => {
  const peak = Number(/VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${server.pid()}/status`, 'utf8'))![1]) / 1024
  assert.ok(peak < 512, `${peak} MiB`)
})

/** Answers in some other way for the paths that match, as often as told. */
function disturb(upstream: Served, path: RegExp, times: number, answer: (response: ServerResponse, bytes: Buffer) => void): void {
  let left = times
  upstream.intercept = (asked, response) => {
    const bytes = (upstream.files as Files).get(asked.slice(1))
    if (!path.test(asked) || !bytes || left-- <= 0) return false
    answer(response, bytes)
    return true
  }
}

const passing: Record<string, (response: ServerResponse, bytes: Buffer) => void> = {
  'an answer 500': (response) => response.writeHead(500).end(),
  'an answer 429 that asks to wait': (response) => response.writeHead(429, { 'retry-after': '1' }).end(),
  'a closed connection': (response) => response.destroy(),
  'a connection that closes in the middle': (response, bytes) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy())
  },
}

for (const [what, answer] of Object.entries(passing))
  test(`${what} once is got over; always, it is told`, { timeout: 60_000 }, async (t) => {
    const { upstream, mirror } = await startGood(t)
    upstream.files = makeRepository(renewed())
    disturb(upstream, /more-1\./, Infinity, answer)
    await assert.rejects(mirror.sync(), /more-1\.\d+-1\.noarch\.rpm (answered|closed) .* twice/)
    assert.equal((await mirror.latest()).number, 1)
    disturb(upstream, /repomd\.xml$|-primary\.xml|more-1\./, 1, answer)
    await mirror.sync()
    assert.equal(countOf(await mirror.latest(), 'rpm.package'), 3)
  })

test('metadata that comes too slowly is given up', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror } = await startGood(t, { remote: { max_retries: 0, total_timeout: 1, sock_read_timeout: 1 } })
  upstream.files = makeRepository(renewed())
  disturb(upstream, /-primary\.xml/, Infinity, async (response, bytes) => {
    response.writeHead(200, { 'content-length': bytes.length })
    for (let at = 0; at < bytes.length && !response.destroyed; at++) {
      response.write(bytes.subarray(at, at + 1))
      await sleep(100)
    }
  })
  await assert.rejects(mirror.sync(), /primary\.xml\.gz took longer than 1 s/)
  disturb(upstream, /-primary\.xml/, Infinity, () => {})
  await assert.rejects(mirror.sync(), /primary\.xml\.gz (did not answer in time|took longer than 1 s)/)
})

test('an upstream that changes while it is read is read again as a whole', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t)
  upstream.files = makeRepository(renewed())
  const later = makeRepository([...renewed(), { name: 'latest' }])
  upstream.intercept = (path) => {
    if (path.includes('-primary.xml')) upstream.files = later
    return false
  }
  await mirror.sync()
  assert.equal(countOf(await mirror.latest(), 'rpm.package'), 4)
  assert.equal(await repomdOf(name), later.get('repodata/repomd.xml')!.toString())
  await everythingIsThere(name, later)
})

test('two packages of one name and version with different bytes are both served by a mirror', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t)
  const twins = makeRepository([
    { name: 'app', bytes: Buffer.from('one'), href: 'a/app-1.0-1.noarch.rpm' },
    { name: 'app', bytes: Buffer.from('two'), href: 'b/app-1.0-1.noarch.rpm', built: 1_800_000_000 },
    { name: 'lib', href: 'a/lib-1.0-1.noarch.rpm' },
    { name: 'lib', href: 'b/lib-1.0-1.noarch.rpm' },
  ])
  upstream.files = twins
  await mirror.sync()
  await everythingIsThere(name, twins)
})

test('of two packages of one name and version a publication has the one that was built last', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, { sync: { sync_policy: 'mirror_content_only' } })
  upstream.files = makeRepository([
    { name: 'app', bytes: Buffer.from('new'), href: 'b/app-1.0-1.noarch.rpm', built: 1_800_000_000 },
    { name: 'app', bytes: Buffer.from('old'), href: 'a/app-1.0-1.noarch.rpm' },
  ])
  await mirror.sync()
  await mirror.publish()
  assert.equal(await (await getContent(server, `${name}/Packages/a/app-1.0-1.noarch.rpm`)).text(), 'new')
})

/** All files of an upstream are served as they are. */
async function everythingIsThere(name: string, files: Files): Promise<void> {
  for (const [path, bytes] of files) {
    const answer = await getContent(server, `${name}/${path}`)
    assert.equal(answer.status, 200, path)
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes, path)
  }
}

test('wrong bytes that come on demand never end as a success', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, { remote: { policy: 'on_demand', max_retries: 0 } })
  const large = Buffer.alloc(12 << 20, 'a large package')
  const files = makeRepository([
    { name: 'small', version: '9' },
    { name: 'large', version: '9', bytes: large },
  ])
  upstream.files = files
  await mirror.sync()
  const right = new Map(files)
  for (const path of ['Packages/small-9-1.noarch.rpm', 'Packages/large-9-1.noarch.rpm']) change(files, path, flipped)
  for (const each of ['small', 'large']) {
    const path = `${name}/Packages/${each}-9-1.noarch.rpm`
    await assert.rejects(async () => {
      const answer = await getContent(server, path)
      if (answer.status !== 200) throw new Error(`answered ${answer.status}`)
      await answer.arrayBuffer()
    })
  }
  upstream.files = right
})

test('a sync that is canceled leaves nothing behind', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror } = await startGood(t)
  upstream.files = makeRepository(renewed())
  disturb(upstream, /more-1\./, Infinity, () => {})
  const { task } = await server.api.post<{ task: string }>(`${mirror.repository.pulp_href}sync/`, {
    sync_policy: 'mirror_complete',
  })
  await until(async () => upstream.requests.some((path) => path.includes('more-1.')))
  await server.api.update<Task>(task, { state: 'canceled' })
  await until(async () => (await server.api.get<Task>(task)).state === 'canceled')
  assert.equal((await mirror.latest()).number, 1)
  upstream.intercept = undefined
  await mirror.sync()
  assert.equal((await mirror.latest()).number, 2)
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await condition()) return
    await sleep(50)
  }
  throw new Error('It did not happen within 10 s.')
}
