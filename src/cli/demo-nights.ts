import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Api } from '../api/client.ts'
import { connectRegistry } from '../api/registry.ts'
import type { Group, User } from '../api/resources.ts'
import { Failure, hasCode } from '../lib/failure.ts'
import { applyPlan, readServer } from '../train/apply.ts'
import { planImagePins } from '../train/image-pins.ts'
import { pathAt } from '../train/images.ts'
import { planLinePromotion } from '../train/line-promotion.ts'
import { getLine } from '../train/load.ts'
import { loadPins, sections, writePins } from '../train/pins.ts'
import { planApply } from '../train/plan.ts'
import { planPins } from '../train/plan-pins.ts'
import { getStageGuard, promote } from '../train/promote.ts'
import { findServedImages, readTags } from '../train/served-images.ts'
import { findSnapshots, type Snapshot } from '../train/snapshots.ts'
import { syncRepositories } from '../train/sync.ts'
import { firstStage, lastStage, type Line, type Train } from '../train/train.ts'
import type { Io } from './command.ts'
import { makeDemoImage } from './demo-image.ts'
import type { DemoUpstream, Night } from './demo-upstream.ts'
import { changesInWords } from './sync.ts'
import { renderTable } from './table.ts'
import { countedInWords, durationInWords, several } from './words.ts'

/** What the demonstration came to. */
export interface Standing {
  readonly released: Snapshot
  /** Undefined when somebody promoted everything. */
  readonly unreleased: Snapshot | undefined
  /** As `demo/bell:demo-20261123T020000`. Undefined where the train has no images. */
  readonly releasedImage: string | undefined
  readonly unreleasedImage: string | undefined
}

/** Runs what has not been run before: the first night, the second, and the promotion of the first. Says what it does. */
export async function runNights(
  api: Api,
  train: Train,
  upstream: DemoUpstream,
  credentials: Credentials,
  io: Io,
): Promise<Standing> {
  const releaseGuard = await getStageGuard(api, train, lastStage(train))
  const before = await snapshotsOf(api, train)
  const images = await findDemoImages(api, train)
  const isReleased = before.some(({ guard }) => guard === releaseGuard) && (!images || images.released.length > 0)
  const complete = before.length >= 2 && (!images || images.pushed.length >= 2) && isReleased
  const upstreamSize = 'an upstream of 9 packages made for it'
  io.out.write(complete ? `A demonstration train, as it was left:\n` : `A demonstration train, from ${upstreamSize}:\n`)

  for (const night of [1, 2] as const) {
    upstream.become(night)
    if (before.length < night) await runNight(api, train, night, io)
    if (images && images.pushed.length < night) await buildImage(api, train, night, credentials, io)
  }
  if (!isReleased) await promoteFirst(api, train, credentials, io)

  const after = await snapshotsOf(api, train)
  const imagesAfter = await findDemoImages(api, train)
  if (complete) io.out.write(renderStanding(train, after, imagesAfter, releaseGuard))
  const released = after.findLast(({ guard }) => guard === releaseGuard)!
  const unreleasedTag = imagesAfter?.pushed.findLast((tag) => !imagesAfter.released.includes(tag))
  return {
    released,
    unreleased: after.findLast(({ guard }) => guard !== releaseGuard),
    releasedImage: imagesAfter && `${imagesAfter.to}:${imagesAfter.released.at(-1)}`,
    unreleasedImage: unreleasedTag && `${imagesAfter!.from}:${unreleasedTag}`,
  }
}

export async function applyTrain(api: Api, train: Train): Promise<void> {
  const server = await readServer(api, train)
  await applyPlan(api, planApply(train, server, new Map()), server, () => {})
}

async function snapshotsOf(api: Api, train: Train): Promise<readonly Snapshot[]> {
  const [repository] = train.repositories
  return (await findSnapshots(api, [repository!])).get(repository!.name)!
}

async function runNight(api: Api, train: Train, night: Night, io: Io): Promise<void> {
  const guard = await getStageGuard(api, train, firstStage(train))
  const options = { jobs: 1, retries: 0, pause: 0, signal: io.signal, progress: () => {} }
  const [outcome] = await syncRepositories(api, train, train.repositories, guard, options)
  if (outcome?.state === 'failed') throw new Failure('upstream', `Night ${night} failed: ${outcome.reason}`)
  if (outcome?.state !== 'new') return
  const what = night === 1 ? `${several(outcome.changes.present, 'package')} synced` : changesInWords(outcome.changes)
  io.out.write(line(clockOf(outcome.stamp), `night ${night}`, outcome.repository, what, `→ ${outcome.path}`, firstStage(train)))
}

interface DemoImages {
  readonly name: string
  readonly from: string
  readonly to: string
  /** Tags, oldest first. */
  readonly pushed: readonly string[]
  readonly released: readonly string[]
}

/** Where the image of the demonstration stands; undefined where a train of an earlier version has none. */
async function findDemoImages(api: Api, train: Train): Promise<DemoImages | undefined> {
  const { images } = train
  const name = images?.names[0]
  if (!images || name === undefined) return undefined
  const [from, to] = [pathAt(images, firstStage(train), name)!, pathAt(images, lastStage(train), name)!]
  const tags = await readTags(api, await findServedImages(api), [from, to])
  const sorted = (path: string) => [...(tags.get(path)?.keys() ?? [])].toSorted()
  return { name, from, to, pushed: sorted(from), released: sorted(to) }
}

const versions = { 1: '1.0', 2: '1.1' } as const

/** Builds an image out of a night's packages, as a pipeline of the site would, and pushes it as somebody who may. */
async function buildImage(api: Api, train: Train, night: Night, { builder }: Credentials, io: Io): Promise<void> {
  const images = (await findDemoImages(api, train))!
  const { stamp, path } = (await snapshotsOf(api, train))[night - 1]!
  const tag = `${getLine(train, undefined).name}-${stamp}`
  const image = makeDemoImage(`Bong! This is bell ${versions[night]}, built from ${path}.`, renderTime(stamp))
  const registry = connectRegistry({ url: api.url, username: 'builder', password: builder.password })
  await registry.push(images.from, tag, image)
  io.out.write(
    line('', 'build', images.name, `${versions[night]}, from that snapshot`, `→ ${images.from}:${tag}`, firstStage(train)),
  )
}

async function promoteFirst(api: Api, train: Train, { client }: Credentials, io: Io): Promise<void> {
  const first = getLine(train, undefined)
  const snapshots = await findSnapshots(api, train.repositories)
  const at = snapshots.get(first.repositories[0]!)![0]!.stamp
  await pinMissing(api, train, first, at)
  const plan = await planLinePromotion(api, train, first, lastStage(train), await loadPins(train, first))
  if ('refused' in plan) throw new Failure('conflict', plan.refused.map(({ reason }) => reason).join(' '))

  const registry = connectRegistry({ url: api.url, username: 'client', password: client.password })
  const pull = async () => {
    for (const { to, tag } of plan.change.move) {
      const digest = await registry.pull(to, tag).catch((error: unknown) => {
        if (error instanceof Failure && (error.code === 'denied' || error.code === 'not_found')) return undefined
        throw error
      })
      const said = digest === undefined ? 'refused' : `pulled, ${digest.slice(0, 15)}…`
      io.out.write(line('', 'client', 'bell', said, `← ${to}:${tag}`, digest === undefined ? 'not released' : lastStage(train)))
    }
  }
  await pull()
  const started = performance.now()
  await promote(api, plan.change, plan.guard)
  const took = durationInWords((performance.now() - started) / 1000)
  const what = countedInWords(plan.change.snapshots.length, plan.change.move.length)
  io.out.write(line('', 'promote', `line "${first.name}" at ${at}`, '', `→ ${lastStage(train)}`, `${what}, ${took}`))
  await pull()
}

/** Pins what nobody pinned yet to what there was at a time. */
async function pinMissing(api: Api, train: Train, first: Line, at: string): Promise<void> {
  const pins = await loadPins(train, first)
  const repositories = first.repositories.filter((each) => !pins.repositories.has(each))
  const snapshots = await findSnapshots(api, train.repositories)
  const missing = planPins(repositories, pins.repositories, snapshots, at)
  const images = await findDemoImages(api, train)
  const tags = new Map(images ? [[images.from, new Map(images.pushed.map((tag) => [tag, tag]))]] : [])
  const unpinned = first.images.filter((each) => !pins.images.has(each))
  await writePins(train, first.name, [
    ...missing.map(({ repository, to }) => ({ path: [sections.repositories, repository] as const, value: to })),
    ...planImagePins(train, first, unpinned, pins, { tags, digests: new Map() }, at),
  ])
}

function renderStanding(
  train: Train,
  snapshots: readonly Snapshot[],
  images: DemoImages | undefined,
  releaseGuard: string,
): string {
  const rows = snapshots.map(({ repository, path, guard }) => [
    repository,
    path,
    guard === releaseGuard ? lastStage(train) : firstStage(train),
  ])
  const tags = (images?.pushed ?? []).map((tag) => {
    const isReleased = images!.released.includes(tag)
    return [images!.name, `${isReleased ? images!.to : images!.from}:${tag}`, isReleased ? lastStage(train) : firstStage(train)]
  })
  return renderTable([...rows, ...tags], { indent: '  ' })
}

function line(time: string, act: string, what: string, change: string, to: string, last: string): string {
  // 120 columns are enough for the longest of them.
  const middle = change === '' ? what : `${what.padEnd(8)}${change}`
  return `  ${time.padEnd(7)}${act.padEnd(10)}${middle.padEnd(34)}${to.padEnd(38)}${last}\n`
}

/** `2026-11-01T02:00:00Z` of `20261101T020000`. */
function renderTime(stamp: string): string {
  return stamp.replace(/^(....)(..)(..)T(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z')
}

/** `02:00` of `20261101T020000`. */
function clockOf(stamp: string): string {
  return `${stamp.slice(9, 11)}:${stamp.slice(11, 13)}`
}

export interface Credential {
  readonly password: string
  /** The password when it was made just now; else how a shell finds it. */
  readonly shown: string
  readonly made: boolean
}

export type Credentials = Record<'tester' | 'client' | 'builder', Credential>

/** Sees that the users exist, in their groups, with the passwords that lie in the directory. */
export async function ensureUsers(api: Api, directory: string): Promise<Credentials> {
  return {
    tester: await ensureUser(api, 'tester', 'testers', directory),
    client: await ensureUser(api, 'client', 'clients', directory),
    builder: await ensureUser(api, 'builder', 'builders', directory),
  }
}

async function ensureUser(api: Api, username: string, group: string, directory: string): Promise<Credential> {
  const file = join(directory, `${username}-password`)
  const user = await api.find<User>('users/', { username })
  const kept = await readIfThere(file)
  const password = kept ?? randomBytes(12).toString('base64url')
  if (kept === undefined) await writeFile(file, `${password}\n`, { mode: 0o600 })
  if (!user) {
    await api.create<User>('users/', { username, password })
    // A train of an earlier version has no builders.
    const found = await api.find<Group>('groups/', { name: group })
    if (found) await api.post(`${found.pulp_href}users/`, { username })
  } else if (kept === undefined) await api.update(user.pulp_href, { password })
  return kept === undefined ? { password, shown: password, made: true } : { password, shown: `$(cat ${file})`, made: false }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
