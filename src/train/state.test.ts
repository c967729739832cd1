import assert from 'node:assert/strict'
import { test } from 'node:test'
import { snapshot } from '../../tests/trains.ts'
import { parseTrain } from './load.ts'
import { parseState, snapshotIn, tagsIn } from './state.ts'

const train = parseTrain(
  'train.yaml',
  `train: demo
repositories: { bells: { rpm: "http://127.0.0.1/", path: bells } }
stages: [development, candidate, release]
images: { registry: [app], development: x-dev, release: x }
lines: { demo: { repositories: [bells], images: [app] } }
`,
)
const guards = ['/guards/development/', '/guards/candidate/', '/guards/release/']
const [first, second, third, fourth] = ['20261101T020000', '20261102T020000', '20261103T020000', '20261104T020000'] as const
const snapshots = [
  snapshot('bells', first, guards[2]),
  snapshot('bells', second, guards[2]),
  snapshot('bells', third, guards[1]),
  snapshot('bells', fourth, guards[0]),
]
const stampIn = (text: string, pin?: string) =>
  snapshotIn(parseState(train, text), train, { name: 'bells', snapshots, pin }, guards)?.stamp

test('a state is a stage, the pins, or a time', () => {
  assert.deepEqual(
    ['development', 'candidate', 'release'].map((stage) => stampIn(stage)),
    [fourth, third, second],
  )
  assert.equal(stampIn('pins', third), third)
  assert.equal(stampIn('pins'), undefined)
  assert.deepEqual(
    ['2026-11-02', '2026-11-02T01:00', third, '2026-10-31'].map((time) => stampIn(time)),
    [second, first, third, undefined],
  )
})

test('a line that went back to an older snapshot is there, though a newer one is at the stage, too', () => {
  assert.equal(stampIn('release', first), first)
  assert.equal(stampIn('release', fourth), second)
})

test('a state that is none of these is told with what was probably meant', () => {
  assert.throws(() => parseState(train, 'relase'), { code: 'invalid', message: /"relase" is neither .+Did you mean "release"\?/ })
  assert.throws(() => stampIn('pins', '20261102T030000'), { code: 'not_found', message: /bells: no snapshot .+ \(nearest: / })
})

test('images stand at a stage with the pinned tag if it is there, and else with the newest of their line', () => {
  const pins = (tag: string) => ({ repositories: new Map(), images: new Map([['app', tag]]), kolla: new Map() })
  const tags = new Map([
    [
      'x-dev/app',
      new Map([first, second, third].map((stamp) => [`demo-${stamp}`, `/manifests/${stamp}/`])).set(
        'other-20270101T000000',
        '/o/',
      ),
    ],
    ['x/app', new Map([first, second].map((stamp) => [`demo-${stamp}`, `/manifests/${stamp}/`]))],
  ])
  const tagIn = (text: string, pin: string) =>
    tagsIn(parseState(train, text), train, train.lines[0]!, ['app'], pins(pin), tags).get('app ')?.tag
  assert.equal(tagIn('development', `demo-${first}`), `demo-${third}`)
  assert.equal(tagIn('release', `demo-${first}`), `demo-${first}`)
  assert.equal(tagIn('candidate', `demo-${third}`), `demo-${second}`)
  assert.equal(tagIn('pins', `demo-${third}`), `demo-${third}`)
  assert.equal(tagIn('2026-11-02', `demo-${first}`), `demo-${second}`)
  assert.equal(tagIn('2026-10-01', `demo-${first}`), undefined)
})
