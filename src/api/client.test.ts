import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { type Api, connect, saying, Unreachable } from './client.ts'

type Answer = { status?: number; body?: unknown; raw?: string }
type Asked = { method: string; path: string; query: URLSearchParams; body: unknown; authorization: string | undefined }

/** A server of Pulp's shape that answers what the test says, in order. */
async function serve(t: TestContext, answer: (asked: Asked) => Answer): Promise<{ api: Api; asked: Asked[] }> {
  const asked: Asked[] = []
  const server = createServer(async (request: IncomingMessage, response) => {
    const url = new URL(request.url!, 'http://x')
    const body = await text(request)
    const call = {
      method: request.method!,
      path: url.pathname,
      query: url.searchParams,
      body: body && JSON.parse(body),
      authorization: request.headers.authorization,
    }
    asked.push(call)
    const { status = 200, body: said, raw } = answer(call)
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(raw ?? (said === undefined ? '' : JSON.stringify(said)))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close().closeAllConnections())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  return { api: connect({ url, username: 'admin', password: 'pass:word' }), asked }
}

const task = (state: string, more = {}) => ({
  pulp_href: '/pulp/api/v3/tasks/1/',
  state,
  error: null,
  created_resources: [],
  progress_reports: [],
  ...more,
})

test('a list is read page by page, oldest first, with the credentials', async (t) => {
  const items = Array.from({ length: 5 }, (_, name) => ({ name }))
  const { api, asked } = await serve(t, ({ query }) => {
    const offset = Number(query.get('offset'))
    const limit = Number(query.get('limit'))
    return {
      body: { count: 5, next: offset + limit < 5 ? 'http://elsewhere/' : null, results: items.slice(offset, offset + limit) },
    }
  })
  assert.deepEqual(await Array.fromAsync(api.list('remotes/rpm/rpm/', { limit: 2, name__in: ['a', 'b'] })), items)
  assert.deepEqual(
    asked.map(({ query }) => [query.get('offset'), query.get('ordering'), query.get('name__in')]),
    [
      ['0', 'pulp_created', 'a,b'],
      ['2', 'pulp_created', 'a,b'],
      ['4', 'pulp_created', 'a,b'],
    ],
  )
  assert.equal(asked[0]!.path, '/pulp/api/v3/remotes/rpm/rpm/')
  assert.equal(asked[0]!.authorization, `Basic ${Buffer.from('admin:pass:word').toString('base64')}`)
})

test('what is looked for is there once, not at all, or too often', async (t) => {
  let results: unknown[] = []
  const { api } = await serve(t, () => ({ body: { count: results.length, next: null, results } }))
  assert.equal(await api.find('groups/', { name: 'x' }), undefined)
  results = [{ id: 1 }]
  assert.deepEqual(await api.find('groups/', { name: 'x' }), { id: 1 })
  results = [{ id: 1 }, { id: 2 }]
  await assert.rejects(api.find('groups/', { name: 'x' }), { code: 'conflict' })
})

test('creating waits for the task and returns what it made', async (t) => {
  const states = ['waiting', 'running', 'completed']
  const { api, asked } = await serve(t, ({ method, path }) => {
    if (method === 'POST') return { status: 202, body: { task: '/pulp/api/v3/tasks/1/' } }
    if (path.includes('/tasks/')) return { body: task(states.shift()!, { created_resources: ['/pulp/api/v3/things/7/'] }) }
    return { body: { pulp_href: path } }
  })
  assert.deepEqual(await api.create('things/', { name: 'x' }), { pulp_href: '/pulp/api/v3/things/7/' })
  assert.deepEqual(asked[0]!.body, { name: 'x' })
  assert.equal(asked.length, 5)
})

test("an action tells how far it is, and its failure is the server's sentence", async (t) => {
  const tasks = [
    task('running', { progress_reports: [{ done: 3 }] }),
    task('failed', { error: { description: 'The upstream is gone.' } }),
  ]
  const { api } = await serve(t, ({ method }) =>
    method === 'POST' ? { status: 202, body: { task: '/pulp/api/v3/tasks/1/' } } : { body: tasks.shift() },
  )
  const seen: number[] = []
  await assert.rejects(
    api.act('repositories/1/sync/', {}, { progress: ({ progress_reports }) => seen.push(progress_reports.length) }),
    { name: 'Failure', message: 'The upstream is gone.' },
  )
  assert.deepEqual(seen, [1, 0])
})

test('waiting ends when it is called off', async (t) => {
  const { api } = await serve(t, ({ method }) =>
    method === 'POST' ? { status: 202, body: { task: '/pulp/api/v3/tasks/1/' } } : { body: task('running') },
  )
  await assert.rejects(api.act('x/', {}, { signal: AbortSignal.timeout(100) }), { name: 'AbortError' })
})

const errors: readonly (readonly [status: number, body: unknown, code: string, message: RegExp])[] = [
  [400, { name: ['This field must be unique.'] }, 'invalid', /^name: This field must be unique\.$/],
  [400, { errors: ["Invalid Filter: 'x'"] }, 'invalid', /^Invalid Filter: 'x'$/],
  [400, ['Not like this.'], 'invalid', /^Not like this\.$/],
  [401, { detail: 'Invalid username/password.' }, 'denied', /does not know user admin with this password\.$/],
  [403, { detail: 'You do not have permission to perform this action.' }, 'denied', /^You do not have permission/],
  [404, '<html>', 'not_found', /answered 404 to GET \/pulp\/api\/v3\/x\/\.$/],
  [409, { detail: 'Too late.' }, 'conflict', /^Too late\.$/],
  [500, '<h1>Server Error</h1>', 'upstream', /failed with 500 at GET \/pulp\/api\/v3\/x\/\.$/],
]
for (const [status, body, code, message] of errors)
  test(`a ${status} with ${JSON.stringify(body)} is told in its own words`, async (t) => {
    const { api } = await serve(t, () => ({ status, ...(typeof body === 'string' ? { raw: body } : { body }) }))
    await assert.rejects(api.get('x/'), { name: 'Failure', code, message })
  })

test('something that is no Pulp is told so', async (t) => {
  const { api } = await serve(t, () => ({ raw: '<html>hello</html>' }))
  await assert.rejects(api.get('status/'), {
    message: /does not speak the Pulp API: its answer to GET \/pulp\/api\/v3\/status\/ is not JSON\.$/,
  })
})

test('a server that is not there is Unreachable, with the reason', async () => {
  const api = connect({ url: 'http://127.0.0.1:9', username: 'a', password: 'b' })
  await assert.rejects(
    api.get('status/'),
    (error) => error instanceof Unreachable && /cannot be reached \(\w/.test(error.message),
  )
})

test('nested problems become one sentence', () => {
  assert.equal(
    saying('{"config": {"0": {"dest_repo": ["This field is required."]}}}'),
    'config: 0: dest_repo: This field is required.',
  )
  assert.equal(saying('not JSON'), '')
})
