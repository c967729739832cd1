import assert from 'node:assert/strict'
import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { sql } from 'kysely'
import { forEachDatabase } from '../../tests/databases.ts'
import { addRepository, openTestCtx } from '../../tests/serving.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { engineOf } from '../store/database.ts'
import { beginBlobUpload, endBlobUpload, findBlobUpload, tidyBlobUploads } from './blob-uploads.ts'
import type { Ctx } from './ctx.ts'

const hour = 3_600_000_000
const week = 7 * 24 * hour

forEachDatabase((engine, open) => {
  test(`${engine}: an upload is found by its user in its repository, until it ends`, async (t) => {
    const ctx = await openTestCtx(t, await open(t))
    const [one, other] = [await addRepository(ctx), await addRepository(ctx)]
    const { uuid } = await beginBlobUpload(ctx.db, one.id, null)
    await add(ctx, uuid)
    assert.equal((await findBlobUpload(ctx.db, uuid, one.id, null))?.uuid, uuid)
    assert.equal(await findBlobUpload(ctx.db, uuid, other.id, null), undefined)
    assert.equal(await findBlobUpload(ctx.db, uuid, one.id, 1), undefined)
    await endBlobUpload(ctx, uuid)
    assert.equal(await findBlobUpload(ctx.db, uuid, one.id, null), undefined)
    assert.equal(await ctx.blobs.growing.size(uuid), 0)
  })

  test(`${engine}: beginning an upload does not make later changes less durable`, async (t) => {
    const ctx = await openTestCtx(t, await open(t))
    const repository = await addRepository(ctx)
    const setting = async () => {
      const { rows } =
        engineOf(ctx.db) === 'sqlite'
          ? await sql<{ setting: unknown }>`select synchronous as setting from pragma_synchronous`.execute(ctx.db)
          : await sql<{ setting: unknown }>`select current_setting('synchronous_commit') as setting`.execute(ctx.db)
      return rows[0]?.setting
    }
    const before = await setting()
    await Promise.all(Array.from({ length: 5 }, () => beginBlobUpload(ctx.db, repository.id, null)))
    assert.equal(await setting(), before)
    if (engineOf(ctx.db) === 'sqlite') assert.equal(before, 2)
  })

  test(`${engine}: uploads that rested for a week go, and bytes whose upload is gone`, async (t) => {
    const ctx = await openTestCtx(t, await open(t))
    const repository = await addRepository(ctx)
    const begin = async (age: number, written: number | undefined) => {
      const { uuid } = await beginBlobUpload(ctx.db, repository.id, null)
      await ctx.db
        .updateTable('blob_upload')
        .set({ created: now() - age })
        .where('uuid', '=', uuid)
        .execute()
      if (written !== undefined) await add(ctx, uuid, written)
      return uuid
    }
    const kept = [
      await begin(0, undefined),
      await begin(week - hour, undefined),
      await begin(0, 0),
      await begin(2 * week, hour),
      await begin(2 * week, week - hour),
    ]
    const gone = [await begin(week + hour, undefined), await begin(2 * week, week + hour)]
    const strays = { fresh: newUuid(), old: newUuid() }
    await add(ctx, strays.fresh)
    await add(ctx, strays.old, 2 * hour)
    await tidyBlobUploads(ctx)
    const rows = await ctx.db.selectFrom('blob_upload').select('uuid').execute()
    assert.deepEqual(rows.map(({ uuid }) => uuid).sort(), kept.toSorted())
    const names = (await Array.fromAsync(ctx.blobs.growing.list())).map(({ name }) => name)
    assert.deepEqual(names.sort(), [...kept.slice(2), strays.fresh].sort())
    for (const uuid of gone) assert.equal(await ctx.blobs.growing.size(uuid), 0)
  })
})

/** Adds bytes to an upload, some time ago. */
async function add(ctx: Ctx, uuid: string, age = 0) {
  await ctx.blobs.growing.append(uuid, bytes(), { from: 0 })
  const time = new Date((now() - age) / 1000)
  await utimes(join(ctx.config.dataDirectory, 'blobs', 'growing', uuid), time, time)
}

async function* bytes() {
  yield Buffer.from('hello')
}
