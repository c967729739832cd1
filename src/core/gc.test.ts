import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { forEachDatabase } from '../../tests/databases.ts'
import { openLog } from '../lib/log.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { saveBlob } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { ContentType, Format } from './format.ts'
import { deleteStrays } from './gc.ts'
import { maintenanceWorks } from './maintenance.ts'
import { openCtx } from './open.ts'
import { inThisThread } from './tasks/run-tasks.ts'
import { dispatchTask } from './tasks/tasks.ts'
import { addChunk, chunksOf, createUpload, tidyUploads, writeChunk } from './uploads.ts'

const hour = 3_600_000_000
const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex')

forEachDatabase((engine, _open, make) => {
  async function open(t: TestContext) {
    const data = await mkdtemp(join(tmpdir(), 'signalbox-gc-'))
    const type = { name: 'file', files: 'one', model: 'FileContent' } as ContentType
    const formats = [{ name: 'file', contentTypes: [type], pulp: { model: 'File' } } as unknown as Format]
    const ctx = await openCtx({
      data,
      database: await make(t),
      formats,
      log: openLog('silent'),
      runner: inThisThread(maintenanceWorks),
    })
    t.after(async () => {
      await ctx[Symbol.asyncDispose]()
      await rm(data, { recursive: true, force: true })
    })
    return ctx
  }

  /** Runs one task to its end. */
  async function run(ctx: Ctx, kind: string, args: Record<string, unknown> = {}) {
    const task = await dispatchTask(ctx, { name: kind, kind, args, userId: null, cid: 'cid', immediate: true })
    const reports = await ctx.db.selectFrom('task_progress').selectAll().where('task_id', '=', task.id).execute()
    const created = await ctx.db.selectFrom('task_created').select('object').where('task_id', '=', task.id).execute()
    const error = task.error ? (JSON.parse(task.error).description as string) : undefined
    return {
      state: task.state,
      error,
      done: Object.fromEntries(reports.map(({ code, done }) => [code, done])),
      created: created.map(({ object }) => object),
    }
  }

  async function store(ctx: Ctx, bytes: string | Buffer): Promise<{ id: number; sha256: string }> {
    await using staged = await ctx.blobs.stage(chunks(bytes))
    await staged.keep()
    return { id: await saveBlob(ctx.db, staged.digests, staged.size), sha256: staged.digests.sha256 }
  }

  /** A unit of content with one file. */
  async function content({ db }: Pick<Ctx, 'db'>, key: string, blobId: number | null, size = 1) {
    const at = now()
    const base = { type: 'file.file', variant: '', slot: key, meta: '{}', labels: '{}', entry_at: 0, entry_length: 0 }
    const pack = await db
      .insertInto('pack')
      .values({ bytes: Buffer.from('pack') })
      .returning('id')
      .executeTakeFirstOrThrow()
    const row = { ...base, uuid: newUuid(), key, pack_id: pack.id, created: at, updated: at, touched: at }
    const { id } = await db.insertInto('content').values(row).returning('id').executeTakeFirstOrThrow()
    const file = await db
      .insertInto('file')
      .values({ content_id: id, path: key, name: key, blob_id: blobId, size })
      .returning('id')
      .executeTakeFirstOrThrow()
    return { id, fileId: file.id, packId: pack.id }
  }

  async function repository({ db }: Pick<Ctx, 'db'>, name: string, contentIds: number[]) {
    const at = now()
    const base = { uuid: newUuid(), labels: '{}', settings: '{}', created: at, updated: at }
    const { id } = await db
      .insertInto('repository')
      .values({ ...base, type: 'file.file', name, autopublish: 0, next_version: 2 })
      .returning('id')
      .executeTakeFirstOrThrow()
    const version = await db
      .insertInto('version')
      .values({ uuid: newUuid(), repository_id: id, number: 1, counts: '{}', created: at, updated: at })
      .returning('id')
      .executeTakeFirstOrThrow()
    for (const content_id of contentIds)
      await db.insertInto('membership').values({ repository_id: id, content_id, added_in: 1 }).execute()
    return { id, versionId: version.id }
  }

  async function source(ctx: Ctx, fileIds: number[], url: string) {
    const at = now()
    const base = { uuid: newUuid(), labels: '{}', settings: '{}', created: at, updated: at }
    const { id } = await ctx.db
      .insertInto('remote')
      .values({ ...base, type: 'file.file', name: `remote ${newUuid()}`, url, policy: 'immediate', secrets: '{}' })
      .returning('id')
      .executeTakeFirstOrThrow()
    for (const file_id of fileIds) {
      const { path } = await ctx.db.selectFrom('file').select('path').where('id', '=', file_id).executeTakeFirstOrThrow()
      await ctx.db.insertInto('source').values({ file_id, remote_id: id, url: path }).execute()
    }
  }
  const count = async (ctx: Ctx, table: 'content' | 'blob' | 'pack' | 'file') =>
    Number(
      (
        await ctx.db
          .selectFrom(table)
          .select(({ fn }) => fn.countAll<number>().as('n'))
          .executeTakeFirstOrThrow()
      ).n,
    )

  test(`${engine}: bytes that were stored again stay, however late their row is made`, async (t) => {
    const ctx = await open(t)
    const { sha256: digest } = await store(ctx, 'again')
    await ctx.db
      .updateTable('blob')
      .set({ touched: now() - hour })
      .execute()
    await using staged = await ctx.blobs.stage(chunks('again'))
    await staged.keep()
    // Meanwhile, before the row is made anew, all of a collection.
    const { state, done } = await run(ctx, 'orphans', { protectionTime: 0 })
    assert.deepEqual([state, done['clean-up.artifacts']], ['completed', 1])
    await saveBlob(ctx.db, staged.digests, staged.size)
    assert.equal(await ctx.blobs.size(digest), 5)
  })

  test(`${engine}: what is in no version goes, with its files, pack and bytes; what is in one stays`, async (t) => {
    const ctx = await open(t)
    const [kept, lost, alone, shared] = [
      await store(ctx, 'kept'),
      await store(ctx, 'lost'),
      await store(ctx, 'alone'),
      await store(ctx, 'shared'),
    ]
    const member = await content(ctx, 'member', kept.id)
    await content(ctx, 'orphan', lost.id)
    await content(ctx, 'orphan 2', shared.id)
    const second = await content(ctx, 'member 2', shared.id)
    await repository(ctx, 'r', [member.id, second.id])
    const { state, done } = await run(ctx, 'orphans', { protectionTime: 0 })
    assert.equal(state, 'completed')
    assert.deepEqual(done, { 'clean-up.content': 2, 'clean-up.artifacts': 2 })
    assert.deepEqual(
      [await count(ctx, 'content'), await count(ctx, 'file'), await count(ctx, 'pack'), await count(ctx, 'blob')],
      [2, 2, 2, 2],
    )
    assert.deepEqual(await Promise.all([kept, shared, lost, alone].map((blob) => ctx.blobs.size(blob.sha256))), [
      4,
      6,
      undefined,
      undefined,
    ])
    assert.deepEqual((await run(ctx, 'orphans', { protectionTime: 0 })).done, { 'clean-up.content': 0, 'clean-up.artifacts': 0 })
  })

  test(`${engine}: what was touched within the time of protection stays`, async (t) => {
    const ctx = await open(t)
    await content(ctx, 'young', (await store(ctx, 'young')).id)
    assert.deepEqual((await run(ctx, 'orphans')).done, { 'clean-up.content': 0, 'clean-up.artifacts': 0 })
    const old = now() - 25 * hour
    await ctx.db.updateTable('content').set({ touched: old }).execute()
    await ctx.db.updateTable('blob').set({ touched: old }).execute()
    assert.deepEqual((await run(ctx, 'orphans')).done, { 'clean-up.content': 1, 'clean-up.artifacts': 1 })
    assert.equal(await ctx.blobs.size(sha256('young')), 5, 'bytes that were stored again a moment ago stay')
  })

  test(`${engine}: what a running or waiting task may use stays, whatever the protection`, async (t) => {
    const ctx = await open(t)
    await content(ctx, 'found', (await store(ctx, 'found')).id)
    const at = now()
    const task = { name: 'sync', kind: 'sync', args: '{}', logging_cid: '', token: 1, resources: '[]', created: at, updated: at }
    for (const state of ['waiting', 'running']) {
      await ctx.db
        .insertInto('task')
        .values({ ...task, uuid: newUuid(), state })
        .execute()
      assert.deepEqual((await run(ctx, 'orphans', { protectionTime: 0 })).done, {
        'clean-up.content': 0,
        'clean-up.artifacts': 0,
      })
      await ctx.db.deleteFrom('task').where('state', '=', state).execute()
    }
  })

  test(`${engine}: only the named content goes, and only if it is an orphan`, async (t) => {
    const ctx = await open(t)
    const [one, two, member] = [await content(ctx, '1', null), await content(ctx, '2', null), await content(ctx, '3', null)]
    await repository(ctx, 'r', [member.id])
    const { done } = await run(ctx, 'orphans', { protectionTime: 0, contentIds: [one.id, member.id] })
    assert.equal(done['clean-up.content'], 1)
    const left = await ctx.db.selectFrom('content').select('id').orderBy('id').execute()
    assert.deepEqual(
      left.map(({ id }) => id),
      [two.id, member.id],
    )
  })

  test(`${engine}: a blob that is stored again while its row goes keeps its bytes`, async (t) => {
    const ctx = await open(t)
    const until = performance.now() + 4_000
    const bytes = Array.from({ length: 8 }, () => randomBytes(100))
    let rounds = 0
    const collect = async () => {
      while (performance.now() < until) assert.equal((await run(ctx, 'orphans', { protectionTime: 0 })).state, 'completed')
    }
    const use = async (mine: Buffer, index: number) => {
      for (; performance.now() < until; rounds++) {
        await using staged = await ctx.blobs.stage(chunks(mine))
        await staged.keep()
        // Another thread's collector may run here.
        await new Promise((done) => setTimeout(done, Math.random() * 40))
        const held = await ctx.db.transaction().execute(async (tx) => {
          const unit = await content({ db: tx }, `use ${index} ${rounds}`, await saveBlob(tx, staged.digests, staged.size))
          return repository({ db: tx }, `holds ${index} ${rounds}`, [unit.id])
        })
        for (let look = 0; look < 3; look++) {
          await new Promise((done) => setTimeout(done, 20))
          assert.equal(await ctx.blobs.size(staged.digests.sha256), 100, 'a referenced blob lost its bytes')
        }
        await ctx.db.deleteFrom('repository').where('id', '=', held.id).execute()
      }
    }
    await Promise.all([collect(), collect(), ...bytes.map(use)])
    assert.ok(rounds > 20)
  })

  test(`${engine}: bytes without a row are found and go once they are old`, async (t) => {
    const ctx = await open(t)
    const known = await store(ctx, 'known')
    await using stray = await ctx.blobs.stage(chunks('stray'))
    await stray.keep()
    const { signal } = new AbortController()
    await deleteStrays(ctx, now() - hour, signal)
    assert.equal(await ctx.blobs.size(stray.digests.sha256), 5)
    await deleteStrays(ctx, now() + hour, signal)
    assert.equal(await ctx.blobs.size(stray.digests.sha256), undefined)
    assert.equal(await ctx.blobs.size(known.sha256), 5)
  })

  test(`${engine}: thousands of orphans go quickly`, async (t) => {
    const ctx = await open(t)
    const at = now() - 48 * hour
    await ctx.db.transaction().execute(async (tx) => {
      for (let index = 0; index < 10_000; index++)
        await tx
          .insertInto('blob')
          .values({ uuid: newUuid(), sha256: sha256(String(index)), size: 1, created: at, updated: at, touched: at })
          .execute()
    })
    const from = performance.now()
    assert.equal((await run(ctx, 'orphans')).done['clean-up.artifacts'], 10_000)
    assert.ok(performance.now() - from < 20_000, `took ${performance.now() - from} ms`)
  })

  test(`${engine}: reclaiming frees what can be fetched again and is in no other repository or kept version`, async (t) => {
    const ctx = await open(t)
    const blobs = await Promise.all(['mine', 'ours', 'uploaded', 'kept'].map((text) => store(ctx, text)))
    const [mine, ours, uploaded, kept] = await Promise.all(blobs.map((blob, index) => content(ctx, `${index}`, blob.id)))
    await source(ctx, [mine!.fileId, ours!.fileId, kept!.fileId], 'http://127.0.0.1:1/')
    const first = await repository(ctx, 'first', [mine!.id, ours!.id, uploaded!.id])
    await repository(ctx, 'second', [ours!.id])
    const third = await repository(ctx, 'third', [kept!.id])
    const { done } = await run(ctx, 'reclaim', { repositoryIds: [first.id, third.id], keepVersionIds: [third.versionId] })
    assert.deepEqual(done, { 'reclaim-space.artifact': 1 })
    assert.deepEqual(await Promise.all(blobs.map((blob) => ctx.blobs.size(blob.sha256))), [undefined, 4, 8, 4])
    assert.equal(await count(ctx, 'content'), 4)
  })

  test(`${engine}: repair finds what is missing or damaged and fetches it again where it can`, async (t) => {
    const ctx = await open(t)
    const upstream = createServer((request, response) => response.end(request.url!.slice(1)))
    await new Promise<void>((done) => upstream.listen(0, '127.0.0.1', done))
    t.after(() => void upstream.close())
    const names = ['good', 'missing', 'damaged', 'short', 'hopeless']
    const blobs = await Promise.all(names.map((name) => store(ctx, name)))
    const units = await Promise.all(names.map((name, index) => content(ctx, name, blobs[index]!.id, name.length)))
    await source(
      ctx,
      units.slice(0, 4).map(({ fileId }) => fileId),
      `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/`,
    )
    const { versionId } = await repository(
      ctx,
      'r',
      units.map(({ id }) => id),
    )
    const spoil = async (index: number, bytes: string) => {
      const { sha256 } = blobs[index]!
      await ctx.blobs.delete(sha256)
      if (bytes) await writeFile(join(ctx.config.dataDirectory, 'blobs', 'sha256', sha256.slice(0, 2), sha256.slice(2)), bytes)
    }
    await spoil(1, '')
    await spoil(2, 'DAMAGED')
    await spoil(3, 'sho')
    await spoil(4, 'HOPELESS')
    const quick = await run(ctx, 'repair', { versionId, verifyChecksums: false })
    assert.deepEqual(quick.done, { 'repair.missing': 1, 'repair.corrupted': 1, 'repair.repaired': 2 })
    const whole = await run(ctx, 'repair')
    assert.equal(whole.state, 'completed')
    assert.deepEqual(whole.done, { 'repair.missing': 0, 'repair.corrupted': 2, 'repair.repaired': 1 })
    assert.deepEqual(await Promise.all(blobs.map((blob) => ctx.blobs.size(blob.sha256))), [4, 7, 7, 5, undefined])
    await store(ctx, 'hopeless')
    assert.deepEqual((await run(ctx, 'repair')).done, { 'repair.missing': 0, 'repair.corrupted': 0, 'repair.repaired': 0 })
  })

  test(`${engine}: an upload arrives in chunks in any order and becomes a blob`, async (t) => {
    const ctx = await open(t)
    const upload = await createUpload(ctx, 10)
    const whole = sha256('helloworld')
    const [late, early] = [
      { offset: 5, size: 5, sha256: sha256('world') },
      { offset: 0, size: 5 },
    ]
    await writeChunk(ctx, upload, late, chunks('world'))
    await addChunk(ctx, upload, late)
    assert.equal(
      (await run(ctx, 'commit-upload', { uploadId: upload.id, sha256: whole })).error,
      'The sha256 checksum did not match.',
    )
    await writeChunk(ctx, upload, early, chunks('hello'))
    assert.deepEqual(chunksOf(await addChunk(ctx, upload, early)), [
      [5, 5],
      [0, 5],
    ])
    assert.equal(
      (await run(ctx, 'commit-upload', { uploadId: upload.id, sha256: sha256('x') })).error,
      'The sha256 checksum did not match.',
    )
    const { state, created } = await run(ctx, 'commit-upload', { uploadId: upload.id, sha256: whole })
    assert.equal(state, 'completed')
    const blob = await ctx.db.selectFrom('blob').selectAll().where('sha256', '=', whole).executeTakeFirstOrThrow()
    assert.deepEqual(created, [`prn:core.artifact:${blob.uuid}`])
    assert.ok(blob.sha512 && blob.sha224 && blob.sha384)
    assert.deepEqual(await ctx.db.selectFrom('upload').selectAll().execute(), [])

    const again = await createUpload(ctx, 10)
    await writeChunk(ctx, again, { offset: 0, size: 10 }, chunks('helloworld'))
    await addChunk(ctx, again, { offset: 0, size: 10 })
    const { error } = await run(ctx, 'commit-upload', { uploadId: again.id, sha256: whole })
    assert.equal(error, `Artifact with sha256 checksum of '${whole}' already exists.`)
  })

  test(`${engine}: a chunk that is not what it says is refused, and spoils nothing`, async (t) => {
    const ctx = await open(t)
    const upload = await createUpload(ctx, 10)
    const [late, early] = [
      { offset: 5, size: 5 },
      { offset: 0, size: 5 },
    ]
    await writeChunk(ctx, upload, late, chunks('world'))
    await addChunk(ctx, upload, late)
    const refused = (offset: number, size: number, bytes: string, sha?: string) =>
      writeChunk(ctx, upload, { offset, size, sha256: sha }, chunks(bytes)).then(
        () => 'taken',
        (error: Error) => error.message,
      )
    assert.equal(await refused(6, 5, 'abcde'), 'End byte is greater than upload size.')
    assert.equal(await refused(0, 5, 'hello, you'), 'Chunk size does not match content range.')
    assert.equal(await refused(0, 5, 'hell'), 'Chunk size does not match content range.')
    assert.equal(await refused(0, 5, 'HELLO', sha256('hello')), 'Checksum does not match chunk upload.')
    await writeChunk(ctx, upload, early, chunks('hello'))
    await addChunk(ctx, upload, early)
    assert.equal((await run(ctx, 'commit-upload', { uploadId: upload.id, sha256: sha256('helloworld') })).state, 'completed')
    await writeFile(join(ctx.config.dataDirectory, 'uploads', newUuid()), 'left behind')
    await tidyUploads(ctx)
  })
})

async function* chunks(bytes: string | Buffer) {
  yield Buffer.from(bytes)
}
