import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Api } from '../api/client.ts'
import type { Group, User } from '../api/resources.ts'
import { Failure, hasCode } from '../lib/failure.ts'
import { applyPlan, readServer } from '../train/apply.ts'
import { getLine } from '../train/load.ts'
import { loadPins, sections, writePins } from '../train/pins.ts'
import { planApply } from '../train/plan.ts'
import { planPins } from '../train/plan-pins.ts'
import { getStageGuard, planPromotion, promote } from '../train/promote.ts'
import { findSnapshots, type Snapshot } from '../train/snapshots.ts'
import { syncRepositories } from '../train/sync.ts'
import { firstStage, lastStage, type Train } from '../train/train.ts'
import type { Io } from './command.ts'
import type { DemoUpstream, Night } from './demo-upstream.ts'
import { changesInWords } from './sync.ts'
import { renderTable } from './table.ts'
import { durationInWords, several } from './words.ts'

/** What the demonstration came to. */
export interface Standing {
  readonly released: Snapshot
  /** Undefined when somebody promoted everything. */
  readonly unreleased: Snapshot | undefined
}

/** Runs what has not been run before: the first night, the second, and the promotion of the first. Says what it does. */
export async function runNights(api: Api, train: Train, upstream: DemoUpstream, io: Io): Promise<Standing> {
  await applyTrain(api, train)
  const releaseGuard = await getStageGuard(api, train, lastStage(train))
  const before = await snapshotsOf(api, train)
  const complete = before.length >= 2 && before.some(({ guard }) => guard === releaseGuard)
  const upstreamSize = 'an upstream of 9 packages made for it'
  io.out.write(complete ? `A demonstration train, as it was left:\n` : `A demonstration train, from ${upstreamSize}:\n`)

  for (const night of [1, 2] as const) {
    upstream.become(night)
    if (before.length < night) await runNight(api, train, night, io)
  }
  if (!complete) await promoteFirst(api, train, releaseGuard, io)

  const after = await snapshotsOf(api, train)
  if (complete) io.out.write(renderStanding(train, after, releaseGuard))
  const released = after.findLast(({ guard }) => guard === releaseGuard)!
  return { released, unreleased: after.findLast(({ guard }) => guard !== releaseGuard) }
}

async function applyTrain(api: Api, train: Train): Promise<void> {
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

async function promoteFirst(api: Api, train: Train, guard: string, io: Io): Promise<void> {
  const first = getLine(train, undefined)
  const snapshots = await findSnapshots(api, train.repositories)
  const at = snapshots.get(first.repositories[0]!)![0]!.stamp
  const pins = await loadPins(train, first)
  const missing = planPins(
    first.repositories.filter((each) => !pins.repositories.has(each)),
    pins.repositories,
    snapshots,
    at,
  )
  await writePins(
    train,
    first.name,
    missing.map(({ repository, to }) => ({ path: [sections.repositories, repository], value: to })),
  )
  const { repositories } = await loadPins(train, first)
  const plan = planPromotion(first, lastStage(train), guard, repositories, snapshots)
  if ('refused' in plan)
    throw new Failure('conflict', plan.refused.map(({ repository, reason }) => `${repository}: ${reason}`).join(' '))
  const started = performance.now()
  await promote(api, { snapshots: plan.promote, move: [], untag: [], private: true }, guard)
  const took = durationInWords((performance.now() - started) / 1000)
  io.out.write(
    line(
      '',
      'promote',
      `line "${first.name}" at ${at}`,
      '',
      `→ ${lastStage(train)}`,
      `${several(plan.promote.length, 'repository')}, ${took}`,
    ),
  )
}

function renderStanding(train: Train, snapshots: readonly Snapshot[], releaseGuard: string): string {
  const rows = snapshots.map(({ repository, path, guard }) => [
    repository,
    path,
    guard === releaseGuard ? lastStage(train) : firstStage(train),
  ])
  return renderTable(rows, { indent: '  ' })
}

function line(time: string, act: string, what: string, change: string, to: string, last: string): string {
  const middle = change === '' ? what : `${what.padEnd(8)}${change}`
  return `  ${time.padEnd(7)}${act.padEnd(10)}${middle.padEnd(38)}${to.padEnd(26)}${last}\n`
}

/** `02:00` of `20261101T020000`. */
function clockOf(stamp: string): string {
  return `${stamp.slice(9, 11)}:${stamp.slice(11, 13)}`
}

export interface Credential {
  /** The password when it was made just now; else how a shell finds it. */
  readonly shown: string
  readonly made: boolean
}

export type Credentials = Record<'tester' | 'client', Credential>

/** Sees that both users exist, in their groups, with the passwords that lie in the directory. */
export async function ensureUsers(api: Api, directory: string): Promise<Credentials> {
  return {
    tester: await ensureUser(api, 'tester', 'testers', directory),
    client: await ensureUser(api, 'client', 'clients', directory),
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
    const { pulp_href } = (await api.find<Group>('groups/', { name: group }))!
    await api.post(`${pulp_href}users/`, { username })
  } else if (kept === undefined) await api.update(user.pulp_href, { password })
  return kept === undefined ? { shown: password, made: true } : { shown: `$(cat ${file})`, made: false }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
