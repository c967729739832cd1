import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findStamp, nearestStamps, parseAt, stampFor } from './stamp.ts'

test('a stamp is the second in which the version was synced', () => {
  assert.equal(stampFor('2026-11-23T02:00:59.987654Z', new Set()), '20261123T020059')
})

test('two versions of one second get different stamps', () => {
  const taken = new Set(['20261123T235959', '20261124T000000'])
  assert.equal(stampFor('2026-11-23T23:59:59.500000Z', taken), '20261124T000001')
})

test('the stamp of a snapshot is found in its name', () => {
  assert.equal(findStamp('bells-20261123T020000', 'bells-'), '20261123T020000')
  assert.equal(findStamp('bells-extra-20261123T020000', 'bells-'), undefined)
  assert.equal(findStamp('bells-latest', 'bells-'), undefined)
})

test('a day counts to its end, a time and a stamp as they are', () => {
  assert.equal(parseAt('2026-11-23'), '20261123T235959')
  assert.equal(parseAt('20261123'), '20261123T235959')
  assert.equal(parseAt('2026-11-23T02:00'), '20261123T020000')
  assert.equal(parseAt('2026-11-23T02:00:00+01:00'), '20261123T010000')
  assert.equal(parseAt('20261123T020000'), '20261123T020000')
  assert.throws(() => parseAt('yesterday'), { code: 'invalid' })
})

test('the nearest stamps are the one before and the one after', () => {
  const existing = ['20261103T000000', '20261101T000000', '20261102T000000']
  assert.deepEqual(nearestStamps('20261102T120000', existing), ['20261102T000000', '20261103T000000'])
  assert.deepEqual(nearestStamps('20261201T000000', existing), ['20261103T000000'])
  assert.deepEqual(nearestStamps('20261201T000000', []), [])
})
