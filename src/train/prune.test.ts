import assert from 'node:assert/strict'
import { test } from 'node:test'
import { snapshot } from '../../tests/trains.ts'
import { planPrune } from './prune.ts'

const [first, second, third, fourth] = ['20261101T020000', '20261102T020000', '20261103T020000', '20261104T020000'] as const
const firstGuard = '/guards/development/'

test('a snapshot goes when it is old, at the first stage, pinned by no line and not the newest', () => {
  const snapshots = new Map([
    ['bells', [first, second, third, fourth].map((stamp) => snapshot('bells', stamp))],
    ['gongs', [snapshot('gongs', first, '/guards/release/'), snapshot('gongs', second, null), snapshot('gongs', third)]],
    ['drums', [snapshot('drums', first)]],
    ['new', []],
  ])
  const paths = (pinned: [string, string[]][], before: string) =>
    planPrune(snapshots, { firstGuard, pinned: new Map(pinned.map(([name, stamps]) => [name, new Set(stamps)])) }, before).map(
      ({ path }) => path,
    )
  assert.deepEqual(paths([], '20270101T000000'), [`bells/${first}`, `bells/${second}`, `bells/${third}`])
  assert.deepEqual(
    paths(
      [
        ['bells', [second]],
        ['gongs', [first]],
      ],
      '20270101T000000',
    ),
    [`bells/${first}`, `bells/${third}`],
  )
  assert.deepEqual(paths([], second), [`bells/${first}`])
})
