import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadPins, parsePins, renderPins, writePins } from './pins.ts'
import { planPins } from './plan-pins.ts'
import { snapshot } from '../../tests/trains.ts'

const line = { name: 'demo', repositories: ['bells', 'chimes', 'gongs'] }

test('only the pins that change are written; comments, order and spacing stay to the byte', () => {
  const before = `# Ask the foundry before touching this.
repositories:
  chimes: "20261101T000000"   # pinned since the fire

  # The big ones.
  bells:  20261101T000000
  gongs: 20261101T000000
`
  const after = renderPins(before, new Map([['bells', '20261123T020000']]))
  assert.equal(after, before.replace('bells:  20261101T000000', 'bells:  20261123T020000'))
  const quoted = renderPins(before, new Map([['chimes', '20261123T020000']]))
  assert.equal(quoted, before.replace('"20261101T000000"', '20261123T020000'))
})

test('a new pin goes below the last, indented as it is', () => {
  const before = '# head\nrepositories:\n    bells: 20261101T000000 # why\n# foot\n'
  const after = renderPins(before, new Map([['gongs', '20261123T020000']]))
  assert.equal(after, '# head\nrepositories:\n    bells: 20261101T000000 # why\n    gongs: 20261123T020000\n# foot\n')
})

for (const before of [
  '',
  'repositories:\n',
  'repositories: {}\n',
  'repositories: { bells: 20261101T000000 }',
  'repositories:\n  bells:\n',
  'repositories:\n  chimes: 20261101T000000',
])
  test(`a pin can be written into ${JSON.stringify(before)}`, () => {
    const after = renderPins(before, new Map([['bells', '20261123T020000']]))
    assert.equal(parsePins('p', after, line).get('bells'), '20261123T020000', after)
  })

const wrong: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  [
    'a repository that the line does not have',
    'repositories:\n  bels: 20261101T000000',
    /^p:2: repositories\.bels: line demo has no such repository\. Did you mean "bells"\?$/,
  ],
  ['something that is no stamp', 'repositories:\n  bells: latest', /^p:2: repositories\.bells: "latest" is not a stamp/],
  ['an empty pin', 'repositories:\n  bells:', /^p:2: repositories\.bells: /],
  ['an unknown section', 'repositorys: {}', /^p:1: unknown field "repositorys"/],
]
for (const [what, text, message] of wrong)
  test(`${what} in a pins file is refused with file and line`, () => {
    assert.throws(() => parsePins('p', text, line), { code: 'invalid', message })
  })

test('a line without a pins file has no pins, and gets one when something is pinned', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-pins-'))
  t.after(() => rm(directory, { recursive: true }))
  const train = { file: join(directory, 'train.yaml') }
  assert.equal((await loadPins(train, line)).size, 0)
  await writePins(train, 'demo', new Map([['bells', '20261123T020000']]))
  assert.deepEqual([...(await loadPins(train, line))], [['bells', '20261123T020000']])
  assert.match(await readFile(join(directory, 'pins/demo.yaml'), 'utf8'), /^# Which snapshot/)
})

const snapshots = new Map([
  ['bells', [snapshot('bells', '20261101T020000'), snapshot('bells', '20261102T020000')]],
  ['chimes', [snapshot('chimes', '20261102T030000')]],
  ['gongs', []],
])

test('the newest snapshots are pinned, those pinned already are left out', () => {
  const pins = new Map([
    ['chimes', '20261102T030000'],
    ['bells', '20261101T020000'],
  ])
  assert.deepEqual(planPins(['bells', 'chimes'], pins, snapshots), [
    { repository: 'bells', from: '20261101T020000', to: '20261102T020000' },
  ])
})

test('a time pins the newest snapshot at or before it', () => {
  assert.deepEqual(planPins(['bells'], new Map(), snapshots, '20261102T000000'), [
    { repository: 'bells', from: undefined, to: '20261101T020000' },
  ])
})

test('a repository without a snapshot cannot be pinned, so none is', () => {
  assert.throws(() => planPins(['bells', 'gongs'], new Map(), snapshots), {
    code: 'not_found',
    message: /^gongs: no snapshot yet\. Run "signalbox sync gongs"\.$/,
  })
  assert.throws(() => planPins(['bells', 'chimes'], new Map(), snapshots, '20261101T120000'), {
    message: /^chimes: no snapshot at or before 20261101T120000 \(the first is 20261102T030000\)/,
  })
})
