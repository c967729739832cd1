import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../tests/databases.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Db } from '../store/database.ts'
import { Failure } from '../lib/failure.ts'
import type { ContentType, Format } from './format.ts'
import { takeSlots } from './slots.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: the last one gets the slot of those before it`, async (t) => {
    const { take } = await setUp(await open(t), [
      ['a', 1],
      ['b', 1],
      ['a', 2],
      ['a', 3],
    ])
    assert.deepEqual(await take([3, 2], [1]), { add: [2, 3], remove: [1] })
    assert.deepEqual(await take([3, 4], [1, 2]), { add: [4], remove: [1] })
    // What is held and wanted again stays, unless another one comes after it.
    assert.deepEqual(await take([1], [1, 2]), { add: [1], remove: [] })
    assert.deepEqual(await take([1, 3], [1]), { add: [3], remove: [1] })
    // Nobody minds what is not held.
    assert.deepEqual(await take([3], [2]), { add: [3], remove: [] })
  })

  test(`${engine}: a type may keep the one before, or make one of both`, async (t) => {
    const units: [string, number][] = [
      ['a', 5],
      ['a', 7],
      ['a', 3],
      ['b', 8],
      ['b', -8],
    ]
    const { db, take } = await setUp(await open(t), units, async (before, added) => {
      const [old, fresh] = [before.meta['size'], added.meta['size']]
      if (old + fresh === 0) throw new Failure('conflict', 'They cancel each other.')
      if (old + fresh !== 10) return old > fresh ? 'before' : 'added'
      return { type: 'file.file', key: 'ten', slot: before.slot, meta: { size: 10 }, files: [] }
    })
    assert.deepEqual(await take([1], [2]), { add: [], remove: [] })
    assert.deepEqual(await take([2], [1]), { add: [2], remove: [1] })
    assert.deepEqual(await take([2, 3], [1]), { add: [6], remove: [1] })
    const { meta } = await db.selectFrom('content').selectAll().where('id', '=', 6).executeTakeFirstOrThrow()
    assert.deepEqual(JSON.parse(meta), { size: 10 })
    // Made already, and held: nothing changes.
    assert.deepEqual(await take([2, 3], [6]), { add: [], remove: [] })
    assert.deepEqual(await take([1], [6]), { add: [], remove: [] })
    // Of several that are held nobody knows which one counts.
    assert.deepEqual(await take([1], [2, 3]), { add: [1], remove: [2, 3] })
    await assert.rejects(take([4, 5], []), { code: 'conflict' })
  })
})

async function setUp(db: Db, units: readonly [slot: string, size: number][], settle?: ContentType['settle']) {
  for (const [index, [slot, size]] of units.entries())
    await db
      .insertInto('content')
      .values({
        uuid: newUuid(),
        type: 'file.file',
        key: `k${index}`,
        variant: '',
        slot,
        meta: JSON.stringify({ size }),
        labels: '{}',
        entry_at: 0,
        entry_length: 0,
        created: 1,
        updated: 1,
        touched: 1,
      })
      .execute()
  const format = { name: 'file', contentTypes: [{ name: 'file', settle }] } as unknown as Format
  return {
    db,
    async take(arriving: number[], held: number[]) {
      const { add, remove } = await takeSlots({ db } as Parameters<typeof takeSlots>[0], format, arriving, new Set(held))
      return { add: [...add].sort(), remove: remove.sort() }
    },
  }
}
