import type { Logger } from 'pino'
import type { BlobStore } from '../store/blobs.ts'
import type { Db } from '../store/database.ts'
import type { Fetcher } from './fetch/fetch.ts'
import type { Format } from './format.ts'
import type { Work } from './tasks/tasks.ts'

/** What the verbs need to act: opened once by whoever starts a process or thread, and disposed by it. */
export interface Ctx {
  readonly db: Db
  readonly blobs: BlobStore
  readonly formats: readonly Format[]
  readonly fetch: Fetcher
  readonly log: Logger
  /** Settings of the installation. */
  readonly config: Config
  /** Rises whenever what is served, or to whom, may have changed: whoever remembers an answer compares it. */
  readonly changes: Changes
  /** Who does tasks; absent where nobody does (they wait in the database then). */
  readonly tasks?: TaskRunner
}

export interface Config {
  /** Where uploads and other working files lie. */
  dataDirectory: string
  /** Origin of content URLs, as clients see it; undefined: that of the request. */
  origin: string | undefined
  /** Checksum types that may be used for content (Pulp: ALLOWED_CONTENT_CHECKSUMS). */
  allowedChecksums: readonly string[]
}

export interface Changes {
  /** The present count. Cheap: called for every request. */
  current(): number
  /** Call after committing a change to distributions, publications, versions, guards, users, groups or roles. */
  bump(): void
}

export interface TaskRunner {
  /** What tasks may do, by kind: core/work.ts. */
  readonly works: Readonly<Record<string, Work>>
  /** There may be something to do or to cancel: look soon. Cheap, and never waits. */
  wake(): void
  /** Told of every task that ends, for those who count. */
  ended?(end: TaskEnd): void
}

export interface TaskEnd {
  name: string
  state: string
  /** From its start to its end. */
  seconds: number
}

/** The format called so. A wrong name here is a bug: what users name is checked where it comes in. */
export function formatNamed(ctx: Pick<Ctx, 'formats'>, name: string): Format {
  const format = ctx.formats.find((each) => each.name === name)
  if (!format) throw new Error(`no format ${name}`)
  return format
}
