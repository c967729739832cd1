import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { listen } from '../../../tests/serving.ts'
import { openFetcher, type Upstream } from './fetch.ts'
import type { Access } from './remotes.ts'

interface Ask {
  path: string
  query: URLSearchParams
  authorization: string | undefined
}

const secret = { username: 'reader', password: 'pass' }
const basic = `Basic ${Buffer.from('reader:pass').toString('base64')}`

/** A server whose requests are remembered. */
async function start(t: TestContext, answer: (ask: Ask, response: ServerResponse) => void) {
  const asks: Ask[] = []
  const listener: RequestListener = (request: IncomingMessage, response) => {
    const url = new URL(request.url!, 'http://x')
    const ask = { path: url.pathname, query: url.searchParams, authorization: request.headers.authorization }
    asks.push(ask)
    answer(ask, response)
  }
  return { origin: await listen(t, listener), asks }
}

function give(response: ServerResponse, body: Record<string, unknown>): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function refuse(response: ServerResponse, challenge: string): void {
  response.writeHead(401, { 'www-authenticate': challenge }).end()
}

async function open(t: TestContext, access: Access, tokenRealms?: readonly string[]): Promise<Upstream> {
  const blobs = { stage: () => Promise.reject(new Error('nothing is staged here')) }
  const upstream = openFetcher({ blobs, tokenRealms, patience: { pause: 1, slow: 10_000 } }).open({ retries: 0, ...access })
  t.after(() => upstream[Symbol.asyncDispose]())
  return upstream
}

async function text(upstream: Upstream, path: string): Promise<string> {
  return (await upstream.read([new URL(path, upstream.access.url)])).bytes.toString()
}

/** A registry that gives tokens itself, `life` seconds good, and lets in those of the last ones. */
async function startRegistry(t: TestContext, { life, challenge }: { life?: number; challenge?: string } = {}) {
  let count = 0
  const registry = await start(t, ({ path, authorization }, response) => {
    if (path === '/token') return give(response, { access_token: `t${++count}`, ...(life !== undefined && { expires_in: life }) })
    if (authorization === `Bearer t${count}` && count > 0) return response.end('in')
    refuse(response, challenge ?? `Bearer realm="${registry.origin}/token",service="reg, istry",scope="repository:a/b:pull"`)
  })
  return { ...registry, revoke: () => void count++ }
}

test('a token is fetched once with the credentials of the remote, for all requests that come together, and then sent at once', async (t) => {
  const { origin, asks } = await startRegistry(t)
  const upstream = await open(t, { url: origin, ...secret })
  const answers = await Promise.all(Array.from({ length: 5 }, () => text(upstream, '/v2/a/b/tags/list')))
  assert.deepEqual(new Set(answers), new Set(['in']))
  const tokens = asks.filter(({ path }) => path === '/token')
  assert.equal(tokens.length, 1)
  assert.equal(tokens[0]!.authorization, basic)
  assert.equal(tokens[0]!.query.get('service'), 'reg, istry')
  assert.equal(tokens[0]!.query.get('scope'), 'repository:a/b:pull')
  asks.length = 0
  await text(upstream, '/v2/a/b/manifests/x')
  assert.deepEqual(
    asks.map(({ authorization }) => authorization),
    ['Bearer t1'],
  )
})

test('a token that is over, or was taken back, is replaced', async (t) => {
  const { origin, asks, revoke } = await startRegistry(t, { life: 6 })
  const upstream = await open(t, { url: origin })
  await text(upstream, '/v2/a/b/tags/list')
  // Six seconds less the margin.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  asks.length = 0
  revoke()
  assert.equal(await text(upstream, '/v2/a/b/tags/list'), 'in')
  assert.ok(!asks.some(({ authorization }) => authorization === 'Bearer t1'), 'it is known to be over')
  revoke()
  assert.equal(await text(upstream, '/v2/a/b/tags/list'), 'in')
})

test('a challenge without scope is answered with that of the image that was asked for', async (t) => {
  const server = await startRegistry(t, { challenge: 'Basic realm="x", bearer Realm="/token"' })
  await text(await open(t, { url: server.origin }), '/v2/deep/er/name/blobs/sha256:1')
  const token = server.asks.find(({ path }) => path === '/token')
  assert.equal(token!.query.get('scope'), 'repository:deep/er/name:pull')
  assert.equal(token!.query.get('service'), null)
})

test('credentials are not sent to a realm of another origin, which is asked as anybody', async (t) => {
  const thief = await start(t, (_, response) => give(response, { token: 'anonymous' }))
  const registry = await start(t, ({ authorization }, response) => {
    if (authorization === 'Bearer anonymous') return response.writeHead(403).end()
    refuse(response, `Bearer realm="${thief.origin}/token",service="x"`)
  })
  const upstream = await open(t, { url: registry.origin, ...secret, headers: [{ 'X-Secret': 's' }] })
  await assert.rejects(text(upstream, '/v2/a/tags/list'), {
    message: new RegExp(`answered 403 without credentials, which are not sent to ${thief.origin}`),
  })
  assert.deepEqual(
    thief.asks.map(({ authorization }) => authorization),
    [undefined],
  )
})

test('even a realm that is named as trusted gets no credentials when the upstream speaks plain http', async (t) => {
  const elsewhere = await start(t, (_, response) => give(response, { token: 'good' }))
  const registry = await start(t, ({ authorization }, response) => {
    if (authorization === 'Bearer good') return response.end('public')
    refuse(response, `Bearer realm="${elsewhere.origin}/token"`)
  })
  const upstream = await open(t, { url: registry.origin, ...secret }, [elsewhere.origin])
  assert.equal(await text(upstream, '/v2/a/tags/list'), 'public')
  assert.deepEqual(
    elsewhere.asks.map(({ authorization }) => authorization),
    [undefined],
  )
})

test('tokens stay behind when a blob is redirected to a storage elsewhere, and a challenge there is not answered', async (t) => {
  const storage = await start(t, ({ path }, response) => {
    if (path === '/open') return response.end('bytes')
    refuse(response, `Bearer realm="${storage.origin}/token"`)
  })
  const registry = await startRegistry(t)
  const redirecting = await start(t, ({ path, authorization }, response) => {
    if (path === '/token') return give(response, { token: 'good' })
    if (authorization !== 'Bearer good') return refuse(response, `Bearer realm="/token"`)
    response.writeHead(307, { location: `${storage.origin}/${path.split('/').at(-1)}` }).end()
  })
  const upstream = await open(t, { url: redirecting.origin, ...secret })
  assert.equal(await text(upstream, '/v2/a/blobs/open'), 'bytes')
  await assert.rejects(text(upstream, '/v2/a/blobs/closed'), /answered 401/)
  assert.deepEqual(
    storage.asks.map(({ path, authorization }) => [path, authorization]),
    [
      ['/open', undefined],
      ['/closed', undefined],
    ],
  )
  assert.deepEqual(registry.asks, [])
})

test('a realm that refuses, that gives nonsense or that is none is told of', async (t) => {
  for (const [challenge, answer, message] of [
    ['Bearer realm="/token"', { status: 401 }, /asks for a token, which http:.*\/token did not give \(answered 401\)/],
    ['Bearer realm="/token"', { status: 200 }, /was given no token by/],
    ['Bearer service="x"', { status: 200 }, /does not say where to get it/],
    ['Bearer realm="file:///etc/passwd"', { status: 200 }, /does not say where to get it/],
    ['Negotiate', { status: 200 }, /answered 401/],
  ] as const) {
    const registry = await start(t, ({ path }, response) =>
      path === '/token' ? response.writeHead(answer.status).end('no') : refuse(response, challenge),
    )
    await assert.rejects(text(await open(t, { url: registry.origin, ...secret }), '/v2/a/tags/list'), { message })
  }
})

test('a token server that is busy is asked again', async (t) => {
  let refused = false
  const registry = await start(t, ({ path, authorization }, response) => {
    if (path !== '/token') return authorization === 'Bearer good' ? response.end('in') : refuse(response, 'Bearer realm="/token"')
    if (refused) return give(response, { token: 'good' })
    refused = true
    response.writeHead(429, { 'retry-after': '0' }).end()
  })
  assert.equal(await text(await open(t, { url: registry.origin, retries: 2 }), '/v2/a/tags/list'), 'in')
})

test('over https a realm that is named as trusted gets the credentials; others do not, nor does a realm over http get any request', async (t) => {
  const pair = makeCertificate(t)
  if (!pair) return
  const seen: (string | undefined)[] = []
  const realm = await listenSecurely(t, pair, (request, response) => {
    seen.push(request.headers.authorization)
    give(response, { token: request.headers.authorization ? 'known' : 'anonymous' })
  })
  let challenge = `Bearer realm="${realm}/token"`
  const url = await listenSecurely(t, pair, ({ headers }, response) => {
    if (headers.authorization?.startsWith('Bearer')) return void response.end(headers.authorization)
    refuse(response, challenge)
  })
  const access = { url, ...secret, caCert: pair.cert }
  assert.equal(await text(await open(t, access, [realm]), '/v2/a/tags/list'), 'Bearer known')
  assert.equal(await text(await open(t, access), '/v2/a/tags/list'), 'Bearer anonymous')
  assert.deepEqual(seen, [basic, undefined])
  const plain = await start(t, (_, response) => give(response, { token: 'x' }))
  challenge = `Bearer realm="${plain.origin}/token"`
  await assert.rejects(text(await open(t, access, [plain.origin]), '/v2/a/tags/list'), { message: /which is not https/ })
  assert.deepEqual(plain.asks, [])
})

async function listenSecurely(t: TestContext, pair: { cert: string; key: string }, listener: RequestListener): Promise<string> {
  const server = createServer(pair, listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A certificate for 127.0.0.1 that signs itself. Undefined, with the test skipped, without openssl. */
function makeCertificate(t: TestContext): { cert: string; key: string } | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'signalbox-certificate-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem'
  const command = `req -x509 ${key} -out cert.pem -subj /CN=test -days 2 -addext subjectAltName=IP:127.0.0.1`
  try {
    execFileSync('openssl', command.split(' '), { cwd: directory, stdio: 'ignore' })
  } catch (error) {
    if (process.env['CI'] === 'true') throw error
    t.skip('openssl is not installed')
    return undefined
  }
  const read = (name: string) => readFileSync(join(directory, name), 'utf8')
  return { cert: read('cert.pem'), key: read('key.pem') }
}

test('when one request is told to wait, those to the same origin wait as well', async (t) => {
  let until = 0
  let early = 0
  const refused = Promise.withResolvers<void>()
  const server = await start(t, ({ path }, response) => {
    if (until === 0 && path === '/first') {
      until = performance.now() + 1000
      refused.resolve()
      return response.writeHead(429, { 'retry-after': '1' }).end()
    }
    // A timer may be early by a little.
    if (performance.now() < until - 20) early++
    response.end('in')
  })
  const upstream = await open(t, { url: server.origin, retries: 1 })
  const first = text(upstream, '/first')
  await refused.promise
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.deepEqual(await Promise.all([first, text(upstream, '/second'), text(upstream, '/third')]), ['in', 'in', 'in'])
  assert.equal(early, 0)
})
