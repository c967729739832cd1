import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareUnits } from './changes.ts'

const unit = (thing: string, time: number, size?: number) => ({ thing, time, size })

test('what came and went is paired by name and architecture', () => {
  const came = [unit('bell.noarch', 20, 100), unit('wheel.noarch', 20, 50), unit('rope.x86_64', 5, 1)]
  const went = [unit('bell.noarch', 10, 90), unit('rope.x86_64', 9, 1), unit('cowbell.noarch', 1, 1)]
  assert.deepEqual(compareUnits(came, went), { added: 1, upgraded: 1, downgraded: 1, removed: 1, bytes: 151 })
})

test('without sizes there is no size', () => {
  assert.equal(compareUnits([unit('a', 0)], []).bytes, undefined)
})
