import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { forEachDatabase, type OpenTestDatabase } from '../../../tests/databases.ts'
import { addFile, addSource, listen, openTestCtx, sha256 } from '../../../tests/serving.ts'
import { now } from '../../lib/time.ts'
import type { Db } from '../../store/database.ts'
import { fetchFile, type OnDemand, openOnDemand } from './on-demand.ts'

const small = Buffer.from('some bytes\n'.repeat(100))
const large = randomBytes(12 * 1024 * 1024)
const quick = { max_retries: 0 }

forEachDatabase((engine, open) => {
  test(`${engine}: a file is fetched once, for all who ask meanwhile, and stored`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const upstream = await serve(t, small, { wait: 100 })
    const { id } = await addFile(ctx, 'a', facts(small))
    await addSource(ctx, id, `${upstream.origin}/a`)

    const got = await Promise.all(Array.from({ length: 5 }, () => readAll(onDemand, id)))
    for (const bytes of got) assert.deepEqual(bytes, small)
    assert.equal(upstream.requests(), 1)
    await stored(ctx.db, id)
    assert.deepEqual(await readAll(onDemand, id), small)
    assert.equal(upstream.requests(), 1)
    assert.equal(await ctx.blobs.size(sha256(small)), small.length)
  })

  test(`${engine}: a large file is passed on while it arrives, to late comers as well`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const gate = Promise.withResolvers<void>()
    const origin = await listen(t, async (_, res) => {
      res.writeHead(200, { 'content-length': large.length })
      res.write(large.subarray(0, 10_000_000))
      await gate.promise
      res.end(large.subarray(10_000_000))
    })
    const { id } = await addFile(ctx, 'a', facts(large))
    await addSource(ctx, id, `${origin}/a`)

    const first = onDemand.open(id)
    assert.deepEqual(await first.begun(), { size: large.length })
    const bytes = first.read()
    const start_ = (await bytes.next()).value!
    assert.ok(start_.equals(large.subarray(0, start_.length)))
    const late = readAll(onDemand, id)
    gate.resolve()
    const rest = []
    for await (const chunk of bytes) rest.push(chunk)
    first.close()
    assert.ok(Buffer.concat([start_, ...rest]).equals(large))
    assert.ok((await late).equals(large))
  })

  for (const [what, spoil] of [
    ['with a wrong byte', (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1)! ^ 1])])],
    ['too short', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['too long', (bytes: Buffer) => Buffer.concat([bytes, Buffer.from('x')])],
  ] as const) {
    test(`${engine}: of a small file ${what} nothing is passed on, and its source rests`, async (t) => {
      const { ctx, onDemand } = await start(t, open)
      const upstream = await serve(t, spoil(small))
      const { id } = await addFile(ctx, 'a', facts(small))
      await addSource(ctx, id, `${upstream.origin}/a`, 'on_demand', quick)

      await assert.rejects(readAll(onDemand, id), { code: 'upstream' })
      await rested(ctx.db, id)
      await assert.rejects(readAll(onDemand, id), { code: 'upstream' })
      assert.equal(upstream.requests(), 1)
      assert.equal(await ctx.blobs.size(sha256(spoil(small))), undefined)
      await ctx.db
        .updateTable('source')
        .set({ retry_after: now() - 1 })
        .execute()
      await assert.rejects(readAll(onDemand, id))
      assert.equal(upstream.requests(), 2)
    })

    test(`${engine}: a large file ${what} breaks off before its end`, async (t) => {
      const { ctx, onDemand } = await start(t, open)
      const upstream = await serve(t, spoil(large), { chunked: true })
      const { id } = await addFile(ctx, 'a', facts(large))
      await addSource(ctx, id, `${upstream.origin}/a`, 'on_demand', quick)

      const arrival = onDemand.open(id)
      let length = 0
      await assert.rejects(async () => {
        await arrival.begun()
        for await (const chunk of arrival.read()) length += chunk.length
      })
      arrival.close()
      assert.ok(length < large.length)
      await rested(ctx.db, id)
    })
  }

  test(`${engine}: a file of unknown size and checksum is passed on as it is`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    for (const [name, bytes] of Object.entries({ small, large })) {
      const upstream = await serve(t, bytes, { chunked: true })
      const { id } = await addFile(ctx, name, {})
      await addSource(ctx, id, `${upstream.origin}/a`)
      assert.ok((await readAll(onDemand, id)).equals(bytes))
      assert.equal((await stored(ctx.db, id)).size, bytes.length)
    }
  })

  test(`${engine}: a file that breaks off is nobody's, even when nothing is known of it`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const origin = await listen(t, (_, res) => {
      res.writeHead(200, { 'content-length': small.length })
      res.write(small.subarray(0, 100))
      setTimeout(() => res.destroy(), 50)
    })
    const { id } = await addFile(ctx, 'a', {})
    await addSource(ctx, id, `${origin}/a`, 'on_demand', quick)
    await assert.rejects(readAll(onDemand, id), { code: 'upstream' })
  })

  test(`${engine}: the next source is tried while nothing was passed on`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const good = await serve(t, large)
    const missing = await listen(t, (_, res) => res.writeHead(404).end())
    const wrong = await serve(t, small)
    const { id } = await addFile(ctx, 'a', facts(large))
    await addSource(ctx, id, `${good.origin}/a`, 'on_demand', quick)
    await addSource(ctx, id, `${missing}/a`, 'on_demand', quick)
    await addSource(ctx, id, `${wrong.origin}/a`, 'on_demand', quick)
    assert.ok((await readAll(onDemand, id)).equals(large))
    const rows = await ctx.db.selectFrom('source').select('retry_after').orderBy('remote_id').execute()
    assert.deepEqual(
      rows.map(({ retry_after }) => retry_after !== null),
      [false, true, true],
    )
  })

  test(`${engine}: another mirror of the same remote is asked when one is gone, lacks the file, or has wrong bytes`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const asked: string[] = []
    const at = (name: string, answer: RequestListener) =>
      listen(t, (req, res) => {
        asked.push(`${name} ${req.url}`)
        answer(req, res)
      })
    const gone = await at('gone', (_, res) => void res.destroy())
    const lacking = await at('lacking', (_, res) => void res.writeHead(404).end())
    const wrong = await at('wrong', (_, res) => void res.end(Buffer.from(small).fill('x')))
    const short = await at('short', (_, res) => {
      res.writeHead(200, { 'content-length': small.length }).write('some')
      setTimeout(() => res.destroy(), 20)
    })
    const good = await at('good', (_, res) => void res.end(small))
    const { id } = await addFile(ctx, 'p/a', facts(small))
    const remote = await addSource(ctx, id, `${gone}/here/p/a`, 'on_demand', quick)
    const mirrors = [`${gone}/here/`, `${lacking}/`, `${wrong}/there/`, `${short}/`, `${good}/deep/er/`]
    await ctx.db
      .updateTable('remote')
      .set({ url: 'http://127.0.0.1:9/list', mirrors: JSON.stringify(mirrors) })
      .where('id', '=', remote)
      .execute()
    assert.deepEqual(await readAll(onDemand, id), small)
    assert.deepEqual(asked, ['gone /here/p/a', 'lacking /p/a', 'wrong /there/p/a', 'short /p/a', 'good /deep/er/p/a'])
    const { retry_after } = await ctx.db.selectFrom('source').select('retry_after').executeTakeFirstOrThrow()
    assert.equal(retry_after, null)
  })

  test(`${engine}: what comes from a streaming remote is not stored`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const upstream = await serve(t, small)
    const { id } = await addFile(ctx, 'a', facts(small))
    await addSource(ctx, id, `${upstream.origin}/a`, 'streamed')
    assert.deepEqual(await readAll(onDemand, id), small)
    assert.deepEqual(await readAll(onDemand, id), small)
    assert.equal(upstream.requests(), 2)
    assert.equal(await ctx.blobs.size(sha256(small)), undefined)
  })

  test(`${engine}: a streamed download ends when nobody reads it any more`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const closed = Promise.withResolvers<void>()
    const origin = await listen(t, (_, res) => {
      res.writeHead(200, { 'content-length': large.length })
      res.write(large.subarray(0, 10_000_000))
      res.on('close', () => closed.resolve())
    })
    const { id } = await addFile(ctx, 'a', facts(large))
    await addSource(ctx, id, `${origin}/a`, 'streamed')
    const arrival = onDemand.open(id)
    await arrival.begun()
    arrival.close()
    await closed.promise
    await untilTrue(
      async () => (await ctx.db.selectFrom('source').select('retry_after').executeTakeFirstOrThrow()).retry_after === null,
    )
  })

  test(`${engine}: a part can be read once the whole is right`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const upstream = await serve(t, large)
    const { id } = await addFile(ctx, 'a', facts(large))
    await addSource(ctx, id, `${upstream.origin}/a`)
    const arrival = onDemand.open(id)
    assert.deepEqual(await arrival.complete(), { size: large.length, sha256: sha256(large) })
    const part = await buffer(arrival.read({ start: 5_000_000, end: 5_000_999 }))
    arrival.close()
    assert.ok(part.equals(large.subarray(5_000_000, 5_001_000)))
  })

  test(`${engine}: repair fetches what is stored but damaged, and takes nothing but the same bytes`, async (t) => {
    const { ctx } = await start(t, open)
    let body = small
    const origin = await listen(t, (_, res) => res.end(body))
    const { id } = await addFile(ctx, 'a', { size: small.length })
    await addSource(ctx, id, `${origin}/a`, 'streamed', quick)
    assert.equal(await fetchFile(ctx, id), sha256(small))
    await stored(ctx.db, id)
    await ctx.blobs.delete(sha256(small))
    assert.equal(await fetchFile(ctx, id), sha256(small))
    assert.equal(await ctx.blobs.size(sha256(small)), small.length)
    body = Buffer.from(small).fill('x')
    await assert.rejects(fetchFile(ctx, id), { code: 'upstream' })
  })

  test(`${engine}: a file known by a checksum that is not allowed is not fetched`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const upstream = await serve(t, small)
    const { id } = await addFile(ctx, 'a', { size: small.length, checksum: 'md5:d41d8cd98f00b204e9800998ecf8427e' })
    await addSource(ctx, id, `${upstream.origin}/a`)
    await assert.rejects(readAll(onDemand, id), { code: 'upstream' })
    assert.equal(upstream.requests(), 0)
  })

  test(`${engine}: a file without sources, and one that was deleted, cannot be had`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const { id } = await addFile(ctx, 'a', facts(small))
    await assert.rejects(readAll(onDemand, id), { code: 'upstream' })
    await assert.rejects(readAll(onDemand, id + 1), { code: 'not_found' })
  })

  test(`${engine}: stopping ends what is under way, and no source is blamed`, async (t) => {
    const { ctx, onDemand } = await start(t, open)
    const origin = await listen(t, (_, res) => void res.writeHead(200, { 'content-length': 1000 }).write('x'))
    const { id } = await addFile(ctx, 'a', { size: 1000 })
    await addSource(ctx, id, `${origin}/a`)
    const reading = assert.rejects(readAll(onDemand, id))
    await new Promise((resolve) => setTimeout(resolve, 50))
    await onDemand[Symbol.asyncDispose]()
    await reading
    assert.equal((await ctx.db.selectFrom('source').select('retry_after').executeTakeFirstOrThrow()).retry_after, null)
  })
})

async function start(t: TestContext, open: OpenTestDatabase) {
  // What is under way ends before its database does: hooks run in the order of their registration.
  const opened: OnDemand[] = []
  t.after(() => opened[0]?.[Symbol.asyncDispose]())
  const ctx = await openTestCtx(t, await open(t))
  const onDemand = openOnDemand(ctx)
  opened.push(onDemand)
  return { ctx, onDemand }
}

function facts(bytes: Buffer) {
  return { size: bytes.length, checksum: `sha256:${sha256(bytes)}` }
}

async function serve(t: TestContext, bytes: Buffer, { wait = 0, chunked = false } = {}) {
  let count = 0
  const listener: RequestListener = (_, res) => {
    count++
    if (!chunked) res.setHeader('content-length', bytes.length)
    setTimeout(() => {
      res.write(bytes.subarray(0, 10))
      res.end(bytes.subarray(10))
    }, wait)
  }
  return { origin: await listen(t, listener), requests: () => count }
}

async function readAll(onDemand: OnDemand, fileId: number): Promise<Buffer> {
  const arrival = onDemand.open(fileId)
  try {
    return await buffer(arrival.read())
  } finally {
    arrival.close()
  }
}

async function stored(db: Db, fileId: number) {
  const query = db.selectFrom('file').innerJoin('blob', 'blob.id', 'file.blob_id').select(['blob.sha256', 'blob.size'])
  await untilTrue(async () => (await query.where('file.id', '=', fileId).execute()).length === 1)
  return query.where('file.id', '=', fileId).executeTakeFirstOrThrow()
}

async function rested(db: Db, fileId: number): Promise<void> {
  await untilTrue(async () => {
    const { retry_after } = await db
      .selectFrom('source')
      .select('retry_after')
      .where('file_id', '=', fileId)
      .executeTakeFirstOrThrow()
    return retry_after !== null && retry_after > now() + 200_000_000
  })
}

async function untilTrue(look: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; ; ) {
    if (await look()) return
    assert.ok(Date.now() < deadline, 'it took too long')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
