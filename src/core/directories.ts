import type { Micros } from '../lib/time.ts'
import type { Ctx } from './ctx.ts'
import type { Target } from './served.ts'

/** The entries of one directory, by name; those of directories end in a slash. */
export type Directory = readonly Entry[]

export interface Entry {
  name: string
  /** Undefined for a directory, and for a file whose size nobody told. */
  size: number | undefined
  modified: Micros | undefined
}

interface Found {
  path: string
  size: number | null
  /** The version that brought it; null for what the publication itself has. */
  addedIn: number | null
}

const page = 1000
/** How many names are remembered over all publications. */
const mostDirectories = 300_000
const mostEntries = 100_000

/**
 * Which directories publications have, and what is in them. Nothing in the database knows that, as layouts are the formats' own,
 * so it takes a look at every file: in pages, for one publication at a time, and never twice in a row for the same.
 */
export function openDirectories(ctx: Ctx) {
  const known = openShelf<ReadonlySet<string>>(mostDirectories, (set) => set.size)
  const lists = openShelf<Directory>(mostEntries, (list) => list.length)
  let last: Promise<unknown> = Promise.resolve()

  /** One after the other: a crowd asking for many directories must not keep the database from everybody else. */
  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = last.then(act)
    last = turn.catch(() => {})
    return turn
  }

  return {
    /** `path` is '' or ends in a slash. */
    async has(target: Target, path: string): Promise<boolean> {
      const set = await known.get(nameOf(target), () => inTurn(() => findDirectories(ctx, target)))
      return set.has(path)
    },
    async list(target: Target, path: string, alsoThere: readonly string[]): Promise<Directory> {
      const name = `${nameOf(target)} ${path}`
      const entries = await lists.get(name, () => inTurn(() => listDirectory(ctx, target, path)))
      if (alsoThere.length === 0) return entries
      const made = alsoThere.map((each) => ({ name: each, size: undefined, modified: undefined }))
      return [...entries, ...made].sort(byName)
    },
  }
}

function nameOf({ publication, version }: Target): string {
  return publication ? `publication ${publication.id}` : `version ${version.id}`
}

async function findDirectories(ctx: Ctx, target: Target): Promise<ReadonlySet<string>> {
  const directories = new Set<string>()
  for await (const { path } of filesOf(ctx, target)) {
    // Parents are there once a child is.
    for (let end = path.lastIndexOf('/') + 1; end > 0; end = path.lastIndexOf('/', end - 2) + 1) {
      const directory = path.slice(0, end)
      if (directories.has(directory)) break
      directories.add(directory)
    }
    directories.add('')
  }
  return directories
}

async function listDirectory(ctx: Ctx, target: Target, path: string): Promise<Directory> {
  const found = new Map<string, Found | undefined>()
  for await (const file of filesOf(ctx, target)) {
    if (!file.path.startsWith(path)) continue
    const slash = file.path.indexOf('/', path.length)
    const name = file.path.slice(path.length, slash < 0 ? undefined : slash + 1)
    if (slash >= 0) found.set(name, undefined)
    else if (!found.has(name)) found.set(name, file)
  }
  const dates = await versionDates(ctx, target)
  return [...found]
    .map(([name, file]) => ({
      name,
      size: file?.size ?? undefined,
      modified: file && (file.addedIn === null ? target.publication?.created : dates.get(file.addedIn)),
    }))
    .sort(byName)
}

function byName(a: Entry, b: Entry): number {
  return a.name < b.name ? -1 : 1
}

async function versionDates({ db }: Ctx, { version }: Target): Promise<Map<number, Micros>> {
  const rows = await db
    .selectFrom('version')
    .select(['number', 'created'])
    .where('repository_id', '=', version.repository_id)
    .execute()
  return new Map(rows.map(({ number, created }) => [number, created]))
}

/** Every file that a target serves, with the path it has there. Reads in pages, so that others get at the database in between. */
async function* filesOf(ctx: Ctx, target: Target): AsyncGenerator<Found> {
  if (target.publication) yield* publishedFiles(ctx, target.publication.id)
  yield* contentFiles(ctx, target)
}

async function* publishedFiles({ db }: Ctx, publicationId: number): AsyncGenerator<Found> {
  const query = db
    .selectFrom('published_file')
    .leftJoin('file', 'file.id', 'published_file.file_id')
    .leftJoin('blob', 'blob.id', 'published_file.blob_id')
    .select(({ fn }) => ['published_file.path', fn.coalesce('blob.size', 'file.size').as('size')])
    .where('published_file.publication_id', '=', publicationId)
    .orderBy('published_file.path')
    .limit(page)
  for (let last: string | undefined; ; ) {
    const rows = await (last === undefined ? query : query.where('published_file.path', '>', last)).execute()
    for (const { path, size } of rows) yield { path, size, addedIn: null }
    if (rows.length < page) return
    last = rows.at(-1)!.path
    await breath()
  }
}

async function* contentFiles({ db }: Ctx, { format, version, publication }: Target): AsyncGenerator<Found> {
  const layout = publication?.layout ?? 'verbatim'
  const placed = layout === 'verbatim' ? undefined : format.publishedPath
  for (let last = -1; ; ) {
    const members = await db
      .selectFrom('membership')
      .select('content_id')
      .where('repository_id', '=', version.repository_id)
      .where('content_id', '>', last)
      .where('added_in', '<=', version.number)
      .where((row) => row.or([row('removed_in', 'is', null), row('removed_in', '>', version.number)]))
      .orderBy('content_id')
      .limit(page)
      .execute()
    if (members.length > 0) {
      const from = members[0]!.content_id
      last = members.at(-1)!.content_id
      const rows = await db
        .selectFrom('membership')
        .innerJoin('file', 'file.content_id', 'membership.content_id')
        .leftJoin('blob', 'blob.id', 'file.blob_id')
        .select(({ fn }) => ['file.path', 'file.name', 'membership.added_in', fn.coalesce('blob.size', 'file.size').as('size')])
        .where('membership.repository_id', '=', version.repository_id)
        .where('membership.content_id', '>=', from)
        .where('membership.content_id', '<=', last)
        .where('membership.added_in', '<=', version.number)
        .where((row) => row.or([row('membership.removed_in', 'is', null), row('membership.removed_in', '>', version.number)]))
        .execute()
      for (const file of rows) yield { path: placed ? placed(file, layout) : file.path, size: file.size, addedIn: file.added_in }
    }
    if (members.length < page) return
    await breath()
  }
}

/** Lets requests that wait be answered. */
function breath(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Remembers what was used last, up to a weight in all; who asks for what is being made waits for that. */
function openShelf<T>(most: number, weigh: (value: T) => number) {
  const shelf = new Map<string, { value: Promise<T>; weight: number }>()
  let weight = 0

  function drop(name: string): void {
    weight -= shelf.get(name)?.weight ?? 0
    shelf.delete(name)
  }
  return {
    get(name: string, make: () => Promise<T>): Promise<T> {
      const there = shelf.get(name)
      if (there) {
        shelf.delete(name)
        shelf.set(name, there)
        return there.value
      }
      const fresh = { value: make(), weight: 1 }
      shelf.set(name, fresh)
      weight += fresh.weight
      fresh.value.then(
        (value) => {
          if (shelf.get(name) !== fresh) return
          weight += weigh(value)
          fresh.weight += weigh(value)
          for (const oldest of shelf.keys()) {
            if (weight <= most) break
            drop(oldest)
          }
        },
        () => shelf.get(name) === fresh && drop(name),
      )
      return fresh.value
    },
  }
}
