import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTrain } from './load.ts'

const parse = (text: string) => parseTrain('train.yaml', text)

const whole = `
train: example
server: https://ark.example.com
defaults:
  rpm: { policy: on_demand, sync_policy: additive }
repositories:
  grafana: { rpm: "https://rpm.example.com", path: grafana/oss/rpm/, group: monitoring }
  rocky-9-baseos:
    rpm: https://mirror.example.com/baseos
    path: rocky/9/baseos
    policy: immediate
    distribution_name: Rocky 9 -
    password: { env: ROCKY_PASSWORD }
    retain_package_versions: 3
  images: { file: "https://example.com/PULP_MANIFEST", path: images, mirror: false }
lines:
  2024.1: { repositories: [rocky-*, grafana] }
`

test('a train is read with every default filled in', () => {
  const train = parse(whole)
  assert.equal(train.name, 'example')
  assert.equal(train.server, 'https://ark.example.com')
  assert.deepEqual(train.stages, ['development', 'release'])
  assert.deepEqual(
    [...train.groups],
    [
      ['clients', ['release']],
      ['testers', ['development', 'release']],
    ],
  )
  const [grafana, rocky, images] = train.repositories
  assert.equal(grafana!.path, 'grafana/oss/rpm')
  assert.equal(grafana!.distributionName, 'grafana-')
  assert.equal(grafana!.remote['policy'], 'on_demand')
  assert.deepEqual(grafana!.sync, { sync_policy: 'additive', skip_types: [], optimize: true })
  assert.equal(rocky!.remote['policy'], 'immediate')
  assert.equal(rocky!.repository['retain_package_versions'], 3)
  assert.deepEqual(rocky!.outside, { password: { env: 'ROCKY_PASSWORD' } })
  assert.deepEqual(images!.sync, { mirror: false })
  assert.equal(images!.repository['manifest'], 'PULP_MANIFEST')
})

test('a line has the repositories that its filters select, in the order of the train; its name may look like a number', () => {
  assert.deepEqual(parse(whole).lines, [{ name: '2024.1', repositories: ['grafana', 'rocky-9-baseos'] }])
})

const head = 'train: t\nrepositories:\n'
const wrong: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  [
    'an unknown field',
    `${head}  a: { rpm: "http://x/", path: a, polcy: immediate }`,
    /^train\.yaml:3: repositories\.a: unknown field "polcy"\. Did you mean "policy"\?$/,
  ],
  [
    'an unknown field at the top',
    `${head}  a: { rpm: "http://x/", path: a }\nlinse: {}`,
    /^train\.yaml:4: unknown field "linse"\. Did you mean "lines"\?$/,
  ],
  [
    'a field of another format',
    `${head}  a: { file: "http://x/", path: a, sync_policy: additive }`,
    /^train\.yaml:3: repositories\.a: unknown field "sync_policy"/,
  ],
  [
    'a word that is none of the choices',
    `${head}  a: { rpm: "http://x/", path: a, policy: imediate }`,
    /^train\.yaml:3: repositories\.a\.policy: "imediate" is none of immediate, on_demand, streamed\. Did you mean "immediate"\?$/,
  ],
  [
    'Debian repositories',
    `${head}  a:\n    path: a\n    deb: http://x/`,
    /^train\.yaml:5: repositories\.a\.deb: Debian repositories are not supported yet\.$/,
  ],
  ['images', `${head}  a: { rpm: "http://x/", path: a }\nimages: {}`, /^train\.yaml:4: images: Images are not supported yet\.$/],
  [
    'gates',
    `${head}  a: { rpm: "http://x/", path: a }\nstages: [development, { release: { gates: [closure] } }]`,
    /Gates are not supported yet\.$/,
  ],
  ['no path', `${head}  a: { rpm: "http://x/" }`, /^train\.yaml:3: repositories\.a: "path" is missing/],
  ['neither format', `${head}  a: { path: a }`, /^train\.yaml:3: repositories\.a: one of rpm, file must say/],
  ['an odd path', `${head}  a: { rpm: "http://x/", path: a/../b }`, /cannot be part of a URL path/],
  ['an odd URL', `${head}  a: { rpm: "ftp://x/", path: a }`, /"ftp:\/\/x\/" is not an http or https URL/],
  [
    'a password in a URL',
    `${head}  a: { rpm: "http://u:secret@x/", path: a }`,
    /^train\.yaml:3: repositories\.a\.rpm: a URL must not hold a password/,
  ],
  ['a password in the file', `${head}  a: { rpm: "http://x/", path: a, password: secret }`, /a secret is not written here/],
  [
    'two of one path',
    `${head}  a: { rpm: "http://x/", path: p }\n  b: { rpm: "http://x/", path: p/ }`,
    /^train\.yaml:4: repositories\.b: path p is already that of a\.$/,
  ],
  [
    'two of one snapshot name',
    `${head}  a: { rpm: "http://x/", path: a }\n  b: { rpm: "http://x/", path: b, distribution_name: a- }`,
    /distribution_name a- is already that of a/,
  ],
  ['a name without separator', `${head}  a: { rpm: "http://x/", path: a, distribution_name: a }`, /must end with a separator/],
  [
    'a line of nothing',
    `${head}  a: { rpm: "http://x/", path: a }\nlines:\n  l: { repositories: [b] }`,
    /^train\.yaml:5: lines\.l\.repositories\[0\]: No repository is called b\./,
  ],
  [
    'a group of no stage',
    `${head}  a: { rpm: "http://x/", path: a }\ngroups: { g: [production] }`,
    /"production" is not a stage \(development, release\)/,
  ],
  ['one stage', `${head}  a: { rpm: "http://x/", path: a }\nstages: [release]`, /at least two stages are needed/],
  [
    'the same key twice',
    `${head}  a: { rpm: "http://x/", path: a }\n  a: { rpm: "http://x/", path: b }`,
    /^train\.yaml:4: Map keys must be unique/,
  ],
  [
    'a value of the wrong type',
    `${head}  a: { rpm: "http://x/", path: a, rate_limit: fast }`,
    /rate_limit: a whole number is expected/,
  ],
  ['no name', 'repositories: {}', /^train\.yaml:1: "train" is missing\.$/],
  [
    'wrong defaults even when nothing uses them',
    `train: t\ndefaults: { file: { mirror: maybe } }\nrepositories: {}`,
    /^train\.yaml:2: defaults\.file\.mirror: true or false is expected/,
  ],
]
for (const [what, text, message] of wrong)
  test(`${what} is refused with file and line`, () => {
    assert.throws(() => parse(text), { name: 'Failure', code: 'invalid', message })
  })

test('the password in a refused URL is not repeated', () => {
  assert.throws(
    () => parse(`${head}  a: { rpm: "http://u:secret@x/", path: a }`),
    (error: Error) => !error.message.includes('secret@'),
  )
})
