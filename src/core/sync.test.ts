import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pino } from 'pino'
import { forEachDatabase } from '../../tests/databases.ts'
import { file } from '../formats/file/index.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Db } from '../store/database.ts'
import { openCtx } from './open.ts'
import { publishVersion } from './publish.ts'
import { syncRepository } from './sync.ts'
import type { Job } from './tasks/tasks.ts'
import { contentOf, insertFirstVersion, latestVersion } from './versions.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: a sync makes a version of what the upstream lists, with its bytes`, async (t) => {
    const { upstream, sync, paths, job } = await setUp(t, open)
    upstream.files = { a: 'one', 'dir/b': 'two' }
    await sync()
    assert.deepEqual(await paths(), ['a', 'dir/b'])
    assert.match(job.made[0]!, /^prn:core\.repositoryversion:/)
    assert.deepEqual(await text(job, 'two'), 'two')
  })

  test(`${engine}: an unchanged upstream costs one request and makes nothing`, async (t) => {
    const { upstream, sync, job } = await setUp(t, open)
    upstream.files = { a: 'one' }
    await sync()
    upstream.requests.length = 0
    job.made.length = 0
    await sync()
    assert.deepEqual(upstream.requests, ['/PULP_MANIFEST'])
    assert.deepEqual(job.made, [])
    assert.ok(job.reports.has('sync.was_skipped'))
  })

  test(`${engine}: additive keeps what is gone upstream and replaces what changed; a mirror follows`, async (t) => {
    const { upstream, sync, paths, ctx, repositoryId } = await setUp(t, open)
    upstream.files = { a: 'one', b: 'two' }
    await sync()
    upstream.files = { a: 'new', c: 'three' }
    await sync()
    assert.deepEqual(await paths(), ['a', 'b', 'c'])
    assert.deepEqual(JSON.parse((await latestVersion(ctx.db, repositoryId)).counts), {
      'file.file': { present: 3, added: 2, removed: 1 },
    })
    await sync({ mirror: true })
    assert.deepEqual(await paths(), ['a', 'c'])
  })

  test(`${engine}: a file whose bytes are not what the manifest says fails the sync, names it, and nothing is visible`, async (t) => {
    const { upstream, sync, paths, ctx, repositoryId } = await setUp(t, open)
    upstream.files = { good: 'one', bad: 'two' }
    upstream.lies = { bad: 'twx' }
    await assert.rejects(sync(), { name: 'Failure', message: /bad/ })
    assert.deepEqual(await paths(), [])
    assert.equal((await latestVersion(ctx.db, repositoryId)).number, 0)
  })

  test(`${engine}: a size that the manifest had wrong is forgotten with it`, async (t) => {
    const { upstream, sync, paths } = await setUp(t, open)
    upstream.files = { a: 'one' }
    upstream.sizes = { a: 30 }
    await assert.rejects(sync(), { name: 'Failure', message: /a/ })
    upstream.sizes = {}
    await sync()
    assert.deepEqual(await paths(), ['a'])
  })

  test(`${engine}: what an interrupted sync has fetched is not fetched again`, async (t) => {
    const { upstream, sync, paths } = await setUp(t, open)
    upstream.files = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`f${index}`, `body ${index}`]))
    upstream.lies = { f29: 'wrong!!' }
    await assert.rejects(sync())
    const fetched = new Set(upstream.requests)
    upstream.lies = {}
    upstream.requests.length = 0
    await sync()
    assert.equal((await paths()).length, 30)
    const twice = upstream.requests.filter((path) => fetched.has(path) && path !== '/PULP_MANIFEST')
    // Those under way when the sync failed may be asked for once more, at most as many as run at once.
    assert.ok(twice.length <= 10, `${twice.length} files were fetched twice`)
  })

  test(`${engine}: on_demand stores no bytes but where to get them`, async (t) => {
    const { upstream, sync, paths, ctx } = await setUp(t, open, 'on_demand')
    upstream.files = { a: 'one' }
    await sync()
    assert.deepEqual(await paths(), ['a'])
    assert.deepEqual(upstream.requests, ['/PULP_MANIFEST'])
    const [source] = await ctx.db
      .selectFrom('source')
      .innerJoin('file', 'file.id', 'source.file_id')
      .select(['source.url', 'file.blob_id'])
      .execute()
    assert.equal(source?.blob_id, null)
    assert.match(source.url, /\/a$/)
  })

  test(`${engine}: a mirror publishes the upstream's own manifest, however large`, async (t) => {
    const { upstream, sync, ctx, job } = await setUp(t, open, 'on_demand')
    upstream.files = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`file-${index}`, `body ${index}`]))
    await sync({ mirror: true })
    assert.match(job.made[1]!, /^prn:file\.filepublication:/)
    const published = await ctx.db
      .selectFrom('published_file')
      .innerJoin('blob', 'blob.id', 'published_file.blob_id')
      .select(['path', 'sha256', 'size'])
      .executeTakeFirstOrThrow()
    assert.equal(published.path, 'PULP_MANIFEST')
    assert.ok(published.size > 200_000)
    assert.equal(await ctx.blobs.size(published.sha256), published.size)
  })

  test(`${engine}: a publication lists the files, and asking again gives the same one`, async (t) => {
    const { upstream, sync, ctx, repositoryId, job } = await setUp(t, open)
    upstream.files = { a: 'one', b: 'two' }
    await sync()
    const { id } = await latestVersion(ctx.db, repositoryId)
    job.made.length = 0
    await publishVersion(job, { versionId: id, asked: {} })
    await publishVersion(job, { versionId: id, asked: {} })
    assert.equal(job.made.length, 2)
    assert.equal(job.made[0], job.made[1])
    await publishVersion(job, { versionId: id, asked: { manifest: 'LIST' } })
    assert.notEqual(job.made[2], job.made[0])
    const files = await ctx.db
      .selectFrom('published_file')
      .innerJoin('blob', 'blob.id', 'published_file.blob_id')
      .select(['path', 'sha256'])
      .execute()
    assert.deepEqual(files.map(({ path }) => path).sort(), ['LIST', 'PULP_MANIFEST'])
    const manifest = Buffer.concat(await (await ctx.blobs.open(files[0]!.sha256)).toArray()).toString()
    assert.equal(manifest, `a,${digest('one')},3\nb,${digest('two')},3\n`)
  })
})

function digest(body: string): string {
  return createHash('sha256').update(body).digest('hex')
}

async function text({ ctx }: Job, body: string): Promise<string> {
  return Buffer.concat(await (await ctx.blobs.open(digest(body))).toArray()).toString()
}

/** An upstream of plain files, a repository that is synced from it, and a job to act in. */
async function setUp(t: TestContext, open: (t: TestContext) => Promise<Db>, policy = 'immediate') {
  const upstream = await startUpstream(t)
  const db = await open(t)
  const data = await mkdtemp(join(tmpdir(), 'signalbox-sync-'))
  t.after(() => rm(data, { recursive: true, force: true }))
  const opened = await openCtx({ data, database: ':memory:', formats: [file], log: pino({ level: 'silent' }) })
  t.after(() => opened[Symbol.asyncDispose]())
  const ctx = { ...opened, db }
  const common = { uuid: newUuid(), type: 'file.file', name: 'r', labels: '{}', created: 1, updated: 1, settings: '{}' }
  const remote = await db
    .insertInto('remote')
    .values({ ...common, url: `${upstream.url}/PULP_MANIFEST`, policy, secrets: '{}', settings: '{"max_retries":0}' })
    .returning('id')
    .executeTakeFirstOrThrow()
  const repository = await db
    .insertInto('repository')
    .values({ ...common, autopublish: 0, next_version: 1 })
    .returning('id')
    .executeTakeFirstOrThrow()
  await db.transaction().execute((tx) => insertFirstVersion(tx, repository.id))
  const job = openJob(ctx)
  return {
    upstream,
    ctx,
    job,
    repositoryId: repository.id,
    sync: (settings: Record<string, unknown> = {}) =>
      syncRepository(job, { repositoryId: repository.id, remoteId: remote.id, settings }),
    async paths() {
      const version = await latestVersion(db, repository.id)
      const rows = await contentOf(db, version)
        .innerJoin('file', 'file.content_id', 'content.id')
        .select('file.path')
        .orderBy('file.path')
        .execute()
      return rows.map(({ path }) => path)
    },
  }
}

function openJob(ctx: Job['ctx']) {
  const made: string[] = []
  const reports = new Set<string>()
  return {
    ctx,
    made,
    reports,
    task: { id: 1, uuid: newUuid(), userId: null, cid: '' },
    progress: { report: (code: string) => void reports.add(code) },
    signal: new AbortController().signal,
    created: async (prn: string) => void made.push(prn),
    hold: async () => {},
  }
}

async function startUpstream(t: TestContext) {
  const none: Record<string, string> = {}
  const upstream = { url: '', requests: [] as string[], files: none, lies: none, sizes: {} as Record<string, number> }
  const server = createServer((request, response) => {
    const path = request.url ?? '/'
    upstream.requests.push(path)
    const manifest = Object.entries(upstream.files).map(
      ([name, body]) => `${name},${digest(body)},${upstream.sizes[name] ?? body.length}\n`,
    )
    const body = path === '/PULP_MANIFEST' ? manifest.join('') : (upstream.lies[path.slice(1)] ?? upstream.files[path.slice(1)])
    if (body === undefined) return void response.writeHead(404).end()
    response.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (typeof address === 'object' && address) upstream.url = `http://127.0.0.1:${address.port}`
  return upstream
}
