import type { Remote, Repository } from '../api/resources.ts'
import {
  builderGroups,
  findImageDrift,
  imageRepositoryNames,
  type NamespaceGroups,
  type NamespaceRole,
  planImageServing,
  planNamespaces,
} from './plan-images.ts'
import type { ServedImages } from './served-images.ts'
import { remoteName, syncedRepositories, type FormatName, type Train, type TrainRepository } from './train.ts'

/** What the server has of what a train declares; see read-server.ts. */
export interface ServerState {
  readonly groups: ReadonlySet<string>
  /** Guards by name, with the groups that may download what is behind each. */
  readonly guards: ReadonlyMap<string, { href: string; readers: readonly string[] }>
  readonly remotes: ReadonlyMap<string, Remote>
  readonly repositories: ReadonlyMap<string, Repository>
  /** Repositories on the server that carry this train's label, by `<format> <name>`. */
  readonly labelled: readonly { format: FormatName; name: string }[]
  /** Names of snapshots that anyone may read. */
  readonly unguarded: readonly string[]
  /** Namespaces of images by name, with the groups that hold a role on each; only those that the train names. */
  readonly namespaces: ReadonlyMap<string, NamespaceGroups & { href: string }>
  readonly images: ServedImages
}

export interface Change {
  readonly field: string
  /** For people; never the value of a secret. */
  readonly from: string
  readonly to: string
}

interface Base {
  readonly name: string
}
export type Step =
  | (Base & { readonly act: 'add'; readonly what: 'group' | 'guard' | 'namespace' })
  /** A distribution of an image, and its repository when that is not there either. */
  | (Base & {
      readonly act: 'add'
      readonly what: 'image'
      readonly private: boolean
      readonly labels: Readonly<Record<string, string>>
    })
  | (Base & {
      readonly act: 'change'
      readonly what: 'image'
      readonly href: string
      readonly changes: readonly Change[]
      readonly body: Record<string, unknown>
    })
  | (Base & {
      readonly act: 'add'
      readonly what: 'remote' | 'repository'
      readonly format: FormatName
      readonly body: Record<string, unknown>
      readonly remote?: string
    })
  | (Base & {
      readonly act: 'change'
      readonly what: 'remote' | 'repository'
      readonly format: FormatName
      readonly href: string
      readonly changes: readonly Change[]
      readonly body: Record<string, unknown>
      readonly remote?: string
    })
  /** Lets a group read what is behind a guard, or no longer. */
  | (Base & { readonly act: 'grant' | 'revoke'; readonly what: 'guard'; readonly group: string })
  | (Base & {
      readonly act: 'grant' | 'revoke'
      readonly what: 'namespace'
      readonly group: string
      readonly role: NamespaceRole
    })

export interface Plan {
  readonly steps: readonly Step[]
  /** What the server has that the train does not declare, and that is left alone. */
  readonly drift: readonly string[]
}

/** Repositories and remotes carry the train's name, so that those no longer declared can be found. */
export const trainLabel = 'train'

/** A value of `outside`, read; see outside.ts. By repository, then field. */
export type OutsideValues = ReadonlyMap<string, Readonly<Record<string, string>>>

/**
 * What must be done for the server to match the train. Pure, so that --dry-run shows exactly what will happen.
 * Passwords cannot be read back: one that is set counts as right, unless `rewriteSecrets` asks to send them all again.
 */
export function planApply(train: Train, server: ServerState, outside: OutsideValues, rewriteSecrets = false): Plan {
  return {
    steps: [
      ...planAccess(train, server),
      ...planNamespaces(train, server),
      ...syncedRepositories(train).flatMap((repository) => [
        ...planRemote(train, repository, server, outside.get(repository.name) ?? {}, rewriteSecrets),
        ...planRepository(train, repository, server),
      ]),
      ...planImageServing(train, server, labels(train).pulp_labels),
    ],
    drift: findDrift(train, server),
  }
}

function planAccess(train: Train, server: ServerState): Step[] {
  const groups = [...train.groups.keys(), ...builderGroups(train)].filter((name) => !server.groups.has(name))
  const steps: Step[] = groups.map((name) => ({ act: 'add', what: 'group', name }))
  for (const stage of train.stages) {
    const guard = server.guards.get(stage)
    if (!guard) steps.push({ act: 'add', what: 'guard', name: stage })
    const declared = [...train.groups].flatMap(([group, stages]) => (stages.includes(stage) ? group : []))
    const readers = guard?.readers ?? []
    for (const group of declared) if (!readers.includes(group)) steps.push({ act: 'grant', what: 'guard', name: stage, group })
    for (const group of readers) if (!declared.includes(group)) steps.push({ act: 'revoke', what: 'guard', name: stage, group })
  }
  return steps
}

export function keyOf({ format, name }: { format: FormatName; name: string }): string {
  return `${format} ${name}`
}

const hiddenFields = ['username', 'password', 'proxy_username', 'proxy_password', 'client_key']
const shownFields = ['ca_cert', 'client_cert']

function planRemote(
  train: Train,
  repository: TrainRepository,
  server: ServerState,
  outside: Readonly<Record<string, string>>,
  rewrite: boolean,
): Step[] {
  const name = remoteName(repository)
  const { format } = repository
  const present = server.remotes.get(keyOf({ format, name }))
  const wanted: Record<string, unknown> = { url: repository.url, ...repository.remote }
  if (!present)
    return [{ act: 'add', what: 'remote', name, format, body: { name, ...given({ ...wanted, ...outside }), ...labels(train) } }]

  for (const field of shownFields) wanted[field] = outside[field] ?? null
  const changes = changesOf(present, wanted)
  const body = Object.fromEntries(changes.map(({ field }) => [field, wanted[field]]))
  for (const { field, change, value } of hiddenChanges(present, outside, rewrite)) {
    changes.push(change)
    body[field] = value
  }
  return changed('remote', train, present, { name, format, changes, body })
}

/** Of values that the server never shows, only whether there is one can be compared. */
function hiddenChanges(present: Remote, outside: Readonly<Record<string, string>>, rewrite: boolean) {
  return hiddenFields.flatMap((field) => {
    const isSet = present.hidden_fields.find(({ name }) => name === field)?.is_set ?? false
    const value = outside[field] ?? null
    if (value === null ? !isSet : isSet && !rewrite) return []
    const change: Change = { field, from: isSet ? '(set)' : '(none)', to: value === null ? '(none)' : '(set)' }
    return [{ field, change, value }]
  })
}

/** What is worth saying when something is made: the server fills in the rest. */
function given(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null))
}

function labels(train: Train) {
  return { pulp_labels: { [trainLabel]: train.name } }
}

function planRepository(train: Train, repository: TrainRepository, server: ServerState): Step[] {
  const { name, format } = repository
  const present = server.repositories.get(keyOf(repository))
  const remote = remoteName(repository)
  if (!present)
    return [
      { act: 'add', what: 'repository', name, format, remote, body: { name, ...given(repository.repository), ...labels(train) } },
    ]
  const changes = changesOf(present, repository.repository)
  const body = Object.fromEntries(changes.map(({ field }) => [field, repository.repository[field]]))
  const itsRemote = server.remotes.get(keyOf({ format, name: remote }))
  const linked = itsRemote !== undefined && present.remote === itsRemote.pulp_href
  if (!linked) changes.push({ field: 'remote', from: shown(present.remote), to: remote })
  return changed('repository', train, present, { name, format, changes, body, ...(linked ? {} : { remote }) })
}

interface Changed {
  name: string
  format: FormatName
  changes: Change[]
  body: Record<string, unknown>
  remote?: string
}

function changed(what: 'remote' | 'repository', train: Train, present: Remote | Repository, step: Changed): Step[] {
  const label = present.pulp_labels[trainLabel]
  if (label !== train.name) {
    step.changes.push({ field: `label ${trainLabel}`, from: shown(label ?? null), to: train.name })
    step.body['pulp_labels'] = { ...present.pulp_labels, [trainLabel]: train.name }
  }
  return step.changes.length === 0 ? [] : [{ act: 'change', what, href: present.pulp_href, ...step }]
}

/** Fields that differ. One that the server does not show at all is only told to it when it has a value worth telling. */
function changesOf(present: Readonly<Record<string, unknown>>, wanted: Readonly<Record<string, unknown>>): Change[] {
  return Object.entries(wanted).flatMap(([field, to]) => {
    const from = present[field] ?? null
    return same(from, to) ? [] : [{ field, from: shown(from), to: shown(to) }]
  })
}

function same(a: unknown, b: unknown): boolean {
  if (typeof a === 'string' && typeof b === 'string') return a.trim() === b.trim()
  return JSON.stringify(a) === JSON.stringify(b)
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return '(none)'
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text.includes('\n') ? `(${text.length} characters)` : text
}

function findDrift(train: Train, server: ServerState): string[] {
  const ofImages = imageRepositoryNames(train.images, train.stages).map((name) => ({ format: 'container' as const, name }))
  const declared = new Set([...train.repositories, ...ofImages].map(keyOf))
  const gone = server.labelled.filter((each) => !declared.has(keyOf(each)))
  return [
    ...gone.map(
      ({ format, name }) =>
        `${format} repository ${name} is no longer in ${train.file}; it and ${format === 'container' ? 'its tags' : 'its snapshots'} are kept.`,
    ),
    ...server.unguarded.map(
      (name) => `${name} has no guard: anyone can read it. "signalbox promote" or a hand must give it one.`,
    ),
    ...findImageDrift(train, server),
  ]
}
