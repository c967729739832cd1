import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openKeptBytes } from './kept-bytes.ts'

test('what was asked for last stays when there is no room for all', () => {
  const kept = openKeptBytes(10)
  for (const name of ['a', 'b', 'c']) kept.keep(name, Buffer.alloc(3, name))
  assert.equal(kept.find('a')?.toString(), 'aaa')
  kept.keep('a', Buffer.alloc(3, 'x'))
  kept.keep('d', Buffer.alloc(3, 'd'))
  assert.deepEqual(
    ['a', 'b', 'c', 'd', 'e'].map((name) => kept.find(name)?.toString()),
    ['aaa', undefined, 'ccc', 'ddd', undefined],
  )
})
