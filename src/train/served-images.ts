import type { Api } from '../api/client.ts'
import type { ContainerDistribution, Repository, Tag } from '../api/resources.ts'
import { forEach } from '../lib/for-each.ts'
import type { TagsByPath } from './images.ts'

/** An image that the server serves at a path. */
export interface ServedImage {
  readonly path: string
  /** Href of the distribution. */
  readonly href: string
  readonly private: boolean
  readonly repository: string | null
  /** Href of the version whose tags it has; null when there is none. */
  readonly version: string | null
  /** Whether it is filled by pushes. */
  readonly pushed: boolean
  readonly labels: Readonly<Record<string, string | null>>
}

export type ServedImages = ReadonlyMap<string, ServedImage>

const distributions = 'distributions/container/container/'
export const imageRepositories = 'repositories/container/container/'
const pushRepositories = 'repositories/container/container-push/'

/** Everything that the server's registry has, by path. */
export async function findServedImages(api: Api): Promise<ServedImages> {
  const versions = new Map<string, { version: string | null; pushed: boolean }>()
  for (const [collection, pushed] of [
    [imageRepositories, false],
    [pushRepositories, true],
  ] as const)
    for await (const { pulp_href, latest_version_href } of api.list<Repository>(collection, {
      fields: 'pulp_href,latest_version_href',
    }))
      versions.set(pulp_href, { version: latest_version_href, pushed })

  const served = new Map<string, ServedImage>()
  const fields = 'pulp_href,base_path,private,repository,repository_version,pulp_labels'
  for await (const each of api.list<ContainerDistribution>(distributions, { fields })) {
    const of = each.repository === null ? undefined : versions.get(each.repository)
    served.set(each.base_path, {
      path: each.base_path,
      href: each.pulp_href,
      private: each.private,
      repository: each.repository,
      version: each.repository_version ?? of?.version ?? null,
      pushed: of?.pushed ?? false,
      labels: each.pulp_labels,
    })
  }
  return served
}

const atATime = 8

/** The tags of images, by path; those that are not served have none. */
export async function readTags(api: Api, served: ServedImages, paths: Iterable<string>): Promise<TagsByPath> {
  const tags = new Map<string, ReadonlyMap<string, string>>()
  await forEach([...new Set(paths)], atATime, async (path) => {
    const version = served.get(path)?.version
    if (!version) return
    const found = new Map<string, string>()
    const query = { repository_version: version, fields: 'name,tagged_manifest' }
    for await (const { name, tagged_manifest } of api.list<Tag>('content/container/tags/', query))
      found.set(name, tagged_manifest)
    tags.set(path, found)
  })
  return tags
}
