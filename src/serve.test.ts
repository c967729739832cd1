import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { forEachDatabase } from '../tests/databases.ts'
import { testWorks } from '../tests/fixtures/works.ts'
import { openCtx } from './core/open.ts'
import { dispatchTask, getTask } from './core/tasks/tasks.ts'
import { Failure } from './lib/failure.ts'
import { openLog } from './lib/log.ts'
import { type ServeOptions, serve } from './serve.ts'
import type { Db } from './store/database.ts'

const defaults = { name: 'test', userId: null, cid: 'cid' }
const program = { works: testWorks, formats: [], worker: new URL('../tests/fixtures/worker.ts', import.meta.url) }
const stoppedMessage = 'The server stopped while this task was running. Start it again.'

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'signalbox-serve-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return path
}

/** A server in this process. */
async function start(t: TestContext, options: Partial<ServeOptions> = {}) {
  const server = await serve({
    data: await directory(t),
    host: '127.0.0.1',
    port: 0,
    logLevel: 'silent',
    adminPassword: 'secret',
    program,
    ...options,
  })
  let open = true
  const close = async () => {
    if (open) await server.close()
    open = false
  }
  t.after(close)
  return { ...server, close }
}

/** Sends bytes as they are and returns the answer. */
async function send(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(bytes)
  let answer = ''
  for await (const chunk of socket) answer += chunk
  return answer
}

test('nobody else reads the data directory, nor a database that lies elsewhere', async (t) => {
  const parent = await directory(t)
  const [data, database] = [join(parent, 'data'), join(parent, 'elsewhere.db')]
  // It was everybody's to read before.
  await writeFile(database, '', { mode: 0o644 })
  await start(t, { data, database })
  const modes = await Promise.all([data, database, `${database}-wal`].map(async (path) => (await stat(path)).mode & 0o777))
  assert.deepEqual(modes, [0o700, 0o600, 0o600])
})

test('it answers /livez, counts what it does in /metrics, and names each request', async (t) => {
  const { url, ctx } = await start(t)
  assert.match(await (await fetch(url)).text(), /^This is a Signalbox\.\n\n {2}\/pulp\/content\/ /)
  const nothing = await fetch(`${url}/nothing`)
  assert.deepEqual([nothing.status, await nothing.text()], [404, '404: Not Found. What is where is told at /\n'])
  const alive = await fetch(`${url}/livez`)
  assert.deepEqual([alive.status, await alive.text()], [200, 'ok\n'])
  await fetch(`${url}/pulp/content/nosuch`)
  await dispatchTask(ctx, { ...defaults, kind: 'report', args: {}, immediate: true })
  await dispatchTask(ctx, { ...defaults, kind: 'rest', args: { ms: 60_000 } })
  await ctx.db.insertInto('blob').values({ uuid: 'x', sha256: 'y', size: 4321, created: 1, updated: 1, touched: 1 }).execute()
  const text = await (await fetch(`${url}/metrics`)).text()
  for (const line of [
    /signalbox_http_request_seconds_count\{route="\/livez",method="GET",status="200"\} 1/,
    /signalbox_http_request_seconds_count\{route="\/pulp\/content\/\*",method="GET",status="404"\} 1/,
    /signalbox_tasks_ended_total\{name="test",state="completed"\} 1/,
    /signalbox_tasks\{state="(waiting|running)",name="test"\} 1/,
    /signalbox_blob_bytes 4321/,
    /process_cpu_seconds_total/,
    /nodejs_eventloop_lag_p99_seconds/,
  ])
    assert.match(text, line)
})

test('the first start makes an administrator, and tells a made-up password once', async (t) => {
  const data = await directory(t)
  const first = await start(t, { data, adminPassword: undefined })
  assert.ok(first.madePassword && first.madePassword.length >= 20)
  const file = join(data, 'admin-password')
  assert.equal(await readFile(file, 'utf8'), `${first.madePassword}\n`)
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  const admin = await first.ctx.db.selectFrom('user').selectAll().executeTakeFirstOrThrow()
  assert.deepEqual([admin.username, admin.is_superuser], ['admin', 1])
  await first.close()
  const second = await start(t, { data, adminPassword: undefined })
  assert.equal(second.madePassword, undefined)
})

test('two servers cannot have one data directory, nor one port', async (t) => {
  const data = await directory(t)
  const first = await start(t, { data })
  const refused = (options: Partial<ServeOptions>) =>
    start(t, options).then(
      () => 'started',
      (error) => (assert.ok(error instanceof Failure), error.message),
    )
  assert.equal(
    await refused({ data }),
    `Another server is using the data directory ${data}. Stop it, or choose another with --data.`,
  )
  const port = Number(new URL(first.url).port)
  const other = await directory(t)
  assert.equal(await refused({ data: other, port }), `Port ${port} of 127.0.0.1 is in use. Choose another with --listen.`)
  const after = await start(t, { data: other })
  assert.equal((await fetch(`${after.url}/livez`)).status, 200, 'a start that failed leaves nothing behind')
  await first.close()
  await start(t, { data })
})

test('requests that a proxy may read in another way are refused or made plain', async (t) => {
  const { url } = await start(t)
  const head = (line: string, ...headers: string[]) =>
    `${[line, 'Host: x', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`
  assert.match(await send(url, head('GET http://elsewhere/livez HTTP/1.1')), /^HTTP\/1\.1 200 /)
  assert.match(await send(url, head('GET ftp://elsewhere/livez HTTP/1.1')), /^HTTP\/1\.1 400 /)
  assert.match(await send(url, head('POST /livez HTTP/1.1', 'Transfer-Encoding: xchunked')), /^HTTP\/1\.1 (400|501) /)
  assert.match(
    await send(url, `${head('POST /livez HTTP/1.1', 'Transfer-Encoding: chunked', 'Content-Length: 3')}0\r\n\r\n`),
    /^HTTP\/1\.1 400 /,
  )
})

forEachDatabase((engine, _open, make) => {
  /** The database and data directory of servers that come and go, seen from outside. */
  async function place(t: TestContext) {
    const data = await directory(t)
    const database = await make(t)
    const ctx = await openCtx({ data: await directory(t), database, formats: [], log: openLog('silent') })
    const servers: ChildProcess[] = []
    t.after(async () => {
      for (const server of servers) server.kill('SIGKILL')
      await ctx[Symbol.asyncDispose]()
    })
    async function run() {
      const from = performance.now()
      const main = new URL('../tests/fixtures/serve.ts', import.meta.url).pathname
      const server = spawn(process.execPath, [...process.execArgv, main, data, database], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      servers.push(server)
      const [chunk] = await Promise.race([
        once(server.stdout, 'data'),
        once(server, 'exit').then(([code]) => Promise.reject(new Error(`exit ${code}`))),
      ])
      return { server, url: String(chunk).trim(), ms: performance.now() - from }
    }
    const stop = async (server: ChildProcess, signal: NodeJS.Signals) => {
      const exit = once(server, 'exit')
      server.kill(signal)
      return (await exit)[0] as number | null
    }
    const dispatch = (kind: string, args = {}, exclusive: string[] = []) =>
      dispatchTask(ctx, { ...defaults, kind, args, exclusive })
    async function until(id: number, ...states: string[]) {
      for (const end = performance.now() + 60_000; performance.now() < end; await sleep(20)) {
        const task = await getTask(ctx.db, id)
        if (states.includes(task.state)) return task
      }
      throw new Error(`the task is still ${(await getTask(ctx.db, id)).state}`)
    }
    const unfinished = () => ctx.db.selectFrom('task').select('state').where('state', 'in', ['running', 'canceling']).execute()
    return { ctx, run, stop, dispatch, until, unfinished }
  }

  test(`${engine}: SIGTERM ends the server cleanly, and no task stays running`, async (t) => {
    const { ctx, run, stop, dispatch, until, unfinished } = await place(t)
    const { server } = await run()
    const [running, waiting] = [await dispatch('rest', { ms: 60_000 }, ['r']), await dispatch('note', { text: 'later' }, ['r'])]
    await until(running.id, 'running')
    assert.equal(await stop(server, 'SIGTERM'), 0)
    assert.deepEqual(await unfinished(), [])
    assert.equal(JSON.parse((await getTask(ctx.db, running.id)).error!).description, stoppedMessage)
    assert.equal((await getTask(ctx.db, waiting.id)).state, 'waiting')
    assert.deepEqual(await ctx.db.selectFrom('worker').selectAll().execute(), [])
    const again = await run()
    await until(waiting.id, 'completed')
    assert.equal(await stop(again.server, 'SIGTERM'), 0)
  })

  test(`${engine}: after a kill, the next start fails what was interrupted and does the rest, each task once`, async (t) => {
    const { ctx, run, stop, dispatch, until } = await place(t)
    const first = await run()
    const tasks = []
    for (let index = 0; index < 500; index++)
      tasks.push(await dispatch('note', { text: String(index), ms: 3 }, [`r${index % 3}`]))
    await until(tasks[40]!.id, 'completed', 'failed')
    await stop(first.server, 'SIGKILL')
    if (engine === 'PostgreSQL') await untilQuiet(ctx.db)
    const interrupted = await ctx.db.selectFrom('task').select('id').where('state', '=', 'running').execute()
    const second = await run()
    for (const { id } of interrupted) assert.equal(JSON.parse((await getTask(ctx.db, id)).error!).description, stoppedMessage)
    // What it should be is measured by the benchmark `start`: here the machine may be busy.
    assert.ok(second.ms < 20_000, `ready after ${second.ms} ms`)
    for (const { id } of tasks) await until(id, 'completed', 'failed')
    const states = await ctx.db
      .selectFrom('task')
      .select(['state', ({ fn }) => fn.countAll<number>().as('count')])
      .groupBy('state')
      .execute()
    const counts = Object.fromEntries(states.map(({ state, count }) => [state, Number(count)]))
    assert.deepEqual([counts['failed'] ?? 0, counts['completed']], [interrupted.length, 500 - interrupted.length])
    const { value } = await ctx.db.selectFrom('setting').select('value').where('key', '=', 'notes').executeTakeFirstOrThrow()
    const begun = value.split(' ').filter((note) => note.startsWith('+'))
    assert.equal(new Set(begun).size, begun.length, 'no task began twice')
    assert.deepEqual(await ctx.db.selectFrom('task_lock').selectAll().execute(), [])
    await stop(second.server, 'SIGTERM')
  })
})

/** What a killed client has sent may still be done a moment later. */
async function untilQuiet(db: Db): Promise<void> {
  const busy = sql`select 1 from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`
  while ((await busy.execute(db)).rows.length > 0) await sleep(20)
}
