import assert from 'node:assert/strict'
import { test } from 'node:test'
import { containersOf, type KollaTags, tagOfContainer } from './kolla.ts'
import { planKollaTags } from './kolla-pins.ts'

const distribution = 'rocky-9'
const tagsFrom = (declared: Record<string, string>): KollaTags =>
  new Map(Object.entries(declared).map(([key, tag]) => [key, new Map([[distribution, tag]])]))

const plan = (before: Record<string, string>, wanted: Record<string, string>) =>
  planKollaTags(distribution, tagsFrom(before), new Map(Object.entries(wanted))).map(
    ({ key, from, to }) => `${key} ${from} ${to}`,
  )

test('a build of everything changes the default and nothing else', () => {
  assert.deepEqual(plan({ openstack: '1' }, { 'nova-api': '2', cron: '2', haproxy: '2' }), ['openstack 1 2'])
})

test('the first pins begin with the default', () => {
  assert.deepEqual(plan({}, { 'nova-api': '2', cron: '2' }), ['openstack undefined 2'])
})

test('a build of one service gives the service a key', () => {
  const wanted = { 'nova-api': '2', 'nova-compute': '2', cron: '1', keystone: '1', 'glance-api': '1' }
  assert.deepEqual(plan({ openstack: '1' }, wanted), ['nova undefined 2'])
})

test('a build of one image of a service gives the image a key', () => {
  const wanted = { 'nova-api': '1', 'nova-compute': '2', keystone: '1' }
  assert.deepEqual(plan({ openstack: '1' }, wanted), ['nova_compute undefined 2'])
})

test('keys that are there are used, and those that no image needs stay as they are', () => {
  const before = { openstack: '1', nova: '1', bifrost_deploy: '0' }
  assert.deepEqual(plan(before, { 'nova-api': '2', 'nova-compute': '2', keystone: '1' }), ['nova 1 2'])
})

test('what is right already is not written again', () => {
  assert.deepEqual(plan({ openstack: '1', nova: '2' }, { 'nova-api': '2', keystone: '1' }), [])
})

test('whatever is wanted, every container gets it', () => {
  const images = [
    'nova-api nova-compute nova-compute-ironic nova-conductor haproxy haproxy-ssh heat-api heat-api-cfn neutron-mlnx-agent ironic-api',
    'ironic-neutron-agent dnsmasq cron fluentd kolla-toolbox redis redis-sentinel mariadb-server keystone keystone-ssh grafana',
  ].flatMap((each) => each.split(' '))
  let state = 7
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  for (let round = 0; round < 300; round++) {
    const keys = ['nova', 'nova_compute', 'haproxy', 'ironic', 'common', 'heat', 'neutron'].filter(() => next(3) === 0)
    const before = tagsFrom(Object.fromEntries(['openstack', ...keys].map((key) => [key, String(next(3))])))
    const wanted = new Map(images.map((image) => [image, String(next(3))]))
    const after = new Map([...before].map(([key, tags]) => [key, new Map(tags)]))
    for (const { key, to } of planKollaTags(distribution, before, wanted)) after.set(key, new Map([[distribution, to]]))
    for (const [image, tag] of wanted)
      for (const container of containersOf(image)) assert.equal(tagOfContainer(after, distribution, container), tag, container)
  }
})
