import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import type { Task } from '../../src/api/resources.ts'
import { forEachDatabase } from '../databases.ts'
import { type MadePackage, makeRepository, sha256 } from './made-repository.ts'
import { makeMirror, type Mirror } from './mirror.ts'
import { run, temporaryDirectory } from './run.ts'
import { adminPassword, getContent, program, startServer, type TestServer } from './server.ts'
import { filesIn, serveFiles } from './upstream.ts'

/** As many kills as fit into the time (milliseconds), but not more. */
const limits = { SQLite: { trials: 20, time: 35_000 }, PostgreSQL: { trials: 6, time: 15_000 } }

/** A state of the upstream: most packages stay from one to the next. */
function packagesOf(state: number): MadePackage[] {
  return Array.from({ length: 24 }, (_, index) => {
    const version = index % 4 === 0 ? `${state}` : '1'
    return { name: `package${index}`, version, bytes: Buffer.alloc(30_000, `${index} ${version}\n`) }
  })
}

const identityOf = (packages: readonly MadePackage[]) => packages.map(({ name, version }) => `${name} ${version}`).toSorted()

/** Something that no client may see: a part of one state beside a part of another. */
class Mixed extends Error {}

/** Reads all of a repository as a client does, and verifies it. Undefined when it became another one meanwhile. */
async function readWhole(server: TestServer, path: string): Promise<string[] | undefined> {
  const read = async (name: string) => {
    const answer = await getContent(server, `${path}/${name}`)
    return answer.status === 200 ? Buffer.from(await answer.arrayBuffer()) : answer.status
  }
  const repomd = await read('repodata/repomd.xml')
  if (typeof repomd === 'number') throw new Mixed(`repomd.xml answered ${repomd}`)
  const verified = async (name: string, checksum: string) => {
    const bytes = await read(name)
    if (typeof bytes !== 'number') {
      if (sha256(bytes) !== checksum) throw new Mixed(`${name} has wrong bytes`)
      return bytes
    }
    const now = await read('repodata/repomd.xml')
    if (typeof now === 'number' || now.equals(repomd)) throw new Mixed(`${name} answered ${bytes}`)
    return undefined
  }
  const record = /<data type="primary">.*?>([0-9a-f]{64})<.*?href="([^"]+)"/s.exec(repomd.toString())!
  const primary = await verified(record[2]!, record[1]!)
  if (!primary) return undefined
  const found: string[] = []
  for (const [, name, version, checksum, href] of gunzipSync(primary)
    .toString()
    .matchAll(/<name>([^<]+).*?ver="([^"]+)".*?pkgid="YES">([^<]+).*?<location href="([^"]+)"/gs)) {
    if (!(await verified(href!, checksum!))) return undefined
    found.push(`${name} ${version}`)
  }
  return found.toSorted()
}

/** Reads again and again until stopped. What goes wrong while the server is down does not count. */
function startReader(server: TestServer, paths: readonly string[]) {
  const stop = new AbortController()
  const mixed: Mixed[] = []
  let reads = 0
  const reading = (async () => {
    while (!stop.signal.aborted)
      for (const path of paths)
        try {
          await readWhole(server, path)
          reads++
        } catch (error) {
          if (error instanceof Mixed) mixed.push(error)
        } finally {
          await sleep(30)
        }
  })()
  return {
    async stop() {
      stop.abort()
      await reading
      assert.deepEqual(mixed, [])
      return reads
    },
  }
}

async function unfinished({ api }: TestServer): Promise<Task[]> {
  return Array.fromAsync(api.list<Task>('tasks/', { state__in: ['waiting', 'running', 'canceling'] }))
}

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: a server that is killed at any moment of a sync or a publication goes on from a sound state`, {
    timeout: 180_000,
  }, async (t) => {
    const { trials, time } = limits[engine as keyof typeof limits]
    const server = await startServer(t, { env: { SIGNALBOX_DATABASE: await makeDatabase(t) } })
    const upstream = await serveFiles(t, makeRepository(packagesOf(1)))
    const mirrors = [
      await makeMirror(server, { name: 'complete', url: upstream.url, sync: { sync_policy: 'mirror_complete' } }),
      await makeMirror(server, { name: 'published', url: upstream.url, sync: { sync_policy: 'mirror_content_only' } }),
    ]
    const began = performance.now()
    for (const mirror of mirrors) {
      await renew(mirror)
      await mirror.distribute(`${mirror.name}/snapshot`)
      await mirror.distribute(`${mirror.name}/latest`, { publication: null, repository: mirror.repository.pulp_href })
    }
    const usual = (performance.now() - began) / mirrors.length
    const reader = startReader(
      server,
      mirrors.flatMap(({ name }) => [`${name}/snapshot`, `${name}/latest`]),
    )

    const interrupted: Record<string, number> = {}
    for (let trial = 2; trial < trials + 2 && performance.now() - began < time; trial++) {
      const mirror = mirrors[trial % 2]!
      const [before, after] = [packagesOf(trial - 2), packagesOf(trial)].map(identityOf)
      upstream.files = makeRepository(packagesOf(trial))
      const pause = randomInt(Math.ceil(usual * 0.8))
      const what = `trial ${trial}, killed after ${pause} ms`
      const renewing = renew(mirror).catch(() => {})
      await sleep(pause)
      await server.kill()
      await server.start()
      await renewing
      for (let tries = 0; (await unfinished(server)).length > 0; tries++) {
        assert.ok(tries < 600, `${what}: ${JSON.stringify(await unfinished(server))}`)
        await sleep(50)
      }
      const seen = await readWhole(server, `${mirror.name}/latest`)
      const isOld = String(seen) === String(trial < 4 ? identityOf(packagesOf(1)) : before)
      assert.ok(isOld || String(seen) === String(after), what)
      interrupted[isOld ? 'before' : 'after'] = (interrupted[isOld ? 'before' : 'after'] ?? 0) + 1
      await renew(mirror)
      assert.deepEqual(await readWhole(server, `${mirror.name}/latest`), after, what)
      assert.deepEqual(await readWhole(server, `${mirror.name}/snapshot`), identityOf(packagesOf(1)), what)
    }
    t.diagnostic(`${await reader.stop()} whole reads; killed ${JSON.stringify(interrupted)} the change became visible`)
    const failed = await Array.fromAsync(server.api.list<Task>('tasks/', { state: 'failed' }))
    for (const { error } of failed) assert.match(String(error?.description), /stopped/)
    await server.stop()
    await everyBlobIsSound(server.data)
  })
})

/** Syncs, and publishes where the sync did not. */
async function renew(mirror: Mirror): Promise<void> {
  await mirror.sync()
  if (!(await mirror.findPublication())) await mirror.publish()
}

/** What is stored under a checksum has it, and nothing half-made is left. */
async function everyBlobIsSound(data: string): Promise<void> {
  const files = await filesIn(join(data, 'blobs'))
  assert.ok(files.size > 0)
  for (const [path, bytes] of files) assert.equal(path.replace(/^sha256\/|\//g, ''), sha256(bytes), path)
}

test('a server that is told to stop ends in the midst of a sync, and the sync is not left running', {
  timeout: 60_000,
}, async (t) => {
  const server = await startServer(t)
  const upstream = await serveFiles(t, makeRepository(packagesOf(1)))
  const mirror = await makeMirror(server, { name: 'stopped', url: upstream.url, sync: { sync_policy: 'mirror_complete' } })
  // One package never comes.
  upstream.intercept = (path) => path.includes('package7-')
  const { task } = await server.api.post<{ task: string }>(`${mirror.repository.pulp_href}sync/`, {
    sync_policy: 'mirror_complete',
  })
  while (!upstream.requests.some((path) => path.includes('package7-'))) await sleep(20)
  const began = performance.now()
  assert.equal(await server.stop(), 0)
  assert.ok(performance.now() - began < 15_000)
  await server.start()
  const { state, error } = await server.api.get<Task>(task)
  assert.deepEqual([state, /stopped/.test(String(error?.description))], ['failed', true], JSON.stringify(error))
  upstream.intercept = undefined
  await mirror.sync()
  assert.equal((await mirror.latest()).number, 1)
})

test('a second server on the same data is refused, and the first one goes on', { timeout: 60_000 }, async (t) => {
  const server = await startServer(t)
  const second = await run(program, ['serve', '--data', server.data, '--listen', '127.0.0.1:0'], { mayFail: true })
  assert.equal(second.code, 1)
  assert.match(second.stderr, /Another server is using the data directory .*Stop it, or choose another with --data\./)
  assert.equal((await fetch(`${server.url}/livez`)).status, 200)
})

/** A file system of its own, which can be full. Undefined where none can be mounted. */
async function mountSmall(t: TestContext, size: string) {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-small-'))
  const mounted =
    process.platform === 'linux' &&
    (await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', directory], { mayFail: true })).code === 0
  t.after(async () => {
    if (mounted) await run('umount', ['-l', directory])
    await rm(directory, { recursive: true, force: true })
  })
  return mounted ? { directory, grow: (to: string) => run('mount', ['-o', `remount,size=${to}`, directory]) } : undefined
}

test('a full disk fails the sync with a sentence; reading goes on, and space heals it', { timeout: 90_000 }, async (t) => {
  const small = process.getuid?.() === 0 ? await mountSmall(t, '40m') : undefined
  if (!small) return t.skip('no file system can be mounted here')
  const data = join(small.directory, 'data')
  await mkdir(data)
  const server = await startServer(t, { data, mayFail: true, env: { SIGNALBOX_RESERVE: '0' } })
  const upstream = await serveFiles(t, makeRepository(packagesOf(1)))
  const mirror = await makeMirror(server, { name: 'full', url: upstream.url, sync: { sync_policy: 'mirror_complete' } })
  await mirror.sync()
  await mirror.distribute('full', { publication: null, repository: mirror.repository.pulp_href })
  const large = Array.from({ length: 6 }, (_, index) => ({ name: `large${index}`, bytes: Buffer.alloc(8 << 20, `${index}`) }))
  upstream.files = makeRepository(large)
  await assert.rejects(
    mirror.sync(),
    /(The disk of the blob store is full|There is no space left where the server keeps its data): make room and try again\./,
  )
  assert.deepEqual(await readWhole(server, 'full'), identityOf(packagesOf(1)))
  assert.equal((await mirror.latest()).number, 1)

  const filler = join(small.directory, 'filler')
  await writeFile(filler, Buffer.alloc(64 << 20)).catch(() => {})
  assert.deepEqual(await readWhole(server, 'full'), identityOf(packagesOf(1)))
  await assert.rejects(mirror.sync())
  assert.equal((await fetch(`${server.url}/livez`)).status, 200)

  await rm(filler)
  await small.grow('200m')
  await mirror.sync()
  assert.deepEqual(await readWhole(server, 'full'), identityOf(large.map((each) => ({ ...each, version: '1.0' }))))
  await server.stop()
  await everyBlobIsSound(data)
})

test('before the disk is full syncs and uploads are refused with a sentence; everything else goes on', {
  timeout: 120_000,
}, async (t) => {
  const small = process.getuid?.() === 0 ? await mountSmall(t, '100m') : undefined
  const data = join(small?.directory ?? (await temporaryDirectory(t)), 'data')
  await mkdir(data)
  const nearlyFull =
    /The disk of the blob store is nearly full \(\d+ MB free, of which \d+ MB are kept\): make room and try again\./
  const start = (reserve: string) => startServer(t, { data, mayFail: true, env: { SIGNALBOX_RESERVE: reserve } })
  const first = await start('1')
  const upstream = await serveFiles(t, makeRepository(packagesOf(1)))
  const mirror = await makeMirror(first, { name: 'kept', url: upstream.url, sync: { sync_policy: 'mirror_complete' } })
  await mirror.sync()
  await mirror.distribute('kept', { publication: null, repository: mirror.repository.pulp_href })
  await first.stop()

  // Where no file system can be mounted, all there is is kept.
  const server = await start(small ? '60M' : '100%')
  const { repository } = mirror
  const sync = () => server.api.act(`${repository.pulp_href}sync/`, { sync_policy: 'mirror_complete' })
  const large = Array.from({ length: 8 }, (_, index) => ({ name: `large${index}`, bytes: Buffer.alloc(8 << 20, `${index}`) }))
  upstream.files = makeRepository(large)
  await assert.rejects(sync(), nearlyFull)
  await assert.rejects(server.api.post('uploads/', { size: 60 << 20 }), nearlyFull)
  const form = new FormData()
  form.set('file', new Blob([Buffer.alloc(60 << 20)]), 'large')
  const authorization = `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`
  const answer = await fetch(`${server.url}/pulp/api/v3/artifacts/`, { method: 'POST', headers: { authorization }, body: form })
  assert.deepEqual([answer.status, nearlyFull.test(await answer.text())], [409, true])
  // Reading, changing and deleting.
  assert.deepEqual(await readWhole(server, 'kept'), identityOf(packagesOf(1)))
  await server.api.update(repository.pulp_href, { description: 'still changed' })
  await server.api.act('orphans/cleanup/', { orphan_protection_time: 0 })
  if (!small) return
  await small.grow('300m')
  await sync()
  assert.deepEqual(await readWhole(server, 'kept'), identityOf(large.map((each) => ({ ...each, version: '1.0' }))))
})
