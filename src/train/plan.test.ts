import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Remote, Repository } from '../api/resources.ts'
import { parseTrain } from './load.ts'
import { planApply, type ServerState, type Step } from './plan.ts'

const train = parseTrain(
  'train.yaml',
  `
train: t
repositories:
  bells: { rpm: "http://x/bells/", path: bells, rate_limit: 5, password: { env: P }, username: u }
groups: { clients: [release], testers: [development, release] }
`,
)
const outside = new Map([['bells', { username: 'u', password: 'p' }]])
const empty: ServerState = {
  groups: new Set(),
  guards: new Map(),
  remotes: new Map(),
  repositories: new Map(),
  labelled: [],
  unguarded: [],
  namespaces: new Map(),
  images: new Map(),
}

const base = { prn: '', pulp_created: '', pulp_last_updated: '', pulp_labels: { train: 't' } }
const remote: Remote = {
  ...base,
  pulp_href: '/remotes/1/',
  name: 'bells-remote',
  url: 'http://x/bells/',
  policy: 'immediate',
  tls_validation: true,
  rate_limit: 5,
  hidden_fields: [
    { name: 'username', is_set: true },
    { name: 'password', is_set: true },
    { name: 'client_key', is_set: false },
  ],
}
const repository: Repository = {
  ...base,
  pulp_href: '/repositories/1/',
  name: 'bells',
  versions_href: '',
  latest_version_href: null,
  description: null,
  remote: '/remotes/1/',
  retain_repo_versions: null,
  retain_package_versions: 0,
  autopublish: false,
}
const matching: ServerState = {
  groups: new Set(['clients', 'testers', 'others']),
  guards: new Map([
    ['development', { href: '/guards/1/', readers: ['testers'] }],
    ['release', { href: '/guards/2/', readers: ['clients', 'testers'] }],
  ]),
  remotes: new Map([['rpm bells-remote', remote]]),
  repositories: new Map([['rpm bells', repository]]),
  labelled: [{ format: 'rpm', name: 'bells' }],
  unguarded: [],
  namespaces: new Map(),
  images: new Map(),
}
const brief = (step: Step) => `${step.act} ${step.what} ${step.name}${'group' in step ? ` ${step.group}` : ''}`

test('an empty server gets groups, guards with their readers, remotes and repositories', () => {
  const { steps, drift } = planApply(train, empty, outside)
  assert.deepEqual(steps.map(brief), [
    'add group clients',
    'add group testers',
    'add guard development',
    'grant guard development testers',
    'add guard release',
    'grant guard release clients',
    'grant guard release testers',
    'add remote bells-remote',
    'add repository bells',
  ])
  assert.deepEqual(drift, [])
  const added = steps.find((step) => step.what === 'remote')
  assert.ok(added && 'body' in added)
  assert.deepEqual(added.body, {
    name: 'bells-remote',
    url: 'http://x/bells/',
    policy: 'immediate',
    tls_validation: true,
    rate_limit: 5,
    username: 'u',
    password: 'p',
    pulp_labels: { train: 't' },
  })
})

test('a server that matches needs nothing', () => {
  assert.deepEqual(planApply(train, matching, outside), { steps: [], drift: [] })
})

test('what differs is changed, and only that', () => {
  const changed = { ...matching, remotes: new Map([['rpm bells-remote', { ...remote, url: 'http://old/', rate_limit: null }]]) }
  const [step, ...others] = planApply(train, changed, outside).steps
  assert.deepEqual(others, [])
  assert.ok(step?.act === 'change')
  assert.equal(step.href, '/remotes/1/')
  assert.deepEqual(step.body, { url: 'http://x/bells/', rate_limit: 5 })
  assert.deepEqual(step.changes, [
    { field: 'url', from: 'http://old/', to: 'http://x/bells/' },
    { field: 'rate_limit', from: '(none)', to: '5' },
  ])
})

test('a setting that is no longer declared goes back to what it is without', () => {
  const changed = {
    ...matching,
    repositories: new Map([['rpm bells', { ...repository, retain_package_versions: 3, checksum_type: 'sha512' }]]),
  }
  const [step] = planApply(train, changed, outside).steps
  assert.ok(step?.act === 'change')
  assert.deepEqual(step.body, { retain_package_versions: 0, checksum_type: null })
})

test('a password that is not set on the server is sent; one that is set is only sent again when asked for; neither is ever shown', () => {
  const unset = {
    ...remote,
    hidden_fields: [
      { name: 'username', is_set: true },
      { name: 'password', is_set: false },
    ],
  }
  const [step] = planApply(train, { ...matching, remotes: new Map([['rpm bells-remote', unset]]) }, outside).steps
  assert.ok(step?.act === 'change')
  assert.deepEqual(step.body, { password: 'p' })
  assert.deepEqual(step.changes, [{ field: 'password', from: '(none)', to: '(set)' }])

  const [again] = planApply(train, matching, outside, true).steps
  assert.ok(again?.act === 'change')
  assert.deepEqual(again.body, { username: 'u', password: 'p' })
  assert.ok(!JSON.stringify(again.changes).includes('"p"'))
})

test('a password that is no longer declared is taken away', () => {
  const [step] = planApply(train, matching, new Map()).steps
  assert.ok(step?.act === 'change')
  assert.deepEqual(step.body, { username: null, password: null })
})

test('a group that may read but is not declared loses it, and one that should gets it', () => {
  const guards = new Map([
    ['development', { href: '/guards/1/', readers: ['testers', 'clients'] }],
    ['release', { href: '/guards/2/', readers: ['clients'] }],
  ])
  assert.deepEqual(planApply(train, { ...matching, guards }, outside).steps.map(brief), [
    'revoke guard development clients',
    'grant guard release testers',
  ])
})

test('a repository linked to another remote is linked to its own', () => {
  const changed = { ...matching, repositories: new Map([['rpm bells', { ...repository, remote: '/remotes/2/' }]]) }
  const [step] = planApply(train, changed, outside).steps
  assert.ok(step?.act === 'change' && step.what === 'repository')
  assert.equal(step.remote, 'bells-remote')
})

test('other labels are kept when ours is added', () => {
  const changed = { ...matching, repositories: new Map([['rpm bells', { ...repository, pulp_labels: { owner: 'x' } }]]) }
  const [step] = planApply(train, changed, outside).steps
  assert.ok(step?.act === 'change')
  assert.deepEqual(step.body['pulp_labels'], { owner: 'x', train: 't' })
})

const withImages = parseTrain(
  'train.yaml',
  `train: t
repositories:
images:
  registry: [hello]
  mirrored: { ceph: { upstream: "https://quay.io/ceph/ceph" } }
  development: x-dev
  release: x
groups: { clients: [release], testers: [development, release] }
`,
)
const ofImages = (state: ServerState) => planApply(withImages, state, new Map()).steps.filter(({ what }) => what !== 'guard')
const inDetail = (step: Step) =>
  `${brief(step)}${'role' in step ? ` ${step.role}` : ''}${'private' in step ? ` ${step.private}` : ''}`

test('images get namespaces with roles for groups, and what promotions and syncs fill is made private', () => {
  assert.deepEqual(ofImages(empty).map(inDetail), [
    'add group clients',
    'add group testers',
    'add group builders',
    'add namespace x-dev',
    'grant namespace x-dev testers consumer',
    'grant namespace x-dev builders collaborator',
    'add namespace x',
    'grant namespace x clients consumer',
    'grant namespace x testers consumer',
    'add remote x-dev/ceph-remote',
    'add repository x-dev/ceph',
    'add image x-dev/ceph true',
    'add image x/hello true',
    'add image x/ceph true',
  ])
})

test('released images are open where the train says so; what is not released never is', () => {
  const open = parseTrain(
    't',
    'train: t\nrepositories:\nimages: { registry: [hello], development: x-dev, release: x, private: false }',
  )
  const isOpen = (path: string) =>
    new Map([[path, { path, href: '/d/', private: false, repository: '/r/', version: null, pushed: false, labels: {} }]])
  const images = (served: ServerState['images']) =>
    planApply(open, { ...empty, images: served }, new Map())
      .steps.filter(({ what }) => what === 'image')
      .map(inDetail)
  assert.deepEqual(images(new Map()), ['add image x/hello false'])
  assert.deepEqual(images(isOpen('x/hello')), [])
  assert.deepEqual(images(isOpen('x-dev/hello')), ['change image x-dev/hello', 'add image x/hello false'])
})

test('an image that anyone may pull is made private, who should not hold a role loses it, and what is in the way is told', () => {
  const served = (path: string, more: object) =>
    [
      path,
      { path, href: `/d/${path}/`, private: true, repository: '/r/', version: null, pushed: false, labels: {}, ...more },
    ] as const
  const state: ServerState = {
    ...empty,
    groups: new Set(['clients', 'testers', 'builders']),
    namespaces: new Map([
      ['x-dev', { href: '/n/1/', consumer: ['testers', 'clients'], collaborator: ['builders'] }],
      ['x', { href: '/n/2/', consumer: ['clients', 'testers'], collaborator: [] }],
    ]),
    images: new Map([
      served('x-dev/hello', { private: false, pushed: true }),
      served('x/hello', { pushed: true }),
      served('x-dev/ceph', {}),
      served('x/ceph', {}),
    ]),
  }
  assert.deepEqual(ofImages(state).map(inDetail), [
    'revoke namespace x-dev clients consumer',
    'add remote x-dev/ceph-remote',
    'add repository x-dev/ceph',
    'change image x-dev/hello',
  ])
  assert.deepEqual(planApply(withImages, state, new Map()).drift, [
    'x/hello was pushed to: nothing can be promoted there until it is deleted.',
  ])
})

test('repositories no longer declared and snapshots without a guard are told, not touched', () => {
  const labelled = [...matching.labelled, { format: 'rpm' as const, name: 'gongs' }]
  const { steps, drift } = planApply(train, { ...matching, labelled, unguarded: ['bells-20261101T020000'] }, outside)
  assert.deepEqual(steps, [])
  assert.match(drift[0]!, /^rpm repository gongs is no longer in train\.yaml/)
  assert.match(drift[1]!, /^bells-20261101T020000 has no guard/)
})
