/*
 * What the Pulp REST API answers, as far as the train, the CLI and the tests read it. Hrefs are paths (`/pulp/api/v3/...`),
 * times are ISO 8601 with microseconds.
 */

export interface Entity {
  pulp_href: string
  prn: string
  pulp_created: string
  pulp_last_updated: string
}

export interface Named extends Entity {
  name: string
  pulp_labels: Record<string, string | null>
}

export interface Repository extends Named {
  versions_href: string
  latest_version_href: string | null
  description: string | null
  remote: string | null
  retain_repo_versions: number | null
  autopublish: boolean
  [setting: string]: unknown
}

export interface Remote extends Named {
  url: string
  policy: 'immediate' | 'on_demand' | 'streamed'
  /** Which write-only fields hold something. */
  hidden_fields: readonly { name: string; is_set: boolean }[]
  [setting: string]: unknown
}

export interface Version extends Entity {
  number: number
  repository: string
  base_version: string | null
  content_summary: Record<'added' | 'removed' | 'present', Record<string, { count: number; href: string }>>
}

export interface Publication extends Entity {
  repository: string
  repository_version: string
}

export interface Distribution extends Named {
  base_path: string
  base_url: string
  content_guard: string | null
  repository: string | null
  publication: string | null
}

export interface Guard extends Named {
  description: string | null
}

export interface Group {
  pulp_href: string
  id: number
  name: string
}

export interface User {
  pulp_href: string
  id: number
  username: string
}

/** Who holds a role on one object. */
export interface HeldRole {
  role: string
  users: readonly string[]
  groups: readonly string[]
}

export interface TaskProgress {
  message: string
  code: string
  state: string
  total: number | null
  done: number
  suffix: string | null
}

export interface Task extends Entity {
  name: string
  state: 'waiting' | 'skipped' | 'running' | 'completed' | 'failed' | 'canceled' | 'canceling'
  error: { description?: string; reason?: string; traceback?: string } | null
  created_resources: readonly string[]
  progress_reports: readonly TaskProgress[]
  reserved_resources_record: readonly string[]
  started_at: string | null
  finished_at: string | null
}

/** What a promotion did: distributions that got the guard, and tags that images got. */
export interface Promotion {
  guard: string
  promoted: number
  unchanged: number
  images: readonly { to: string; tag: string; digest: string; changed: boolean }[]
  untagged: number
}

export interface ContainerDistribution extends Distribution {
  /** Whether pulling takes a permission. */
  private: boolean
  repository_version: string | null
  namespace: string | null
}

/** A tag of a version of an image repository; `tagged_manifest` is the href of what it stands for. */
export interface Tag extends Entity {
  name: string
  tagged_manifest: string
}

/** `status/`, as far as it is read here. */
export interface ServerStatus {
  /** Bytes where content is stored; null when that is no disk. */
  storage: { total: number; used: number; free: number } | null
}
