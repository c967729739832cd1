import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTime } from '../../lib/time.ts'
import { parseCheckpointPath, renderSecond } from './checkpoints.ts'

const at = parseTime('2025-02-12T19:46:53.5Z')!

test('a path below a checkpoint distribution names a second and what lies below it', () => {
  const until = parseTime('2025-02-12T19:46:53.999999Z')!
  assert.deepEqual(parseCheckpointPath('20250212T194653Z', at), { until, rest: undefined })
  assert.deepEqual(parseCheckpointPath('20250212T194653Z/', at), { until, rest: '' })
  assert.deepEqual(parseCheckpointPath('20250212T194653Z/a/b', at), { until, rest: 'a/b' })
  assert.equal(renderSecond(at), '20250212T194653Z')
})

for (const path of [
  '20250212T194654Z/', // A second later.
  '20250231T000000Z/',
  '20241332T000000Z/',
  '20250101T240000Z/',
  '20250212T194653/',
  '20250212T194653Zx/',
  'repodata/',
])
  test(`${path} is no checkpoint`, () => assert.equal(parseCheckpointPath(path, at), undefined))
