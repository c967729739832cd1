import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { testWorks } from '../../../tests/fixtures/works.ts'
import { addFile, addRepository } from '../../../tests/serving.ts'
import { file } from '../../formats/file/index.ts'
import { Failure } from '../../lib/failure.ts'
import { openLog } from '../../lib/log.ts'
import { now } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx, TaskRunner } from '../ctx.ts'
import { type ModifyArgs, modifyRepository } from '../modify.ts'
import { openCtx } from '../open.ts'
import { abandonTasks, claimTask, inThisThread, runTask } from './run-tasks.ts'
import {
  cancelTask,
  cancelTaskGroup,
  createTaskGroup,
  deleteTask,
  dispatchTask,
  getTask,
  type Job,
  type NewTask,
} from './tasks.ts'
import { latestVersion } from '../versions.ts'
import { failInterrupted, registerWorker } from './workers.ts'

const defaults = { name: 'test', kind: 'note', args: {}, userId: null, cid: 'cid' }

forEachDatabase((engine, _open, make) => {
  /** A context in which tasks only wait, unless a runner is given. */
  async function open(t: TestContext, run = false, more: TaskRunner['works'] = {}) {
    const data = await mkdtemp(join(tmpdir(), 'signalbox-tasks-'))
    const works = { ...testWorks, ...more }
    const runner = run ? inThisThread(works, 8) : () => ({ works, wake() {} })
    const ctx = await openCtx({ data, database: await make(t), formats: [file], log: openLog('silent'), runner })
    t.after(async () => {
      if (ctx.tasks && 'idle' in ctx.tasks) await (ctx.tasks.idle as () => Promise<void>)()
      await ctx[Symbol.asyncDispose]()
      await rm(data, { recursive: true, force: true })
    })
    return ctx
  }
  const idle = (ctx: Ctx) => (ctx.tasks as ReturnType<ReturnType<typeof inThisThread>>).idle()
  const notes = async (ctx: Ctx) =>
    (await ctx.db.selectFrom('setting').select('value').where('key', '=', 'notes').executeTakeFirst())?.value.split(' ') ?? []
  const note = (ctx: Ctx, text: string, task: Partial<NewTask> = {}, ms = 0) =>
    dispatchTask(ctx, { ...defaults, args: { text, ms }, ...task })

  test(`${engine}: tasks on one exclusive resource run one after another, in the order in which they came`, async (t) => {
    const ctx = await open(t, true)
    for (const text of ['a', 'b', 'c', 'd']) await note(ctx, text, { exclusive: ['repository'] }, 20)
    await idle(ctx)
    assert.deepEqual(await notes(ctx), ['+a', '-a', '+b', '-b', '+c', '-c', '+d', '-d'])
  })

  test(`${engine}: readers of a resource run together, and wait for a writer before them`, async (t) => {
    const ctx = await open(t, true)
    await note(ctx, 'w', { exclusive: ['r'] }, 500)
    await note(ctx, 'x', { shared: ['r'] }, 1500)
    await note(ctx, 'y', { shared: ['r'] }, 1500)
    await note(ctx, 'v', { exclusive: ['r'] })
    await note(ctx, 'free', { exclusive: ['other'] })
    await idle(ctx)
    const order = await notes(ctx)
    const at = (text: string) => order.indexOf(text)
    assert.ok(at('-w') < at('+x') && at('-w') < at('+y'))
    assert.ok(at('+y') < at('-x') && at('+x') < at('-y'), 'both readers are at work at once')
    assert.ok(at('+v') > at('-x') && at('+v') > at('-y'), 'the later writer waits for both')
    assert.ok(at('+free') < at('-w') || at('+free') < at('+x'), 'what needs nothing of it does not wait')
  })

  test(`${engine}: a reader that came after a waiting writer does not overtake it`, async (t) => {
    const ctx = await open(t)
    const [reader, writer, late] = [
      await note(ctx, 'reader', { shared: ['r'] }),
      await note(ctx, 'writer', { exclusive: ['r'] }),
      await note(ctx, 'late', { shared: ['r'] }),
    ]
    assert.equal((await claimTask(ctx.db, null))?.task.id, reader.id)
    assert.equal(await claimTask(ctx.db, null), undefined)
    await runTask(ctx, await getTask(ctx.db, reader.id))
    assert.notEqual((await getTask(ctx.db, writer.id)).unblocked, null)
    assert.equal((await getTask(ctx.db, late.id)).unblocked, null)
    assert.equal((await claimTask(ctx.db, null))?.task.id, writer.id)
    assert.equal(await claimTask(ctx.db, null), undefined)
  })

  test(`${engine}: the record names exclusive, then shared resources, the domain last`, async (t) => {
    const ctx = await open(t)
    const task = await note(ctx, 'x', { exclusive: ['prn:a'], shared: ['prn:b', 'prn:a'] })
    const [first, second, third, ...more] = JSON.parse(task.resources)
    assert.deepEqual([first, second, more], ['prn:a', 'shared:prn:b', []])
    assert.match(third, /^shared:prn:core\.domain:[0-9a-f-]{36}$/)
    const other = JSON.parse((await note(ctx, 'y')).resources)
    assert.deepEqual(other, [third])
  })

  test(`${engine}: immediate work is done inside the call when nothing is in its way, else it waits`, async (t) => {
    const ctx = await open(t)
    const done = await note(ctx, 'now', { immediate: true, exclusive: ['d'] })
    assert.equal(done.state, 'completed')
    assert.equal(done.worker_id, null)
    assert.ok(done.created <= done.unblocked! && done.unblocked! <= done.started! && done.started! <= done.finished!)
    await note(ctx, 'first', { exclusive: ['d'] })
    const waiting = await note(ctx, 'second', { immediate: true, exclusive: ['d'] })
    assert.equal(waiting.state, 'waiting')
    assert.deepEqual(await notes(ctx), ['+now', '-now'])
  })

  test(`${engine}: reports and created resources are kept, in order`, async (t) => {
    const ctx = await open(t)
    const task = await note(ctx, '', { kind: 'report', immediate: true })
    const reports = await ctx.db.selectFrom('task_progress').selectAll().where('task_id', '=', task.id).orderBy('code').execute()
    const base = { task_id: task.id, state: 'completed' }
    assert.deepEqual(
      reports.map((report) => ({ ...report })),
      [
        { ...base, code: 'sync.downloading.artifacts', message: 'Downloading Artifacts', total: 3, done: 3, suffix: null },
        { ...base, code: 'sync.parsing.packages', message: 'Parsed Packages', total: 5, done: 5, suffix: 'of many' },
      ],
    )
    const created = await ctx.db
      .selectFrom('task_created')
      .select('object')
      .where('task_id', '=', task.id)
      .orderBy('position')
      .execute()
    assert.deepEqual(
      created.map(({ object }) => object),
      ['prn:core.test:b', 'prn:core.test:a'],
    )
  })

  test(`${engine}: a failure tells its sentence without secrets, a bug that it is one`, async (t) => {
    const ctx = await open(t)
    const failed = await note(ctx, '', { kind: 'fail', immediate: true })
    assert.equal(failed.state, 'failed')
    const sentence = 'The upstream https://example.org/x?… answered 503 three times.'
    const { description, traceback } = JSON.parse(failed.error!)
    assert.equal(description, sentence)
    assert.ok(traceback.startsWith(`Failure: ${sentence}\n    at `), traceback)
    const bug = await note(ctx, '', { kind: 'bug', immediate: true })
    assert.equal(JSON.parse(bug.error!).description, 'Unexpected error: undefined is not a list')
    assert.match(
      JSON.parse(bug.error!).traceback,
      /^TypeError: undefined is not a list\n +at bug \(tests\/fixtures\/works\.ts:\d+:\d+\)\n/,
    )
    for (const error of [failed.error!, bug.error!])
      assert.ok(!error.includes(process.cwd()), 'where the program lies is not told')
    const unknown = await note(ctx, '', { kind: 'nonsense', immediate: true })
    assert.equal(JSON.parse(unknown.error!).description, 'This server does not know how to do "nonsense".')
    assert.deepEqual(await ctx.db.selectFrom('task_lock').selectAll().execute(), [])
  })

  test(`${engine}: a waiting task is canceled at once, and who waited for it goes on`, async (t) => {
    const ctx = await open(t)
    const first = await note(ctx, 'first', { exclusive: ['r'] })
    const second = await note(ctx, 'second', { exclusive: ['r'] })
    const { task, canceled } = await cancelTask(ctx, first.id)
    assert.deepEqual([task.state, canceled], ['canceled', true])
    assert.notEqual(task.finished, null)
    assert.equal((await claimTask(ctx.db, null))?.task.id, second.id)
    assert.equal((await cancelTask(ctx, first.id)).canceled, false)
    await assert.rejects(cancelTask(ctx, 999), (error) => error instanceof Failure && error.code === 'not_found')
  })

  test(`${engine}: a running task is asked to stop, and ends as canceled`, async (t) => {
    const ctx = await open(t, true)
    const { id } = await note(ctx, '', { kind: 'rest', args: { ms: 60_000 }, exclusive: ['r'] })
    while ((await getTask(ctx.db, id)).state !== 'running') await new Promise((done) => setTimeout(done, 5))
    const { task } = await cancelTask(ctx, id)
    assert.equal(task.state, 'canceling')
    await idle(ctx)
    const ended = await getTask(ctx.db, id)
    assert.deepEqual([ended.state, ended.error], ['canceled', null])
    assert.deepEqual(await ctx.db.selectFrom('task_lock').selectAll().execute(), [])
  })

  test(`${engine}: canceling a group cancels what of it has not finished`, async (t) => {
    const ctx = await open(t)
    const group = await createTaskGroup(ctx.db, 'prune')
    const done = await note(ctx, 'done', { groupId: group.id, immediate: true })
    const waiting = await note(ctx, 'waiting', { groupId: group.id })
    assert.equal(await cancelTaskGroup(ctx, group.id), 1)
    assert.equal((await getTask(ctx.db, done.id)).state, 'completed')
    assert.equal((await getTask(ctx.db, waiting.id)).state, 'canceled')
  })

  test(`${engine}: two who claim at once never get the same task`, async (t) => {
    const ctx = await open(t)
    const tasks = []
    for (let index = 0; index < 40; index++) tasks.push(await note(ctx, String(index)))
    const claims = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const mine: number[] = []
        for (let claim = await claimTask(ctx.db, null); claim; claim = await claimTask(ctx.db, null)) mine.push(claim.task.id)
        return mine
      }),
    )
    assert.deepEqual(
      claims.flat().sort((a, b) => a - b),
      tasks.map(({ id }) => id),
    )
  })

  test(`${engine}: a run that lost its task cannot finish it any more`, async (t) => {
    const ctx = await open(t)
    const { id } = await note(ctx, 'x', { exclusive: ['r'] })
    const lost = (await claimTask(ctx.db, null))!.task
    assert.equal(await failInterrupted(ctx.db), engine === 'SQLite' ? 1 : 0)
    if (engine === 'SQLite') {
      await runTask(ctx, lost)
      const task = await getTask(ctx.db, id)
      assert.equal(task.state, 'failed')
      assert.equal(JSON.parse(task.error!).description, 'The server stopped while this task was running. Start it again.')
    }
  })

  for (const [what, take] of [
    ['was taken for lost', (ctx: Ctx, task: Row<'task'>) => abandonTasks(ctx.db, [task], 'lost')],
    ['was canceled', (ctx: Ctx, task: Row<'task'>) => cancelTask(ctx, task.id)],
  ] as const)
    test(`${engine}: a run whose task ${what} changes no repository any more, though nothing told it`, async (t) => {
      const gate = Promise.withResolvers<void>()
      const modify = async (job: Job, args: ModifyArgs) => {
        await gate.promise
        await modifyRepository(job, args)
      }
      const ctx = await open(t, false, { modify })
      const { id: repositoryId } = await addRepository(ctx, 'file', 0)
      const add = [(await addFile(ctx, 'a', {})).contentId]
      const run = async () => {
        await note(ctx, '', { kind: 'modify', args: { repositoryId, add, remove: [] } })
        const { task } = (await claimTask(ctx.db, null))!
        return { task, ended: runTask(ctx, task) }
      }
      const lost = await run()
      await take(ctx, lost.task)
      gate.resolve()
      await lost.ended
      assert.equal((await latestVersion(ctx.db, repositoryId)).number, 0)
      assert.notEqual((await getTask(ctx.db, lost.task.id)).state, 'completed')
      const again = await run()
      await again.ended
      assert.equal((await getTask(ctx.db, again.task.id)).state, 'completed')
      assert.equal((await latestVersion(ctx.db, repositoryId)).number, 1)
    })

  test(`${engine}: the tasks of a worker that shows no life are failed, those of a living one are not`, async (t) => {
    const ctx = await open(t)
    await using living = await registerWorker(ctx)
    await using dead = await registerWorker(ctx)
    const [kept, lost] = [await note(ctx, 'kept'), await note(ctx, 'lost')]
    await claimTask(ctx.db, living.worker.id)
    await claimTask(ctx.db, dead.worker.id)
    if (engine === 'PostgreSQL') {
      await ctx.db
        .updateTable('worker')
        .set({ heartbeat: now() - 40_000_000 })
        .where('id', '=', dead.worker.id)
        .execute()
      await failInterrupted(ctx.db)
      assert.equal((await getTask(ctx.db, kept.id)).state, 'running')
      assert.equal((await getTask(ctx.db, lost.id)).state, 'failed')
      assert.equal(await failInterrupted(ctx.db, living.worker.uuid), 1)
    } else assert.equal(await failInterrupted(ctx.db), 2)
  })

  test(`${engine}: finished tasks can be deleted and purged, unfinished ones not`, async (t) => {
    const ctx = await open(t)
    const [one, two] = [
      await note(ctx, '', { kind: 'report', immediate: true }),
      await note(ctx, '', { kind: 'fail', immediate: true }),
    ]
    const waiting = await note(ctx, 'waiting')
    await assert.rejects(deleteTask(ctx.db, waiting.id), (error) => error instanceof Failure && error.code === 'conflict')
    await deleteTask(ctx.db, two.id)
    await assert.rejects(getTask(ctx.db, two.id), (error) => error instanceof Failure && error.code === 'not_found')

    const { purgeTasks } = await import('./tasks.ts')
    const counts = new Map<string, number>()
    const purger = await note(ctx, 'purge')
    const progress = {
      report: (code: string, _: string, { done, add }: { done?: number; add?: number }) =>
        void counts.set(code, (done ?? counts.get(code) ?? 0) + (add ?? 0)),
    }
    const job = {
      ctx,
      task: { id: purger.id, uuid: purger.uuid, userId: null, cid: '' },
      progress,
      signal: new AbortController().signal,
      created: async () => {},
      hold: async () => {},
    }
    await purgeTasks(job, { finishedBefore: one.finished!, states: ['completed'], onlyOf: null })
    assert.equal((await getTask(ctx.db, one.id)).id, one.id)
    await purgeTasks(job, { finishedBefore: now(), states: ['completed'], onlyOf: null })
    await assert.rejects(getTask(ctx.db, one.id))
    assert.equal(counts.get('purge.tasks.key.core.Task'), 1)
    assert.equal(counts.get('purge.tasks.key.core.ProgressReport'), 2)
    assert.equal(counts.get('purge.tasks.total'), 5)
    assert.equal((await getTask(ctx.db, waiting.id)).state, 'waiting')
  })

  test(`${engine}: a long queue behind one resource costs little to look at`, async (t) => {
    const ctx = await open(t)
    for (let index = 0; index < 500; index++) await note(ctx, 'x', { exclusive: ['distributions'], shared: ['guard'] })
    await claimTask(ctx.db, null)
    const times: number[] = []
    for (let look = 0; look < 3; look++) {
      const from = performance.now()
      assert.equal(await claimTask(ctx.db, null), undefined)
      times.push(performance.now() - from)
    }
    // The shortest: other work on the machine only ever makes it longer.
    assert.ok(Math.min(...times) < 200, `took ${times.join()} ms`)
  })
})
