import assert from 'node:assert/strict'
import { test } from 'node:test'
import { snapshot } from '../../tests/trains.ts'
import type { Pins } from './pins.ts'
import { planPromotion } from './promote.ts'
import { failingAmong, lineStatus } from './status.ts'
import { parseTrain } from './load.ts'

const release = '/guards/release/'
const line = { name: 'demo', repositories: ['bells', 'chimes', 'gongs'], images: ['hello'], distributions: ['rocky-9'] }
const snapshots = new Map([
  [
    'bells',
    [snapshot('bells', '20261101T020000', release), snapshot('bells', '20261102T020000'), snapshot('bells', '20261103T020000')],
  ],
  ['chimes', [snapshot('chimes', '20261101T020000', release)]],
  ['gongs', [snapshot('gongs', '20261101T020000', null, null)]],
])

test('pins become the snapshots whose guard changes; those there already and repositories without a pin are told apart', () => {
  const pins = new Map([
    ['bells', '20261102T020000'],
    ['chimes', '20261101T020000'],
  ])
  const plan = planPromotion(line, 'release', release, pins, snapshots)
  assert.ok(!('refused' in plan))
  assert.deepEqual(
    plan.promote.map(({ name }) => name),
    ['bells-20261102T020000'],
  )
  assert.deepEqual(
    plan.there.map(({ name }) => name),
    ['chimes-20261101T020000'],
  )
  assert.deepEqual(plan.unpinned, ['gongs'])
})

test('a pin without a snapshot is refused with the nearest ones, and so is one that serves nothing', () => {
  const pins = new Map([
    ['bells', '20261102T021300'],
    ['chimes', '20261101T020000'],
    ['gongs', '20261101T020000'],
  ])
  const plan = planPromotion(line, 'release', release, pins, snapshots)
  assert.deepEqual(plan, {
    refused: [
      {
        repository: 'bells',
        reason:
          'no snapshot 20261102T021300 (nearest: 20261102T020000, 20261103T020000). Run "signalbox sync bells" or pin the nearest.',
      },
      { repository: 'gongs', reason: 'snapshot 20261101T020000 serves nothing: it has no publication.' },
    ],
  })
})

test('a repository that was never synced is refused', () => {
  const plan = planPromotion(line, 'release', release, new Map([['bells', '20261102T020000']]), new Map())
  assert.deepEqual(plan, {
    refused: [{ repository: 'bells', reason: 'no snapshot 20261102T020000, nor any other. Run "signalbox sync bells".' }],
  })
})

const repositories = line.repositories.map((name) => `  ${name}: { rpm: "http://x/", path: ${name} }`).join('\n')
const train = parseTrain('train.yaml', `train: t\nrepositories:\n${repositories}\nlines: { demo: { repositories: ["*"] } }`)

const pinned = (repositories: Pins['repositories']): Pins => ({ repositories, images: new Map(), kolla: new Map() })

test('the status of a line says what is released, what is newer and what waits for whom', () => {
  const pins = new Map([
    ['bells', '20261102T020000'],
    ['chimes', '20261101T020000'],
    ['gongs', '20261105T000000'],
  ])
  assert.deepEqual(lineStatus(train, line, pinned(pins), snapshots, release), {
    line: 'demo',
    repositories: 3,
    released: '20261101T020000',
    newest: '20261103T020000',
    behind: 2,
    images: 0,
    imagesBehind: 0,
    waiting: ['pin of bells', 'missing snapshot of gongs', 'promotion to release of bells'],
  })
})

test('a line where everything newest is released waits for nothing', () => {
  const only = { ...line, repositories: ['chimes'] }
  const status = lineStatus(train, only, pinned(new Map([['chimes', '20261101T020000']])), snapshots, release)
  assert.deepEqual([status.behind, status.waiting], [0, []])
})

const names = new Map([
  ['prn:rpm.rpmrepository:1', 'bells'],
  ['prn:rpm.rpmrepository:2', 'chimes'],
])
const task = (id: number, state: 'completed' | 'failed', finished_at: string, description = '') => ({
  state,
  finished_at,
  error: description ? { description } : null,
  reserved_resources_record: [`prn:rpm.rpmrepository:${id}`, 'shared:prn:rpm.rpmremote:9'],
})

test('a repository is failing when its last sync failed; since its first failure after a success', () => {
  const tasks = [
    task(1, 'failed', '2026-11-20T02:00:00Z', 'gone'),
    task(1, 'completed', '2026-11-21T02:00:00Z'),
    task(1, 'failed', '2026-11-22T02:00:00Z', 'upstream answered 503'),
    task(2, 'failed', '2026-11-22T02:00:00Z', 'gone'),
    task(1, 'failed', '2026-11-23T02:00:00Z', 'upstream answered 503'),
    task(2, 'completed', '2026-11-23T02:00:00Z'),
    task(7, 'failed', '2026-11-23T02:00:00Z', 'not of this train'),
  ]
  assert.deepEqual(failingAmong(tasks, names), [
    { repository: 'bells', reason: 'upstream answered 503', since: '2026-11-22T02:00:00Z', times: 2 },
  ])
})
