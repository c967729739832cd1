import type { Micros } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import type { Format } from '../format.ts'

/** What a distribution points at: the same until something it depends on changes. */
export interface Target {
  format: Format
  repository: Row<'repository'>
  version: Row<'version'>
  publication: Row<'publication'> | undefined
}

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
      const set = await known.get(nameOf(target), () => inTurn(async () => (await look(ctx, target)).directories))
      return set.has(path)
    },
    /** What is in a directory; undefined when there is no such directory. */
    async list(target: Target, path: string): Promise<Directory | undefined> {
      const name = nameOf(target)
      const set = await known.find(name)
      if (set && !set.has(path)) return undefined
      const list = await lists.get(`${name} ${path}`, () =>
        inTurn(async () => {
          const { directories, entries } = await look(ctx, target, path)
          // It saw them all: whoever asks for another one need not wait again.
          if (!set) await known.get(name, async () => directories)
          return entries
        }),
      )
      return list.length > 0 ? list : undefined
    },
  }
}

function nameOf({ publication, version }: Target): string {
  return publication ? `publication ${publication.id}` : `version ${version.id}`
}

/** Finds all directories, and what is in one of them. */
async function look(ctx: Ctx, target: Target, path?: string): Promise<{ directories: ReadonlySet<string>; entries: Directory }> {
  const directories = new Set<string>()
  const found = new Map<string, Found | undefined>()
  for await (const files of filesOf(ctx, target)) {
    for (const file of files) {
      addParents(directories, file.path)
      if (path === undefined || !file.path.startsWith(path)) continue
      const slash = file.path.indexOf('/', path.length)
      if (slash >= 0) found.set(file.path.slice(path.length, slash + 1), undefined)
      else if (!found.has(file.path.slice(path.length))) found.set(file.path.slice(path.length), file)
    }
    await breath()
  }
  if (found.size === 0) return { directories, entries: [] }
  const dates = await versionDates(ctx, target)
  const entries = [...found].map(([name, file]) => ({
    name,
    size: file?.size ?? undefined,
    modified: file && (file.addedIn === null ? target.publication?.created : dates.get(file.addedIn)),
  }))
  return { directories, entries: entries.sort(byName) }
}

function addParents(directories: Set<string>, path: string): void {
  directories.add('')
  // Parents are there once a child is.
  for (let end = path.lastIndexOf('/') + 1; end > 0; end = path.lastIndexOf('/', end - 2) + 1) {
    const directory = path.slice(0, end)
    if (directories.has(directory)) return
    directories.add(directory)
  }
}

export function byName(a: { name: string }, b: { name: string }): number {
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

/** Every file that a target serves, with the path it has there, page by page. */
async function* filesOf(ctx: Ctx, target: Target): AsyncGenerator<Found[]> {
  if (target.publication) yield* publishedFiles(ctx, target.publication.id)
  yield* contentFiles(ctx, target)
}

async function* publishedFiles({ db }: Ctx, publicationId: number): AsyncGenerator<Found[]> {
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
    yield rows.map(({ path, size }) => ({ path, size, addedIn: null }))
    if (rows.length < page) return
    last = rows.at(-1)!.path
  }
}

async function* contentFiles({ db }: Ctx, { format, version, publication }: Target): AsyncGenerator<Found[]> {
  const layout = publication?.layout ?? 'verbatim'
  const placed = layout === 'verbatim' ? undefined : format.publications?.placed
  const members = db
    .selectFrom('membership')
    .where('membership.repository_id', '=', version.repository_id)
    .where('membership.added_in', '<=', version.number)
    .where((row) => row.or([row('membership.removed_in', 'is', null), row('membership.removed_in', '>', version.number)]))
  for (let last = -1; ; ) {
    const ids = await members.select('content_id').where('content_id', '>', last).orderBy('content_id').limit(page).execute()
    if (ids.length === 0) return
    const first = last
    last = ids.at(-1)!.content_id
    const rows = await members
      .innerJoin('file', 'file.content_id', 'membership.content_id')
      .innerJoin('content', 'content.id', 'membership.content_id')
      .leftJoin('blob', 'blob.id', 'file.blob_id')
      .select(({ fn }) => [
        'content.type',
        'file.path',
        'file.name',
        'membership.added_in',
        fn.coalesce('blob.size', 'file.size').as('size'),
      ])
      .where('membership.content_id', '>', first)
      .where('membership.content_id', '<=', last)
      .execute()
    yield rows.map((file) => ({ path: placed ? placed(file, layout) : file.path, size: file.size, addedIn: file.added_in }))
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
    /** What is there or being made. */
    find: (name: string): Promise<T> | undefined => shelf.get(name)?.value,
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
