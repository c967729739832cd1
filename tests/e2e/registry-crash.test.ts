import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Distribution } from '../../src/api/resources.ts'
import { checkData } from '../check-data.ts'
import { forEachDatabase } from '../databases.ts'
import { openPusher, type Pusher } from '../pusher.ts'
import { basic, type Image, makeImage, makeIndex } from '../registry.ts'
import { cannotTrace } from './run.ts'
import { adminPassword, startServer, type TestServer } from './server.ts'

/*
 * The server is killed at one system call after another that changes something: strace counts those of one thread and kills at the n-th,
 * before it is done. So every state that an operation leaves on the disk on its way is met. After each kill rows and bytes fit together,
 * and after the restart what was acknowledged is there, what is there is whole, and what was under way goes on or is cleanly gone.
 * ALL_CRASHES=1 goes through all calls of all operations, each operation a test; a few are tried by default.
 */

/** One thread of libuv, so that its calls come in one order: it writes files. SQLite, and sockets, are the main thread's. */
type Thread = 'main' | 'libuv-worker'

const calls = ['write', 'writev', 'pwrite64', 'fsync', 'fdatasync', 'ftruncate', 'rename', 'link', 'unlink', 'mkdir'] as const
type Call = (typeof calls)[number]

/** As architectures name them: `rename`, `renameat2`. */
const namesOf = (call: Call) => `/^${call}(at2?)?$`

const all = process.env['ALL_CRASHES'] === '1'

/** What all operations find, made once for each server. */
interface Ground {
  server: TestServer
  source: Image
  guards: readonly string[]
}

interface Ready {
  /** What the server is killed in. */
  act(): Promise<unknown>
  /** When it came to its end. */
  ended?: () => Promise<void>
  /** The same after a restart, where asking again is not enough. `tags` is what there is now. */
  again?: (tags: ReadonlyMap<string, string> | undefined) => Promise<unknown>
  /** What more must hold after a restart. */
  verify?: (tags: ReadonlyMap<string, ReadonlyMap<string, string>>, what: string) => Promise<void>
}

/** Brings about, in a repository of this name, what the operation begins with. */
type Operation = (pusher: Pusher, name: string, ground: Ground) => Promise<Ready>

const someImage = () => makeImage({ layers: [randomBytes(400), randomBytes(700)] })

const operations: Readonly<Record<string, Operation>> = {
  // Too large to be held in memory, and the first of its repository.
  'a large blob': async (pusher, name) => {
    const bytes = randomBytes(150_000)
    return { act: () => pusher.post(name, bytes) }
  },
  'a small blob': async (pusher, name) => {
    await pusher.post(name, randomBytes(20))
    const bytes = randomBytes(700)
    return { act: () => pusher.post(name, bytes) }
  },
  'a blob in chunks': async (pusher, name) => {
    await pusher.post(name, randomBytes(20))
    const bytes = randomBytes(150_000)
    return { act: () => pusher.putInChunks(name, bytes), again: () => pusher.post(name, bytes) }
  },
  'an upload at once': async (pusher, name) => {
    await pusher.post(name, randomBytes(20))
    const bytes = randomBytes(200_000)
    return { act: () => pusher.putAtOnce(name, bytes) }
  },
  'a mount': async (pusher, name, { source }) => {
    await pusher.post(name, randomBytes(20))
    const digest = [...source.blobs.keys()][0]!
    return { act: () => pusher.mount(name, digest, 'crash/source') }
  },
  'a manifest': async (pusher, name) => {
    const image = someImage()
    for (const bytes of image.blobs.values()) await pusher.post(name, bytes)
    return { act: () => pusher.putManifest(name, 'latest', image) }
  },
  'a list': async (pusher, name) => {
    const image = someImage()
    await pusher.push(name, 'one', image)
    return { act: () => pusher.putManifest(name, 'list', makeIndex([image])) }
  },
  'a tag that moves': async (pusher, name) => {
    const [before, after] = [someImage(), someImage()]
    await pusher.push(name, 'latest', before)
    await pusher.push(name, 'next', after)
    return { act: () => pusher.putManifest(name, 'latest', after) }
  },
  'a tag that is deleted': async (pusher, name) => {
    await pusher.push(name, 'gone', someImage())
    return {
      act: () => pusher.deleteTag(name, 'gone'),
      again: async (tags) => tags?.has('gone') && (await pusher.deleteTag(name, 'gone')),
    }
  },
  'a manifest that is deleted': async (pusher, name) => {
    const image = someImage()
    await pusher.push(name, 'gone', image)
    await pusher.push(name, 'stays', someImage())
    return {
      act: () => pusher.deleteManifest(name, image.digest),
      again: async (tags) => tags?.has('gone') && (await pusher.deleteManifest(name, image.digest)),
    }
  },
  'a promotion': async (pusher, name, { server, guards }) => {
    const image = someImage()
    await pusher.push(name, 'v1', image)
    const guarded = async () =>
      (await server.api.list<Distribution>('distributions/container/container/', { name: 'crash/guarded' }).next()).value!
    const before = (await guarded()).content_guard ?? guards[0]!
    const guard = guards.find((each) => each !== before)!
    // One is made, one is there and has another tag.
    const targets = [`${name}-made`, `${name}-there`]
    const promote = (tag: string, image: Image, to: readonly string[], guard: string) =>
      pusher.moves(
        to.map((path) => ({ name: path, tag, image })),
        () =>
          server.api.post('signalbox/promotions/', {
            guard,
            distributions: ['crash/guarded'],
            images: to.map((path) => ({ from: name, to: path, tag })),
          }),
      )
    const first = someImage()
    await pusher.push(name, 'v0', first)
    await promote('v0', first, targets.slice(1), before)
    return {
      act: () => promote('v1', image, targets, guard),
      async verify(tags, what) {
        const done = targets.map((target) => tags.get(target)!.has('v1'))
        assert.equal(done[0], done[1], `${what}: one image was promoted, the other was not`)
        assert.equal(
          (await guarded()).content_guard,
          done[0] ? guard : before,
          `${what}: tags without the guard, or the guard alone`,
        )
      },
    }
  },
  // What the log of SQLite holds is folded into the database.
  'the stop of the server': async (pusher, name, { server }) => {
    await pusher.push(name, 'latest', someImage())
    const act = async () => {
      if ((await server.stop()) !== 0) throw new Error('The server was killed.')
    }
    return { act, ended: server.start, again: async () => {} }
  },
}

/** Kills the server when one of its threads makes the n-th of these calls from now on. Resolves when strace watches. */
async function watchFor(server: TestServer, thread: Thread, call: Call, when: number): Promise<ChildProcess> {
  const tid = await findThread(server.pid(), thread)
  const kill = ['-e', `trace=${namesOf(call)}`, '-e', `inject=${namesOf(call)}:signal=KILL:when=${when}`]
  const child = spawn('strace', ['-p', `${tid}`, '-o', '/dev/null', ...kill], { stdio: ['ignore', 'ignore', 'pipe'] })
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

async function findThread(pid: number, name: Thread): Promise<number> {
  if (name === 'main') return pid
  for (const tid of await readdir(`/proc/${pid}/task`))
    if ((await readFile(`/proc/${pid}/task/${tid}/comm`, 'utf8')).trim() === name) return Number(tid)
  throw new Error(`the server has no thread ${name}`)
}

/** One server, killed again and again. */
async function openCrashes(t: TestContext, database: string) {
  const server = await startServer(t, {
    mayFail: true,
    env: { SIGNALBOX_DATABASE: database, UV_THREADPOOL_SIZE: '1', SIGNALBOX_WORKERS: '1' },
  })
  const reached = { url: server.url, authorization: basic('admin', adminPassword) }
  const source = someImage()
  const maker = openPusher(reached)
  for (const name of ['crash/source', 'crash/guarded']) await maker.push(name, 'latest', source)
  const guards: string[] = []
  for (const name of ['one', 'two'])
    guards.push((await server.api.create<{ pulp_href: string }>('contentguards/core/rbac/', { name })).pulp_href)
  const ground: Ground = { server, source, guards }
  const outcomes: Record<string, number> = {}
  const count = (what: string) => (outcomes[what] = (outcomes[what] ?? 0) + 1)
  let trial = 0

  const expectWhole = async (what: string) => {
    if (!database.startsWith('postgres')) assert.deepEqual((await checkData(server.data, database)).faults, [], what)
  }

  /** False when the operation came to its end before there were so many calls. */
  async function kill(operation: string, thread: Thread, call: Call, when: number): Promise<boolean> {
    const what = `${operation}, ${thread} ${call} ${when}`
    const name = `crash/t${++trial}`
    const pusher = openPusher(reached)
    const { act, ended, again = act, verify } = await operations[operation]!(pusher, name, ground)
    const watching = await watchFor(server, thread, call, when)
    const unwatched = new Promise<void>((resolve) => watching.once('exit', () => resolve()))
    const failed = await act().then(
      () => undefined,
      (error: unknown) => error ?? new Error(what),
    )
    watching.kill('SIGINT')
    await unwatched
    // A connection that broke is what a kill looks like; an answer that is wrong is not.
    if (failed instanceof assert.AssertionError) throw failed
    if (!failed) await ended?.()
    if (await isAlive(server)) {
      if (failed) throw failed
      await pusher.check(`${what}, to the end`)
      return false
    }
    await server.kill()
    await expectWhole(what)
    await server.start()
    assert.deepEqual(await readdir(join(server.data, 'blobs/tmp')), [], `${what}: something half-made is left`)
    const tags = await pusher.check(what)
    await verify?.(tags, what)
    count(failed ? ((await pusher.resume(what)) ?? 'cut off') : 'answered')
    if (failed) await again(tags.get(name))
    await pusher.check(`${what}, and again`)
    return true
  }
  return { kill, expectWhole, outcomes }
}

async function isAlive({ url }: TestServer): Promise<boolean> {
  return fetch(`${url}/livez`).then(
    (answer) => answer.ok,
    () => false,
  )
}

forEachDatabase((engine, _, makeDatabase) => {
  const title = `${engine}: a registry that is killed at any call`
  if (!all) {
    test(`${title} loses nothing that it acknowledged, and nothing dangles`, { timeout: 300_000 }, async (t) => {
      const reason = await cannotTrace()
      if (reason) return t.skip(reason)
      const { kill, expectWhole, outcomes } = await openCrashes(t, await makeDatabase(t))
      for (const [operation, thread, call, when] of sample[engine]!)
        assert.ok(await kill(operation, thread, call, when), `${operation} has less than ${when} calls of ${call} by ${thread}`)
      await expectWhole('at the end')
      t.diagnostic(JSON.stringify(outcomes))
    })
    return
  }
  for (const operation of Object.keys(operations))
    test(`${title} of ${operation} loses nothing, and nothing dangles`, { timeout: 7_200_000 }, async (t) => {
      const reason = await cannotTrace()
      if (reason) return t.skip(reason)
      const { kill, expectWhole, outcomes } = await openCrashes(t, await makeDatabase(t))
      const points: Record<string, number> = {}
      for (const thread of ['libuv-worker', 'main'] as const)
        for (const call of calls) {
          // A call more or less may be made in one run than in another: it is over when two came to their end.
          for (let when = 1, ended = 0; ended < 2; when++) {
            if (await kill(operation, thread, call, when)) ended = 0
            else ended++
            if (ended === 0) points[`${thread} ${call}`] = (points[`${thread} ${call}`] ?? 0) + 1
          }
        }
      await expectWhole('at the end')
      const total = Object.values(points).reduce((sum, each) => sum + each, 0)
      t.diagnostic(`${engine}, ${operation}: ${total} kills, ${JSON.stringify(points)}, ${JSON.stringify(outcomes)}`)
    })
})

/** One of each operation, at different steps. */
const sample: Readonly<Record<string, readonly (readonly [operation: string, thread: Thread, call: Call, when: number])[]>> = {
  SQLite: [
    ['a large blob', 'libuv-worker', 'fsync', 1],
    ['a small blob', 'libuv-worker', 'rename', 1],
    ['a blob in chunks', 'libuv-worker', 'unlink', 1],
    ['an upload at once', 'libuv-worker', 'link', 1],
    ['a mount', 'main', 'pwrite64', 3],
    ['a manifest', 'main', 'pwrite64', 10],
    ['a tag that moves', 'main', 'fsync', 1],
    ['a manifest that is deleted', 'main', 'write', 1],
    ['a promotion', 'main', 'pwrite64', 20],
    ['the stop of the server', 'main', 'pwrite64', 5],
  ],
  PostgreSQL: [
    ['a small blob', 'libuv-worker', 'rename', 1],
    ['a manifest', 'main', 'writev', 6],
    ['a promotion', 'main', 'writev', 12],
  ],
}
