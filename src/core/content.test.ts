import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../tests/databases.ts'
import { openTestCtx } from '../../tests/serving.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Db } from '../store/database.ts'
import { saveContent } from './content.ts'
import type { Described } from './format.ts'

const day = 86_400_000_000

forEachDatabase((engine, open) => {
  test(`${engine}: two syncs that store the same at once, each in its own order, agree and do not hold each other up`, async (t) => {
    const ctx = await openTestCtx(t, await open(t))
    const [one, two] = [await addRemote(ctx.db, 'http://one/'), await addRemote(ctx.db, 'http://two/')]

    for (let round = 0; round < 3; round++) {
      const units = Array.from({ length: 2000 }, (_, index) => unit(`${round} ${index}`, one.url))
      const backwards = units.toReversed()
      const same = async () => {
        const [ids, others] = await Promise.all([saveContent(ctx, units, one), saveContent(ctx, backwards, two)])
        assert.deepEqual(others.toReversed(), ids)
        return ids
      }
      const ids = await same()
      // The next night: all is known, and was not touched for long.
      await ctx.db
        .updateTable('content')
        .set(({ eb }) => ({ touched: eb('touched', '-', day) }))
        .execute()
      assert.deepEqual(await same(), ids)
      const { count } = await ctx.db
        .selectFrom('source')
        .select(({ fn }) => fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      assert.equal(Number(count), 2 * 2000 * (round + 1))
    }
  })
})

async function addRemote(db: Db, url: string) {
  const empty = { labels: '{}', settings: '{}', secrets: '{}', created: 1, updated: 1 }
  return db
    .insertInto('remote')
    .values({ ...empty, uuid: newUuid(), type: 'file.file', name: url, url, policy: 'on_demand' })
    .returning(['id', 'url'])
    .executeTakeFirstOrThrow()
}

function unit(path: string, base: string): Described {
  const urls = [new URL(encodeURIComponent(path), base)]
  return { type: 'file.file', key: path, meta: {}, files: [{ path, size: 3, urls }] }
}
