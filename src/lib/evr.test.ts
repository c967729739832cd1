import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareEvr, compareVersions } from './evr.ts'

const ascending = [
  ['1.0~rc1', '1.0'], // A tilde sorts before everything, even the end.
  ['1.0~~', '1.0~'],
  ['1.0', '1.0^git1'], // A caret sorts after the end,
  ['1.0^git1', '1.0.1'], // but before anything longer.
  ['1.0~rc1^git1', '1.0'],
  ['1.0', '1.0a'],
  ['1.0a', '1.0.1'], // Numbers are newer than letters.
  ['1.9', '1.10'],
  ['2.0.1', '2.0.1a'],
  ['99999999999999999998', '99999999999999999999'],
  ['fc4', 'fc10'],
] as const

for (const [older, newer] of ascending)
  test(`${older} is older than ${newer}`, () => {
    assert.ok(compareVersions(older, newer) < 0)
    assert.ok(compareVersions(newer, older) > 0)
  })

test('separators and leading zeros do not count', () => {
  assert.equal(compareVersions('1.05', '1_5'), 0)
  assert.equal(compareVersions('a.', 'a'), 0)
})

test('the epoch decides before the version, the version before the release', () => {
  assert.ok(compareEvr({ epoch: '1', version: '1', release: '1' }, { epoch: '', version: '9', release: '9' }) > 0)
  assert.ok(compareEvr({ epoch: '0', version: '1.1', release: '1' }, { epoch: '0', version: '1.0', release: '9' }) > 0)
  assert.ok(compareEvr({ epoch: '0', version: '1', release: '1.el9' }, { epoch: '', version: '1', release: '2.el9' }) < 0)
})
