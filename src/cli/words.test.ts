import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changesInWords } from './sync.ts'
import { padTo, renderTable } from './table.ts'
import { durationInWords, several, sign, sizeInWords, stampInWords, timeInWords } from './words.ts'

test('sizes have two or three digits that matter', () => {
  assert.deepEqual([0, 999, 1000, 9_940, 58_000, 412_000_000, 1_240_000_000, 999_600_000].map(sizeInWords), [
    '0 B',
    '999 B',
    '1.0 kB',
    '9.9 kB',
    '58 kB',
    '412 MB',
    '1.2 GB',
    '1.0 GB',
  ])
})

test('counts have thousands separators and the right number of things', () => {
  assert.equal(several(1, 'repository'), '1 repository')
  assert.equal(several(1331, 'package'), '1,331 packages')
  assert.equal(several(2, 'repository'), '2 repositories')
})

test('durations are as exact as anyone needs', () => {
  assert.deepEqual([0.004, 0.3, 3.21, 41.3, 127, 3725].map(durationInWords), [
    '0.01 s',
    '0.30 s',
    '3.2 s',
    '41 s',
    '2:07',
    '1:02:05',
  ])
})

const now = new Date('2026-11-23T02:30:00Z')

test('times are told as people count', () => {
  assert.equal(stampInWords('20261107T020000', now), '20261107T020000 (16 d)')
  assert.equal(stampInWords('20261123T020000', now), '20261123T020000 (today)')
  assert.equal(stampInWords(undefined, now), '-')
  assert.equal(timeInWords('2026-11-23T02:13:01Z', now), 'today 02:13')
  assert.equal(timeInWords('2026-11-22T22:13:01Z', now), 'yesterday 22:13')
  assert.equal(timeInWords('2026-10-01T22:13:01Z', now), '2026-10-01 22:13')
})

test('signs are coloured on a terminal only, and not when NO_COLOR is set', () => {
  assert.equal(sign({ out: { isTTY: true }, env: {} }, 'good'), '\u001b[32m✓\u001b[0m')
  assert.equal(sign({ out: { isTTY: true }, env: { NO_COLOR: '1' } }, 'wrong'), '✗')
  assert.equal(sign({ out: {}, env: {} }, 'waiting'), '…')
})

test('tables are aligned by what is seen, without blanks at the end', () => {
  assert.equal(
    renderTable(
      [
        ['a', 'long'],
        ['\u001b[32mbbb\u001b[0m', 'c'],
      ],
      { gap: '  ' },
    ),
    'a    long\n\u001b[32mbbb\u001b[0m  c\n',
  )
  assert.equal(padTo('\u001b[32m✓\u001b[0m', 3), '\u001b[32m✓\u001b[0m  ')
})

test('changes are told in words', () => {
  const none = { added: 0, upgraded: 0, downgraded: 0, removed: 0, present: 9, others: {}, bytes: undefined }
  assert.equal(changesInWords({ ...none, added: 9 }), '9 synced')
  assert.equal(changesInWords({ ...none, added: 1, upgraded: 1 }), '1 new, 1 upgraded')
  assert.equal(changesInWords({ ...none, added: 14, removed: 2, present: 1400 }), '14 new, 2 gone')
  assert.equal(changesInWords({ ...none, downgraded: 3 }), '3 downgraded')
  assert.equal(changesInWords({ ...none, others: { 'rpm.advisory': 2 } }), 'changed: advisory')
  assert.equal(changesInWords(none), 'metadata changed')
})
