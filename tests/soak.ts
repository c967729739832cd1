import { createHash, randomInt } from 'node:crypto'
import type { TestContext } from 'node:test'
import { Worker } from 'node:worker_threads'
import { sql } from 'kysely'
import { type Db, engineOf, openDatabase } from '../src/store/database.ts'
import type { Collected, Collecting } from './collector.ts'
import { type Answer, digestOf, openRegistry, type Registry, types } from './registry.ts'

/*
 * Clients push, mount, ask whether a layer is there and count on the answer, move tags and delete, all over few layers that many have in
 * common, while a thread collects what nothing refers to. Nobody deletes what another client of the same repository counts on; all else is
 * at random. Whatever a client was told must hold: no push breaks, and what was pushed is read back byte for byte until it is deleted.
 */

export interface Soaking {
  /** A path or URL for openDatabase. */
  database: string
  clients: number
  /** It ends when there were so many requests and collections and so much was collected, or when the time (milliseconds) is over. */
  events: number
  cycles: number
  content: number
  time: number
  /** Collections at once. */
  collectors: number
  /** A collector that knows of no leases, for comparison: pushes must break, and the first that does ends it. */
  isBlind?: boolean
  /** Called from time to time. */
  tell?: (soaked: Soaked) => void
}

export interface Soaked extends Collected {
  events: number
  pushes: number
  mounted: number
  found: number
  uploaded: number
  deleted: number
  read: number
  /** What must not be: empty. */
  broken: string[]
  seconds: number
}

/** Layers that are in many images, and such that are in one or none. */
const layers = { popular: 12, rare: 600 }
const tagsEach = 4

interface Pushed {
  digest: string
  bytes: Buffer
  blobs: readonly string[]
}

/** A repository, and who is in it: many who push, or one who deletes blobs that others may count on. */
interface Shared {
  name: string
  pushing: Set<Promise<unknown>>
  deleting: Promise<unknown>
}

/** What one client has pushed to one repository, by tag. */
interface Held {
  place: Shared
  tags: Map<string, Pushed>
}

export async function soak(t: Pick<TestContext, 'after'>, soaking: Soaking): Promise<Soaked> {
  const db = await openDatabase(soaking.database)
  t.after(() => db.destroy())
  const registry = await openRegistry(t as TestContext, db)
  if (soaking.isBlind) await letLeasedContentGo(db)
  const total: Soaked = {
    events: 0,
    pushes: 0,
    mounted: 0,
    found: 0,
    uploaded: 0,
    deleted: 0,
    read: 0,
    cycles: 0,
    content: 0,
    blobs: 0,
    broken: [],
    seconds: 0,
  }
  const began = performance.now()
  const counted: Registry = {
    ...registry,
    send: (...request) => {
      total.events++
      return registry.send(...request)
    },
  }
  // Two clients in each repository, and one repository that all are in.
  const names = Array.from({ length: Math.ceil(soaking.clients / 2) }, (_, index) => `soak/r${index}`)
  const places: Shared[] = ['soak/all', ...names].map((name) => ({ name, pushing: new Set(), deleting: Promise.resolve() }))
  for (const { name } of places) await makeRepository(counted, name)
  const collector = startCollector(t, registry, soaking, total)
  const isOver = () =>
    (soaking.isBlind && total.broken.length > 0) ||
    performance.now() - began > soaking.time ||
    (total.events >= soaking.events && total.cycles >= soaking.cycles && total.content >= soaking.content)
  const telling = setInterval(() => soaking.tell?.({ ...total, seconds: (performance.now() - began) / 1000 }), 10_000)
  try {
    const clients = Array.from({ length: soaking.clients }, (_, index) =>
      runClient(counted, index, [places[0]!, places[1 + Math.floor(index / 2)]!], places, total, isOver),
    )
    const held = (await Promise.all(clients)).flat()
    for (const { place, tags } of held)
      for (const [tag, pushed] of tags) await readBack(counted, place.name, tag, pushed, total, 'at the end')
  } finally {
    clearInterval(telling)
    await collector.stop()
  }
  return { ...total, seconds: (performance.now() - began) / 1000 }
}

/** Old versions keep what was deleted: here they go at once. */
async function makeRepository(registry: Registry, name: string): Promise<void> {
  const begun = await registry.send('POST', `/v2/${name}/blobs/uploads/`)
  await registry.send('DELETE', begun.headers.get('location')!)
  await registry.ctx.db.updateTable('repository').set({ retain_versions: 1 }).where('name', '=', name).execute()
}

function startCollector(t: Pick<TestContext, 'after'>, { ctx }: Registry, soaking: Soaking, total: Soaked) {
  const workerData: Collecting = {
    data: ctx.config.dataDirectory,
    database: soaking.database,
    atOnce: soaking.collectors,
    isBlind: soaking.isBlind ?? false,
  }
  const worker = new Worker(new URL('./collector.ts', import.meta.url), { workerData })
  worker.on('message', (done: Collected) => Object.assign(total, done))
  worker.on('error', (error: Error) => total.broken.push(`the collector failed: ${error.stack}`))
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  const stop = async () => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage('stop')
    await ended
  }
  t.after(() => void worker.terminate())
  return { stop }
}

/** One that nothing refers to in the eyes of the database; the collector's own is hidden by it (tests/collector.ts). */
async function letLeasedContentGo(db: Db): Promise<void> {
  const big = engineOf(db) === 'postgres' ? sql`bigint` : sql`integer`
  await sql`drop table lease`.execute(db)
  const columns = sql`(repository_id ${big}, content_id ${big}, until ${big}, primary key (repository_id, content_id))`
  await sql`create table lease ${columns}`.execute(db)
  if (engineOf(db) === 'sqlite') return
  await sql`create schema blind`.execute(db)
  await sql`create table blind.lease ${columns}`.execute(db)
}

/** Runs until it is over. Returns what must be there then. */
async function runClient(
  registry: Registry,
  client: number,
  own: readonly Shared[],
  all: readonly Shared[],
  total: Soaked,
  isOver: () => boolean,
): Promise<Held[]> {
  const held: Held[] = own.map((place) => ({ place, tags: new Map() }))
  let serial = 0
  while (!isOver()) {
    const { place, tags } = held[randomInt(held.length)]!
    const tag = `c${client}-${randomInt(tagsEach)}`
    const before = tags.get(tag)
    if (before && randomInt(3) === 0) {
      await readBack(registry, place.name, tag, before, total, 'later')
      continue
    }
    if (before) {
      await remove(registry, place, tag, before, total)
      tags.delete(tag)
      if (randomInt(2) === 0) continue
    }
    const pushed = await among(place, () => push(registry, place.name, tag, `${client} ${++serial}`, all, total))
    if (pushed) tags.set(tag, pushed)
  }
  return held
}

/** While others push, too, and nobody deletes blobs. */
async function among<T>(place: Shared, act: () => Promise<T>): Promise<T> {
  await place.deleting
  const acting = act()
  const settled = acting.catch(() => {})
  place.pushing.add(settled)
  return acting.finally(() => place.pushing.delete(settled))
}

/** While nobody else pushes. */
async function alone(place: Shared, act: () => Promise<void>): Promise<void> {
  const acting = place.deleting
    .then(() => Promise.all(place.pushing))
    .then(act)
    .catch(() => {})
  place.deleting = acting
  await acting
}

const anyLayer = () => (randomInt(2) === 0 ? randomInt(layers.popular) : layers.popular + randomInt(layers.rare))

const layerOf = (index: number): Buffer => {
  const seed = createHash('sha512').update(`layer ${index}`).digest()
  // A few are too large to be held in memory on their way.
  return Buffer.concat(Array.from({ length: index % 16 === 0 ? 2200 : 1 + (index % 9) }, () => seed))
}

async function push(
  registry: Registry,
  name: string,
  tag: string,
  id: string,
  all: readonly Shared[],
  total: Soaked,
): Promise<Pushed | undefined> {
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', id: randomInt(8) }))
  const parts = [config, ...Array.from({ length: 1 + randomInt(4) }, () => layerOf(anyLayer()))]
  const told: string[] = []
  for (const bytes of parts) {
    const how = await bring(registry, name, bytes, all, total)
    if (how === undefined) return undefined
    told.push(how)
  }
  const describe = (each: Buffer, mediaType: string) => ({ mediaType, digest: digestOf(each), size: each.length })
  const body = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: describe(parts[0]!, types.config),
    layers: parts.slice(1).map((each) => describe(each, types.layer)),
    annotations: { id },
  }
  const bytes = Buffer.from(JSON.stringify(body))
  const answer = await registry.send('PUT', `/v2/${name}/manifests/${tag}`, {
    headers: { 'content-type': types.manifest },
    body: bytes,
  })
  if (!isAnswer(answer, 201, `PUT of a manifest to ${name}, whose parts were ${told.join(', ')}`, total)) return undefined
  total.pushes++
  return { digest: digestOf(bytes), bytes, blobs: parts.map((each) => digestOf(each)) }
}

/** Sees to it that a repository has a blob. Returns how. */
async function bring(
  registry: Registry,
  name: string,
  bytes: Buffer,
  all: readonly Shared[],
  total: Soaked,
): Promise<string | undefined> {
  const digest = digestOf(bytes)
  const uploads = `/v2/${name}/blobs/uploads/`
  if (randomInt(4) > 0) {
    const answer = await registry.send('HEAD', `/v2/${name}/blobs/${digest}`)
    if (answer.status === 200) {
      total.found++
      return 'found'
    }
    if (!isAnswer(answer, 404, `HEAD of a blob of ${name}`, total)) return undefined
  }
  const way = (['mount', 'mount', 'post', 'begin'] as const)[randomInt(4)]
  let location: string
  if (way === 'mount') {
    const from = randomInt(3) === 0 ? '' : `&from=${all[randomInt(all.length)]!.name}`
    const answer = await registry.send('POST', `${uploads}?mount=${digest}${from}`)
    if (answer.status === 201) {
      total.mounted++
      return 'mounted'
    }
    if (!isAnswer(answer, 202, `mount into ${name}`, total)) return undefined
    location = answer.headers.get('location')!
  } else if (way === 'post') {
    const answer = await registry.send('POST', `${uploads}?digest=${digest}`, { body: bytes })
    total.uploaded++
    return isAnswer(answer, 201, `POST of a blob to ${name}`, total) ? 'posted' : undefined
  } else location = (await registry.send('POST', uploads)).headers.get('location')!
  const inSteps = randomInt(2) === 0
  if (inSteps) {
    const answer = await registry.send('PATCH', location, { body: bytes })
    if (!isAnswer(answer, 202, `PATCH to ${name}`, total)) return undefined
  }
  const answer = await registry.send('PUT', `${location}?digest=${digest}`, { body: inSteps ? '' : bytes })
  total.uploaded++
  return isAnswer(answer, 201, `PUT of a blob to ${name}`, total) ? (inSteps ? 'patched' : 'put') : undefined
}

/** Deletes an image: its tag alone, or all of it and then what was leased for it. */
async function remove(registry: Registry, place: Shared, tag: string, pushed: Pushed, total: Soaked): Promise<void> {
  const { name } = place
  if (randomInt(4) === 0)
    isAnswer(await registry.send('DELETE', `/v2/${name}/manifests/${tag}`), 202, `DELETE of a tag of ${name}`, total)
  const answer = await registry.send('DELETE', `/v2/${name}/manifests/${pushed.digest}`)
  isAnswer(answer, 202, `DELETE of a manifest of ${name}`, total)
  total.deleted++
  if (randomInt(2) === 0) return
  await alone(place, async () => {
    // What another manifest has is refused; what nothing has and was forgotten is unknown.
    for (const digest of pushed.blobs) {
      const answer = await registry.send('DELETE', `/v2/${name}/blobs/${digest}`)
      if (answer.status >= 500) isAnswer(answer, 202, `DELETE of a blob of ${name}`, total)
    }
  })
}

async function readBack(
  registry: Registry,
  name: string,
  tag: string,
  { digest, bytes, blobs }: Pushed,
  total: Soaked,
  when: string,
): Promise<void> {
  total.read++
  const found = await registry.send('GET', `/v2/${name}/manifests/${tag}`)
  if (!isAnswer(found, 200, `GET of a manifest of ${name} ${when}`, total)) return
  if (!found.bytes.equals(bytes)) total.broken.push(`${name} ${tag} is ${digestOf(found.bytes)}, not ${digest}`)
  for (const blob of new Set(blobs)) {
    const got = await registry.send('GET', `/v2/${name}/blobs/${blob}`)
    if (isAnswer(got, 200, `GET of a blob of ${name} ${when}`, total) && digestOf(got.bytes) !== blob)
      total.broken.push(`${blob} of ${name} has other bytes`)
  }
}

function isAnswer(answer: Answer, expected: number, what: string, total: Soaked): boolean {
  if (answer.status === expected) return true
  if (total.broken.length < 50) total.broken.push(`${what}: ${answer.status} ${answer.bytes.toString().slice(0, 300)}`)
  return false
}
