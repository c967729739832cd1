import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { forEach } from './for-each.ts'

test('no more than the limit run at once, and all are done', async () => {
  let running = 0
  let most = 0
  const done: number[] = []
  await forEach([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
    most = Math.max(most, ++running)
    await sleep(2)
    running--
    done.push(item)
  })
  assert.equal(most, 3)
  assert.deepEqual(
    done.toSorted((a, b) => a - b),
    [1, 2, 3, 4, 5, 6, 7],
  )
})

test('a failure is thrown when the others have ended, and nothing more is started', async () => {
  const started: number[] = []
  const ended: number[] = []
  const run = forEach([1, 2, 3, 4, 5], 2, async (item) => {
    started.push(item)
    await sleep(item === 1 ? 1 : 5)
    if (item === 1) throw new Error('one')
    ended.push(item)
  })
  await assert.rejects(run, /one/)
  assert.ok(started.length < 5)
  assert.deepEqual(
    ended,
    started.filter((item) => item !== 1),
  )
})
