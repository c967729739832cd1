import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from 'kysely'
import { hasCode } from '../lib/failure.ts'
import { forEachDatabase } from '../../tests/databases.ts'
import { transact, type Tx } from './database.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: a transaction that fails leaves nothing, and its error is told at once`, async (t) => {
    const db = await open(t)
    let runs = 0
    const failing = transact(db, async (tx) => {
      runs++
      await tx.insertInto('setting').values({ key: 'left', value: '' }).execute()
      throw new Error('It went wrong.')
    })
    await assert.rejects(failing, /^Error: It went wrong\.$/)
    assert.equal(runs, 1)
    assert.deepEqual(await db.selectFrom('setting').selectAll().where('key', '=', 'left').execute(), [])
  })

  // On SQLite there is one writer: nobody waits crosswise.
  if (engine !== 'PostgreSQL') return

  test('PostgreSQL: transactions that wait for one another all come to their end', async (t) => {
    const db = await open(t)
    const names = ['a', 'b', 'c']
    await db
      .insertInto('setting')
      .values(names.map((key) => ({ key, value: '0' })))
      .execute()
    const add = (tx: Tx, key: string) =>
      tx.updateTable('setting').set({ value: sql`cast(cast(value as bigint) + 1 as text)` }).where('key', '=', key).execute()
    const all = Promise.withResolvers<void>()
    let runs = 0
    // Each has one row and then wants that of its neighbour: PostgreSQL must end one of them.
    const circle = names.map((own, index) =>
      transact(db, async (tx) => {
        await add(tx, own)
        if (++runs === names.length) all.resolve()
        await all.promise
        await add(tx, names[(index + 1) % names.length]!)
        return own
      }),
    )
    assert.deepEqual(await Promise.all(circle), names)
    const rows = await db.selectFrom('setting').select('value').where('key', 'in', names).execute()
    assert.deepEqual(
      rows.map(({ value }) => value),
      ['2', '2', '2'],
    )
    assert.ok(runs > names.length, 'nothing was run again')
  })

  test('PostgreSQL: a transaction that never fits is given up after some tries', async (t) => {
    const db = await open(t)
    let runs = 0
    const never = transact(db, async (tx) => {
      runs++
      await sql`do $$ begin raise exception 'never' using errcode = 'serialization_failure'; end $$`.execute(tx)
    })
    await assert.rejects(never, (error) => hasCode(error, '40001'))
    assert.equal(runs, 8)
  })
})
