import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadPins, parsePins, renderPins, writePins } from './pins.ts'
import { planPins } from './plan-pins.ts'
import { snapshot } from '../../tests/trains.ts'

const line = { name: 'demo', repositories: ['bells', 'chimes', 'gongs'], images: ['hello'], distributions: ['rocky-9'] }

test('only the pins that change are written; comments, order and spacing stay to the byte', () => {
  const before = `# Ask the foundry before touching this.
repositories:
  chimes: "20261101T000000"   # pinned since the fire

  # The big ones.
  bells:  20261101T000000
  gongs: 20261101T000000
`
  const after = renderPins(before, [{ path: ['repositories', 'bells'], value: '20261123T020000' }])
  assert.equal(after, before.replace('bells:  20261101T000000', 'bells:  20261123T020000'))
  const quoted = renderPins(before, [{ path: ['repositories', 'chimes'], value: '20261123T020000' }])
  assert.equal(quoted, before.replace('"20261101T000000"', '20261123T020000'))
})

test('a new pin goes below the last, indented as it is', () => {
  const before = '# head\nrepositories:\n    bells: 20261101T000000 # why\n# foot\n'
  const after = renderPins(before, [{ path: ['repositories', 'gongs'], value: '20261123T020000' }])
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
    const after = renderPins(before, [{ path: ['repositories', 'bells'], value: '20261123T020000' }])
    assert.equal(parsePins('p', after, line).repositories.get('bells'), '20261123T020000', after)
  })

test('pins of images and of keys go where they belong, and everything else stays to the byte', () => {
  const write = (text: string, path: readonly [string, ...string[]], value = 'T') => renderPins(text, [{ path, value }])
  const before = `repositories:
  bells: 20261101T000000 # loud

kolla_image_tags:
  # everything
  openstack:
    rocky-9: A   # since spring
  nova:
    rocky-9: B

  # after nova
# the end
`
  assert.equal(write(before, ['kolla_image_tags', 'nova', 'rocky-9']), before.replace('rocky-9: B', 'rocky-9: T'))
  assert.equal(
    write(before, ['kolla_image_tags', 'openstack', 'ubuntu-jammy']),
    before.replace('# since spring\n', '# since spring\n    ubuntu-jammy: T\n'),
  )
  assert.equal(
    write(before, ['kolla_image_tags', 'heat', 'rocky-9']),
    before.replace('rocky-9: B\n', 'rocky-9: B\n  heat:\n    rocky-9: T\n'),
  )
  assert.equal(write(before, ['images', 'hello']), before.replace('rocky-9: B\n', 'rocky-9: B\nimages:\n  hello: T\n'))
  assert.equal(write('images:\n# end\n', ['images', 'hello']), 'images:\n  hello: T\n# end\n')
  assert.equal(write('# head\n', ['images', 'hello']), '# head\nimages:\n  hello: T\n')
})

test('pins of images are read as tags, with a digest or without', () => {
  const digest = `sha256:${'0'.repeat(64)}`
  const text = `images: { hello: v1@${digest} }\nkolla_image_tags: { openstack: { rocky-9: demo-rocky-9-20261101T000000 }, a_b: {} }`
  const { images, kolla } = parsePins('p', text, line)
  assert.deepEqual([...images], [['hello', `v1@${digest}`]])
  assert.deepEqual([...kolla.keys()], ['openstack', 'a_b'])
})

const wrong: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  [
    'a repository that the line does not have',
    'repositories:\n  bels: 20261101T000000',
    /^p:2: repositories\.bels: line demo has no such repository\. Did you mean "bells"\?$/,
  ],
  ['something that is no stamp', 'repositories:\n  bells: latest', /^p:2: repositories\.bells: "latest" is not a stamp/],
  ['an empty pin', 'repositories:\n  bells:', /^p:2: repositories\.bells: /],
  [
    'an image that the line does not have',
    'images:\n  helo: v1',
    /^p:2: images\.helo: line demo has no such image\. Did you mean "hello"\?$/,
  ],
  [
    'something that is no tag',
    'images:\n  hello: "v 1"',
    /^p:2: images\.hello: "v 1" is neither a tag nor <tag>@sha256:<digest>\.$/,
  ],
  ['a digest that is none', 'images:\n  hello: v1@sha256:abc', /^p:2: images\.hello: "v1@sha256:abc" is neither/],
  ['a key that is none', 'kolla_image_tags:\n  Nova: {}', /^p:2: kolla_image_tags\.Nova: "Nova" is no key of Kolla's tags/],
  ['tags without a default', 'kolla_image_tags:\n  nova: {}', /^p:1: kolla_image_tags: "openstack" is missing/],
  [
    'a distribution that the line does not have',
    'kolla_image_tags:\n  openstack:\n    rocky-8: x',
    /^p:3: kolla_image_tags\.openstack\.rocky-8: line demo has no images of rocky-8\. Did you mean "rocky-9"\?$/,
  ],
  [
    'a tag of another line',
    'kolla_image_tags:\n  openstack:\n    rocky-9: 2024.1-rocky-9-20261101T000000',
    /^p:3: kolla_image_tags\.openstack\.rocky-9: "2024\.1-rocky-9-20261101T000000" is not like demo-rocky-9-20261123T020000\.$/,
  ],
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
  assert.equal((await loadPins(train, line)).repositories.size, 0)
  await writePins(train, 'demo', [{ path: ['repositories', 'bells'], value: '20261123T020000' }])
  assert.deepEqual([...(await loadPins(train, line)).repositories], [['bells', '20261123T020000']])
  assert.match(
    await readFile(join(directory, 'pins/demo.yaml'), 'utf8'),
    /^# What line "demo" is at\. .+\nrepositories:\n {2}bells: /,
  )
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

test('all repositories without a snapshot are named at once, and nothing is pinned', () => {
  assert.throws(
    () => planPins(['bells', 'gongs', 'drums'], new Map(), new Map([['bells', [snapshot('bells', '20261101T020000')]]])),
    {
      code: 'not_found',
      message: /^2 repositories have no snapshot yet: gongs, drums\. Nothing was pinned: /,
    },
  )
})
