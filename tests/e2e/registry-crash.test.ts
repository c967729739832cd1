import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { digestOf, type Image, makeImage, makeIndex } from '../registry.ts'
import { cannotTrace } from './run.ts'
import { adminPassword, startServer, type TestServer } from './server.ts'

/*
 * The server is killed at one system call after another of a push, as they are made: strace counts them and kills at the n-th. After each
 * restart, what was acknowledged is there, what is there is whole, and what was under way goes on or is cleanly gone.
 * ALL_CRASHES=1 goes through all of them; a few are tried by default.
 */

/** The calls that change something, by thread: files are written by a thread of libuv, SQLite by the main one. */
const moments: readonly (readonly [thread: Thread, call: string])[] = [
  ['main', 'fsync'],
  ['libuv-worker', 'fsync'],
  ['libuv-worker', 'rename'],
  ['libuv-worker', 'link'],
  ['libuv-worker', 'unlink'],
  ['libuv-worker', 'mkdir'],
  ['libuv-worker', 'ftruncate'],
  ['libuv-worker', 'pwrite64'],
  ['libuv-worker', 'write'],
  ['libuv-worker', 'writev'],
  ['libuv-worker', 'fdatasync'],
  ['main', 'fdatasync'],
  ['main', 'pwrite64'],
  ['main', 'write'],
  ['main', 'writev'],
  ['libuv-worker', 'openat'],
  ['libuv-worker', 'close'],
]

type Thread = 'main' | 'libuv-worker'

const all = process.env['ALL_CRASHES'] === '1'
const limits = { SQLite: all ? 100_000 : 6, PostgreSQL: all ? 100_000 : 2 }

/** What the server has told, and what it may be doing: the one or the other holds after a crash. */
interface Told {
  name: string
  /** Digests that are there. */
  blobs: Set<string>
  manifests: Set<string>
  tags: Map<string, string | undefined>
  /** Tags that are being moved: either is right. */
  moving: Map<string, string | undefined>
  /** An upload that goes on, and the least that it has. */
  upload: { location: string; size: number; bytes: Buffer } | undefined
}

const authorization = `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`

async function send(server: TestServer, method: string, path: string, body?: Buffer | string, type?: string) {
  const response = await fetch(new URL(path, server.url), {
    method,
    headers: { authorization, ...(type && { 'content-type': type }) },
    ...(body !== undefined && { body: new Uint8Array(Buffer.from(body)) }),
  })
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) }
}

async function expectSent(
  server: TestServer,
  status: number,
  ...request: [method: string, path: string, body?: Buffer | string, type?: string]
) {
  const answer = await send(server, ...request)
  assert.equal(answer.status, status, `${request[0]} ${request[1]}: ${answer.bytes.toString().slice(0, 300)}`)
  return answer
}

/** Everything that a registry is told to write, one after another. Throws when the server is gone. */
async function play(server: TestServer, told: Told, source: string, image: Image, next: Image, list: Image): Promise<void> {
  const { name } = told
  const [first, second, third] = [...image.blobs] as [string, Buffer][]
  // In chunks.
  const begun = await expectSent(server, 202, 'POST', `/v2/${name}/blobs/uploads/`)
  const location = begun.headers.get('location')!
  told.upload = { location, size: 0, bytes: first![1] }
  const half = Math.floor(first![1].length / 2)
  await expectSent(server, 202, 'PATCH', location, first![1].subarray(0, half))
  told.upload.size = half
  await expectSent(server, 202, 'PATCH', location, first![1].subarray(half))
  told.upload.size = first![1].length
  await expectSent(server, 201, 'PUT', `${location}?digest=${first![0]}`)
  told.upload = undefined
  told.blobs.add(first![0])
  // At once, and by an upload that is whole at its end.
  await expectSent(server, 201, 'POST', `/v2/${name}/blobs/uploads/?digest=${second![0]}`, second![1])
  told.blobs.add(second![0])
  const other = (await expectSent(server, 202, 'POST', `/v2/${name}/blobs/uploads/`)).headers.get('location')!
  await expectSent(server, 201, 'PUT', `${other}?digest=${third![0]}`, third![1])
  told.blobs.add(third![0])
  for (const digest of next.blobs.keys()) {
    await expectSent(server, 201, 'POST', `/v2/${name}/blobs/uploads/?mount=${digest}&from=${source}`)
    told.blobs.add(digest)
  }
  const put = async (reference: string, { manifests, digest }: Image) => {
    const { bytes, mediaType } = manifests.get(digest)!
    if (!reference.includes(':')) told.moving.set(reference, digest)
    await expectSent(server, 201, 'PUT', `/v2/${name}/manifests/${reference}`, bytes, mediaType)
    told.manifests.add(digest)
    if (reference.includes(':')) return
    told.tags.set(reference, digest)
    told.moving.delete(reference)
  }
  await put('latest', image)
  await put('latest', next)
  await put('list', list)
  await put('gone', makeImage({ layers: [image.blobs.get(second![0])!], config: first![1] }))
  told.moving.set('gone', undefined)
  await expectSent(server, 202, 'DELETE', `/v2/${name}/manifests/gone`)
  told.tags.delete('gone')
  told.moving.delete('gone')
}

/** Reads over HTTP alone: all that was told is there, and what is there is whole. */
async function check(server: TestServer, told: Told, what: string): Promise<void> {
  const { name } = told
  const seen = new Set<string>()
  const readBlob = async (digest: string) => {
    if (seen.has(digest)) return
    seen.add(digest)
    const { status, bytes } = await send(server, 'GET', `/v2/${name}/blobs/${digest}`)
    assert.deepEqual([status, digestOf(bytes)], [200, digest], `${what}: blob ${digest}`)
  }
  const readManifest = async (reference: string) => {
    if (seen.has(reference)) return
    const { status, bytes, headers } = await send(server, 'GET', `/v2/${name}/manifests/${reference}`)
    assert.equal(status, 200, `${what}: manifest ${reference}`)
    const digest = digestOf(bytes)
    assert.equal(headers.get('docker-content-digest'), digest, `${what}: manifest ${reference}`)
    seen.add(digest)
    const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString())
    for (const each of [...(config ? [config] : []), ...layers]) await readBlob(each.digest)
    for (const each of manifests) await readManifest(each.digest)
    return digest
  }
  const listed = await send(server, 'GET', `/v2/${name}/tags/list`)
  const tags: string[] = listed.status === 404 ? [] : JSON.parse(listed.bytes.toString()).tags
  for (const tag of tags) {
    const digest = await readManifest(tag)
    const right = [told.tags.get(tag), told.moving.get(tag)].filter((each) => each !== undefined)
    if (digest !== undefined) assert.ok(right.includes(digest), `${what}: ${tag} is ${digest}, not ${right.join(' or ')}`)
  }
  for (const tag of told.tags.keys()) if (!told.moving.has(tag)) assert.ok(tags.includes(tag), `${what}: tag ${tag} is lost`)
  for (const digest of told.manifests) await readManifest(digest)
  for (const digest of told.blobs) await readBlob(digest)
}

/** An upload goes on where it was, or is gone: because it had become a blob, or because it never was one. */
async function resume(
  server: TestServer,
  { name, upload }: Told,
  what: string,
): Promise<'went on' | 'became a blob' | undefined> {
  if (!upload) return undefined
  const { location, size, bytes } = upload
  const status = await send(server, 'GET', location)
  if (status.status === 404) {
    // The last thing that was asked of it may have been done.
    const { status: found } = await send(server, 'HEAD', `/v2/${name}/blobs/${digestOf(bytes)}`)
    assert.equal(found, 200, `${what}: the upload is gone, and there is no blob`)
    return 'became a blob'
  }
  assert.equal(status.status, 204, what)
  const there = Number(status.headers.get('range')!.split('-')[1]) + 1
  const at = size === 0 && there === 1 ? 0 : there
  assert.ok(at >= size, `${what}: ${at} of ${size} bytes that were acknowledged`)
  await expectSent(server, 201, 'PUT', `${location}?digest=${digestOf(bytes)}`, bytes.subarray(at))
  return 'went on'
}

/** Kills the server when one of its threads makes the n-th of these calls from now on. Resolves when strace watches. */
async function watchFor(server: TestServer, thread: Thread, call: string, when: number): Promise<ChildProcess> {
  const tid = await findThread(server.pid(), thread)
  const child = spawn(
    'strace',
    ['-p', `${tid}`, '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${when}`],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  await new Promise<void>((resolve, reject) => {
    let text = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.includes('attached')) resolve()
    })
    child.once('exit', () => reject(new Error(`strace did not attach: ${text}`)))
    child.once('error', reject)
  })
  return child
}

async function findThread(pid: number, name: string): Promise<number> {
  if (name === 'main') return pid
  for (const tid of await readdir(`/proc/${pid}/task`))
    if ((await readFile(`/proc/${pid}/task/${tid}/comm`, 'utf8')).trim() === name) return Number(tid)
  throw new Error(`the server has no thread ${name}`)
}

const random = (size: number) => randomBytes(size)

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: a registry that is killed at any call of a push loses nothing that it acknowledged, and nothing dangles`, {
    timeout: 7_200_000,
  }, async (t: TestContext) => {
    const reason = await cannotTrace()
    if (reason) return t.skip(reason)
    const server = await startServer(t, {
      mayFail: true,
      // One thread for files, so that its calls come in one order.
      env: { SIGNALBOX_DATABASE: await makeDatabase(t), UV_THREADPOOL_SIZE: '1' },
    })
    const source = makeImage({ layers: [random(400), random(500)] })
    for (const [digest, bytes] of source.blobs)
      await expectSent(server, 201, 'POST', `/v2/crash/source/blobs/uploads/?digest=${digest}`, bytes)
    const { bytes, mediaType } = source.manifests.get(source.digest)!
    await expectSent(server, 201, 'PUT', '/v2/crash/source/manifests/latest', bytes, mediaType)

    let trial = 0
    const outcomes: Record<string, number> = {}
    const count = (what: string) => (outcomes[what] = (outcomes[what] ?? 0) + 1)

    /** False when the push came to its end before there were so many calls. */
    async function kill(thread: Thread, call: string, when: number): Promise<boolean> {
      const what = `${thread} ${call} ${when}`
      const name = `crash/t${++trial}`
      const told: Told = { name, blobs: new Set(), manifests: new Set(), tags: new Map(), moving: new Map(), upload: undefined }
      const image = makeImage({ layers: [random(150_000), random(700)], config: random(200_000) })
      const list = makeIndex([source, image])
      // Whoever was not asked yet has not made its thread.
      await send(server, 'GET', `/v2/crash/source/manifests/${source.digest}`)
      await send(server, 'GET', `/v2/crash/source/blobs/${[...source.blobs.keys()].at(-1)}`)
      const watching = await watchFor(server, thread, call, when)
      const ended = new Promise<void>((resolve) => watching.once('exit', () => resolve()))
      const played = await play(server, told, 'crash/source', image, source, list).then(
        () => true,
        (error: unknown) => {
          // A connection that broke is what a kill looks like; an answer that is wrong is not.
          if (error instanceof assert.AssertionError) throw error
          return false
        },
      )
      if (played) {
        watching.kill('SIGINT')
        await ended
        await check(server, told, `${what}, to the end`)
        return false
      }
      await ended
      await server.kill()
      await server.start()
      await check(server, told, what)
      count((await resume(server, told, what)) ?? 'no upload was under way')
      await check(server, told, what)
      // All of it again: nothing that is left is in the way.
      await play(server, { ...told, upload: undefined }, 'crash/source', image, source, list)
      await check(server, told, `${what}, and again`)
      return true
    }

    const most = new Map<string, number>()
    if (all)
      for (const [thread, call] of moments) {
        // With PostgreSQL the main thread writes to nothing but sockets.
        if (engine !== 'SQLite' && thread === 'main' && !call.startsWith('write')) continue
        let when = 1
        while (await kill(thread, call, when)) when++
        most.set(`${thread} ${call}`, when - 1)
        t.diagnostic(`${thread} ${call}: ${when - 1}`)
      }
    else
      for (const [thread, call, when] of sample.slice(0, limits[engine as keyof typeof limits])) {
        assert.ok(await kill(thread, call, when), `the push has less than ${when} calls of ${call} by ${thread}`)
      }
    t.diagnostic(`${trial} pushes, ${JSON.stringify(outcomes)}, ${JSON.stringify([...most])}`)
    await server.stop()
    assert.deepEqual(await readdir(join(server.data, 'blobs', 'tmp')), [])
  })
})

/** One of each kind, at different steps of the push. */
const sample: readonly (readonly [thread: Thread, call: string, when: number])[] = [
  ['libuv-worker', 'rename', 1],
  ['libuv-worker', 'fsync', 3],
  ['libuv-worker', 'unlink', 1],
  ['main', 'fsync', 5],
  ['main', 'pwrite64', 25],
  ['main', 'fsync', 9],
]
