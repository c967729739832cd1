import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideWish } from './conditions.ts'

const etag = '"abc"'
const lastModified = 'Mon, 23 Nov 2026 21:11:44 GMT'
const facts = { etag, lastModified, size: 3000 }
const whole = { status: 200 }
const part = (start: number, end: number) => ({ status: 206, range: { start, end } })

const ranges = [
  ['bytes=0-9', part(0, 9)],
  ['bytes=2990-', part(2990, 2999)],
  ['bytes=2990-9999', part(2990, 2999)],
  ['bytes=-10', part(2990, 2999)],
  ['bytes=-5000', part(0, 2999)],
  ['bytes=3000-', { status: 416 }],
  ['bytes=-0', { status: 416 }],
  ['bytes=9-3', { status: 416 }],
  ['bytes=0-1,5-6', whole],
  ['lines=1-3', whole],
  ['bytes=', whole],
  ['bytes=-', whole],
  ['bytes=99999999999999999999-', whole],
] as const

for (const [range, wish] of ranges)
  test(`of 3000 bytes, ${range} asks for ${JSON.stringify(wish)}`, () => assert.deepEqual(decideWish({ range }, facts), wish))

test('a part of an empty file cannot be had', () => {
  assert.deepEqual(decideWish({ range: 'bytes=0-' }, { ...facts, size: 0 }), { status: 416 })
})

const conditions = [
  ['the tag that it has', { 'if-none-match': etag }, 304],
  ['one of several tags', { 'if-none-match': '"x", W/"abc"' }, 304],
  ['any tag', { 'if-none-match': '*' }, 304],
  ['another tag', { 'if-none-match': '"x"' }, 200],
  ['another tag, whatever the date', { 'if-none-match': '"x"', 'if-modified-since': lastModified }, 200],
  ['the date that it has', { 'if-modified-since': lastModified }, 304],
  ['a later date, as after a rollback', { 'if-modified-since': 'Tue, 24 Nov 2026 21:11:44 GMT' }, 200],
  ['a match that fails', { 'if-match': '"x"' }, 412],
  ['a match that holds', { 'if-match': '"x", "abc"' }, 200],
  ['a change since then', { 'if-unmodified-since': 'Mon, 23 Nov 2020 21:11:44 GMT' }, 412],
  ['no change since then', { 'if-unmodified-since': lastModified }, 200],
  ['a part of what it still is', { range: 'bytes=0-9', 'if-range': etag }, 206],
  ['a part of what it was then', { range: 'bytes=0-9', 'if-range': lastModified }, 206],
  ['a part of what it no longer is', { range: 'bytes=0-9', 'if-range': '"x"' }, 200],
  ['a part, unless it has it', { range: 'bytes=0-9', 'if-none-match': etag }, 304],
] as const

for (const [what, headers, status] of conditions)
  test(`a request that names ${what} is answered ${status}`, () => assert.equal(decideWish(headers, facts).status, status))

test('of a file nobody knows the digest of, only "any" matches', () => {
  const unknown = { etag: undefined, lastModified: undefined, size: undefined }
  assert.equal(decideWish({ 'if-none-match': etag }, unknown).status, 200)
  assert.equal(decideWish({ 'if-match': '*' }, unknown).status, 200)
  assert.equal(decideWish({ range: 'bytes=0-1' }, unknown).status, 200)
})
