import type { Distribution, Guard, Publication, Remote, Repository, Task, User, Version } from '../../src/api/resources.ts'
import type { TestServer } from './server.ts'

type Settings = Record<string, unknown>

interface Wanted {
  format?: 'rpm' | 'file'
  name: string
  url: string
  /** Fields of the remote: policy, username, ... */
  remote?: Settings
  repository?: Settings
  /** What each sync is asked with. */
  sync?: Settings
}

/** A repository that is synced from somewhere. */
export interface Mirror {
  readonly name: string
  readonly repository: Repository
  readonly remote: Remote
  /** Syncs and waits. Throws Failure with the task's reason. */
  sync(more?: Settings): Promise<Task>
  latest(): Promise<Version>
  /** The newest publication of the latest version, if any. */
  findPublication(): Promise<Publication | undefined>
  publish(settings?: Settings): Promise<Publication>
  /** Serves the newest publication of the latest version. */
  distribute(path: string, more?: Settings): Promise<Distribution>
}

/** Makes a remote and a repository. */
export async function makeMirror({ api }: TestServer, wanted: Wanted): Promise<Mirror> {
  const { format = 'rpm', name, url, remote: remoteSettings = {}, repository: settings = {}, sync = {} } = wanted
  const kind = `${format}/${format}/`
  const remote = await api.create<Remote>(`remotes/${kind}`, { name, url, ...remoteSettings })
  const repository = await api.create<Repository>(`repositories/${kind}`, { name, remote: remote.pulp_href, ...settings })
  const mirror: Mirror = {
    name,
    repository,
    remote,
    sync: (more = {}) => api.act(`${repository.pulp_href}sync/`, { ...sync, ...more }),
    latest: async () => api.get<Version>((await api.get<Repository>(repository.pulp_href)).latest_version_href!),
    async findPublication() {
      const query = { repository_version: (await mirror.latest()).pulp_href, ordering: '-pulp_created' }
      for await (const publication of api.list<Publication>(`publications/${kind}`, query)) return publication
      return undefined
    },
    publish: async (more = {}) =>
      api.create<Publication>(`publications/${kind}`, { repository_version: (await mirror.latest()).pulp_href, ...more }),
    async distribute(path, more = {}) {
      const publication = (await mirror.findPublication())?.pulp_href
      return api.create<Distribution>(`distributions/${kind}`, {
        name: path.replaceAll('/', '-'),
        base_path: path,
        publication,
        ...more,
      })
    },
  }
  return mirror
}

/** A guard that lets one user through. */
export async function makeGuard(
  { api }: TestServer,
  name: string,
  [username, password]: readonly [string, string],
): Promise<Guard> {
  const guard = await api.create<Guard>('contentguards/core/rbac/', { name })
  if (!(await api.find<User>('users/', { username }))) await api.create<User>('users/', { username, password })
  await api.post(`${guard.pulp_href}add_role/`, { role: 'core.rbaccontentguard_downloader', users: [username] })
  return guard
}

/** How many of one content type a version has. */
export function countOf(version: Version, type: string): number {
  return version.content_summary.present[type]?.count ?? 0
}
