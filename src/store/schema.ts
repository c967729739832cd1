import type { Generated, Selectable } from 'kysely'
import type { Micros } from '../lib/time.ts'

/*
 * The tables, the same on SQLite and PostgreSQL. Integers `id` join rows; `uuid` names them outside.
 * JSON columns are text in code on both engines (`json`/`jsonb` there, see database.ts); booleans are 0 or 1.
 *
 *   remote ──┐
 *   repository ── version ── publication ── published_file, listing
 *        └─ membership ─┐         │
 *   content ── file ── blob       └── distribution ── guard
 *   │  └─ pack    └─ source ── remote
 *   └─ reference (to content by type and key)              lease (content that a repository holds on to before a version has it)
 *   task ── task_lock, task_progress, task_created         user ── group_member ── user_group
 *   upload, blob_upload, namespace, signing_service         role ── role_assignment (to a user or a group, on an object or all)
 *
 * Content is in version n of a repository when added_in <= n and (removed_in is null or n < removed_in).
 */

type Bit = 0 | 1

/** What every named resource has. `type` is `<format>.<name>`, as in `rpm.rpm` or, for guards, `core.rbac`. */
interface Resource {
  id: Generated<number>
  uuid: string
  type: string
  name: string
  /** JSON object of strings. */
  labels: string
  /** JSON object: the fields that the type declares beyond the base ones. */
  settings: string
  created: Micros
  updated: Micros
}

export interface RepositoryTable extends Resource {
  description: string | null
  remote_id: number | null
  /** How many versions are kept; null keeps all. */
  retain_versions: number | null
  autopublish: Bit
  /** The number the next version gets; numbers are never reused. */
  next_version: number
  /** JSON: what the last sync saw, so that an unchanged upstream is known by it; null before the first and after a change by hand. */
  last_sync: string | null
}

export interface VersionTable {
  id: Generated<number>
  uuid: string
  repository_id: number
  number: number
  /** The version this one was made from, where a client named one. */
  base_version_id: number | null
  /** JSON: `{"<content type>": {"present": n, "added": n, "removed": n}}`. */
  counts: string
  created: Micros
  updated: Micros
}

export interface MembershipTable {
  repository_id: number
  content_id: number
  added_in: number
  removed_in: number | null
  /** When it came, whatever became of the version that brought it. */
  added: Micros | null
  /** That of its content: a version has at most one of each name. */
  name: string | null
}

export interface RemoteTable extends Resource {
  url: string
  /** immediate, on_demand or streamed. */
  policy: string
  /** JSON object: username, password, client_key, proxy_username, proxy_password. Never leaves the server. */
  secrets: string
  /** JSON array of URLs: the mirrors that its syncs have found, those of the last one first. Null when there never was a choice. */
  mirrors: string | null
}

export interface PublicationTable {
  id: Generated<number>
  uuid: string
  type: string
  repository_id: number
  version_id: number
  /** JSON: the settings that it was made with; one publication per version and settings. */
  settings: string
  /** `verbatim`: content lies at its own file paths. Anything else is a layout the format knows. */
  layout: string
  checkpoint: Bit
  created: Micros
  updated: Micros
}

/** A path that a publication serves beyond its content: metadata (a blob), or content at another path than its own (a file). */
export interface PublishedFileTable {
  publication_id: number
  path: string
  blob_id: number | null
  file_id: number | null
}

/** What the last listing of a repository's units of a type is made of, so that the next one copies what did not change; see core/listing. */
export interface ListingTable {
  repository_id: number
  type: string
  publication_id: number
  /** What its bytes depend on beside the units. */
  form: string
  /** JSON: a `ListedFile` for each of its files. */
  files: string
  /** JSON: its `Piece`s. */
  pieces: string
}

export interface DistributionTable extends Resource {
  base_path: string
  guard_id: number | null
  repository_id: number | null
  version_id: number | null
  publication_id: number | null
  /** Where what it does not have yet is fetched from. */
  remote_id: number | null
  /** The distribution that made this one, when somebody asked that one for it. */
  made_by_id: number | null
  hidden: Bit
  /** When what this path serves last changed (Pulp: no_content_change_since). */
  content_changed: Micros | null
}

export interface GuardTable extends Resource {
  description: string | null
}

export interface ContentTable {
  id: Generated<number>
  uuid: string
  /** `rpm.package`, `file.file`, ... */
  type: string
  /** The natural key: the same thing has the same key wherever it comes from. */
  key: string
  /** Tells apart what is said of one thing (an upstream may lie): a digest of it. '' where the key is one already. */
  variant: string
  /** A version holds at most one content of a type in a slot (rpm: name, epoch, version, release, arch). */
  slot: string
  /** By what clients ask a repository for it, where they do (container: the tag). Then it is the slot, too. */
  name: string | null
  /** JSON: what lists and filters need; declared columns are indexed expressions on it. */
  meta: string
  /** Where the bulky rest lies: `entry_length` bytes at `entry_at` of an unpacked pack. */
  pack_id: number | null
  entry_at: number
  entry_length: number
  labels: string
  created: Micros
  updated: Micros
  /** When something last asked for it: orphans younger than the protection time stay. */
  touched: Micros
}

/** What a unit names: another unit by its type and key, wherever that is (or is not). */
export interface ReferenceTable {
  content_id: number
  type: string
  key: string
  /** 0: it is made of it, and useless without. 1: it says something about it (container: an OCI subject). */
  about: Bit
}

/**
 * Content that a repository holds on to for a while although no version of it has it: a layer whose manifest is still to come. Whoever may
 * read the repository may read it, and it is not collected.
 */
export interface LeaseTable {
  repository_id: number
  content_id: number
  until: Micros
}

/** A blob on its way into a repository; its bytes are among the store's growing ones, under the same uuid. */
export interface BlobUploadTable {
  uuid: string
  repository_id: number
  user_id: number | null
  created: Micros
  updated: Micros
}

/** The first segment of paths (`stackhpc-dev/nova-api`): roles on it hold for what lies below. */
export interface NamespaceTable {
  id: Generated<number>
  uuid: string
  /** `container.namespace`. */
  type: string
  name: string
  created: Micros
  updated: Micros
}

/** A program of the administrator's that signs what the server makes. A row never changes. */
export interface SigningServiceTable {
  id: Generated<number>
  uuid: string
  /** What it makes: `core.detached` or `core.attached`; see core/signing. */
  type: string
  name: string
  /** ASCII-armored. */
  public_key: string
  fingerprint: string
  /** An absolute path. */
  script: string
  /** The program's GNUPGHOME, where it has one of its own. */
  gnupg_home: string | null
  created: Micros
  updated: Micros
}

/** Descriptions of many units, compressed together (zstd): small, quick to write, and cut open on demand. */
export interface PackTable {
  id: Generated<number>
  bytes: Uint8Array
}

/** A file that content brings. Without a blob it is fetched from one of its sources on demand. */
export interface FileTable {
  id: Generated<number>
  content_id: number
  path: string
  /** The last segment of path. */
  name: string
  blob_id: number | null
  size: number | null
  /** `sha256:<hex>` and the like, as the upstream declared it; null when it declared none. */
  checksum: string | null
}

export interface SourceTable {
  file_id: number
  remote_id: number
  /** Absolute, or relative to the remote's url. */
  url: string
  /** Not asked again before this time, after a failure. */
  retry_after: Micros | null
}

export interface BlobTable {
  id: Generated<number>
  uuid: string
  sha256: string
  size: number
  md5: string | null
  sha1: string | null
  sha224: string | null
  sha384: string | null
  sha512: string | null
  created: Micros
  updated: Micros
  touched: Micros
}

export interface UploadTable {
  id: Generated<number>
  uuid: string
  size: number
  /** JSON `[[offset, size], ...]`. */
  chunks: string
  completed: Micros | null
  created: Micros
  updated: Micros
}

export interface UserTable {
  id: Generated<number>
  username: string
  /** `scrypt$N$r$p$salt$hash`. */
  password: string
  first_name: string
  last_name: string
  email: string
  is_staff: Bit
  is_superuser: Bit
  is_active: Bit
  created: Micros
}

/** Somebody's logging in. */
export interface SessionTable {
  /** SHA-256 of the token. */
  digest: string
  user_id: number
  /** SHA-256 of the user's password hash when it began. */
  password_digest: string
  expires: Micros
}

export interface UserGroupTable {
  id: Generated<number>
  name: string
}

export interface GroupMemberTable {
  group_id: number
  user_id: number
}

export interface RoleTable {
  id: Generated<number>
  uuid: string
  name: string
  description: string | null
  /** JSON array of `app.action_model`. */
  permissions: string
  locked: Bit
  created: Micros
  updated: Micros
}

export interface RoleAssignmentTable {
  id: Generated<number>
  uuid: string
  role_id: number
  user_id: number | null
  group_id: number | null
  /** PRN of the object; null means every object. */
  object: string | null
  created: Micros
}

/** What may be done with a kind of thing, as Pulp's clients ask for it; what is enforced stands in http/pulp. */
export interface AccessPolicyTable {
  id: Generated<number>
  uuid: string
  viewset_name: string
  customized: Bit
  created: Micros
  updated: Micros
}

export interface TaskTable {
  id: Generated<number>
  uuid: string
  /** Pulp's dotted name: clients filter on it. */
  name: string
  /** Which function of core/work.ts does it. */
  kind: string
  /** JSON: the arguments of that function. */
  args: string
  state: string
  logging_cid: string
  user_id: number | null
  /** JSON `{"description", "traceback"}`. */
  error: string | null
  worker_id: number | null
  parent_id: number | null
  group_id: number | null
  /** Rises each time a worker takes it: a worker that lost it cannot finish it. */
  token: number
  /** JSON array of PRNs; shared ones start with `shared:`. */
  resources: string
  created: Micros
  updated: Micros
  unblocked: Micros | null
  started: Micros | null
  finished: Micros | null
}

/** One row for each resource of each unfinished task. */
export interface TaskLockTable {
  task_id: number
  resource: string
  shared: Bit
}

export interface TaskProgressTable {
  task_id: number
  code: string
  message: string
  state: string
  total: number | null
  done: number
  suffix: string | null
}

export interface TaskCreatedTable {
  task_id: number
  position: number
  /** A PRN. */
  object: string
}

export interface TaskGroupTable {
  id: Generated<number>
  uuid: string
  description: string
  all_dispatched: Bit
  created: Micros
  updated: Micros
}

export interface WorkerTable {
  id: Generated<number>
  uuid: string
  name: string
  heartbeat: Micros
  created: Micros
  updated: Micros
}

/** Small facts about the installation: `change` (rises with what is served), secrets, ... */
export interface SettingTable {
  key: string
  value: string
}

export interface Schema {
  repository: RepositoryTable
  version: VersionTable
  membership: MembershipTable
  remote: RemoteTable
  publication: PublicationTable
  published_file: PublishedFileTable
  listing: ListingTable
  distribution: DistributionTable
  guard: GuardTable
  content: ContentTable
  reference: ReferenceTable
  lease: LeaseTable
  pack: PackTable
  file: FileTable
  source: SourceTable
  blob: BlobTable
  upload: UploadTable
  blob_upload: BlobUploadTable
  namespace: NamespaceTable
  signing_service: SigningServiceTable
  user: UserTable
  session: SessionTable
  user_group: UserGroupTable
  group_member: GroupMemberTable
  role: RoleTable
  role_assignment: RoleAssignmentTable
  access_policy: AccessPolicyTable
  task: TaskTable
  task_lock: TaskLockTable
  task_progress: TaskProgressTable
  task_created: TaskCreatedTable
  task_group: TaskGroupTable
  worker: WorkerTable
  setting: SettingTable
}

export type Row<T extends keyof Schema> = Selectable<Schema[T]>
