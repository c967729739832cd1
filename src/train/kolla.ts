/*
 * How Kolla names the tag of each image. Tags are given to keys: to a container (`nova_api`), a service (`nova`) or everything
 * (`openstack`), for each base distribution. A container without a tag of its own takes that of the longest key that its name begins with;
 * an image has the tags of all containers that run it. This is StackHPC's tools/kolla-images.py, exception by exception.
 */

/** `kolla_image_tags`: tags by key, then by base distribution (`rocky-9`), in the order of the file. */
export type KollaTags = ReadonlyMap<string, ReadonlyMap<string, string>>

/** Which images a base distribution has no build of, by distribution. */
export type Unbuildable = ReadonlyMap<string, readonly string[]>

/** The key that everything without another one falls back to. */
export const defaultKey = 'openstack'

/** Images that run as something else than what they are called. */
const containersOfImage: Readonly<Record<string, readonly string[]>> = {
  dnsmasq: ['ironic_dnsmasq'],
  haproxy: ['glance_tls_proxy', 'haproxy', 'neutron_tls_proxy'],
  'mariadb-server': ['mariadb', 'mariabackup'],
  'neutron-mlnx-agent': ['neutron_eswitchd', 'neutron_mlnx_agent'],
  'neutron-metadata-agent': ['neutron_metadata_agent', 'neutron_ovn_metadata_agent'],
  'nova-conductor': ['nova_super_conductor', 'nova_conductor'],
  'openvswitch-db-server': ['openvswitch_db'],
  'ovn-nb-db-server': ['ovn_nb_db'],
  'ovn-sb-db-server': ['ovn_sb_db'],
  'prometheus-v2-server': ['prometheus_server'],
}

/** Containers whose tag comes from a key that their name does not begin with, or not from the longest. */
const parentOfContainer: Readonly<Record<string, string>> = {
  cron: 'common',
  fluentd: 'common',
  glance_tls_proxy: 'haproxy',
  hacluster_corosync: 'openstack',
  hacluster_pacemaker: 'openstack',
  hacluster_pacemaker_remote: 'openstack',
  heat_api_cfn: 'heat',
  ironic_neutron_agent: 'neutron',
  kolla_toolbox: 'common',
  neutron_eswitchd: 'neutron_mlnx_agent',
  neutron_tls_proxy: 'haproxy',
  nova_compute_ironic: 'nova',
  redis_sentinel: 'openstack',
  swift_object_expirer: 'swift',
  tgtd: 'iscsi',
}

/** The containers that run an image. */
export function containersOf(image: string): readonly string[] {
  return Object.hasOwn(containersOfImage, image) ? containersOfImage[image]! : [image.replaceAll('-', '_')]
}

/** The key that a container's tag comes from: its own, if that has the distribution, or its parent's. */
export function keyOfContainer(tags: KollaTags, distribution: string, container: string): string {
  return tags.get(container)?.get(distribution) ? container : parentKey(tags, distribution, container)
}

/** The key above a container; of every distribution when none is named. */
export function parentKey(tags: KollaTags, distribution: string | undefined, container: string): string {
  const has = (key: string) => distribution === undefined || tags.get(key)?.has(distribution) === true
  const special = Object.hasOwn(parentOfContainer, container) ? parentOfContainer[container]! : undefined
  if (special !== undefined && tags.has(special) && has(special)) return special
  const name = special ?? container
  // Letters count, not words: `ironic` is above `ironicfoo`, as in the original.
  let longest = defaultKey
  let length = 0
  for (const key of tags.keys())
    if (key !== defaultKey && key !== name && key.length > length && name.startsWith(key) && has(key)) {
      longest = key
      length = key.length
    }
  return longest
}

/** The tag of a container; undefined where not even `openstack` has one for the distribution. */
export function tagOfContainer(tags: KollaTags, distribution: string, container: string): string | undefined {
  return tags.get(keyOfContainer(tags, distribution, container))?.get(distribution)
}

export interface KollaImage {
  readonly image: string
  readonly distribution: string
  /** Those of its containers, without doubles; undefined for a container that has none. */
  readonly tags: readonly (string | undefined)[]
}

/** The tags of each image that a distribution has, distribution by distribution. */
export function tagsOfImages(
  images: readonly string[],
  distributions: readonly string[],
  tags: KollaTags,
  unbuildable: Unbuildable = new Map(),
): KollaImage[] {
  return distributions.flatMap((distribution) =>
    images
      .filter((image) => !unbuildable.get(distribution)?.includes(image))
      .map((image) => {
        const found = containersOf(image).map((container) => tagOfContainer(tags, distribution, container))
        return { image, distribution, tags: [...new Set(found)] }
      }),
  )
}
