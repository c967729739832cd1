import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../../src/lib/failure.ts'
import { newUuid } from '../../src/lib/uuid.ts'
import { algorithms, type BlobStore, type Expected } from '../../src/store/blobs.ts'

/** What every BlobStore must do. `open` gives an empty store that is gone after the test. */
export function blobStoreContract(name: string, open: (t: TestContext) => Promise<BlobStore>) {
  const check = (sentence: string, run: (blobs: BlobStore, t: TestContext) => Promise<void>) =>
    test(`${name}: ${sentence}`, async (t) => run(await open(t), t))

  for (const size of [0, 1, 1000, 131_072, 131_073, 1 << 20, 5_000_001])
    check(`a blob of ${size} bytes is given back as it came`, async (blobs) => {
      const bytes = randomBytes(size)
      await using staged = await blobs.stage(pieces(bytes, 65_536))
      assert.equal(staged.size, size)
      assert.equal(staged.digests.sha256, digest('sha256', bytes))
      await staged.keep()
      assert.equal(await blobs.size(staged.digests.sha256), size)
      assert.ok((await buffer(await blobs.open(staged.digests.sha256))).equals(bytes))
    })

  check('bytes that arrive in many small pieces are stored as one blob', async (blobs) => {
    const bytes = randomBytes(300_000)
    const sha256 = await store(blobs, bytes, 100)
    assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))
  })

  for (const size of [10, 2_000_000])
    check(`staged bytes can be read any number of times, before and after they are kept (${size} bytes)`, async (blobs) => {
      const bytes = randomBytes(size)
      await using staged = await blobs.stage(pieces(bytes))
      const early = staged.open()
      assert.ok((await buffer(staged.open())).equals(bytes))
      await staged.keep()
      assert.ok((await buffer(early)).equals(bytes))
      assert.ok((await buffer(staged.open())).equals(bytes))
    })

  for (const size of [10, 2_000_000])
    check(`bytes that are not kept are gone (${size} bytes)`, async (blobs) => {
      const bytes = randomBytes(size)
      {
        await using _staged = await blobs.stage(pieces(bytes))
        assert.equal(await blobs.size(digest('sha256', bytes)), undefined)
      }
      assert.equal(await blobs.size(digest('sha256', bytes)), undefined)
      assert.deepEqual(await listed(blobs), [])
    })

  check('disposing what was kept leaves it in the store', async (blobs) => {
    const sha256 = await store(blobs, Buffer.from('kept'))
    assert.equal((await buffer(await blobs.open(sha256))).toString(), 'kept')
  })

  check('keeping twice is the same as once', async (blobs) => {
    await using staged = await blobs.stage(pieces(Buffer.from('twice')))
    await Promise.all([staged.keep(), staged.keep()])
    await staged.keep()
    assert.equal(await blobs.size(staged.digests.sha256), 5)
  })

  for (const algorithm of algorithms)
    check(`a checksum of kind ${algorithm} is verified and reported`, async (blobs) => {
      const bytes = randomBytes(1000)
      const hex = digest(algorithm, bytes)
      await using staged = await blobs.stage(pieces(bytes), { checksum: `${algorithm}:${hex.toUpperCase()}`, size: 1000 })
      assert.equal(staged.digests[algorithm], hex)
      assert.equal(staged.digests.sha256, digest('sha256', bytes))
      await assert.rejects(
        blobs.stage(pieces(Buffer.from('other')), { checksum: `${algorithm}:${hex}` }),
        failure('integrity', RegExp(hex)),
      )
    })

  check('other digests are made when asked for', async (blobs) => {
    const bytes = randomBytes(200_000)
    await using staged = await blobs.stage(pieces(bytes), {}, algorithms)
    for (const algorithm of algorithms) assert.equal(staged.digests[algorithm], digest(algorithm, bytes))
    await using plain = await blobs.stage(pieces(bytes))
    assert.deepEqual(Object.keys(plain.digests), ['sha256'])
  })

  check('an unknown kind of checksum is refused', async (blobs) => {
    await assert.rejects(blobs.stage(pieces(Buffer.from('x')), { checksum: 'crc32:00000000' }), failure('invalid', /crc32/))
  })

  for (const size of [1000, 3_000_000]) {
    check(`too few bytes are refused (${size} bytes)`, async (blobs) => {
      await refused(blobs, randomBytes(size), { size: size + 1 }, /instead of the expected/)
    })

    check(`too many bytes are refused without reading on (${size} bytes)`, async (blobs) => {
      await refused(blobs, randomBytes(size), { size: size - 1 }, /More than the expected/)
    })

    check(`a wrong checksum is refused (${size} bytes)`, async (blobs) => {
      await refused(blobs, randomBytes(size), { size, checksum: `sha256:${'0'.repeat(64)}` }, /sha256 is/)
    })

    check(`an endless stream ends at the limit (${size} bytes)`, async (blobs) => {
      let sent = 0
      async function* endless() {
        for (; ; sent += 10_000) yield Buffer.alloc(10_000)
      }
      await assert.rejects(blobs.stage(endless(), { limit: size }), failure('integrity', RegExp(String(size))))
      assert.ok(sent <= size + 10_000)
      assert.deepEqual(await listed(blobs), [])
    })

    check(`a source that breaks leaves nothing behind, and its own error comes through (${size} bytes)`, async (blobs) => {
      const broken = new Error('the source broke')
      async function* source() {
        yield* pieces(randomBytes(size), 65_536)
        throw broken
      }
      await assert.rejects(blobs.stage(source()), (error) => error === broken)
      assert.deepEqual(await listed(blobs), [])
    })
  }

  check('exactly as many bytes as the limit are taken', async (blobs) => {
    await using staged = await blobs.stage(pieces(Buffer.alloc(1000)), { limit: 1000 })
    assert.equal(staged.size, 1000)
  })

  check('the same bytes may be staged and kept many times at once', async (blobs) => {
    const bytes = randomBytes(400_000)
    const sha256s = await Promise.all(Array.from({ length: 12 }, (_, i) => store(blobs, bytes, 10_000 + i)))
    assert.deepEqual(new Set(sha256s), new Set([digest('sha256', bytes)]))
    assert.deepEqual(await listed(blobs), [digest('sha256', bytes)])
    assert.ok((await buffer(await blobs.open(digest('sha256', bytes)))).equals(bytes))
  })

  check('a blob may be read while the same bytes are kept again', async (blobs) => {
    const bytes = randomBytes(2_000_000)
    const sha256 = await store(blobs, bytes)
    const reading = await blobs.open(sha256)
    await store(blobs, bytes)
    assert.ok((await buffer(reading)).equals(bytes))
  })

  check('a range is given, with both of its ends', async (blobs) => {
    const bytes = randomBytes(3_000_000)
    const sha256 = await store(blobs, bytes)
    for (const [start, end] of [
      [0, 0],
      [0, 9],
      [1_000_000, 2_500_000],
      [2_999_999, 2_999_999],
      [0, 2_999_999],
    ] as const)
      assert.ok(
        (await buffer(await blobs.open(sha256, { start, end }))).equals(bytes.subarray(start, end + 1)),
        `${start}-${end}`,
      )
  })

  check('a stream that is destroyed early does no harm', async (blobs) => {
    const sha256 = await store(blobs, randomBytes(3_000_000))
    for await (const _ of await blobs.open(sha256)) break
    const unread = await blobs.open(sha256)
    unread.destroy()
    await sleep(10)
    assert.equal(await blobs.size(sha256), 3_000_000)
  })

  check('a missing blob is not found', async (blobs) => {
    const sha256 = digest('sha256', Buffer.from('missing'))
    await assert.rejects(blobs.open(sha256), failure('not_found', RegExp(sha256)))
    assert.equal(await blobs.size(sha256), undefined)
    await blobs.delete(sha256)
  })

  for (const name of ['', '../../../etc/passwd', 'abcd', 'A'.repeat(64), `${'0'.repeat(62)}/x`])
    check(`${JSON.stringify(name.slice(0, 20))} is no digest`, async (blobs) => {
      await assert.rejects(blobs.open(name), failure('not_found', /./))
    })

  check('a deleted blob is gone, and can be stored again', async (blobs) => {
    const bytes = Buffer.from('to be deleted')
    const sha256 = await store(blobs, bytes)
    await blobs.delete(sha256)
    assert.equal(await blobs.size(sha256), undefined)
    assert.deepEqual(await listed(blobs), [])
    await assert.rejects(blobs.open(sha256), failure('not_found', RegExp(sha256)))
    await store(blobs, bytes)
    assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))
  })

  check('a blob that was kept again lately outlives a collector that saw it unused', async (blobs) => {
    const bytes = Buffer.from('about to be referred to')
    const sha256 = await store(blobs, bytes)
    await sleep(20)
    const looked = new Date()
    await sleep(20)
    await store(blobs, bytes)
    await blobs.delete(sha256, { unlessUsedSince: looked })
    assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))
    await sleep(20)
    await blobs.delete(sha256, { unlessUsedSince: new Date() })
    assert.equal(await blobs.size(sha256), undefined)
  })

  check('every stored blob is listed once', async (blobs) => {
    const stored: string[] = []
    for (let i = 0; i < 40; i++) stored.push(await store(blobs, Buffer.from(`blob ${i}`)))
    assert.deepEqual(await listed(blobs), stored.sort())
  })

  check('tidying keeps what is stored', async (blobs) => {
    const sha256 = await store(blobs, Buffer.from('stored'))
    await blobs.tidy()
    assert.deepEqual(await listed(blobs), [sha256])
  })

  growingContract(check)

  check('space is told in bytes', async (blobs) => {
    const { total, used, free } = await blobs.space()
    assert.ok(total >= used && total >= free && used >= 0 && free >= 0)
  })
}

/** What bytes that grow from call to call must do. */
function growingContract(check: (sentence: string, run: (blobs: BlobStore) => Promise<void>) => void) {
  for (const sizes of [[0], [1], [500_000], [1, 2, 3], [2_000_000, 0, 5, 3_000_001]])
    for (const algorithm of ['sha256', 'sha512'] as const)
      check(`bytes that came as ${sizes.join(' + ')} become a blob known by its ${algorithm}`, async (blobs) => {
        const name = newUuid()
        const bytes = randomBytes(sizes.reduce((sum, size) => sum + size))
        let at = 0
        for (const size of sizes) {
          assert.equal(await blobs.growing.size(name), at)
          assert.equal(await blobs.growing.append(name, pieces(bytes.subarray(at, at + size), 70_000), { from: at }), at + size)
          at += size
        }
        const sha256 = await finish(blobs, name, { checksum: `${algorithm}:${digest(algorithm, bytes)}`, size: bytes.length })
        assert.equal(sha256, digest('sha256', bytes))
        await blobs.growing.remove(name)
        assert.equal(await blobs.growing.size(name), 0)
        assert.deepEqual(await Array.fromAsync(blobs.growing.list()), [])
        assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))
      })

  check('a further digest is made on the way when it is asked for at the beginning', async (blobs) => {
    const name = newUuid()
    await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 0, also: 'sha512' })
    await using staged = await blobs.growing.finish(name)
    assert.equal(staged.digests.sha512, digest('sha512', Buffer.from('hello')))
    await blobs.growing.remove(name)
  })

  for (const size of [100, 3_000_000])
    check(`what arrived before a source broke stays, and the rest can follow (${size} bytes)`, async (blobs) => {
      const name = newUuid()
      const bytes = randomBytes(size)
      const half = Math.floor(size / 2)
      const broken = new Error('the source broke')
      async function* source() {
        yield* pieces(bytes.subarray(0, half), 65_536)
        throw broken
      }
      await assert.rejects(blobs.growing.append(name, source(), { from: 0 }), (error) => error === broken)
      assert.equal(await blobs.growing.size(name), half)
      await blobs.growing.append(name, pieces(bytes.subarray(half)), { from: half })
      const sha256 = await finish(blobs, name, { checksum: `sha256:${digest('sha256', bytes)}` })
      assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))
      await blobs.growing.remove(name)
    })

  for (const from of [0, 4, 6])
    check(`bytes that do not begin where the others end are refused (at ${from})`, async (blobs) => {
      const name = newUuid()
      await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 0 })
      await assert.rejects(blobs.growing.append(name, pieces(Buffer.from('x')), { from }), failure('conflict', /byte 5/))
      assert.equal(await blobs.growing.size(name), 5)
      await blobs.growing.remove(name)
    })

  for (const size of [3, 7])
    check(`of bytes that are not as many as announced none is added (${size} instead of 5)`, async (blobs) => {
      const name = newUuid()
      await blobs.growing.append(name, pieces(Buffer.from('ahead')), { from: 0 })
      await assert.rejects(
        blobs.growing.append(name, pieces(Buffer.from('hello'), 2), { from: 5, size }),
        failure('integrity', RegExp(`announced ${size}`)),
      )
      assert.equal(await blobs.growing.size(name), 5)
      await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 5, size: 5 })
      await finish(blobs, name, { checksum: `sha256:${digest('sha256', Buffer.from('aheadhello'))}` })
      await blobs.growing.remove(name)
    })

  check('two requests cannot add to the same bytes at a time', async (blobs) => {
    const name = newUuid()
    const { promise, resolve } = Promise.withResolvers<void>()
    async function* slow() {
      yield Buffer.from('a')
      await promise
    }
    const first = blobs.growing.append(name, slow(), { from: 0 })
    await assert.rejects(
      blobs.growing.append(name, pieces(Buffer.from('b')), { from: 0 }),
      failure('conflict', /another request/),
    )
    await assert.rejects(blobs.growing.finish(name), failure('conflict', /another request/))
    resolve()
    assert.equal(await first, 1)
    await blobs.growing.remove(name)
  })

  check('bytes that are not the expected ones do not become a blob', async (blobs) => {
    const name = newUuid()
    await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 0 })
    for (const expected of [{ checksum: `sha256:${'0'.repeat(64)}` }, { checksum: `sha512:${'0'.repeat(128)}` }, { size: 4 }])
      await assert.rejects(blobs.growing.finish(name, expected), failure('integrity', /expected/))
    assert.deepEqual(await listed(blobs), [])
    await finish(blobs, name, { checksum: `sha256:${digest('sha256', Buffer.from('hello'))}` })
    await blobs.growing.remove(name)
  })

  check('what became a blob cannot grow any more, and can be finished again', async (blobs) => {
    const name = newUuid()
    await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 0 })
    const sha256 = await finish(blobs, name)
    await assert.rejects(blobs.growing.append(name, pieces(Buffer.from('x')), { from: 5 }), failure('conflict', /whole/))
    assert.equal(await finish(blobs, name), sha256)
    assert.equal((await buffer(await blobs.open(sha256))).toString(), 'hello')
    assert.deepEqual(await listed(blobs), [sha256])
    await blobs.growing.remove(name)
    assert.equal((await buffer(await blobs.open(sha256))).toString(), 'hello')
  })

  check('many names may grow into the same blob at once', async (blobs) => {
    const bytes = randomBytes(300_000)
    const grow = async () => {
      const name = newUuid()
      await blobs.growing.append(name, pieces(bytes, 10_000), { from: 0 })
      const sha256 = await finish(blobs, name)
      await blobs.growing.remove(name)
      return sha256
    }
    const sha256s = new Set(await Promise.all(Array.from({ length: 12 }, grow)))
    assert.deepEqual([...sha256s], await listed(blobs))
    assert.ok((await buffer(await blobs.open([...sha256s][0]!))).equals(bytes))
  })

  check('names that grow are listed with the time of their last bytes', async (blobs) => {
    const name = newUuid()
    await blobs.growing.append(name, pieces(Buffer.from('hello')), { from: 0 })
    const [only, ...others] = await Array.fromAsync(blobs.growing.list())
    assert.equal(only?.name, name)
    assert.ok(Math.abs(only.written.getTime() - Date.now()) < 60_000)
    assert.deepEqual(others, [])
    await blobs.growing.remove(name)
    await blobs.growing.remove(name)
  })

  check('what is no UUID is no name', async (blobs) => {
    await assert.rejects(blobs.growing.size('../x'), failure('not_found', /x/))
  })
}

/** Makes a blob of grown bytes and returns its digest. */
async function finish(blobs: BlobStore, name: string, expected: Expected = {}): Promise<string> {
  await using staged = await blobs.growing.finish(name, expected)
  await staged.keep()
  return staged.digests.sha256
}

async function refused(blobs: BlobStore, bytes: Buffer, expected: { size?: number; checksum?: string }, message: RegExp) {
  await assert.rejects(blobs.stage(pieces(bytes, 100_000), expected), failure('integrity', message))
  assert.deepEqual(await listed(blobs), [])
}

/** Stores bytes and returns their digest. */
export async function store(blobs: BlobStore, bytes: Buffer, step?: number): Promise<string> {
  await using staged = await blobs.stage(pieces(bytes, step))
  await staged.keep()
  return staged.digests.sha256
}

export function pieces(bytes: Buffer, step = 65_536): Readable {
  return Readable.from(
    (function* () {
      for (let start = 0; start < bytes.length; start += step) yield bytes.subarray(start, start + step)
    })(),
  )
}

async function listed(blobs: BlobStore): Promise<string[]> {
  return (await Array.fromAsync(blobs.list())).sort()
}

function digest(algorithm: string, bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex')
}

function failure(code: string, message: RegExp) {
  return (error: unknown) => error instanceof Failure && error.code === code && message.test(error.message)
}
