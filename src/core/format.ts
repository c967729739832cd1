import type { Readable } from 'node:stream'
import type { PackedText } from '../lib/packing.ts'
import type { Digests, Staged } from '../store/blobs.ts'
import type { Upstream } from './fetch/fetch.ts'
import type { Access } from './fetch/remotes.ts'

/*
 * A format is three translations and some declarations. It does no I/O except through the streams and the upstream it is given,
 * and knows neither the database, nor the blob store, nor HTTP servers. docs/add-a-format.md walks through `file`.
 */
export interface Format {
  /** Folder, Pulp app label and URL segment: `rpm`, `file`. */
  readonly name: string
  /** What Pulp calls it: in its list of versions, and its modules in task names. */
  readonly pulp: { version: string; package: string; module: string }
  /** The types of each kind of resource, the usual one first: `repositories/<name>/<type>/`. */
  readonly repositories: readonly RepositoryType[]
  readonly remotes: readonly ResourceType[]
  readonly distributions: readonly DistributionType[]
  /** The first segment of its base paths is a thing of its own, on which roles hold for all that lies below; see core/access/namespaces.ts. */
  readonly namespaces?: NamespaceType
  /** The kinds of content, in the order in which versions list them. */
  readonly contentTypes: readonly ContentType[]
  /** Checks a request body beyond its fields, throwing Failure invalid; `sync` sees its repository's settings. */
  check?(
    what: 'repository' | 'remote' | 'publication' | 'sync',
    values: Record<string, unknown>,
    repository?: RepositorySettings,
  ): void

  /**
   * Reads an upstream. Yields what is there; the core downloads, verifies, stores and makes the version.
   * `unchanged` is what the last `fingerprint` yielded, when nothing else changed since: yield the same again at once and return.
   * Throws Failure upstream or integrity.
   */
  discover?(upstream: Upstream, options: SyncOptions): AsyncGenerator<Discovered>

  /** As discover, for the one thing that clients ask for by this name or key; yields nothing when the upstream has none. */
  discoverOne?(upstream: Upstream, options: SyncOptions, reference: string): AsyncGenerator<Discovered>

  /** Reads one uploaded file and describes it as content. Throws Failure invalid when it is not what it should be. */
  inspect?(upload: Uploaded): Promise<Described[]>

  /** What becomes of content that the upstream does not have (any more), from the values of the sync's fields. `complete` also keeps its publication. */
  syncMode?(settings: Record<string, unknown>): 'additive' | 'mirror' | 'complete'
  /** How versions are published. Without it there are no publications: distributions serve versions. */
  readonly publications?: Publications
  /** Files that a distribution makes up itself (rpm: config.repo). Undefined: no such file. */
  distributionFile?(path: string, distribution: ServedDistribution): string | undefined
  /** Paths for which distributionFile may have an answer, for directory listings. */
  readonly distributionFiles?: readonly string[]
  /** Extra response headers of a served path. */
  headers?(path: string): Record<string, string> | undefined
  /** Leaves out what must not be in one version together (rpm: old package versions). Gets the candidates, returns those to drop. */
  prune?(candidates: AsyncIterable<Unit>, repository: RepositorySettings): Promise<number[]>
  /** The ids of what is older than other content of its kind among these (rpm: old package versions), for those who prune. */
  findSuperseded?(candidates: AsyncIterable<Unit>): Promise<number[]>
  /** The ids of what a copy takes along: the chosen units, what they are made of, and, if asked, what those need. Just the chosen ones by default. */
  unitsToCopy?(request: {
    chosen: readonly Unit[]
    source: VersionView
    destinations: readonly VersionView[]
    dependencySolving: boolean
  }): Promise<Set<number>>
  /** Content of one repository must not be had through another: an upstream shows that it has the bytes it names; see core/access/possession.ts. */
  readonly keepsApart?: boolean
  /** A version without publication can be served: as files (Pulp's file repositories), or by a protocol of its own that http/ has (the registry). */
  readonly servesVersions?: 'files' | 'protocol'
  /** Endpoints of its own, beyond the generic ones. */
  readonly actions?: readonly FormatAction[]
  /** Permissions and built-in roles that it has beyond those of its resources; see core/access/roles.ts. */
  readonly roles?: FormatRoles
}

/** A type of resource: its names in Pulp, its fields, and where its permissions and roles differ from the usual. */
export interface ResourceType {
  /** Second segment of its URLs, and what follows the format in the type column: `pull-through`. */
  readonly type: string
  /** What its class names begin with: `ContainerPullThrough` in `ContainerPullThroughRemote`. */
  readonly model: string
  /** Fields that users set beyond the base ones of its kind. */
  readonly fields: Fields
  /** What its owner may do beyond add, change, delete, manage_roles and view; `*` is its model. */
  readonly owner?: readonly string[]
  /** Roles beyond creator, owner and viewer, or other permissions for those; none takes one away. */
  readonly roles?: Readonly<Record<string, readonly string[]>>
}

export interface RepositoryType extends ResourceType {
  /** It is filled from remotes of its own type, by this task (with Pulp's name) and these fields of the request. */
  readonly sync?: { readonly task: string; readonly fields: Fields }
  /** What its `modify/` takes: any content. Absent where content hangs together: then there are actions. */
  readonly modify?: boolean
  readonly actions?: readonly RepositoryAction[]
  /** Pushes make it, and it goes with its distribution: it is neither made nor deleted by itself, and whoever has rights on that distribution has them on it. */
  readonly pushed?: boolean
  /** The permissions for what is done with it, where they are not called after it: `modify: 'modify_content_*'`. */
  readonly rights?: Readonly<Partial<Record<RepositoryRight, string>>>
}

export type RepositoryRight = 'modify' | 'sync' | 'repair' | 'delete_version' | 'build_image'

export interface DistributionType extends ResourceType {
  /** It is a place for others that are made below it when they are asked for, from this type of remote, instead of serving something itself. */
  readonly pullsThrough?: string
  /** Its paths may lie above and below those of others. Otherwise they may not: Pulp's clients would not know which is meant. */
  readonly nests?: boolean
  /** Fields of answers that are made of its path, and what they are. `host` is the server as the client sees it. */
  readonly shown?: Fields
  show?(distribution: { base_path: string }, host: string): Record<string, unknown>
  /** What a base path must be beyond a clean path. Throws Failure invalid. */
  checkPath?(path: string): void
}

export interface NamespaceType {
  /** Below the API's root: `pulp_container/namespaces`. */
  readonly path: string
  readonly model: string
  readonly owner: readonly string[]
  readonly roles: Readonly<Record<string, readonly string[]>>
}

/**
 * Something that a repository's content is changed by, at `<repository>/<name>/`. It says what comes and what goes; the core does that in
 * one transaction, in which it asks once more: the request is refused at once with what the format throws, or its task fails with it.
 */
export interface RepositoryAction {
  /** Last segment of its URL, and last part of its operation id: `copy_tags`. */
  readonly name: string
  readonly summary: string
  /** Component of its body in the document. */
  readonly schema: string
  readonly fields: Fields
  /** A field that names content: its hrefs, or `*` for all of it. */
  readonly units?: string
  /** Takes `source_repository` or `source_repository_version`, of these types. */
  readonly sources?: readonly string[]
  /** Pulp's name of the task. */
  readonly task: string
  readonly right: RepositoryRight
  /** What the document says instead of 202, where Pulp's is wrong. */
  readonly documented?: { status: number; schema: string; fields: Fields }
  plan(request: ActionRequest): Promise<ContentChange>
}

export interface ActionRequest {
  /** Hrefs as PRNs. */
  readonly fields: Readonly<Record<string, unknown>>
  /** What `units` names. */
  readonly units: '*' | readonly number[]
  /** The newest version of the repository, and the version that is copied from. */
  readonly target: ContentPlace
  readonly source: ContentPlace | undefined
  readonly repository: RepositorySettings
  /** The server as clients know it: `host:port`. */
  readonly host: string
  /** The base paths at which the repository is served. */
  paths(): Promise<string[]>
}

/** One version, to look for units in. */
export interface ContentPlace {
  /** As Pulp names it in messages: `<Repository: name; Version: 3>`. */
  readonly title: string
  /** Ids of what it holds of a type; only what has one of these names, keys, or values of a member of meta. */
  find(
    type: string,
    by?: { names?: readonly string[]; keys?: readonly string[]; meta?: Readonly<Record<string, readonly string[]>> },
  ): Promise<number[]>
  read(ids: readonly number[]): AsyncIterable<Unit>
}

/** What a signing service is to sign: once all of this is signed, the signatures come, each as far as what it is about is still there. */
export interface SigningRequest {
  /** PRN of the service. */
  readonly service: string
  /** The units, by the names under which they are signed, that have no signature yet by one of these keys. What is signed is a unit's entry. */
  unsigned(keyIds: ReadonlySet<string>): Promise<readonly { unit: Unit; reference: string }[]>
  /** A signature as content; undefined when the bytes are none. */
  describe(bytes: Uint8Array): Promise<Described | undefined>
}

/** What becomes of a repository. */
export interface ContentChange {
  /** Then it is all there is to do. */
  readonly sign?: SigningRequest
  /** Units that come, with all that belongs to them where they are: in `from`, or else wherever the caller may see them. */
  readonly add?: readonly number[]
  readonly from?: 'source' | 'target'
  /** Units that are made and come alone. */
  readonly put?: readonly Described[]
  /** Units that go, `*` for all of them. */
  readonly remove?: '*' | readonly number[]
  /** What they are made of goes with them unless something else needs it, and they stay as long as something else is made of them. */
  readonly deep?: boolean
}

export interface Publications {
  /** Pulp's name of the task. */
  readonly task: string
  /** Fields that users set beyond the base ones. */
  readonly fields: Fields
  /** Settings of a publication, from those of its repository and what the request names (`mirrored: true` for the upstream's own). The result is what "same settings" compares. */
  settings(repository: RepositorySettings, asked: Record<string, unknown>): Record<string, unknown>
  /** The one of these settings that may name a signing service: what `render` says is signed is signed with it. */
  readonly signingService?: string
  /** Writes the metadata of a version. Each yield gets back what was stored, for each file: `const [{ size, digests }] = yield file`. */
  render(version: VersionView, settings: Record<string, unknown>): AsyncGenerator<Rendered, void, readonly Stored[]>
  /** Where a publication with this layout serves a file of content; its own path by default (`verbatim`). */
  placed?(file: { type: string; path: string; name: string }, layout: string): string
}

export interface FormatRoles {
  /** Models of remotes beyond those that it has here, lower-cased: `ulnremote`. */
  readonly remotes?: readonly string[]
  /** Whether there are `<format>.admin` and `<format>.viewer`, over all its models. */
  readonly overall?: boolean
}

export interface ContentType {
  /** `package`: with the format's name the content type, `rpm.package`; also its model in Pulp, lower-cased. */
  readonly name: string
  /** `Package`: Pulp's model; in schemas `rpm.Package`, in placeholders `{rpm_package_href}`. */
  readonly model: string
  /** `packages`: `content/rpm/packages/`. */
  readonly path: string
  /** Fields of the response beyond the base ones; all read-only. Absent `files` adds artifact and the digests. */
  readonly fields: Fields
  /** How many files such content brings: Pulp shows `artifact` for one, `artifacts` for many, neither for none. */
  readonly files: 'one' | 'many' | 'none'
  /** Whether answers show the digests of the one file; they do by default. */
  readonly showsDigests?: boolean
  /** Fields that name other content, by its type and by its keys in a member of meta: answers have its hrefs. */
  readonly links?: Readonly<Record<string, { type: string; member: string; many?: boolean }>>
  /** Members of `meta` that can be filtered by; `as` names another member than the filter's own name. `index` those that pick few units out of many; `enum` what `exact` takes. */
  readonly filters: Readonly<
    Record<
      string,
      {
        type?: 'text' | 'number' | 'boolean'
        as?: string
        index?: boolean
        enum?: readonly string[]
        /** `exact` takes several values, of which one must fit: repeated, or joined by commas. */
        several?: 'repeated' | 'joined'
        /** It is a member of what this link names, not of the unit itself. */
        through?: string
        lookups: readonly Lookup[]
      }
    >
  >
  /** Fields of meta that `ordering` takes beyond the base ones (with Pulp's names). */
  readonly ordering: readonly string[]
  /** What Pulp orders by, too, and nobody needs: taken without effect. */
  readonly ignoredOrdering?: readonly string[]
  /** Shapes the response from meta and, when a field that is `wanted` needs it, the entry (the packed rest). */
  view(unit: Unit, wanted: (field: string) => boolean): Record<string, unknown> | Promise<Record<string, unknown>>
  /** Fields for which `view` reads `unit.entry()`: it is unpacked only when one of them is asked for. */
  readonly heavy?: readonly string[]
  /** What a unit is made of (a module's packages), by type and slots: answers name it in `field`, and it leaves a repository with the unit. */
  readonly members?: { field: string; type: string; slots(unit: Unit): Promise<readonly string[]> }
  /** A field whose members are files of the content, by their `path`: answers show the artifact of each. */
  readonly artifactsIn?: string
  /**
   * Which of two units of one slot a version holds: the one that it had before (or that came first), the added one, or one made of both.
   * The added one by default. Throws Failure conflict when they do not belong together.
   */
  settle?(before: Unit, added: Unit): Promise<'before' | 'added' | Described>
  /** How users make one: from a file, from JSON fields, or not at all. Extra request fields beside the base ones. */
  readonly create?: { from: 'file' | 'json'; fields: Fields; required?: readonly string[] }
}

/** `exact` filters by equality; the others are Pulp's suffixes. */
export type Lookup =
  | 'exact'
  | 'in'
  | 'ne'
  | 'contains'
  | 'icontains'
  | 'iexact'
  | 'startswith'
  | 'istartswith'
  | 'regex'
  | 'iregex'
  | 'lt'
  | 'lte'
  | 'gt'
  | 'gte'
  | 'range'

export type Fields = Readonly<Record<string, Field>>

/** One field, in JSON Schema's words. Requests are checked against it (with Django REST framework's messages), documents are made of it. */
export interface Field {
  type: 'string' | 'integer' | 'number' | 'boolean' | 'object' | 'array' | 'any' | 'href'
  description?: string
  required?: boolean
  nullable?: boolean
  readOnly?: boolean
  writeOnly?: boolean
  default?: unknown
  enum?: readonly string[]
  format?: 'uri' | 'email' | 'uuid' | 'date-time' | 'binary' | 'double' | 'int64'
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  items?: Field
  /** Members of an `object`, where they are fixed. */
  properties?: Fields
  pattern?: string
  /** What is said of a text that does not fit the pattern. */
  patternProblem?: string
  /** For `href`: the kinds of resource it may name, as in `remote` or `remote:rpm.rpm`. */
  to?: string
  /** A string that is never shown again: stored among the secrets, listed in hidden_fields. */
  secret?: boolean
  /** An empty string is refused unless this is set. */
  allowBlank?: boolean
}

export interface RepositorySettings {
  name: string
  settings: Record<string, unknown>
}

export interface SyncOptions {
  /** Values of the fields of its repository type's `sync`, with defaults filled in. */
  settings: Record<string, unknown>
  repository: RepositorySettings
  /** Values of the fields of its remote type. */
  remote: Record<string, unknown>
  policy: 'immediate' | 'on_demand' | 'streamed'
  access: Access
  /** What the last sync yielded as `fingerprint`, if the upstream may be skipped when it is still the same (optimize). */
  unchanged: string | undefined
  allowedChecksums: readonly string[]
  /**
   * The variants in which the repository holds this content: what is the same need not be given its bulky entry again. Undefined for
   * what it does not hold, though another one may: what was said of it there is not to be believed here. In the order of `keys`.
   */
  known(type: string, keys: readonly string[]): Promise<(string | undefined)[]>
  /**
   * What the repository holds of these units, in the order of `keys`, with what it holds that says something about each: for formats whose
   * keys are digests, where what is here needs not be read again.
   */
  held(
    type: string,
    keys: readonly string[],
  ): Promise<({ meta: Record<string, any>; about: readonly { type: string; key: string }[] } | undefined)[]>
  /** The bytes of a small file that the repository holds, or that an interrupted sync of it has read; undefined when it has none. */
  recall(type: string, key: string): Promise<Buffer | undefined>
  /** Whether it is known, too, where this upstream has it: then such content may be yielded as `kept` instead of describing it again. */
  settled: boolean
  /** Stages a file that the format writes itself, to be yielded as `verbatim`. */
  stage(bytes: Uint8Array): Promise<Staged>
  progress: Progress
  signal: AbortSignal
}

/** What `discover` yields. A batch is better than its items one by one when there are many. */
export type Discovered =
  | { kind: 'content'; batch: readonly Described[] }
  /** What the repository holds already and the upstream still has, by key: it needs no description. */
  | { kind: 'kept'; type: string; keys: readonly string[] }
  /** Places that have the same files, before any content: what one of them fails to give is downloaded from the next. */
  | { kind: 'mirrors'; bases: readonly URL[] }
  /** Identifies the state of the upstream: when the next sync sees the same, there is nothing to do. */
  | { kind: 'fingerprint'; value: string; unchanged: boolean }
  /** A file of the upstream's own publication, kept as it is (mirror_complete). It is the core's to dispose of. */
  | { kind: 'verbatim'; path: string; staged: Staged }
  /** A further path of a content's file in the upstream's own publication, where it lies at several. Content yielded before. */
  | { kind: 'verbatim-path'; type: string; key: string; path: string }

/** One unit of content, as a format describes it. */
export interface Described {
  type: string
  key: string
  /** See ContentTable.variant and slot; '' and the key by default. */
  variant?: string
  slot?: string
  /** See ContentTable.name. */
  name?: string
  /** Other content that it names; `about` when it only says something of it, instead of being made of it. */
  refers?: readonly { type: string; key: string; about?: boolean }[]
  meta: Record<string, unknown>
  /** The bulky rest, packed by the core; undefined when there is none or `known` said that it is stored. */
  entry?: Uint8Array
  /** The same where it is packed already. */
  packed?: PackedText
  files: readonly DescribedFile[]
}

export interface DescribedFile {
  path: string
  size?: number
  /** `<algorithm>:<hex>`. */
  checksum?: string
  /** Where the bytes are: already here, or upstream (mirrors of one file; the first is stored for on-demand). */
  staged?: Staged
  sha256?: string
  urls?: readonly URL[]
}

/** An uploaded file, or the JSON fields of a content without one. */
export interface Uploaded {
  type: string
  fields: Record<string, unknown>
  file?: { size: number; digests: Digests; open(): Promise<Readable> }
}

/** Content as the store has it. */
export interface Unit {
  id: number
  uuid: string
  type: string
  key: string
  slot: string
  meta: Record<string, any>
  /** The bulky rest, unpacked; empty when there is none. */
  entry(): Promise<Buffer>
  files: readonly { id: number; path: string; size: number | null; checksum: string | null; sha256: string | null }[]
}

/** A unit with no more than what names it. */
export interface ListedUnit {
  id: number
  key: string
  slot: string
  files: readonly { path: string; sha256: string | null }[]
}

/** A version, for rendering: the same order each time. */
export interface VersionView {
  repository: RepositorySettings
  number: number
  created: number
  /** How many units of each type. */
  counts: Readonly<Record<string, number>>
  /** Units of one type, by slot. */
  units(type: string): AsyncIterable<Unit>
  /** Opens a stored file of a unit (comps, modules and other small things). Throws when its bytes are not here. */
  open(sha256: string): Promise<Readable>
}

/** One metadata file, or those that list all units of a type. */
export type Rendered = (MetadataFile & { body: AsyncIterable<Uint8Array>; signed?: SignedAt }) | Listing

/**
 * Files that list all units of a type by slot (rpm: primary, filelists, other). They are written in step, so that entries are read once, and
 * in pieces: the next publication copies those whose units are the same; see core/listing.
 */
export interface Listing {
  type: string
  files: readonly MetadataFile[]
  /** What each of the files begins and ends with. */
  head: readonly Uint8Array[]
  tail: readonly Uint8Array[]
  /** What the text depends on beside the units: nothing is copied from a listing of another form. */
  form: string
  /** What `write` has to know of a unit beside its entry; `settled` if that is the same whenever this unit is listed. */
  about(unit: ListedUnit): { facts: Facts; settled: boolean }
  write: WriteUnits
  /** The module that serves `write` in a thread of its own, for large listings; see serveListing. */
  thread: URL
}

export type Facts = Readonly<Record<string, string>>

/** The text of some units in each of the files. Equal units give equal text. */
export type WriteUnits = (units: readonly { facts: Facts; entry: Buffer }[]) => readonly Uint8Array[]

/** Where clients look for the signature of a file, and for the public key. */
export interface SignedAt {
  signature: string
  publicKey: string
}

export interface MetadataFile {
  /** A function of the digests where the name holds the checksum. */
  path: string | ((stored: Stored) => string)
  /** Of the bytes as served; `none` for a body that is already what it should be. */
  compression: 'gz' | 'zstd' | 'none'
  digests?: readonly (keyof Digests)[]
}

export interface Stored {
  size: number
  digests: Digests
  /** Bytes before compression. */
  openSize: number
}

export interface ServedDistribution {
  name: string
  /** Absolute URL of its root, with a slash at the end. */
  url: string
  settings: Record<string, unknown>
  repository: RepositorySettings | undefined
  publicationSettings: Record<string, unknown> | undefined
}

/** Tells users how far a task is. Codes are Pulp's (`sync.downloading.artifacts`); writes are gathered, so call as often as you like. */
export interface Progress {
  report(
    code: string,
    message: string,
    change: { total?: number | null; done?: number; add?: number; suffix?: string; finished?: boolean },
  ): void
}

/** An endpoint of one format: `POST <path>` starts a task that runs `run` of core verbs. */
export interface FormatAction {
  /** `rpm/copy`. */
  path: string
  operationId: string
  summary: string
  schema: string
  fields: Fields
  /** Unknown fields are let pass. */
  lenient?: boolean
  task: string
  /** What a task group is called that the answer names instead of the task, whose work closes it. */
  group?: string
  /** Which repositories it changes and which it reads, as hrefs or PRNs out of the body. */
  resources(body: Record<string, unknown>): { exclusive: string[]; shared: string[] }
  /** Other words that no two tasks may hold at once. */
  locks?: readonly string[]
  /** Kind of work in core/work.ts that does it. */
  kind: string
  /** Arguments of that work beyond what it takes out of the body. */
  args?(body: Record<string, unknown>): Record<string, unknown>
}
