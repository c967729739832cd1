import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { forEachDatabase } from '../tests/databases.ts'
import { testWorks } from '../tests/fixtures/works.ts'
import type { Ctx, TaskEnd, TaskRunner } from './core/ctx.ts'
import { newChangeCounter, openCtx } from './core/open.ts'
import { finalStates, cancelTask, dispatchTask, getTask } from './core/tasks/tasks.ts'
import { registerWorker } from './core/tasks/workers.ts'
import { openLog } from './lib/log.ts'
import { openPool, type Pool, type PoolOptions } from './worker-pool.ts'

const defaults = { name: 'test', userId: null, cid: 'cid' }

forEachDatabase((engine, _open, make) => {
  async function open(t: TestContext, options: Partial<PoolOptions> = {}) {
    const data = await mkdtemp(join(tmpdir(), 'signalbox-pool-'))
    const database = await make(t)
    const changes = newChangeCounter()
    const log = openLog('silent')
    const later: { pool?: Pool } = {}
    const tasks: TaskRunner = { works: testWorks, wake: () => later.pool?.wake() }
    const opening = { data, database, origin: undefined, allowedChecksums: undefined }
    const ctx = await openCtx({ ...opening, formats: [], log, changes, runner: () => tasks })
    const { worker } = await registerWorker(ctx)
    const ends: TaskEnd[] = []
    const pool = openPool({
      db: ctx.db,
      log,
      works: testWorks,
      entry: new URL('../tests/fixtures/worker.ts', import.meta.url),
      size: 2,
      thread: { ...opening, changes, logLevel: 'silent', workerId: worker.id },
      onCrash: () => {},
      onEnd: (end) => ends.push(end),
      ...options,
    })
    later.pool = pool
    t.after(async () => {
      await pool.stop(100)
      await ctx[Symbol.asyncDispose]()
      await rm(data, { recursive: true, force: true })
    })
    return { ctx, pool, ends, worker }
  }
  const run = (ctx: Ctx, kind: string, args = {}, exclusive: string[] = []) =>
    dispatchTask(ctx, { ...defaults, kind, args, exclusive })

  async function until(ctx: Ctx, id: number, ...states: string[]) {
    for (const end = performance.now() + 60_000; performance.now() < end; await sleep(20)) {
      const task = await getTask(ctx.db, id)
      if ((states.length > 0 ? states : (finalStates as readonly string[])).includes(task.state)) return task
    }
    throw new Error(`the task is still ${(await getTask(ctx.db, id)).state}`)
  }

  test(`${engine}: workers do tasks at once, as many as there are threads`, async (t) => {
    const { ctx, worker, ends } = await open(t)
    const tasks = await Promise.all([1, 2, 3].map(() => run(ctx, 'gate')))
    const states = async () => (await Promise.all(tasks.map(({ id }) => getTask(ctx.db, id)))).map(({ state }) => state).sort()
    while (String(await states()) !== 'running,running,waiting') await sleep(20)
    await ctx.db.insertInto('setting').values({ key: 'gate', value: 'open' }).execute()
    const done = await Promise.all(tasks.map(({ id }) => until(ctx, id)))
    assert.deepEqual(
      done.map(({ state }) => state),
      ['completed', 'completed', 'completed'],
    )
    assert.deepEqual(
      done.map((task) => task.worker_id),
      [worker.id, worker.id, worker.id],
    )
    const [first, second, third] = done.sort((a, b) => a.started! - b.started!)
    assert.ok(second!.started! < first!.finished!, 'two run at once')
    assert.ok(third!.started! >= Math.min(first!.finished!, second!.finished!), 'and no more')
    // A thread tells of an end once it is written.
    while (ends.length < 3) await sleep(20)
    assert.equal(ends.length, 3)
  })

  test(`${engine}: what goes wrong in a task ends only that task`, async (t) => {
    const { ctx } = await open(t)
    const tasks = [await run(ctx, 'bug'), await run(ctx, 'crash', {}, ['r']), await run(ctx, 'note', { text: 'after' }, ['r'])]
    const [bug, crash, after] = await Promise.all(tasks.map(({ id }) => until(ctx, id)))
    assert.equal(JSON.parse(bug!.error!).description, 'Unexpected error: undefined is not a list')
    assert.equal(
      JSON.parse(crash!.error!).description,
      'The worker ended unexpectedly while this task was running. Start it again.',
    )
    assert.equal(after!.state, 'completed')
  })

  test(`${engine}: a task that needs too much memory fails and says so`, async (t) => {
    const { ctx } = await open(t, { memory: 40 })
    const task = await until(ctx, (await run(ctx, 'leak')).id)
    assert.equal(task.state, 'failed')
    assert.match(JSON.parse(task.error!).description, /needed more memory/)
  })

  test(`${engine}: a canceled task that does not stop is stopped, and its thread with it`, async (t) => {
    const { ctx } = await open(t, { cancelPatience: 300 })
    for (const [kind, args] of [
      ['rest', { ms: 60_000 }],
      ['stubborn', {}],
      ['spin', { ms: 60_000 }],
    ] as const) {
      const { id } = await run(ctx, kind, args, ['r'])
      await until(ctx, id, 'running')
      assert.equal((await cancelTask(ctx, id)).task.state, 'canceling')
      assert.equal((await until(ctx, id)).state, 'canceled', kind)
    }
    assert.equal((await until(ctx, (await run(ctx, 'note', { text: 'free' }, ['r'])).id)).state, 'completed')
  })

  test(`${engine}: a task that no thread has is ended once that cannot be a thread's slow start with it`, async (t) => {
    const { ctx, worker } = await open(t, { lostPatience: 500 })
    // Waits for another, so that no thread takes it before this does, as one that crashes right after would.
    const before = await run(ctx, 'gate', {}, ['r'])
    const { id } = await run(ctx, 'note', { text: 'lost' }, ['r'])
    await until(ctx, before.id, 'running')
    await ctx.db.updateTable('task').set({ state: 'running', worker_id: worker.id, token: 1 }).where('id', '=', id).execute()
    const { state, error } = await until(ctx, id)
    assert.equal(state, 'failed')
    assert.match(JSON.parse(error!).description, /^The worker ended unexpectedly/)
    assert.equal((await getTask(ctx.db, before.id)).state, 'running')
    await ctx.db.insertInto('setting').values({ key: 'gate', value: 'open' }).execute()
    assert.equal((await until(ctx, before.id)).state, 'completed')
  })

  test(`${engine}: tasks leave the processor to those who answer requests`, { skip: process.platform !== 'linux' }, async (t) => {
    const { ctx } = await open(t)
    const ours = getPriority()
    await until(ctx, (await run(ctx, 'priority')).id)
    const { value } = await ctx.db.selectFrom('setting').select('value').where('key', '=', 'notes').executeTakeFirstOrThrow()
    assert.equal(Number(value), ours + 5)
    assert.equal(getPriority(), ours)
  })

  test(`${engine}: threads end when there is nothing to do, and come back`, async (t) => {
    const { ctx } = await open(t, { idle: 50 })
    for (let round = 0; round < 3; round++) {
      assert.equal((await until(ctx, (await run(ctx, 'note', { text: 'x' })).id)).state, 'completed')
      await sleep(round * 60)
    }
  })

  test(`${engine}: many tasks dispatched one by one are all done without delay`, async (t) => {
    const { ctx } = await open(t)
    await until(ctx, (await run(ctx, 'note', { text: 'warm' })).id)
    const waits: number[] = []
    for (let index = 0; index < 20; index++) {
      const { created, started } = await until(ctx, (await run(ctx, 'rest', { ms: 0 })).id)
      waits.push((started! - created) / 1000)
    }
    // Half of them: where a task is only found by the look once a second, most wait for it.
    assert.ok(waits.toSorted((a, b) => a - b)[10]! < 250, `they waited ${waits.join()} ms`)
  })

  test(`${engine}: stopping leaves no task running`, async (t) => {
    const { ctx, pool } = await open(t)
    const tasks = [
      await run(ctx, 'rest', { ms: 60_000 }),
      await run(ctx, 'spin', { ms: 60_000 }),
      await run(ctx, 'note', { text: 'later' }),
    ]
    await until(ctx, tasks[0]!.id, 'running')
    await until(ctx, tasks[1]!.id, 'running')
    await pool.stop(200)
    const [rest, spin, later] = await Promise.all(tasks.map(({ id }) => getTask(ctx.db, id)))
    for (const task of [rest!, spin!]) {
      assert.equal(task.state, 'failed')
      assert.equal(JSON.parse(task.error!).description, 'The server stopped while this task was running. Start it again.')
    }
    assert.equal(later!.state, 'waiting')
  })
})
