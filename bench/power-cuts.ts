import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { checkData } from '../tests/check-data.ts'
import { adminPassword, startServer, type TestServer } from '../tests/e2e/server.ts'
import { type Served, serveFiles } from '../tests/e2e/upstream.ts'
import { openPusher, type Pusher } from '../tests/pusher.ts'
import { basic, makeImage } from '../tests/registry.ts'
import { findMissing, openDisk } from './powered-disk.ts'

/*
 * Power cuts: a server on a file system on a disk that forgets what was not flushed. Clients push, upload, sync and promote and remember
 * what was acknowledged; the disk is cut off at one of its writes, mounted again, and the server started again: then all of it must be
 * there, byte for byte, and nothing may dangle. With --control the server's fsyncs are skipped, and the rig must find losses.
 */

const authorization = basic('admin', adminPassword)

/** All that was acknowledged since the disk was made, and who goes on with it. */
interface Clients {
  pusher: Pusher
  guards: readonly string[]
  /** SHA-256 of artifacts that were uploaded. */
  artifacts: Set<string>
  /** Uploads that are under way, and how many of their bytes were taken. */
  uploads: Set<{ href: string; bytes: Buffer; taken: number }>
  /** A repository, what the last acknowledged sync left in it, and what it is being synced to. */
  repository: string
  synced?: ReadonlyMap<string, Buffer> | undefined
  syncing?: ReadonlyMap<string, Buffer> | undefined
  counts: { promotions: number; syncs: number; chunks: number }
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Does one thing after another until the power is gone. */
async function work(gone: Promise<unknown>, act: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0; ; round++)
    try {
      await act(round)
    } catch (error) {
      // Once it is gone every answer is right but one that says that something was done.
      const isGone = await Promise.race([gone.then(() => true), sleep(3000, false, { ref: false })])
      if (!isGone) throw error
      return
    }
}

async function playAll(
  server: TestServer,
  upstream: Served,
  clients: Clients,
  gone: Promise<unknown>,
  life: string,
): Promise<void> {
  const { api } = server
  const { pusher, guards, counts } = clients
  const pushing = work(gone, async (round) => {
    const name = `power/${life}-${round % 3}`
    const image = makeImage({ layers: [randomBytes(700), randomBytes(round % 2 === 0 ? 150_000 : 3000)] })
    const [first, ...rest] = [...image.blobs.values()]
    await pusher.putInChunks(name, first!)
    for (const bytes of rest) await pusher.post(name, bytes)
    await pusher.putManifest(name, 'latest', image)
    await pusher.putManifest(name, `r${round}`, image)
    const to = `released/${life}-${round % 3}`
    const body = { guard: guards[round % 2], distributions: [], images: [{ from: name, to, tag: `r${round}` }] }
    await pusher.moves([{ name: to, tag: `r${round}`, image }], () => api.post('signalbox/promotions/', body))
    counts.promotions++
  })
  const uploading = work(gone, async (round) => {
    const bytes = randomBytes(2000 + randomInt(100_000))
    if (round % 2 === 0) {
      const form = new FormData()
      form.set('file', new Blob([new Uint8Array(bytes)]), 'artifact')
      await send(server, 'POST', '/pulp/api/v3/artifacts/', form)
      clients.artifacts.add(sha256(bytes))
      return
    }
    const { pulp_href: href } = await api.post<{ pulp_href: string }>('uploads/', { size: bytes.length })
    const upload = { href, bytes, taken: 0 }
    clients.uploads.add(upload)
    const half = bytes.length >> 1
    await sendChunk(server, clients, upload, half)
    // One in two stays as it is, to be gone on with after the cut.
    if (randomInt(2) === 0) return
    await sendChunk(server, clients, upload, bytes.length - half)
    await api.act(`${href}commit/`, { sha256: sha256(bytes) })
    clients.uploads.delete(upload)
    clients.artifacts.add(sha256(bytes))
  })
  const syncing = work(gone, async () => {
    const files = new Map(['a', 'b', 'c'].map((name) => [name, randomBytes(1000 + randomInt(40_000))]))
    upstream.files = new Map([...files, ['PULP_MANIFEST', Buffer.from(renderManifest(files))]])
    clients.syncing = files
    await api.act(`${clients.repository}sync/`, { mirror: true })
    clients.synced = files
    clients.syncing = undefined
    counts.syncs++
  })
  await Promise.all([pushing, uploading, syncing])
}

const renderManifest = (files: ReadonlyMap<string, Buffer>) =>
  [...files].map(([name, bytes]) => `${name},${sha256(bytes)},${bytes.length}\n`).join('')

async function send({ url }: TestServer, method: string, path: string, body: FormData, headers = {}): Promise<void> {
  const answer = await fetch(new URL(path, url), { method, headers: { authorization, ...headers }, body })
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  await answer.arrayBuffer()
}

type Upload = Clients['uploads'] extends Set<infer U> ? U : never

async function sendChunk(server: TestServer, { counts }: Clients, upload: Upload, length: number): Promise<void> {
  const end = upload.taken + length
  const form = new FormData()
  form.set('file', new Blob([new Uint8Array(upload.bytes.subarray(upload.taken, end))]), 'chunk')
  const range = `bytes ${upload.taken}-${end - 1}/${upload.bytes.length}`
  await send(server, 'PUT', upload.href, form, { 'content-range': range })
  upload.taken = end
  counts.chunks++
}

/** Compares with all that was acknowledged since the disk was made. Throws what is lost. */
async function checkAll(server: TestServer, clients: Clients, what: string): Promise<void> {
  const { api } = server
  await clients.pusher.check(what)
  await clients.pusher.resume(what, true)
  for (const digest of clients.artifacts) {
    const found = await Array.fromAsync(api.list<{ sha256: string }>('artifacts/', { sha256: digest }))
    assert.equal(found.length, 1, `${what}: the artifact ${digest} is lost`)
  }
  // What was taken of them is not sent again.
  for (const upload of clients.uploads) {
    clients.uploads.delete(upload)
    if (upload.taken === 0) continue
    const isKnown = async () =>
      (await Array.fromAsync(api.list<{ sha256: string }>('artifacts/', { sha256: sha256(upload.bytes) }))).length > 0
    try {
      if (upload.taken < upload.bytes.length) await sendChunk(server, clients, upload, upload.bytes.length - upload.taken)
      if (!(await isKnown())) await api.act(`${upload.href}commit/`, { sha256: sha256(upload.bytes) })
    } catch (error) {
      // A commit that waited when the power went is done as soon as the server is back.
      if (!(await isKnown())) assert.fail(`${what}: an upload has lost ${upload.taken} bytes that it had: ${String(error)}`)
    }
    clients.artifacts.add(sha256(upload.bytes))
  }
  const states = [clients.synced, clients.syncing].filter((each) => each !== undefined)
  const served = await readFiles(server, states.at(-1))
  const now = states.find((state) => renderManifest(state) === served)
  assert.ok(now ?? !clients.synced, `${what}: what was synced is lost: ${served}`)
  clients.synced = now
  clients.syncing = undefined
}

/** What is served of a synced repository, as a manifest. */
async function readFiles({ url }: TestServer, names: ReadonlyMap<string, unknown> = new Map()): Promise<string> {
  const read = new Map<string, Buffer>()
  for (const name of names.keys()) {
    const answer = await fetch(`${url}/pulp/content/files/${name}`)
    const bytes = Buffer.from(await answer.arrayBuffer())
    if (answer.status === 200) read.set(name, bytes)
  }
  return renderManifest(read)
}

interface Figures {
  cuts: number
  /** Of these, such that came while the server was starting or being looked at. */
  early: number
  disks: number
  acknowledged: Record<string, number>
  writes: number
  flushes: number
  /** Writes that were not flushed yet, and those of them that the disk kept all the same. */
  cached: number
  survived: number
  /** What was lost: a sentence for each disk that lost something. */
  lost: string[]
}

interface Life {
  fileSystem: string
  cuts: number
  control: boolean
  name: string
  isOver: () => boolean
}

/** One disk, from its making through so many cuts, or until something is lost. */
async function live({ fileSystem, cuts, control, name, isOver }: Life, figures: Figures): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-power-'))
  const ends: (() => Promise<void> | void)[] = []
  const scope = { after: (clean: () => Promise<void> | void) => void ends.push(clean) }
  const disk = await openDisk(directory, fileSystem)
  const data = join(disk.mounted, 'data')
  figures.disks++
  try {
    let { gone } = await disk.on()
    const upstream = await serveFiles(scope, new Map())
    const env = { SIGNALBOX_WORKERS: '1', SIGNALBOX_RESERVE: '0' }
    const server = await startServer(scope, { data, mayFail: true, env })
    const clients = await prepare(server, upstream)
    for (let cut = 1; ; cut++) {
      const skipping = control ? await skipSyncs(server) : undefined
      // Without flushes hardly anything is written, so time must do.
      if (!control) disk.cut(10 + randomInt(200))
      const patience = control ? 500 + randomInt(2000) : 30_000
      const playing = playAll(server, upstream, clients, gone, `${name}-${cut}`)
      await Promise.race([playing, gone, sleep(patience)])
      await turnOff()
      await playing
      await skipping?.ended
      // Some come while all is being read and mended.
      for (let isEarly = randomInt(6) === 0; ; isEarly = false) {
        const what = `${fileSystem}, disk ${name}, cut ${cut}`
        gone = (await disk.on()).gone
        if (isEarly) disk.cut(randomInt(80))
        const checking = checkWhole(what)
        try {
          // On a disk that is gone some of it would wait for ever.
          await Promise.race([checking, rejectWhen(gone)])
          break
        } catch (error) {
          const isGone = await Promise.race([gone.then(() => true), sleep(isEarly ? 3000 : 0, false)])
          if (!isGone) {
            figures.lost.push(what)
            console.log(error instanceof Error ? error.message.slice(0, 1000) : String(error))
            return
          }
          figures.early++
          await turnOff()
          await checking.catch(() => {})
        }
      }
      if (cut === cuts || isOver()) break
    }
    const { counts, artifacts, pusher } = clients
    for (const [what, count] of Object.entries({ ...pusher.counts(), artifacts: artifacts.size, ...counts }))
      figures.acknowledged[what] = (figures.acknowledged[what] ?? 0) + count

    async function checkWhole(what: string): Promise<void> {
      assert.deepEqual((await checkData(data)).faults, [], what)
      await server.start()
      await checkAll(server, clients, what)
    }

    async function turnOff(): Promise<void> {
      disk.cut()
      await server.kill()
      const { writes, flushes, cached, survived } = (await disk.off())!
      figures.cuts++
      figures.writes += writes
      figures.flushes += flushes
      figures.cached += cached
      figures.survived += survived
    }
  } finally {
    disk.cut()
    for (const end of ends.toReversed()) await end()
    await disk.off()
    await disk.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

function rejectWhen(gone: Promise<unknown>): Promise<never> {
  const rejected = gone.then(() => {
    throw new Error('The power is gone.')
  })
  // It may be gone when nobody waits for it any more.
  rejected.catch(() => {})
  return rejected
}

async function prepare({ api, url }: TestServer, upstream: Served): Promise<Clients> {
  const create = async (path: string, fields: Record<string, unknown>) =>
    (await api.create<{ pulp_href: string }>(path, fields)).pulp_href
  const guards = [
    await create('contentguards/core/rbac/', { name: 'one' }),
    await create('contentguards/core/rbac/', { name: 'two' }),
  ]
  const remote = await create('remotes/file/file/', { name: 'files', url: `${upstream.url}PULP_MANIFEST` })
  const repository = await create('repositories/file/file/', { name: 'files', remote, autopublish: true })
  await create('distributions/file/file/', { name: 'files', base_path: 'files', repository })
  return {
    pusher: openPusher({ url, authorization }),
    guards,
    artifacts: new Set(),
    uploads: new Set(),
    repository,
    counts: { promotions: 0, syncs: 0, chunks: 0 },
  }
}

/** Lets the fsyncs of a running server say that they are done, without doing them. */
async function skipSyncs(server: TestServer): Promise<{ ended: Promise<void> }> {
  const skip = ['-e', 'trace=fsync,fdatasync', '-e', 'inject=fsync,fdatasync:retval=0']
  const child = spawn('strace', ['-f', '-p', `${server.pid()}`, '-o', '/dev/null', ...skip], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve) => child.stderr.once('data', () => resolve()))
  return { ended: new Promise<void>((resolve) => child.once('exit', () => resolve())) }
}

export async function bench(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      cuts: { type: 'string', default: '300' },
      each: { type: 'string', default: '10' },
      fs: { type: 'string', default: 'ext4' },
      control: { type: 'boolean', default: false },
    },
  })
  const { fs: fileSystem, control } = values
  const missing = await findMissing(fileSystem)
  if (missing !== undefined) {
    console.error(missing)
    process.exitCode = 2
    return
  }
  const figures: Figures = {
    cuts: 0,
    early: 0,
    disks: 0,
    acknowledged: {},
    writes: 0,
    flushes: 0,
    cached: 0,
    survived: 0,
    lost: [],
  }
  let isStopped = false
  process.once('SIGINT', () => (isStopped = true))
  const wanted = Number(values.cuts)
  const isOver = () => isStopped || figures.cuts >= wanted
  while (!isOver()) {
    await live({ fileSystem, cuts: Number(values.each), control, name: `${figures.disks + 1}`, isOver }, figures)
    const { lost, ...counts } = figures
    console.log(
      `${fileSystem}${control ? ' without fsync' : ''}: ${JSON.stringify(counts)}, disks that lost something: ${lost.length}`,
    )
  }
  process.exitCode = figures.lost.length > 0 === control ? 0 : 1
}
