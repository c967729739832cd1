import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type RequestListener, request, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../../lib/failure.ts'
import { openFsBlobs } from '../../store/fs.ts'
import { openFetcher, showUrl, type Upstream, UpstreamFailure } from './fetch.ts'
import type { Access } from './remotes.ts'

const bytes = randomBytes(3_000_000)
const checksum = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const good = { size: bytes.length, checksum }

async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** An HTTP server on loopback. Returns the URL of a file there. */
async function serve(t: TestContext, listener: RequestListener, path = '/file.bin'): Promise<URL> {
  return new URL(`http://127.0.0.1:${await listen(t, createServer(listener))}${path}`)
}

/** Answers one request after the other, and the last answer for ever; says how many came. */
function inTurn(...listeners: RequestListener[]) {
  let count = 0
  const listener: RequestListener = (request, response) => {
    const answer = listeners[Math.min(count++, listeners.length - 1)]!
    answer(request, response)
  }
  return { listener, count: () => count }
}

function answer(status: number, headers: Record<string, string> = {}): RequestListener {
  return (_request, response) => response.writeHead(status, headers).end('no')
}

const sendAll: RequestListener = (_request, response) => response.writeHead(200, { 'content-length': bytes.length }).end(bytes)

interface Setting extends Partial<Access> {
  slow?: number
}

/** An upstream whose blobs go with the test, which checks that no download left anything behind. */
async function open(t: TestContext, url: URL, { slow = 30_000, ...access }: Setting = {}): Promise<Upstream> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-fetch-'))
  const blobs = await openFsBlobs(directory)
  const upstream = openFetcher({ blobs, patience: { pause: 20, slow } }).open({ url: new URL('.', url).href, ...access })
  t.after(async () => {
    await upstream[Symbol.asyncDispose]()
    const left = await readdir(join(directory, 'tmp'))
    await rm(directory, { recursive: true })
    assert.deepEqual(left, [])
  })
  return upstream
}

async function downloaded(upstream: Upstream, urls: URL[], expected = good, signal?: AbortSignal): Promise<Buffer> {
  await using staged = await upstream.download(urls, expected, signal)
  return buffer(staged.open())
}

function upstreamFailure(message: RegExp, notFound = false) {
  return (error: unknown) => {
    assert.ok(error instanceof UpstreamFailure, String(error))
    assert.match(error.message, message)
    assert.equal(error.notFound, notFound)
    return true
  }
}

function integrityFailure(message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === 'integrity', String(error))
    assert.match(error.message, message)
    return true
  }
}

test('a file is downloaded, verified and staged', async (t) => {
  const url = await serve(t, sendAll)
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
})

test('a request asks for the bytes as they are, and says who asks', async (t) => {
  const seen = Promise.withResolvers<Record<string, unknown>>()
  const url = await serve(t, (request, response) => {
    seen.resolve(request.headers)
    response.end('x')
  })
  await (await open(t, url)).read([url])
  const headers = await seen.promise
  assert.equal(headers['accept-encoding'], 'identity')
  assert.equal(headers['user-agent'], 'Signalbox')
  assert.equal(headers.authorization, undefined)
})

test('a small file is read into memory, with the mirror that had it', async (t) => {
  const missing = await serve(t, answer(404))
  const url = await serve(t, (_request, response) => response.end('hello'))
  const upstream = await open(t, url)
  assert.deepEqual(await upstream.read([missing, url], { size: 5 }), { bytes: Buffer.from('hello'), url })
  await assert.rejects(upstream.read([url], { limit: 4 }), integrityFailure(/4 bytes/))
  await assert.rejects(upstream.read([url], { checksum: `md5:${'0'.repeat(32)}` }), integrityFailure(/md5/))
})

for (const status of [404, 410])
  test(`${status} is not tried again, and is told apart`, async (t) => {
    const { listener, count } = inTurn(answer(status))
    const url = await serve(t, listener)
    await assert.rejects(downloaded(await open(t, url), [url]), upstreamFailure(RegExp(`/file.bin answered ${status}\\.`), true))
    assert.equal(count(), 1)
  })

for (const status of [400, 401, 403, 501])
  test(`${status} is not tried again`, async (t) => {
    const { listener, count } = inTurn(answer(status))
    const url = await serve(t, listener)
    await assert.rejects(downloaded(await open(t, url), [url]), upstreamFailure(RegExp(`answered ${status}\\.`)))
    assert.equal(count(), 1)
  })

test('a passing error is tried again', async (t) => {
  const { listener, count } = inTurn(answer(500), answer(502), sendAll)
  const url = await serve(t, listener)
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
  assert.equal(count(), 3)
})

test('an error that does not pass is reported with the number of tries', async (t) => {
  const { listener, count } = inTurn(answer(503))
  const url = await serve(t, listener)
  await assert.rejects(
    downloaded(await open(t, url, { retries: 2 }), [url]),
    upstreamFailure(/file\.bin answered 503 three times\./),
  )
  assert.equal(count(), 3)
})

for (const [name, value] of [
  ['seconds', () => '1'],
  ['a date', () => new Date(Date.now() + 2000).toUTCString()],
] as const)
  test(`Retry-After is honoured as ${name}`, async (t) => {
    const { listener } = inTurn((request, response) => answer(429, { 'retry-after': value() })(request, response), sendAll)
    const url = await serve(t, listener)
    const begin = performance.now()
    assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
    assert.ok(performance.now() - begin >= 950)
  })

test('a refused connection is an upstream failure that names host and reason', async (t) => {
  const url = await serve(t, sendAll)
  const port = Number(url.port)
  const closed = new URL(url)
  const server = createServer()
  closed.port = String(await listen(t, server))
  server.close()
  await assert.rejects(
    downloaded(await open(t, closed, { retries: 1 }), [closed]),
    upstreamFailure(/127\.0\.0\.1:\d+\/file\.bin refused the connection twice/),
  )
  assert.ok(port)
})

test('the next mirror is used when one fails, and the failing one is avoided for a while', async (t) => {
  const { listener, count } = inTurn(answer(500))
  const bad = await serve(t, listener)
  const url = await serve(t, sendAll)
  const upstream = await open(t, url, { retries: 1 })
  assert.ok((await downloaded(upstream, [bad, url])).equals(bytes))
  assert.equal(count(), 2)
  assert.ok((await downloaded(upstream, [bad, url])).equals(bytes))
  assert.equal(count(), 2)
})

test('wrong bytes on one mirror are taken from the next', async (t) => {
  const bad = await serve(t, (_request, response) => response.end(randomBytes(bytes.length)))
  const url = await serve(t, sendAll)
  assert.ok((await downloaded(await open(t, url), [bad, url])).equals(bytes))
})

test('wrong bytes everywhere are an integrity failure that names every mirror', async (t) => {
  const { listener, count } = inTurn((_request, response) => response.end(randomBytes(bytes.length)))
  const bad = await serve(t, listener)
  const missing = await serve(t, answer(404))
  await assert.rejects(
    downloaded(await open(t, bad), [bad, missing]),
    integrityFailure(/None of the 2 mirrors .*gave wrong bytes: the sha256 is .* instead of .*; .* answered 404\./),
  )
  assert.equal(count(), 1)
})

test('a body that is longer than expected ends early', async (t) => {
  const url = await serve(t, (_request, response) => {
    const timer = setInterval(() => response.write(Buffer.alloc(100_000)), 1)
    response.on('close', () => clearInterval(timer))
  })
  await assert.rejects(downloaded(await open(t, url), [url], { size: 1_000_000, checksum }), integrityFailure(/More|more than/i))
  await assert.rejects((await open(t, url)).download([url], { limit: 1_000_000 }), integrityFailure(/limit/))
})

/** Sends the first `size` bytes and then closes the connection. */
function cutAt(size: number, headers: Record<string, string> = {}): RequestListener {
  return (_request, response) => {
    response.writeHead(200, { 'content-length': String(bytes.length), ...headers })
    response.write(bytes.subarray(0, size), () => setTimeout(() => response.destroy(), 20))
  }
}

test('after a cut in the middle a file without validator is fetched again as a whole', async (t) => {
  const ranges: unknown[] = []
  const { listener } = inTurn(cutAt(1_000_000), sendAll)
  const url = await serve(t, (request, response) => {
    ranges.push(request.headers.range)
    listener(request, response)
  })
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
  assert.deepEqual(ranges, [undefined, undefined])
})

const sendRest: RequestListener = (request, response) => {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1])
  response.writeHead(206, { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`, etag: '"v1"' })
  response.end(bytes.subarray(start))
}

for (const [name, headers, validator] of [
  ['a strong ETag', { etag: '"v1"' }, '"v1"'],
  [
    'a Last-Modified that is old enough',
    { 'last-modified': 'Mon, 02 Nov 2026 10:00:00 GMT', date: 'Mon, 02 Nov 2026 11:00:00 GMT' },
    'Mon, 02 Nov 2026 10:00:00 GMT',
  ],
] as const)
  test(`after a cut in the middle only the rest is asked for when there is ${name}`, async (t) => {
    const seen: unknown[] = []
    const { listener, count } = inTurn(cutAt(1_500_000, headers), sendRest)
    const url = await serve(t, (request, response) => {
      seen.push(request.headers['if-range'])
      listener(request, response)
    })
    assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
    assert.equal(count(), 2)
    assert.deepEqual(seen, [undefined, validator])
  })

test('a weak ETag is no ground to go on with a file', async (t) => {
  const { listener } = inTurn(cutAt(1_500_000, { etag: 'W/"v1"' }), (request, response) => {
    assert.equal(request.headers.range, undefined)
    sendAll(request, response)
  })
  const url = await serve(t, listener)
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
})

for (const [name, second] of [
  ['it answers with the whole file', sendAll],
  ['it says that there is no such part', answer(416)],
  ['it sends another part', (_request, response) => response.writeHead(206, { 'content-range': 'bytes 5-9/10' }).end('wrong')],
] as [string, RequestListener][])
  test(`a file that cannot be gone on with is begun again: ${name}`, async (t) => {
    const { listener, count } = inTurn(cutAt(1_500_000, { etag: '"v1"' }), second, sendAll)
    const url = await serve(t, listener)
    assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
    assert.equal(count(), 3)
  })

test('parts of two files under one ETag are noticed, and the file is fetched as a whole', async (t) => {
  const lie: RequestListener = (request, response) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1])
    response.writeHead(206, { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` })
    response.end(randomBytes(bytes.length - start))
  }
  const { listener } = inTurn(cutAt(1_500_000, { etag: '"v1"' }), lie, sendAll)
  const url = await serve(t, listener)
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
})

test('a body that is shorter than promised is not taken for the file', async (t) => {
  const url = await serve(t, cutAt(1_000_000))
  await assert.rejects(
    downloaded(await open(t, url, { retries: 1 }), [url]),
    upstreamFailure(/closed the connection too early twice/),
  )
})

test('a short body that ends as if it were whole is an integrity failure, after tries', async (t) => {
  const { listener, count } = inTurn((_request, response) => response.end(bytes.subarray(0, 1000)))
  const url = await serve(t, listener)
  await assert.rejects(
    downloaded(await open(t, url, { retries: 1 }), [url]),
    integrityFailure(/1000 bytes came instead of the expected 3000000/),
  )
  assert.equal(count(), 2)
})

test('redirects are followed, also relative ones', async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === '/file.bin') response.writeHead(302, { location: 'other/place' }).end()
    else if (request.url === '/other/place') response.writeHead(308, { location: '/end' }).end()
    else sendAll(request, response)
  })
  assert.ok((await downloaded(await open(t, url), [url])).equals(bytes))
})

test('redirects in a circle end', async (t) => {
  const { listener, count } = inTurn(answer(302, { location: '/file.bin' }))
  const url = await serve(t, listener)
  await assert.rejects(downloaded(await open(t, url), [url]), upstreamFailure(/redirected more than 5 times/))
  assert.equal(count(), 6)
})

for (const [location, reason] of [
  ['file:///etc/passwd', /redirected to file:/],
  ['ftp://elsewhere/x', /redirected to ftp:/],
  ['http://[', /without a usable Location/],
  ['', /without a usable Location/],
] as const)
  test(`a redirect to ${JSON.stringify(location)} is refused`, async (t) => {
    const url = await serve(t, answer(301, { location }))
    await assert.rejects(downloaded(await open(t, url), [url]), upstreamFailure(reason))
  })

const secrets: Setting = { username: 'joe', password: 'pässword:1', headers: [{ 'X-Secret': 'one' }, { 'x-more': 'two' }] }
const basic = `Basic ${Buffer.from('joe:pässword:1').toString('base64')}`

test('credentials and configured headers are sent without being asked for', async (t) => {
  const url = await serve(t, (request, response) => {
    assert.deepEqual(
      [request.headers.authorization, request.headers['x-secret'], request.headers['x-more']],
      [basic, 'one', 'two'],
    )
    sendAll(request, response)
  })
  assert.ok((await downloaded(await open(t, url, secrets), [url])).equals(bytes))
})

test('credentials in the URL of the access are used', async (t) => {
  const url = await serve(t, (request, response) => response.end(request.headers.authorization))
  const withUser = new URL(url)
  withUser.username = 'joe'
  withUser.password = 'p%C3%A4ssword:1'
  const upstream = await open(t, url, { url: withUser.href })
  assert.equal((await upstream.read([withUser])).bytes.toString(), basic)
})

test('a redirect to another origin does not take secrets along, nor do they return', async (t) => {
  const seen: unknown[] = []
  const note = (request: { headers: Record<string, unknown> }) =>
    seen.push(request.headers.authorization, request.headers['x-secret'])
  const home = await serve(t, (request, response) => {
    note(request)
    if (request.url === '/back') sendAll(request, response)
    else response.writeHead(302, { location: foreign.href }).end()
  })
  const foreign = await serve(t, (request, response) => {
    note(request)
    response.writeHead(302, { location: new URL('/back', home).href }).end()
  })
  assert.ok((await downloaded(await open(t, home, secrets), [home])).equals(bytes))
  assert.deepEqual(seen, [basic, 'one', undefined, undefined, undefined, undefined])
})

test('a mirror of another origin gets no secrets', async (t) => {
  const home = await serve(t, answer(404))
  const mirror = await serve(t, (request, response) => {
    assert.equal(request.headers.authorization ?? request.headers['x-secret'], undefined)
    sendAll(request, response)
  })
  assert.ok((await downloaded(await open(t, home, secrets), [home, mirror])).equals(bytes))
})

test('a body that comes too slowly is given up', async (t) => {
  const url = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    const timer = setInterval(() => response.write('x'), 20)
    response.on('close', () => clearInterval(timer))
  })
  const begin = performance.now()
  await assert.rejects(
    downloaded(await open(t, url, { slow: 300, retries: 1 }), [url]),
    upstreamFailure(/sent less than 1024 bytes a second twice/),
  )
  assert.ok(performance.now() - begin < 10_000)
})

test('a body that stops coming is given up', async (t) => {
  const url = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write('x')
  })
  await assert.rejects(
    downloaded(await open(t, url, { readTimeout: 0.3, retries: 0 }), [url]),
    upstreamFailure(/stopped sending/),
  )
})

test('an upstream that does not answer is given up', async (t) => {
  const url = await serve(t, () => {})
  await assert.rejects(
    downloaded(await open(t, url, { readTimeout: 0.3, retries: 0 }), [url]),
    upstreamFailure(/did not answer in time/),
  )
})

test('a file that takes longer than the total timeout is given up', async (t) => {
  const url = await serve(t, (_request, response) => {
    const timer = setInterval(() => response.write(Buffer.alloc(10_000)), 10)
    response.on('close', () => clearInterval(timer))
  })
  const upstream = await open(t, url, { totalTimeout: 0.3, retries: 1 })
  await assert.rejects(upstream.download([url]), upstreamFailure(/took longer than 0\.3 s twice/))
})

test('something that is not HTTP is told so', async (t) => {
  const url = await serve(t, (_request, response) => response.socket!.end('SSH-2.0-OpenSSH_9.2p1\r\n'))
  await assert.rejects(downloaded(await open(t, url, { retries: 0 }), [url]), upstreamFailure(/is not HTTP/))
})

for (const [state, listener] of [
  ['while it waits for an answer', () => {}],
  ['in the middle of a body', (_request, response) => response.writeHead(200).write(Buffer.alloc(2_000_000))],
  ['while it waits before a retry', answer(503, { 'retry-after': '30' })],
] as [string, RequestListener][])
  test(`a download is aborted at once ${state}`, async (t) => {
    const url = await serve(t, listener)
    const upstream = await open(t, url)
    const abort = new AbortController()
    const running = upstream.download([url], {}, abort.signal)
    setTimeout(() => abort.abort(new Failure('conflict', 'The task was cancelled.')), 200)
    const begin = performance.now()
    await assert.rejects(running, { code: 'conflict', message: 'The task was cancelled.' })
    assert.ok(performance.now() - begin < 3000)
  })

test('downloads that wait for a place are aborted too', async (t) => {
  const url = await serve(t, () => {})
  const upstream = await open(t, url, { concurrency: 1 })
  const abort = new AbortController()
  const running = [1, 2, 3].map(() => upstream.download([url], {}, abort.signal))
  setTimeout(() => abort.abort(new Error('stop')), 50)
  for (const { status } of await Promise.allSettled(running)) assert.equal(status, 'rejected')
})

test('an aborted signal is not even tried', async (t) => {
  const { listener, count } = inTurn(sendAll)
  const url = await serve(t, listener)
  const upstream = await open(t, url)
  await assert.rejects(upstream.download([url], good, AbortSignal.abort(new Error('stop'))), /stop/)
  assert.equal(count(), 0)
})

test('only so many downloads run at a time', async (t) => {
  let [running, most] = [0, 0]
  const url = await serve(t, async (_request, response) => {
    most = Math.max(most, ++running)
    await sleep(20)
    running--
    response.end('x')
  })
  const upstream = await open(t, url, { concurrency: 3 })
  await Promise.all(Array.from({ length: 12 }, () => upstream.read([url])))
  assert.equal(most, 3)
})

test('only so many requests are sent a second', async (t) => {
  const times: number[] = []
  const url = await serve(t, (_request, response) => {
    times.push(performance.now())
    response.end('x')
  })
  const upstream = await open(t, url, { rateLimit: 20 })
  await Promise.all(Array.from({ length: 11 }, () => upstream.read([url])))
  const took = times.at(-1)! - times[0]!
  assert.ok(took > 300, `${took} ms for 11 requests`)
})

test('connections are used again', async (t) => {
  const ports = new Set<number>()
  const url = await serve(t, (request, response) => {
    ports.add(request.socket.remotePort!)
    if (request.url === '/no') response.writeHead(404).end('no')
    else response.end('x')
  })
  const upstream = await open(t, url, { concurrency: 1 })
  for (let i = 0; i < 10; i++) {
    await upstream.read([url])
    await assert.rejects(upstream.read([new URL('/no', url)]))
  }
  assert.equal(ports.size, 1)
})

test('an open body is passed on as it comes, with its size', async (t) => {
  const url = await serve(t, sendAll)
  const missing = new URL('/no', await serve(t, answer(404)))
  const { body, size } = await (await open(t, url)).open([missing, url])
  assert.equal(size, bytes.length)
  assert.ok((await buffer(body)).equals(bytes))
})

test('an open body that is cut fails as an upstream failure, without another try', async (t) => {
  const { listener, count } = inTurn(cutAt(1_000_000, { etag: '"v1"' }))
  const url = await serve(t, listener)
  const { body } = await (await open(t, url)).open([url])
  await assert.rejects(buffer(body), upstreamFailure(/closed the connection too early\./))
  assert.equal(count(), 1)
})

test('an open body may be left in the middle', async (t) => {
  const closed = Promise.withResolvers<void>()
  const url = await serve(t, (_request, response) => {
    response.on('close', closed.resolve)
    response.write(Buffer.alloc(1_000_000))
  })
  const { body } = await (await open(t, url)).open([url])
  for await (const _ of body) break
  await closed.promise
})

test('a URL is told without its secrets', () => {
  const shown = [
    ['http://joe:secret@host/a/b?arch=x86_64&repo=BaseOS-9', 'http://host/a/b?arch=x86_64&repo=BaseOS-9'],
    ['https://host/a?token=abc&x=1', 'https://host/a?…&x=1'],
    ['https://host/a?X-Amz-Signature=abc', 'https://host/a?…'],
    [`https://host/a?${'s'.repeat(60)}`, 'https://host/a?…'],
    ['https://host/a?flag', 'https://host/a?flag'],
  ] as const
  for (const [url, text] of shown) assert.equal(showUrl(new URL(url)), text)
})

test('a failure names the upstream without its secrets', async (t) => {
  const url = await serve(t, answer(404), '/file.bin?token=geheim')
  url.username = 'joe'
  url.password = 'geheim'
  await assert.rejects((await open(t, url, { url: url.href })).download([url]), (error: Error) => {
    assert.doesNotMatch(error.message, /geheim|joe/)
    assert.match(error.message, /http:\/\/127\.0\.0\.1:\d+\/file\.bin\?… answered 404/)
    return true
  })
})

for (const url of ['file:///etc', 'ftp://host/', 'nonsense', ''])
  test(`${JSON.stringify(url)} is no upstream`, () => {
    assert.throws(() => openFetcher({ blobs: { stage: () => assert.fail() } }).open({ url }), { code: 'invalid' })
  })

/** A proxy that forwards plain requests and tunnels others; notes what it was asked for. */
async function serveProxy(t: TestContext, authorization?: string) {
  const seen: string[] = []
  const isAllowed = (headers: Record<string, unknown>) => !authorization || headers['proxy-authorization'] === authorization
  const server = createServer((incoming, response) => {
    if (!isAllowed(incoming.headers)) return void response.writeHead(407).end()
    seen.push(`${incoming.method} ${incoming.url}`)
    incoming.pipe(
      request(incoming.url!, { headers: incoming.headers }, (answer) => {
        response.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(response)
      }),
    )
  })
  server.on('connect', (incoming, socket) => {
    if (!isAllowed(incoming.headers)) return void socket.end('HTTP/1.1 407 No\r\n\r\n')
    seen.push(`CONNECT ${incoming.url}`)
    const [host, port] = incoming.url!.split(':')
    const tunnel = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      tunnel.pipe(socket).pipe(tunnel)
    })
    for (const each of [tunnel, socket]) each.on('error', () => [tunnel, socket].forEach((end) => end.destroy()))
  })
  return { url: `http://127.0.0.1:${await listen(t, server)}`, seen }
}

test('a proxy is used, with its credentials', async (t) => {
  const url = await serve(t, sendAll)
  const proxy = await serveProxy(t, `Basic ${Buffer.from('p:q').toString('base64')}`)
  const access = { proxyUrl: proxy.url, proxyUsername: 'p', proxyPassword: 'q' }
  assert.ok((await downloaded(await open(t, url, access), [url])).equals(bytes))
  assert.deepEqual(proxy.seen, [`GET ${url.href}`])
})

test('a proxy that refuses is named as the cause', async (t) => {
  const url = await serve(t, sendAll)
  const proxy = await serveProxy(t, 'Basic other')
  await assert.rejects(downloaded(await open(t, url, { proxyUrl: proxy.url }), [url]), upstreamFailure(/proxy answered 407\./))
})

test('a proxy URL of another kind is refused', async (t) => {
  const url = await serve(t, sendAll)
  await assert.rejects(open(t, url, { proxyUrl: 'nonsense' }), { code: 'invalid', field: 'proxy_url' })
})

interface Certificates {
  ca: string
  server: { cert: string; key: string }
  client: { cert: string; key: string }
}

/** A CA of our own with a certificate for 127.0.0.1 and one for a client. Undefined, with the test skipped, without openssl. */
async function makeCertificates(t: TestContext): Promise<Certificates | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-certificates-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = (name: string) => join(directory, name)
  const read = (name: string) => readFileSync(file(name), 'utf8')
  const openssl = (command: string) => execFileSync('openssl', command.split(' '), { cwd: directory, stdio: 'ignore' })
  const newKey = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
  try {
    openssl(`req -x509 ${newKey} -keyout ca.key -out ca.pem -subj /CN=Test-CA -days 2`)
  } catch (error) {
    if (process.env.CI === 'true') throw error
    t.skip('openssl is not installed')
    return undefined
  }
  for (const name of ['server', 'client']) {
    writeFileSync(file(`${name}.ext`), 'subjectAltName=IP:127.0.0.1\n')
    openssl(`req ${newKey} -keyout ${name}.key -out ${name}.csr -subj /CN=${name}`)
    openssl(`x509 -req -in ${name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out ${name}.pem -days 2 -extfile ${name}.ext`)
  }
  const pair = (name: string) => ({ cert: read(`${name}.pem`), key: read(`${name}.key`) })
  return { ca: read('ca.pem'), server: pair('server'), client: pair('client') }
}

test('TLS: own CA, client certificate, and what goes wrong without them', async (t) => {
  const made = await makeCertificates(t)
  if (!made) return
  const server = createSecureServer(
    { ...made.server, ca: made.ca, requestCert: true, rejectUnauthorized: false },
    (request, response) => {
      const peer = request.socket as import('node:tls').TLSSocket
      if (request.url === '/down') return void response.writeHead(302, { location: 'http://127.0.0.1:1/x' }).end()
      response.end(peer.authorized ? peer.getPeerCertificate().subject.CN : 'nobody')
    },
  )
  const url = new URL(`https://127.0.0.1:${await listen(t, server)}/file.bin`)
  const who = async (access: Setting) => (await (await open(t, url, access)).read([url])).bytes.toString()

  await t.test('an unknown CA is refused, without another try', async () => {
    await assert.rejects(who({}), upstreamFailure(/has a certificate that is not trusted\./))
  })
  await t.test('the given CA is trusted', async () => {
    assert.equal(await who({ caCert: made.ca }), 'nobody')
  })
  await t.test('validation may be switched off', async () => {
    assert.equal(await who({ tlsValidation: false }), 'nobody')
  })
  await t.test('the client certificate is shown', async () => {
    assert.equal(await who({ caCert: made.ca, clientCert: made.client.cert, clientKey: made.client.key }), 'client')
  })
  await t.test('the client certificate is shown through a proxy', async (t) => {
    const proxy = await serveProxy(t)
    const access = { caCert: made.ca, clientCert: made.client.cert, clientKey: made.client.key, proxyUrl: proxy.url }
    assert.equal(await who(access), 'client')
    assert.deepEqual(proxy.seen, [`CONNECT ${url.host}`])
  })
  await t.test('a certificate for another name is refused', async (t) => {
    const named = new URL(url)
    named.hostname = 'localhost'
    const upstream = await open(t, url, { caCert: made.ca })
    await assert.rejects(upstream.read([named]), upstreamFailure(/has a certificate for another name\.|refused the connection/))
  })
  await t.test('certificates that cannot be read are refused in words', async (t) => {
    await assert.rejects(open(t, url, { clientCert: made.client.cert, clientKey: made.server.key }), { code: 'invalid' })
    await assert.rejects(open(t, url, { clientCert: 'nonsense' }), { code: 'invalid' })
  })
  await t.test('a redirect from https to http is refused', async (t) => {
    const upstream = await open(t, url, { caCert: made.ca })
    await assert.rejects(upstream.read([new URL('/down', url)]), upstreamFailure(/from https to plain http/))
  })
})
