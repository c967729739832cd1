import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type IncomingHttpHeaders, request } from 'node:http'
import { rm, truncate, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { forEachDatabase, type OpenTestDatabase } from '../../../tests/databases.ts'
import {
  addBlob,
  addDistribution,
  addFile,
  addMember,
  addPublication,
  addRepository,
  addSource,
  listen,
  openTestCtx,
  sha256,
} from '../../../tests/serving.ts'
import { createGuard } from '../../core/access/guard-resources.ts'
import { type ContentHandler, openContentHandler } from './handler.ts'

const large = randomBytes(12 * 1024 * 1024)

forEachDatabase((engine, open) => {
  test(`${engine}: a file is answered with Pulp's headers, from memory the second time`, async (t) => {
    const { get, head } = await start(t, open)
    const first = await get('d/dir/a.txt')
    assert.equal(first.status, 200)
    assert.equal(first.body.toString(), 'hello')
    const expected = {
      'content-type': 'text/plain',
      'content-length': '5',
      etag: `"${sha256('hello')}"`,
      'accept-ranges': 'bytes',
      'x-pulp-artifact-size': '5',
      'x-content-type-options': 'nosniff',
    }
    assert.deepEqual(pick(first.headers, expected), expected)
    assert.ok(Math.abs(Date.parse(first.headers['last-modified']!) - Date.now()) < 60_000)
    assert.equal(first.headers['x-pulp-cache'], 'MISS')
    const second = await get('d/dir/a.txt')
    assert.equal(second.body.toString(), 'hello')
    assert.equal(second.headers['x-pulp-cache'], 'HIT')
    assert.deepEqual(pick(second.headers, expected), expected)
    assert.equal((await get('d/dir/%61.txt?x=1')).headers['x-pulp-cache'], 'HIT')
    const third = await head('d/dir/a.txt')
    assert.deepEqual([third.status, third.headers['content-length'], third.body.length], [200, '5', 0])
  })

  test(`${engine}: what was remembered is forgotten when something changes`, async (t) => {
    const { ctx, get } = await start(t, open)
    await get('d/dir/a.txt')
    await ctx.db.updateTable('distribution').set({ base_path: 'moved' }).where('base_path', '=', 'd').execute()
    ctx.changes.bump()
    assert.equal((await get('d/dir/a.txt')).status, 404)
    assert.equal((await get('moved/dir/a.txt')).body.toString(), 'hello')
  })

  test(`${engine}: parts and conditions are honoured, of small and large files`, async (t) => {
    const { get, head } = await start(t, open)
    for (const [path, bytes] of [
      ['d/dir/a.txt', Buffer.from('hello')],
      ['d/large.iso', large],
    ] as const) {
      for (let round = 0; round < 2; round++) {
        assert.ok((await get(path)).body.equals(bytes))
        const part = await get(path, { range: 'bytes=1-3' })
        assert.equal(part.status, 206)
        assert.equal(part.headers['content-range'], `bytes 1-3/${bytes.length}`)
        assert.ok(part.body.equals(bytes.subarray(1, 4)))
        assert.ok((await get(path, { range: 'bytes=-2' })).body.equals(bytes.subarray(-2)))
        const past = await get(path, { range: `bytes=${bytes.length}-` })
        assert.deepEqual([past.status, past.headers['content-range'], past.body.length], [416, `bytes */${bytes.length}`, 0])
        const same = await get(path, { 'if-none-match': `"${sha256(bytes)}"` })
        assert.deepEqual([same.status, same.body.length, same.headers.etag], [304, 0, `"${sha256(bytes)}"`])
        const { headers } = await head(path)
        assert.equal((await get(path, { 'if-modified-since': headers['last-modified']! })).status, 304)
        assert.equal((await get(path, { 'if-match': '"x"' })).status, 412)
        assert.equal((await head(path, { range: 'bytes=1-3' })).status, 206)
      }
    }
  })

  test(`${engine}: a cache on the way has to ask whether a file or a directory is still the same`, async (t) => {
    const { get } = await start(t, open)
    for (const path of ['d/dir/a.txt', 'd/', 'd/dir/', ''])
      for (let round = 0; round < 2; round++) assert.equal((await get(path)).headers['cache-control'], 'no-cache', path)
  })

  test(`${engine}: an empty file is served`, async (t) => {
    const { get } = await start(t, open)
    for (let round = 0; round < 2; round++) {
      const { status, headers, body } = await get('d/empty')
      assert.deepEqual([status, headers['content-length'], body.length], [200, '0', 0])
    }
  })

  test(`${engine}: pages that others wrote cannot act as this server's own`, async (t) => {
    const { get } = await start(t, open)
    const { headers } = await get('d/page.html')
    assert.equal(headers['content-type'], 'text/html')
    assert.equal(headers['content-security-policy'], 'sandbox')
    assert.equal((await get('d/dir/a.txt')).headers['content-security-policy'], undefined)
  })

  test(`${engine}: directories are listed, and need their slash`, async (t) => {
    const { get, head } = await start(t, open)
    const page = await get('d/')
    assert.equal(page.headers['content-type'], 'text/html; charset=utf-8')
    assert.match(page.headers['content-security-policy'] as string, /default-src 'none'/)
    assert.match(
      page.body.toString(),
      /<title>Index of \/pulp\/content\/d\/<\/title>[^]*<a href="dir\/">dir\/<\/a>[^]*<a href="large.iso">/,
    )
    assert.deepEqual([(await head('d/')).status, (await head('d/')).body.length], [200, 0])
    for (const path of ['d', 'd/dir']) {
      const { status, headers, body } = await get(path)
      assert.deepEqual([status, headers.location, body.toString()], [301, `/pulp/content/${path}/`, '301: Moved Permanently'])
    }
  })

  test(`${engine}: what is not there is 404, other methods are 405`, async (t) => {
    const { get, fetchPath, origin } = await start(t, open)
    for (const path of [
      'd/nosuch',
      'nosuch',
      'd/dir/a.txt/',
      'd//dir/a.txt',
      'd/x/../dir/a.txt',
      'd/dir%2fa.txt',
      'd/%2e%2e/d/dir/a.txt',
      'd/a%00',
    ]) {
      const { status, headers, body } = await get(path)
      assert.deepEqual(
        [status, headers['content-type'], body.toString()],
        [404, 'text/plain; charset=utf-8', '404: Not Found'],
        path,
      )
    }
    const posted = await fetchPath('/pulp/content/d/dir/a.txt', 'POST')
    assert.deepEqual([posted.status, posted.headers.allow, posted.body.toString()], [405, 'GET,HEAD', '405: Method Not Allowed'])
    assert.equal((await fetchPath('/pulp/content')).headers.location, '/pulp/content/')
    assert.equal((await fetchPath('/elsewhere')).body.toString(), 'not content')
    assert.equal((await fetchPath('/pulp/contents/d')).body.toString(), 'not content')
    assert.match(
      await raw(origin, 'GET http://evil.example/pulp/content/d/dir/a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
      /^HTTP\/1.1 400 /,
    )
  })

  test(`${engine}: a guard is asked before the path, and refuses as Pulp does`, async (t) => {
    const { ctx, get } = await start(t, open)
    const settings = { header_name: 'X-Key', header_value: 'open sesame' }
    const guard = await createGuard(ctx, 'core.header', { name: 'g', settings }, null)
    const rbac = await createGuard(ctx, 'core.rbac', { name: 'r' }, null)
    await ctx.db.updateTable('distribution').set({ guard_id: guard.id }).where('base_path', '=', 'd').execute()
    await addDistribution(ctx, 'rbac', { guard_id: rbac.id })
    const key = { 'x-key': Buffer.from('open sesame').toString('base64') }
    for (let round = 0; round < 2; round++) {
      for (const path of ['d/dir/a.txt', 'd/nosuch', 'd', 'd/']) {
        const { status, headers, body } = await get(path)
        assert.deepEqual([status, body.toString(), headers['www-authenticate']], [403, '403: Access denied.', undefined], path)
      }
      const file = await get('d/dir/a.txt', key)
      assert.deepEqual([file.body.toString(), file.headers['cache-control']], ['hello', 'private'])
      assert.equal((await get('d/large.iso', { ...key, range: 'bytes=0-1' })).headers['cache-control'], 'private')
      assert.equal((await get('d/', key)).headers['cache-control'], 'no-cache')
      assert.equal((await get('d/nosuch', key)).status, 404)
      assert.equal((await get('rbac/x', key)).body.toString(), '403: Authentication credentials were not provided.')
    }
    assert.equal((await get('d/dir/a.txt', key)).headers['x-pulp-cache'], 'HIT')
    assert.equal((await get('d/dir/a.txt', { 'x-key': 'no' })).status, 403)
    // Who may not read it need not know that it is there.
    assert.deepEqual(links(await get('')), ['open/'])
    assert.deepEqual(links(await get('', key)), ['d/', 'open/'])
    assert.equal((await get('open')).status, 301)
    assert.deepEqual(links(await get('open/')), ['../', 'one/', 'two/'])
  })

  test(`${engine}: a file that is upstream is fetched, then comes from the store`, async (t) => {
    const { ctx, get, head, repository } = await start(t, open)
    let requests = 0
    const origin = await listen(t, (_, res) => res.end(++requests && large))
    const { id, contentId } = await addFile(ctx, 'up.rpm', { size: large.length, checksum: `sha256:${sha256(large)}` })
    await addMember(ctx, repository, contentId)
    await addSource(ctx, id, `${origin}/up.rpm`)

    const before = await head('d/up.rpm')
    assert.deepEqual(
      [before.status, before.headers['content-length'], before.headers.etag],
      [200, String(large.length), `"${sha256(large)}"`],
    )
    assert.equal((await get('d/up.rpm', { 'if-none-match': before.headers.etag! })).status, 304)
    assert.equal(requests, 0)
    const [whole, again] = await Promise.all([get('d/up.rpm'), get('d/up.rpm', { range: 'bytes=100-199' })])
    assert.ok(whole.body.equals(large))
    assert.deepEqual([again.status, again.headers['content-range']], [206, `bytes 100-199/${large.length}`])
    assert.ok(again.body.equals(large.subarray(100, 200)))
    assert.ok((await get('d/up.rpm')).body.equals(large))
    assert.equal(requests, 1)
  })

  test(`${engine}: wrong bytes from upstream never end as a success`, async (t) => {
    const { ctx, get, repository } = await start(t, open)
    const wrong = Buffer.from(large)
    wrong[wrong.length - 1]! ^= 1
    wrong[500]! ^= 1
    for (const [path, body, size] of [
      ['large', wrong, large.length],
      ['short', large.subarray(0, -1), large.length],
      ['small', wrong.subarray(0, 1000), 1000],
    ] as const) {
      const origin = await listen(t, (_, res) => void res.writeHead(200, { 'transfer-encoding': 'chunked' }).end(body))
      const { id, contentId } = await addFile(ctx, path, { size, checksum: `sha256:${sha256(large.subarray(0, size))}` })
      await addMember(ctx, repository, contentId)
      await addSource(ctx, id, `${origin}/x`, 'on_demand', { max_retries: 0 })
      if (path === 'small') assert.equal((await get(`d/${path}`)).status, 502)
      else await assert.rejects(get(`d/${path}`), { code: 'ECONNRESET' })
      const after = await get(`d/${path}`, { range: 'bytes=0-9' })
      assert.deepEqual([after.status, after.body.toString()], [502, '502: Bad Gateway'])
    }
  })

  test(`${engine}: readers side by side get their own bytes, whoever breaks off`, async (t) => {
    const { get, origin } = await start(t, open)
    const breakOff = async (after: number) => {
      const socket = connect(Number(new URL(origin).port), '127.0.0.1')
      socket.write('GET /pulp/content/d/large.iso HTTP/1.1\r\nHost: x\r\n\r\n')
      let length = 0
      for await (const chunk of socket) if ((length += chunk.length) > after) break
    }
    const ranges = Array.from({ length: 12 }, (_, index) => ({ start: index * 500_000, end: large.length - 1 - index * 100_000 }))
    const reads = ranges.map(async ({ start, end }) => {
      const { body } = await get('d/large.iso', { range: `bytes=${start}-${end}` })
      assert.ok(body.equals(large.subarray(start, end + 1)))
    })
    await Promise.all([...reads, ...[1, 300_000, 2_000_000, 9_000_000].map(breakOff)])
  })

  test(`${engine}: what has lost its bytes is fetched from its source, and stored again`, async (t) => {
    const { ctx, repository, get } = await start(t, open)
    const good = new Map([
      ['small', Buffer.from('a small one\n')],
      ['large', large.subarray(0, 1_000_000)],
      ['cut', large.subarray(1_000_000, 2_000_000)],
      ['altered', Buffer.from('as it should be\n')],
    ])
    let requests = 0
    const origin = await listen(t, (req, res) => {
      requests++
      res.end(good.get(req.url!.slice(1)))
    })
    for (const [name, bytes] of good) {
      const { id, contentId } = await addFile(ctx, name, { blobId: await addBlob(ctx, bytes), size: bytes.length })
      await addMember(ctx, repository, contentId)
      await addSource(ctx, id, `${origin}/${name}`, 'streamed')
      const stored = join(ctx.config.dataDirectory, 'blobs/sha256', sha256(bytes).slice(0, 2), sha256(bytes).slice(2))
      if (name === 'cut') await truncate(stored, 400_000)
      else if (name === 'altered') await writeFile(stored, 'as it shouldn’t')
      else await rm(stored)
    }
    ctx.changes.bump()
    for (const [name, bytes] of good) {
      const part = await get(`d/${name}`, { range: 'bytes=2-9' })
      assert.deepEqual([part.status, String(part.body)], [206, String(bytes.subarray(2, 10))], name)
      const isStored = async () => (await buffer(await ctx.blobs.open(sha256(bytes)))).equals(bytes)
      while (!(await isStored().catch(() => false))) await sleep(10)
      const all = await Promise.all([get(`d/${name}`), get(`d/${name}`)])
      for (const { status, body, headers } of all)
        assert.deepEqual([status, sha256(body), headers.etag], [200, sha256(bytes), `"${sha256(bytes)}"`], name)
    }
    assert.equal(requests, good.size)
  })

  test(`${engine}: what has lost its bytes and has no source is an error that the log names`, async (t) => {
    const { ctx, get } = await start(t, open)
    const logged: string[] = []
    Object.assign(ctx, { log: pino({ level: 'error' }, { write: (line) => void logged.push(line) }) })
    await ctx.blobs.delete(sha256('hello'))
    await ctx.blobs.delete(sha256(large))
    for (const path of ['d/dir/a.txt', 'd/large.iso']) {
      assert.equal((await get(path)).status, 500)
      assert.ok(logged.pop()!.includes(`the stored bytes of ${path.slice(2)} (sha256:`))
    }
    await addBlob(ctx, 'hello')
    assert.equal((await get('d/dir/a.txt')).status, 200)
  })

  test(`${engine}: a reader that goes away, or hardly reads, harms nobody`, async (t) => {
    const { origin, get } = await start(t, open)
    const before = process.memoryUsage().arrayBuffers
    const sockets = Array.from({ length: 40 }, () => {
      const socket = connect(Number(new URL(origin).port), '127.0.0.1')
      socket.pause()
      socket.write('GET /pulp/content/d/large.iso HTTP/1.1\r\nHost: x\r\n\r\n')
      return socket
    })
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.ok(process.memoryUsage().arrayBuffers - before < 40 * 3 * 1024 * 1024)
    for (const socket of sockets) socket.destroy()
    assert.ok((await get('d/large.iso')).body.equals(large))
  })
})

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

/** A server with a published repository at `d`, and others around it. */
async function start(t: TestContext, open: OpenTestDatabase) {
  // What is under way ends before its database does: hooks run in the order of their registration.
  const opened: ContentHandler[] = []
  t.after(() => opened[0]?.[Symbol.asyncDispose]())
  const ctx = await openTestCtx(t, await open(t))
  const { id: repository, versions } = await addRepository(ctx)
  const files = { 'dir/a.txt': 'hello', empty: '', 'page.html': '<script>alert(1)</script>' }
  const publication_id = await addPublication(ctx, { repositoryId: repository, versionId: versions[1]!, files })
  const iso = await addFile(ctx, 'large.iso', { blobId: await addBlob(ctx, large) })
  await addMember(ctx, repository, iso.contentId)
  await addDistribution(ctx, 'd', { publication_id })
  await addDistribution(ctx, 'open/one', {})
  await addDistribution(ctx, 'open/two', {})
  await addDistribution(ctx, 'hidden', { hidden: 1 })

  const content = openContentHandler(ctx)
  opened.push(content)
  const origin = await listen(t, (req, res) => content.handle(req, res) || res.end('not content'))

  function fetchPath(path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = request(origin, { path, method, headers }, (res) => {
        buffer(res).then((body) => resolve({ status: res.statusCode!, headers: res.headers, body }), reject)
      })
      sent.on('error', reject)
      sent.end()
    })
  }
  const get = (path: string, headers?: Record<string, string>) => fetchPath(`/pulp/content/${path}`, 'GET', headers)
  const head = (path: string, headers?: Record<string, string>) => fetchPath(`/pulp/content/${path}`, 'HEAD', headers)
  return { ctx, repository, origin, fetchPath, get, head }
}

function pick(headers: IncomingHttpHeaders, like: object): object {
  return Object.fromEntries(Object.keys(like).map((name) => [name, headers[name]]))
}

function links({ body }: Answer): string[] {
  return [...body.toString().matchAll(/href="([^"]*)"/g)].map(([, href]) => href!)
}

async function raw(origin: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(origin).port), '127.0.0.1')
  socket.write(bytes)
  return text(socket)
}
