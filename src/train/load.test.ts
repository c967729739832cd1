import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
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
  assert.deepEqual(parse(whole).lines, [
    { name: '2024.1', repositories: ['grafana', 'rocky-9-baseos'], images: [], distributions: [] },
  ])
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
    /^train\.yaml:4: a is there twice\.$/,
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

const images = (text: string) => `train: t\nrepositories:\nimages:\n  development: x-dev\n  release: x\n${text}\n`
const kolla = '  registry: [nova-api, cron]\n  map: kolla\n  distributions: [rocky-9, ubuntu-jammy]\n'

test('images are read with every default filled in', () => {
  const { images: found } = parse(images('  registry: [hello, tools/bell]'))
  assert.deepEqual(found, {
    names: ['hello', 'tools/bell'],
    mirrored: [],
    namespaces: new Map([
      ['development', 'x-dev'],
      ['release', 'x'],
    ]),
    builders: ['builders'],
    private: true,
    map: undefined,
    distributions: [],
    unbuildable: new Map(),
  })
  assert.equal(parse('train: t\nrepositories:\n').images, undefined)
})

test('a mirrored image is a repository of its own, in the namespace of the first stage', () => {
  const text = `  mirrored:\n    ceph: { upstream: "https://quay.io/ceph/ceph", tags: [v18.2.4, "v17*"], policy: on_demand, password: { env: P } }`
  const [ceph] = parse(`defaults: { container: { rate_limit: 3 } }\n${images(text)}`).images!.mirrored
  assert.deepEqual([ceph!.name, ceph!.tags], ['ceph', ['v18.2.4', 'v17*']])
  const { name, format, url, path, remote, outside } = ceph!.repository
  assert.deepEqual([name, format, url, path], ['x-dev/ceph', 'container', 'https://quay.io', 'x-dev/ceph'])
  assert.deepEqual(
    [remote['upstream_name'], remote['include_tags'], remote['policy'], remote['rate_limit']],
    ['ceph/ceph', ['v18.2.4', 'v17*'], 'on_demand', 3],
  )
  assert.deepEqual(outside, { password: { env: 'P' } })
})

test('a line has images by name or filter; with a map, by base distribution', () => {
  const line = (text: string, of: string) => parse(`${images(text)}lines:\n  "1": { repositories: [], images: ${of} }`).lines[0]!
  const plain = '  registry: [hello, bell-one, bell-two]\n  mirrored: { ceph: { upstream: "https://quay.io/ceph/ceph" } }'
  assert.deepEqual(line(plain, '[bell-*, ceph]').images, ['bell-one', 'bell-two', 'ceph'])
  assert.deepEqual(line(plain, 'group:images').images.length, 4)
  const mapped = line(kolla, 'rocky-9')
  assert.deepEqual([mapped.images, mapped.distributions], [[], ['rocky-9']])
  assert.deepEqual(line(kolla, '[ubuntu-jammy, rocky-9]').distributions, ['rocky-9', 'ubuntu-jammy'])
  const unbuildable = parse(images(`${kolla}  unbuildable: { rocky-9: [cron] }`)).images!.unbuildable
  assert.deepEqual([...unbuildable], [['rocky-9', ['cron']]])
})

const wrongImages: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  ['an unknown field', '  registry: [a]\n  mapp: kolla', /^train\.yaml:7: images: unknown field "mapp"\. Did you mean "map"\?$/],
  ['no image at all', '', /^train\.yaml:3: images: "registry" \(images that are pushed\) or "mirrored"/],
  [
    'a name that no registry takes',
    '  registry: [Nova]',
    /^train\.yaml:6: images\.registry\[0\]: "Nova" cannot be the name of an image/,
  ],
  ['an image twice', '  registry: [a, b, a]', /^train\.yaml:6: images\.registry: "a" is named twice\.$/],
  [
    'an image that is pushed and mirrored',
    '  registry: [a]\n  mirrored: { a: { upstream: "https://quay.io/a" } }',
    /^train\.yaml:7: images\.mirrored\.a: "a" is pushed already/,
  ],
  [
    'an upstream without a name',
    '  mirrored:\n    a: { upstream: "https://quay.io" }',
    /^train\.yaml:7: images\.mirrored\.a\.upstream: the name of the image is missing/,
  ],
  [
    'a mirrored image without upstream',
    '  mirrored:\n    a: { tags: [v1] }',
    /^train\.yaml:7: images\.mirrored\.a: "upstream" is missing/,
  ],
  ['a map without distributions', '  registry: [a]\n  map: kolla', /"distributions" is missing/],
  [
    'distributions without a map',
    '  registry: [a]\n  distributions: [rocky-9]',
    /^train\.yaml:7: images\.distributions: this goes with/,
  ],
  [
    'an unbuildable image that is not there',
    `${kolla}  unbuildable: { rocky-9: [crn] }`,
    /^train\.yaml:9: images\.unbuildable\.rocky-9\[0\]: there is no image "crn" below registry\. Did you mean "cron"\?$/,
  ],
  [
    'unbuildable images of another distribution',
    `${kolla}  unbuildable: { rocky-8: [cron] }`,
    /"rocky-8" is not among the distributions\. Did you mean "rocky-9"\?$/,
  ],
  [
    'a line of no image',
    '  registry: [hello]\nlines:\n  l: { repositories: [], images: [helo] }',
    /^train\.yaml:8: lines\.l\.images\[0\]: No image is called helo\. Did you mean "hello"\?$/,
  ],
  [
    'a line of no distribution',
    `${kolla}lines:\n  l: { repositories: [], images: rocky-8 }`,
    /^train\.yaml:10: lines\.l\.images: "rocky-8" is no base distribution\. Did you mean "rocky-9"\?$/,
  ],
]
for (const [what, text, message] of wrongImages)
  test(`images: ${what} is refused with file and line`, () => {
    assert.throws(() => parse(images(text)), { name: 'Failure', code: 'invalid', message })
  })

test('a stage without a namespace, one that two have, and images without a section are refused', () => {
  const refused = (text: string, message: RegExp) => assert.throws(() => parse(text), { code: 'invalid', message })
  const start = 'train: t\nrepositories:\n'
  refused(`${start}images: { registry: [a], development: x }`, /^train\.yaml:3: images: "release" is missing: the namespace/)
  refused(`${start}images: { registry: [a], development: x, release: x }`, /namespace x is already that of development\.$/)
  refused(`${start}images: { registry: [a], development: x/y, release: x }`, /"x\/y" cannot be a namespace/)
  refused(
    `${start}lines: { l: { repositories: [], images: [a] } }`,
    /^train\.yaml:3: lines\.l\.images: the train declares no images\.$/,
  )
  refused(`${start}  a: { container: "https://quay.io/a", path: a }`, /images are declared below "images"/)
})

test('the trains in the documentation are trains', async () => {
  for (const page of ['README.md', 'docs/train.md']) {
    const text = await readFile(new URL(`../../${page}`, import.meta.url), 'utf8')
    const trains = [...text.matchAll(/```yaml\n(train:[\s\S]*?)```/g)].map(([, each]) => each!)
    assert.equal(trains.length, 1, page)
    for (const each of trains) assert.ok(parse(each).images, page)
  }
})

test('the password in a refused URL is not repeated', () => {
  assert.throws(
    () => parse(`${head}  a: { rpm: "http://u:secret@x/", path: a }`),
    (error: Error) => !error.message.includes('secret@'),
  )
})
