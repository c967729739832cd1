import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { openRoom, parseReserve } from './room.ts'

for (const [text, reserve] of [
  ['0', { bytes: 0 }],
  ['4096', { bytes: 4096 }],
  ['500M', { bytes: 500 * 1024 ** 2 }],
  ['1.5T', { bytes: 1.5 * 1024 ** 4 }],
  ['5%', { bytes: Number.POSITIVE_INFINITY, share: 0.05 }],
] as const)
  test(`a reserve of ${text} is understood`, () => assert.deepEqual(parseReserve(text), reserve))

for (const wrong of ['', 'much', '-1', '101%', '5 %', '1GB'])
  test(`a reserve of "${wrong}" is not`, () => {
    assert.throws(() => parseReserve(wrong), { code: 'invalid', message: /SIGNALBOX_RESERVE takes/ })
  })

test('bytes pass as long as what is kept stays free', async () => {
  const bytes = async function* () {
    for (let index = 0; index < 3; index++) yield Buffer.alloc(1000)
  }
  assert.equal((await Array.fromAsync(openRoom(tmpdir(), parseReserve('0')).enter().guard(bytes()))).length, 3)
  const full = openRoom(tmpdir(), parseReserve('100%'))
  const refusal = {
    code: 'conflict',
    message: /^The disk of the blob store is nearly full \(\d+ MB free, of which \d+ MB are kept\)/,
  }
  await assert.rejects(Array.fromAsync(full.enter().guard(bytes())), refusal)
  await assert.rejects(full.check(1), refusal)
  await assert.rejects(openRoom(tmpdir(), parseReserve('1')).check(2 ** 60), refusal)
})
