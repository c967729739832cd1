import type { Unbuildable } from './kolla.ts'

/*
 * A train as plain data: what train.yaml declares, checked, with every default filled in.
 */

export interface Train {
  readonly name: string
  /** The path of train.yaml, as the user wrote it; pins lie in `pins/` beside it. */
  readonly file: string
  readonly server: string | undefined
  /** In order: snapshots begin at the first, the last is what clients install from. Each is a guard of this name. */
  readonly stages: readonly string[]
  /** Which stages each group of users may read. */
  readonly groups: ReadonlyMap<string, readonly string[]>
  readonly repositories: readonly TrainRepository[]
  readonly images: TrainImages | undefined
  readonly lines: readonly Line[]
}

export interface TrainRepository {
  /** Its key in train.yaml and its name on the server. */
  readonly name: string
  readonly format: FormatName
  readonly url: string
  /** Snapshots are served at `<path>/<stamp>`. */
  readonly path: string
  /** Snapshots are called `<distributionName><stamp>`. */
  readonly distributionName: string
  /** For filters: `group:<name>`. */
  readonly group: string | undefined
  /** Fields of the remote, in Pulp's words. */
  readonly remote: Readonly<Record<string, unknown>>
  /** Fields of the remote whose values are kept outside train.yaml, and those the server never shows. */
  readonly outside: Readonly<Record<string, Outside>>
  /** Fields of the repository. */
  readonly repository: Readonly<Record<string, unknown>>
  /** Body of its sync. */
  readonly sync: Readonly<Record<string, unknown>>
}

/** A value that is not in train.yaml: in an environment variable, or in a file (relative to train.yaml). */
export type Outside = { readonly env: string } | { readonly file: string } | { readonly value: string }

/** Images: each is at `<namespace>/<name>` in the namespace of every stage that has one. */
export interface TrainImages {
  /** Those that the site builds and pushes to the namespace of the first stage. */
  readonly names: readonly string[]
  readonly mirrored: readonly MirroredImage[]
  /** By stage; the first and the last stage have one. */
  readonly namespaces: ReadonlyMap<string, string>
  /** Groups of users that may push to the namespace of the first stage. */
  readonly builders: readonly string[]
  /** Whether a credential is needed to pull what is released. What is not released always needs one. */
  readonly private: boolean
  /** Where tags come from keys instead of from images, how. */
  readonly map: 'kolla' | undefined
  /** Base distributions that tags are for, with a map. */
  readonly distributions: readonly string[]
  readonly unbuildable: Unbuildable
}

/** An image that comes from another registry. */
export interface MirroredImage {
  readonly name: string
  /** Tags or globs of them; the first is the one that is pinned. All when empty. */
  readonly tags: readonly string[]
  /** Its repository in the namespace of the first stage. */
  readonly repository: TrainRepository
}

export interface Line {
  readonly name: string
  /** In the order of train.yaml. */
  readonly repositories: readonly string[]
  /** Images that are pinned one by one. */
  readonly images: readonly string[]
  /** Base distributions whose images are released with the line, with a map. */
  readonly distributions: readonly string[]
}

export type FormatName = 'rpm' | 'file' | 'container'

/** Where the Pulp API has the resources of a format: `repositories/<path>`, `remotes/<path>`, ... */
export const apiPaths: Readonly<Record<FormatName, string>> = {
  rpm: 'rpm/rpm/',
  file: 'file/file/',
  container: 'container/container/',
}

/** Everything with an upstream: repositories, then mirrored images. */
export function syncedRepositories(train: Pick<Train, 'repositories' | 'images'>): TrainRepository[] {
  return [...train.repositories, ...(train.images?.mirrored ?? []).map(({ repository }) => repository)]
}

export function remoteName(repository: TrainRepository): string {
  return `${repository.name}-remote`
}

/** Where snapshots begin. */
export function firstStage(train: Train): string {
  return train.stages[0]!
}

export function lastStage(train: Train): string {
  return train.stages.at(-1)!
}
