import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Task } from '../../src/api/resources.ts'
import { type Files, repomdOf, spoil, startGood } from './good-mirror.ts'
import { makeRepository } from './made-repository.ts'
import { countOf, makeMirror } from './mirror.ts'
import { openFileScope } from './run.ts'
import { getContent, startServer, type TestServer } from './server.ts'
import { type Served, serveFiles } from './upstream.ts'

const scope = openFileScope()
let server: TestServer
before(async () => {
  server = await startServer(scope)
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
    const { upstream, mirror, renewed } = await startGood(t, server)
    upstream.files = makeRepository(renewed)
    disturb(upstream, /more-1\./, Infinity, answer)
    await assert.rejects(mirror.sync(), /more-1\.\w+-1\.noarch\.rpm (answered|closed) .* twice/)
    assert.equal((await mirror.latest()).number, 1)
    disturb(upstream, /repomd\.xml$|-primary\.xml|more-1\./, 1, answer)
    await mirror.sync()
    assert.equal(countOf(await mirror.latest(), 'rpm.package'), 3)
  })

test('metadata that comes too slowly is given up', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, renewed } = await startGood(t, server, {
    remote: { max_retries: 0, total_timeout: 3, sock_read_timeout: 3 },
  })
  upstream.files = makeRepository(renewed)
  disturb(upstream, /-primary\.xml/, Infinity, async (response, bytes) => {
    response.writeHead(200, { 'content-length': bytes.length })
    for (let at = 0; at < bytes.length && !response.destroyed; at++) {
      response.write(bytes.subarray(at, at + 1))
      await sleep(200)
    }
  })
  await assert.rejects(mirror.sync(), /primary\.xml\.gz took longer than 3 s/)
  disturb(upstream, /-primary\.xml/, Infinity, () => {})
  await assert.rejects(mirror.sync(), /primary\.xml\.gz (did not answer in time|took longer than 3 s)/)
})

test('an upstream that changes while it is read is read again as a whole', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name, renewed } = await startGood(t, server)
  upstream.files = makeRepository(renewed)
  const later = makeRepository([...renewed, { name: 'latest' }])
  upstream.intercept = (path) => {
    if (path.includes('-primary.xml')) upstream.files = later
    return false
  }
  await mirror.sync()
  assert.equal(countOf(await mirror.latest(), 'rpm.package'), 4)
  assert.equal(await repomdOf(server, name), later.get('repodata/repomd.xml')!.toString())
  await everythingIsThere(name, later)
})

test('two packages of one name and version with different bytes are both served by a mirror', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, server)
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

test('a place that leads through "this directory" is where clients look for it', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, server)
  const files = makeRepository([{ name: 'app', version: '3', href: './Packages/./app.rpm' }])
  const bytes = files.get('./Packages/./app.rpm')!
  upstream.files = files.set('Packages/app.rpm', bytes)
  await mirror.sync()
  assert.deepEqual(Buffer.from(await (await getContent(server, `${name}/./Packages/./app.rpm`)).arrayBuffer()), bytes)
})

test('of two packages of one name and version a publication has the one that was built last', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, server, { sync: { sync_policy: 'mirror_content_only' } })
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

test('what is fetched on demand comes from another mirror when the one that was synced from is gone', {
  timeout: 60_000,
}, async (t) => {
  const files = makeRepository([
    { name: 'nearby', bytes: Buffer.from('nearby') },
    { name: 'distant', bytes: Buffer.from('distant') },
  ])
  const [first, second, list] = [await serveFiles(t, files), await serveFiles(t, files), await serveFiles(t, new Map())]
  const tell = (...mirrors: { url: string }[]) =>
    (list.files = new Map([['mirrors', Buffer.from(mirrors.map(({ url }) => `${url}\n`).join(''))]]))
  tell(first, second)
  const mirror = await makeMirror(server, {
    name: 'mirrored',
    url: `${list.url}mirrors`,
    remote: { policy: 'on_demand', max_retries: 0 },
    sync: { sync_policy: 'mirror_complete' },
  })
  await mirror.sync()
  await mirror.distribute('mirrored')
  const [nearby, distant] = [...files.keys()].filter((path) => path.endsWith('.rpm'))
  const isServed = async (path: string) => {
    const answer = await getContent(server, `mirrored/${path}`)
    assert.deepEqual([answer.status, Buffer.from(await answer.arrayBuffer())], [200, files.get(path)])
  }
  first.files = new Map()
  await isServed(nearby!)
  assert.ok(second.requests.includes(`/${nearby}`))
  // The list forgets the mirror that was synced from: what was found there is still looked for at the others.
  tell(second)
  await mirror.sync({ optimize: false })
  await isServed(distant!)
})

test('wrong bytes that come on demand never end as a success', { timeout: 60_000 }, async (t) => {
  const { upstream, mirror, name } = await startGood(t, server, { remote: { policy: 'on_demand', max_retries: 0 } })
  const large = Buffer.alloc(12 << 20, 'a large package')
  const files = makeRepository([
    { name: 'small', version: '9' },
    { name: 'large', version: '9', bytes: large },
  ])
  upstream.files = files
  await mirror.sync()
  const right = new Map(files)
  for (const path of ['Packages/small-9-1.noarch.rpm', 'Packages/large-9-1.noarch.rpm']) spoil(files, path)
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
  const { upstream, mirror, renewed } = await startGood(t, server)
  upstream.files = makeRepository(renewed)
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
  for (let tries = 0; tries < 800; tries++) {
    if (await condition()) return
    await sleep(50)
  }
  throw new Error('It did not happen within 40 s.')
}
