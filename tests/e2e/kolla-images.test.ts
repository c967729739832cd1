import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { containersOf, parentKey, tagOfContainer } from '../../src/train/kolla.ts'
import { missing, run, temporaryDirectory } from './run.ts'

/* Where KOLLA_IMAGES names StackHPC's tools/kolla-images.py, it and ours are asked the same questions about made-up trains. */

const asking = `
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("kolla_images", sys.argv[1])
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
def tag(tags, distribution, container):
    try:
        return tool.get_tag(tags, distribution, container)
    except KeyError:
        return None
answers = []
for case in json.load(open(sys.argv[2])):
    tags = case["tags"]
    containers = [each for image in case["images"] for each in tool.get_containers(image)]
    answers.append({
        "containers": containers,
        "tags": [tag(tags, each, container) for each in case["distributions"] for container in containers],
        "parents": [tool.get_parent_tag_name(tags, None, container) for container in containers],
    })
json.dump(answers, sys.stdout)
`

const distributions = ['rocky-9', 'ubuntu-jammy']
const words =
  'openstack common nova nova-api nova-compute nova-compute-ironic nova-conductor cron fluentd kolla-toolbox heat heat-api heat-api-cfn neutron neutron-mlnx-agent neutron-metadata-agent neutron-eswitchd ironic ironic-neutron-agent ironic-dnsmasq dnsmasq haproxy haproxy-ssh glance-tls-proxy neutron-tls-proxy hacluster hacluster-corosync redis redis-sentinel iscsi tgtd swift swift-object-expirer mariadb mariadb-server mariabackup prometheus prometheus-server prometheus-v2-server prometheus-v2 ovn ovn-nb-db-server ovn-nb-db openvswitch-db-server open grafana iron ironicus a'.split(
    ' ',
  )

test('made-up trains get the tags that the original tool gives them', { timeout: 120_000 }, async (t) => {
  const tool = process.env['KOLLA_IMAGES']
  if (!tool) return t.skip("KOLLA_IMAGES does not name StackHPC's tools/kolla-images.py")
  const absent = await missing('python3')
  if (absent) return t.skip(absent)
  const random = seeded(4)
  const some = (chance: number) => words.filter(() => random() < chance)
  const cases = Array.from({ length: 2000 }, (_, index) => {
    // The original refuses a train without the default before it resolves anything.
    const keys = shuffled(['openstack', ...some(0.25).filter((each) => each !== 'openstack')], random)
    const tags = keys.map((word) => {
      const key = word.replaceAll('-', '_')
      const has = word === 'openstack' && index % 4 > 0 ? distributions : distributions.filter(() => random() < 0.6)
      return [key, Object.fromEntries(has.map((each) => [each, `${key} ${each}`]))] as const
    })
    return { tags: Object.fromEntries(tags), images: some(0.7), distributions }
  })
  const directory = await temporaryDirectory(t)
  await writeFile(join(directory, 'ask.py'), asking)
  await writeFile(join(directory, 'cases.json'), JSON.stringify(cases))
  const { stdout } = await run('python3', [join(directory, 'ask.py'), tool, join(directory, 'cases.json')])

  const ours = cases.map(({ tags: declared, images }) => {
    const tags = new Map(Object.entries(declared).map(([key, each]) => [key, new Map(Object.entries(each))]))
    const containers = images.flatMap(containersOf)
    return {
      containers,
      tags: distributions.flatMap((each) => containers.map((container) => tagOfContainer(tags, each, container) ?? null)),
      parents: containers.map((container) => parentKey(tags, undefined, container)),
    }
  })
  assert.deepEqual(ours, JSON.parse(stdout))
})

/** The same numbers each time: https://en.wikipedia.org/wiki/Linear_congruential_generator */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, at: random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
