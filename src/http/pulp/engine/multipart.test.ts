import assert from 'node:assert/strict'
import { test } from 'node:test'
import { multipartParts } from './multipart.ts'

async function* inPieces(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function read(text: string, size: number, type = 'multipart/form-data; boundary=b1') {
  const found: [string, boolean, string][] = []
  for await (const { name, isFile, body } of multipartParts(inPieces(text, size), type)) {
    const pieces: Uint8Array[] = []
    for await (const piece of body) pieces.push(piece)
    found.push([name, isFile, Buffer.concat(pieces).toString()])
  }
  return found
}

const body = [
  'a preamble',
  '--b1',
  'Content-Disposition: form-data; name="text"',
  '',
  'one\r\n-- b1\r\n--b',
  '--b1',
  'Content-Disposition: file; name=file; filename="f.bin"',
  'Content-Type: application/octet-stream',
  '',
  '\r\n\r\n',
  '--b1',
  'Content-Disposition: form-data; name="empty"',
  '',
  '',
  '--b1--',
].join('\r\n')

for (const size of [1, 2, 7, 64, 10_000])
  test(`parts are found however they are cut, here every ${size} bytes`, async () => {
    assert.deepEqual(await read(body, size), [
      ['text', false, 'one\r\n-- b1\r\n--b'],
      ['file', true, '\r\n\r\n'],
      ['empty', false, ''],
    ])
  })

test('a part that nobody reads is passed over', async () => {
  const names: string[] = []
  for await (const { name } of multipartParts(inPieces(body, 5), 'multipart/form-data; boundary="b1"')) names.push(name)
  assert.deepEqual(names, ['text', 'file', 'empty'])
})

test('a body that ends too early, has nameless parts or no boundary is refused', async () => {
  await assert.rejects(read(body.slice(0, -8), 16), { name: 'BrokenBody' })
  await assert.rejects(read('--b1\r\nContent-Type: x\r\n\r\nx\r\n--b1--', 16), { name: 'BrokenBody' })
  await assert.rejects(read(body, 16, 'multipart/form-data'), { name: 'BrokenBody' })
  await assert.rejects(read(`--b1\r\nX: ${'x'.repeat(20_000)}`, 4096), { name: 'BrokenBody' })
})
