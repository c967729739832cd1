import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { containersOf, keyOfContainer, type KollaTags, parentKey, tagsOfImages } from './kolla.ts'

function tagsFrom(declared: Record<string, Record<string, string>>): KollaTags {
  return new Map(Object.entries(declared).map(([key, tags]) => [key, new Map(Object.entries(tags))]))
}

const both = (tag: string) => ({ 'rocky-9': `r-${tag}`, 'ubuntu-jammy': `u-${tag}` })
const tags = tagsFrom({
  openstack: both('all'),
  nova: both('nova'),
  nova_compute: { 'rocky-9': 'r-compute' },
  haproxy: both('haproxy'),
  ironic: both('ironic'),
  ironic_neutron_agent: { 'ubuntu-jammy': 'u-agent' },
  common: { 'rocky-9': 'r-common' },
})

const resolved: readonly (readonly [image: string, rocky: readonly string[], ubuntu: readonly string[], why: string])[] = [
  ['glance-api', ['r-all'], ['u-all'], 'what has no key of its own falls to openstack'],
  ['nova-api', ['r-nova'], ['u-nova'], 'a container falls to its service'],
  ['nova-compute', ['r-compute'], ['u-nova'], 'its own key counts where it has the distribution'],
  ['nova-compute-ironic', ['r-nova'], ['u-nova'], 'an exception skips the longer key nova_compute'],
  ['nova-conductor', ['r-nova'], ['u-nova'], 'two containers of one tag are one tag'],
  ['dnsmasq', ['r-ironic'], ['u-ironic'], 'an image runs under another name'],
  ['ironic-neutron-agent', ['r-all'], ['u-agent'], 'an exception whose parent is not there looks for prefixes of the parent'],
  ['cron', ['r-common'], ['u-all'], 'a parent without the distribution falls further'],
  ['ironicus', ['r-ironic'], ['u-ironic'], 'a prefix needs no boundary, as in the original'],
]
for (const [image, rocky, ubuntu, why] of resolved)
  test(`${image}: ${why}`, () => {
    const found = tagsOfImages([image], ['rocky-9', 'ubuntu-jammy'], tags)
    assert.deepEqual(
      found.map((each) => each.tags),
      [rocky, ubuntu],
    )
  })

test('an image that several containers run has the tags of all of them', () => {
  const apart = tagsFrom({ openstack: { a: '1' }, haproxy: { a: '2' }, neutron_tls_proxy: { a: '3' } })
  assert.deepEqual(containersOf('haproxy'), ['glance_tls_proxy', 'haproxy', 'neutron_tls_proxy'])
  assert.deepEqual(tagsOfImages(['haproxy'], ['a'], apart), [{ image: 'haproxy', distribution: 'a', tags: ['2', '3'] }])
})

test('an image is left out where a distribution has no build of it, and has no tag where openstack has none', () => {
  const found = tagsOfImages(['nova-api', 'kibana'], ['rocky-9', 'debian-12'], tags, new Map([['rocky-9', ['kibana']]]))
  assert.deepEqual(
    found.map(({ image, distribution, tags: [tag] }) => [image, distribution, tag]),
    [
      ['nova-api', 'rocky-9', 'r-nova'],
      ['nova-api', 'debian-12', undefined],
      ['kibana', 'debian-12', undefined],
    ],
  )
})

test('names that JavaScript has for other things are names like any other', () => {
  assert.deepEqual(containersOf('constructor'), ['constructor'])
  assert.equal(keyOfContainer(tags, 'rocky-9', 'toString'), 'openstack')
  assert.equal(parentKey(tags, undefined, 'hasOwnProperty'), 'openstack')
})

/** Real data of the release train that this comes from lies beside the repository where its maintainers work; it is not ours to publish. */
const reference = ['../../../shared', '../../../../shared']
  .map((path) => join(import.meta.dirname, path, 'reference/stackhpc'))
  .find((path) => existsSync(path))

test('the images of OpenStack 2024.1 have the tags that the original tool gives them', (t) => {
  if (reference === undefined) return t.skip('the reference data is not beside the repository')
  const read = (name: string) => parse(readFileSync(join(reference, name), 'utf8'))
  const { stackhpc_pulp_images_kolla: images } = read('pulp.yml') as { stackhpc_pulp_images_kolla: string[] }
  const found = tagsOfImages(images, ['rocky-9', 'ubuntu-jammy'], tagsFrom(read('kolla-image-tags.yml').kolla_image_tags))
  const byImage = Map.groupBy(found, ({ image }) => image)
  const text = [...byImage]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([image, each]) => `${image} ${[...new Set(each.flatMap((one) => one.tags))].join(' ')}\n`)
    .join('')
  assert.deepEqual([byImage.size, text.match(/2024\.1-/g)?.length], [99, 198])
  // Of what "kolla-images.py list-tags" printed for the same two files, written in the same way.
  assert.equal(
    createHash('sha256').update(text).digest('hex'),
    'a8fff7cc0c45277423deb4e091ed4ed19a3e453eec23d3308f5e87a4e3476adb',
  )
})
