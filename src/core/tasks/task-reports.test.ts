import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { forEachDatabase } from '../../../tests/databases.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { openReports } from './task-reports.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: what a task makes while its reports are being written is recorded once, in order`, async (t) => {
    const db = await open(t)
    const task = await db
      .insertInto('task')
      .values({
        uuid: newUuid(),
        name: 'test',
        kind: 'note',
        args: '{}',
        state: 'running',
        logging_cid: '',
        token: 1,
        resources: '[]',
        created: now(),
        updated: now(),
      })
      .returningAll()
      .executeTakeFirstOrThrow()
    const reports = openReports(db, task, () => assert.fail('it is wanted'), 1)
    const made = Array.from({ length: 300 }, (_, index) => `prn:core.test:${index}`)
    for (const [index, prn] of made.entries()) {
      reports.report(`code ${index % 7}`, 'Working', { total: made.length, add: 1 })
      await turn()
      reports.created(prn)
      await turn()
    }
    await reports.stop()
    await db.transaction().execute(reports.write)

    const created = await db
      .selectFrom('task_created')
      .select('object')
      .where('task_id', '=', task.id)
      .orderBy('position')
      .execute()
    assert.deepEqual(
      created.map(({ object }) => object),
      made,
    )
    const { done } = await db
      .selectFrom('task_progress')
      .select(({ fn }) => fn.sum<number>('done').as('done'))
      .executeTakeFirstOrThrow()
    assert.equal(Number(done), made.length)
  })
})
