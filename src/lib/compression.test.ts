import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { type Compression, compress, decompress, openCompressor } from './compression.ts'
import { Failure } from './failure.ts'

const text = Buffer.from(
  Array.from({ length: 60_000 }, (_, i) => `<file>/usr/share/doc/lib-${(i * 7919) % 1000}/${i}</file>\n`).join(''),
)
const limit = 400 << 20

function unpack(packed: Uint8Array, options: { limit?: number; step?: number } = {}): Promise<Buffer> {
  return buffer(Readable.from(decompress(slices(packed, options.step ?? 65_536), { limit: options.limit ?? limit })))
}

async function* slices(bytes: Uint8Array, step: number) {
  for (let start = 0; start < bytes.length; start += step) yield bytes.subarray(start, start + step)
}

/** Runs a packing tool; undefined, with the test skipped, when the machine lacks it. */
function pack(t: TestContext, command: string, input: Uint8Array): Buffer | undefined {
  const [tool = '', ...options] = command.split(' ')
  const { stdout, error } = spawnSync(tool, [...options, '-c'], { input, maxBuffer: 1 << 30 })
  if (!error) return stdout
  if (process.env.CI === 'true') throw error
  t.skip(`${tool} is not installed`)
  return undefined
}

function isFailure(pattern: RegExp) {
  return (error: unknown) => error instanceof Failure && error.code === 'integrity' && pattern.test(error.message)
}

const tools = ['gzip -6', 'zstd -3', 'xz -1', 'bzip2 -9', 'bzip2 -1']

for (const tool of tools) {
  test(`what ${tool} packed is unpacked`, async (t) => {
    const packed = pack(t, tool, text)
    if (packed) assert.ok((await unpack(packed)).equals(text))
  })

  test(`what ${tool} packed may arrive in pieces of any size`, async (t) => {
    const some = text.subarray(0, 100_000)
    const packed = pack(t, tool, some)
    if (packed) for (const step of [1, 7, 4096]) assert.ok((await unpack(packed, { step })).equals(some))
  })

  test(`several members of ${tool} after each other are one`, async (t) => {
    const packed = pack(t, tool, text)
    if (packed)
      assert.ok((await unpack(Buffer.concat([packed, packed, packed]), { step: 1000 })).equals(Buffer.concat([text, text, text])))
  })

  test(`an empty file packed by ${tool} is empty`, async (t) => {
    const packed = pack(t, tool, Buffer.alloc(0))
    if (packed) assert.equal((await unpack(packed)).length, 0)
  })

  test(`data of ${tool} that is cut short is refused, wherever the cut is`, async (t) => {
    const packed = pack(t, tool, text)
    if (!packed) return
    for (const end of [7, 20, packed.length >> 1, packed.length - 4, packed.length - 1])
      await assert.rejects(unpack(packed.subarray(0, end)), isFailure(/cut short/), `cut at ${end} of ${packed.length}`)
  })

  test(`damaged data of ${tool} is refused`, async (t) => {
    const packed = pack(t, tool, text)
    if (!packed) return
    packed[packed.length >> 1]! ^= 0x55
    await assert.rejects(unpack(packed), isFailure(/damaged|cut short/))
  })

  test(`a bomb of ${tool} stops at the limit`, async (t) => {
    const bomb = pack(t, tool, Buffer.alloc(40 << 20))
    if (bomb) await assert.rejects(unpack(bomb, { limit: 1 << 20 }), isFailure(/more than 1048576 bytes/))
  })
}

test('the limit counts all members together', async () => {
  const member = gzipSync(Buffer.alloc(1000))
  await assert.rejects(unpack(Buffer.concat([member, member]), { limit: 1999 }), isFailure(/1999/))
  assert.equal((await unpack(Buffer.concat([member, member]), { limit: 2000 })).length, 2000)
})

test('plain data passes as it is, up to the limit', async () => {
  assert.ok((await unpack(text)).equals(text))
  assert.equal((await unpack(Buffer.from('B'))).toString(), 'B')
  assert.equal((await unpack(Buffer.alloc(0))).length, 0)
  await assert.rejects(unpack(text, { limit: 10 }), isFailure(/10 bytes/))
})

test('zstd data with a window above 128 MiB is refused', async (t) => {
  const packed = pack(t, 'zstd --long=28', Buffer.alloc(280 << 20))
  if (packed) await assert.rejects(unpack(packed), isFailure(/too much memory/))
})

test('xz data with a dictionary above 64 MiB is refused', async (t) => {
  const packed = pack(t, 'xz --lzma2=preset=0,dict=96MiB', text)
  if (packed) await assert.rejects(unpack(packed), isFailure(/too much memory/))
})

test('zero bytes may follow xz data', async (t) => {
  const packed = pack(t, 'xz -1', text)
  if (packed)
    assert.ok(
      (await unpack(Buffer.concat([packed, Buffer.alloc(8), packed, Buffer.alloc(4)]), { step: 3 })).length === 2 * text.length,
    )
})

test('two xz streams can be read in turns', async (t) => {
  const packed = pack(t, 'xz -1', text)
  if (!packed) return
  const [one, two] = [decompress(slices(packed, 100), { limit }), decompress(slices(packed, 100), { limit })]
  const sizes = [0, 0]
  for (let done = 0; done < 2; ) {
    const results = await Promise.all([one.next(), two.next()])
    results.forEach((result, i) => {
      sizes[i]! += result.value?.length ?? 0
    })
    done = results.filter((result) => result.done).length
  }
  assert.deepEqual(sizes, [text.length, text.length])
})

test('a source that breaks is not taken for damaged data', async () => {
  const broken = new Failure('upstream', 'The upstream went away.')
  async function* source() {
    yield gzipSync(text).subarray(0, 1000)
    throw broken
  }
  await assert.rejects(buffer(Readable.from(decompress(source(), { limit }))), (error) => error === broken)
})

for (const tool of ['gzip -6', 'xz -1', 'bzip2 -9'])
  test(`a reader of ${tool} data that stops early releases the source`, async (t) => {
    const packed = pack(t, tool, text)
    if (!packed) return
    const released = Promise.withResolvers<void>()
    async function* source() {
      try {
        for (;;) yield* slices(packed!, 50_000)
      } finally {
        released.resolve()
      }
    }
    for await (const _ of decompress(source(), { limit })) break
    await released.promise
  })

const compressions: Compression[] = ['gz', 'zstd', 'none']

for (const compression of compressions) {
  test(`${compression}: what is packed in one go is unpacked, and equal each time`, async () => {
    const packed = compress(text, compression)
    assert.ok((await unpack(packed)).equals(text))
    assert.ok(compress(Buffer.from(text), compression).equals(packed))
  })

  test(`${compression}: pieces packed one by one may be concatenated`, async () => {
    const pieces = [text.subarray(0, 1000), text.subarray(1000), Buffer.alloc(0)].map((piece) => compress(piece, compression))
    assert.ok((await unpack(Buffer.concat(pieces))).equals(text))
  })

  test(`${compression}: what is packed as a stream is unpacked, and equal however it arrives`, async () => {
    const packed = await buffer(Readable.from(slices(text, 100_000)).pipe(openCompressor(compression)))
    assert.ok((await unpack(packed)).equals(text))
    assert.ok((await buffer(Readable.from(slices(text, 7777)).pipe(openCompressor(compression)))).equals(packed))
  })
}

test('a packed gzip names no time', () => {
  assert.equal(compress(text, 'gz').readUInt32LE(4), 0)
})

test('a small result does not keep a large buffer alive', () => {
  for (const compression of ['gz', 'zstd'] as const) {
    const packed = compress(Buffer.alloc(2000, 'abc'), compression)
    assert.ok(packed.buffer.byteLength < 100_000)
  }
})

test('zstd frames of other programs with unknown size are unpacked', async () => {
  assert.ok((await unpack(zstdCompressSync(text))).equals(text))
})
