import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { blobStoreContract, pieces, store } from '../../tests/contract/blobs.ts'
import { Failure } from '../lib/failure.ts'
import { newUuid } from '../lib/uuid.ts'
import { openFsBlobs } from './fs.ts'

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-blobs-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

blobStoreContract('fs', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-blobs-'))
  t.after(async () => {
    const leftBehind = [...(await readdir(join(directory, 'tmp'))), ...(await readdir(join(directory, 'growing')))]
    await rm(directory, { recursive: true })
    assert.deepEqual(leftBehind, [])
  })
  return openFsBlobs(directory)
})

test('a blob lies where its digest says', async (t) => {
  const directory = await temporaryDirectory(t)
  const blobs = await openFsBlobs(directory)
  const sha256 = await store(blobs, Buffer.from('hello'))
  assert.equal(blobs.pathOf(sha256), join(directory, 'sha256', sha256.slice(0, 2), sha256.slice(2)))
  assert.equal(await readFile(blobs.pathOf(sha256), 'utf8'), 'hello')
})

test('a store that is opened again has its blobs', async (t) => {
  const directory = await temporaryDirectory(t)
  const sha256 = await store(await openFsBlobs(directory), Buffer.from('hello'))
  const again = await openFsBlobs(directory)
  assert.equal((await buffer(await again.open(sha256))).toString(), 'hello')
})

for (const damage of ['hell', 'jello', 'hello, world', ''])
  test(`a blob that was damaged to ${JSON.stringify(damage)} is healed when it is stored again`, async (t) => {
    const blobs = await openFsBlobs(await temporaryDirectory(t))
    const sha256 = await store(blobs, Buffer.from('hello'))
    writeFileSync(blobs.pathOf(sha256), damage)
    await store(blobs, Buffer.from('hello'))
    assert.equal(await readFile(blobs.pathOf(sha256), 'utf8'), 'hello')
  })

test('tidying removes what interrupted writes left behind', async (t) => {
  const directory = await temporaryDirectory(t)
  const blobs = await openFsBlobs(directory)
  writeFileSync(join(directory, 'tmp', 'left-behind'), 'half')
  await blobs.tidy()
  assert.deepEqual(await readdir(join(directory, 'tmp')), [])
})

for (const algorithm of ['sha256', 'sha512'] as const)
  test(`growing goes on in a store that is opened again, to a ${algorithm}`, async (t) => {
    const directory = await temporaryDirectory(t)
    const bytes = randomBytes(3_000_000)
    const name = newUuid()
    await (await openFsBlobs(directory)).growing.append(name, pieces(bytes.subarray(0, 2_000_000)), { from: 0 })
    const again = await openFsBlobs(directory)
    await again.tidy()
    assert.equal(await again.growing.size(name), 2_000_000)
    await again.growing.append(name, pieces(bytes.subarray(2_000_000)), { from: 2_000_000 })
    await using staged = await again.growing.finish(name, {
      checksum: `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`,
    })
    await staged.keep()
    assert.ok((await readFile(again.pathOf(staged.digests.sha256))).equals(bytes))
  })

test('a large blob is in a file while it arrives, a small one in memory', async (t) => {
  const directory = await temporaryDirectory(t)
  const blobs = await openFsBlobs(directory)
  await using large = await blobs.stage(pieces(randomBytes(2_000_000)))
  const [name = ''] = await readdir(join(directory, 'tmp'))
  assert.equal((await stat(join(directory, 'tmp', name))).size, large.size)
  await using _small = await blobs.stage(pieces(randomBytes(2000)))
  assert.equal((await readdir(join(directory, 'tmp'))).length, 1)
})

test('thousands of small blobs are stored at once', async (t) => {
  const blobs = await openFsBlobs(await temporaryDirectory(t))
  await Promise.all(Array.from({ length: 2000 }, (_, i) => store(blobs, Buffer.from(`blob ${i}`))))
  assert.equal((await Array.fromAsync(blobs.list())).length, 2000)
})

/** A file system of 4 MiB, or undefined with the test skipped where mounting is not allowed. */
async function smallDisk(t: TestContext): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-disk-'))
  t.after(async () => {
    spawnSync('umount', [directory])
    await rm(directory, { recursive: true })
  })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,nr_inodes=300', 'tmpfs', directory], { stdio: 'ignore' })
  } catch {
    t.skip('mounting a small file system is not allowed here')
    return undefined
  }
  return directory
}

function isFullDisk(error: unknown): boolean {
  return error instanceof Failure && error.code === 'conflict' && /disk of the blob store is full/.test(error.message)
}

for (const size of [100_000, 6_000_000])
  test(`a full disk refuses a blob of ${size} bytes in words, keeps the others and leaves nothing behind`, async (t) => {
    const directory = await smallDisk(t)
    if (!directory) return
    const blobs = await openFsBlobs(directory, { bytes: 0 })
    const kept = new Map<string, Buffer>()
    await assert.rejects(async () => {
      for (;;) {
        const bytes = randomBytes(size)
        kept.set(await store(blobs, bytes), bytes)
      }
    }, isFullDisk)
    assert.deepEqual(await readdir(join(directory, 'tmp')), [])
    assert.deepEqual((await Array.fromAsync(blobs.list())).sort(), [...kept.keys()].sort())
    for (const [sha256, bytes] of kept) assert.ok((await buffer(await blobs.open(sha256))).equals(bytes))

    // When there is room again, work goes on by itself.
    for (const sha256 of kept.keys()) await blobs.delete(sha256)
    await store(blobs, randomBytes(1_000_000))
  })

test('a disk without room for another name refuses in words', async (t) => {
  const directory = await smallDisk(t)
  if (!directory) return
  const blobs = await openFsBlobs(directory, { bytes: 0 })
  await assert.rejects(async () => {
    for (let i = 0; i < 400; i++) await store(blobs, Buffer.from(`blob ${i}`))
  }, isFullDisk)
  assert.deepEqual(await readdir(join(directory, 'tmp')), [])
})

test('before the disk is full a blob is refused, and what was begun of it goes', async (t) => {
  const directory = await smallDisk(t)
  if (!directory) return
  const blobs = await openFsBlobs(directory, { bytes: 2 << 20 })
  const name = newUuid()
  const kept = await store(blobs, randomBytes(500_000))
  for (const refused of [
    () => store(blobs, randomBytes(2_000_000)),
    () => blobs.growing.append(name, pieces(randomBytes(2_000_000)), { from: 0 }),
    () => blobs.makeRoom(2_000_000),
  ])
    await assert.rejects(refused, {
      code: 'conflict',
      message: /^The disk of the blob store is nearly full \(\d MB free, of which 2 MB/,
    })
  assert.deepEqual(await readdir(join(directory, 'tmp')), [])
  await blobs.growing.remove(name)
  assert.ok((await blobs.space()).free >= 2 << 20)
  await blobs.delete(kept)
  await sleep(600)
  await store(blobs, randomBytes(1_000_000))
})

test('bytes that are on their way to the disk are not room for others', async (t) => {
  const directory = await smallDisk(t)
  if (!directory) return
  const blobs = await openFsBlobs(directory, { bytes: 2 << 20 })
  const arrived = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  async function* slow() {
    yield* pieces(randomBytes(900_000))
    arrived.resolve()
    await goOn.promise
  }
  const staging = blobs.stage(slow())
  await arrived.promise
  // By now the file system is looked at again, which has none of these bytes.
  await sleep(600)
  await blobs.makeRoom(900_000)
  await assert.rejects(blobs.makeRoom(1_300_000), { code: 'conflict' })
  goOn.resolve()
  await (await staging)[Symbol.asyncDispose]()
  await sleep(600)
  await blobs.makeRoom(1_300_000)
})

test('an abandoned download leaves no file, wherever it stops', async (t) => {
  const directory = await temporaryDirectory(t)
  const blobs = await openFsBlobs(directory)
  for (const stop of [0, 1000, 1 << 20, 3_000_000]) {
    async function* source() {
      yield* pieces(randomBytes(stop))
      throw new Error('stopped')
    }
    await assert.rejects(blobs.stage(source()), /stopped/)
    assert.deepEqual(await readdir(join(directory, 'tmp')), [])
  }
  assert.ok(existsSync(join(directory, 'sha256')))
})
