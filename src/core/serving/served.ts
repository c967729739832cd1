import { type SelectQueryBuilder, sql } from 'kysely'
import { type Micros, now } from '../../lib/time.ts'
import { idRows } from '../../store/bulk.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Row, Schema } from '../../store/schema.ts'
import { findCheckpoint, listCheckpoints, parseCheckpointPath, renderSecond, servesCheckpoints } from './checkpoints.ts'
import { type Ctx, formatNamed } from '../ctx.ts'
import type { Guard } from '../access/guards.ts'
import { byName, type Directory, openDirectories, type Target } from './directories.ts'

/*
 * From a path below /pulp/content/ to what lies there, in Pulp's order: what the format makes up for the distribution,
 * files of the publication, content, a directory, nothing. Paths here are decoded, relative, and end in a slash for a directory.
 */

/** What a path of a distribution serves. */
export type Served =
  | { kind: 'blob'; path: string; sha256: string; size: number; modified: Micros; headers: Record<string, string> }
  /** A file whose bytes are still upstream. */
  | {
      kind: 'remote'
      path: string
      fileId: number
      size: number | null
      checksum: string | null
      headers: Record<string, string>
    }
  | { kind: 'text'; path: string; body: string; headers: Record<string, string> }
  | { kind: 'directory'; directory: Directory }
  /** A directory that was asked for without its slash, or what lies elsewhere: `to` is a path below /pulp/content/ then. */
  | { kind: 'redirect'; to?: string }
  | { kind: 'missing'; reason?: string }

/** A path segment below which there are distributions. */
export interface Branch {
  name: string
  /** Of the distributions there, each once; null stands for no guard. */
  guards: (Guard | null)[]
}

export type Resolver = ReturnType<typeof openResolver>

/** Finds what paths serve. Remembers what is costly to find again: what distributions point at, and which directories a publication has. */
export function openResolver(ctx: Ctx) {
  const directories = openDirectories(ctx)
  let targets = new Map<string, Target | undefined>()
  let seen = ctx.changes.current()

  async function remembered(name: string, find: () => Promise<Target | undefined>): Promise<Target | undefined> {
    const change = ctx.changes.current()
    if (change !== seen) {
      targets = new Map()
      seen = change
    }
    const into = targets
    if (!into.has(name)) into.set(name, await find())
    return into.get(name)
  }

  /** `path` is what follows the base path and its slash; undefined when not even the slash is there. `origin` is for absolute URLs. */
  async function resolve(distribution: Row<'distribution'>, path: string | undefined, origin: string): Promise<Served> {
    if (path === undefined) return { kind: 'redirect' }
    if (servesCheckpoints(distribution)) return resolveCheckpoint(distribution, path, origin)
    const points = await remembered(`distribution ${distribution.id}`, () => findTarget(ctx, distribution))
    return resolveIn(points, distribution, path, origin)
  }

  async function resolveCheckpoint(distribution: Row<'distribution'>, path: string, origin: string): Promise<Served> {
    const { base_path, repository_id } = distribution
    if (repository_id === null) return { kind: 'missing' }
    if (path === '') return { kind: 'directory', directory: await listCheckpoints(ctx.db, repository_id) }
    const asked = parseCheckpointPath(path, now())
    const publication = asked && (await findCheckpoint(ctx.db, repository_id, asked.until))
    if (!publication) return { kind: 'missing' }
    const place = `${base_path}/${renderSecond(publication.created)}`
    if (!`${base_path}/${path}/`.startsWith(`${place}/`)) return { kind: 'redirect', to: `${place}/${asked.rest ?? ''}` }
    if (asked.rest === undefined) return { kind: 'redirect' }
    const points = await remembered(`publication ${publication.id}`, () => findPublished(ctx, distribution, publication))
    // What is made for a distribution names its URL: here that of the checkpoint.
    return resolveIn(points, { ...distribution, base_path: place }, asked.rest, origin)
  }

  async function resolveIn(
    points: Target | undefined,
    distribution: Row<'distribution'>,
    path: string,
    origin: string,
  ): Promise<Served> {
    const make = (name: string) => distributionFile(ctx, distribution, points, name, origin)
    const body = make(path)
    if (body !== undefined) return { kind: 'text', path, body, headers: points?.format.headers?.(path) ?? {} }
    if (!points) return pointsNowhere(distribution) ? { kind: 'missing', reason: nowhere } : { kind: 'missing' }
    if (path === '' || path.endsWith('/')) return resolveDirectory(points, path, make)
    const file = await findFile(ctx.db, points, path)
    return file ?? { kind: (await directories.has(points, `${path}/`)) ? 'redirect' : 'missing' }
  }

  async function resolveDirectory(points: Target, path: string, make: (name: string) => string | undefined): Promise<Served> {
    const index = await findFile(ctx.db, points, `${path}index.html`)
    if (index) return index
    const directory = await directories.list(points, path)
    if (!directory) return { kind: 'missing' }
    const made = path === '' ? (points.format.distributionFiles ?? []) : []
    const names = made.filter((name) => make(name) !== undefined)
    return { kind: 'directory', directory: names.length > 0 ? withFiles(directory, names) : directory }
  }

  return { resolve }
}

function withFiles(directory: Directory, names: readonly string[]): Directory {
  return [...directory, ...names.map((name) => ({ name, size: undefined, modified: undefined }))].sort(byName)
}

const nowhere = 'Distribution is not pointing to a publication, repository, repository version, or remote.'

function pointsNowhere({ publication_id, repository_id, version_id }: Row<'distribution'>): boolean {
  return publication_id === null && repository_id === null && version_id === null
}

const deepest = 64

/** The distribution with the longest base path that is a prefix of `path`. */
export async function findDistribution(
  { db, formats }: Pick<Ctx, 'db' | 'formats'>,
  path: string,
): Promise<Row<'distribution'> | undefined> {
  const prefixes: string[] = []
  for (let slash = path.indexOf('/'); slash >= 0 && prefixes.length < deepest; slash = path.indexOf('/', slash + 1))
    prefixes.push(path.slice(0, slash))
  if (!path.endsWith('/') && prefixes.length < deepest) prefixes.push(path)
  // Few different lengths, so that there are few statements to prepare.
  while (prefixes.length & (prefixes.length - 1)) prefixes.push(prefixes[0]!)
  if (prefixes.length === 0) return undefined
  return db
    .selectFrom('distribution')
    .selectAll()
    .where('base_path', 'in', prefixes)
    .where(isBrowsed(formats))
    .orderBy(sql`length(base_path)`, 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Whether a distribution is served as files; a protocol of its own shows what it has in its own way. */
function isBrowsed(formats: Ctx['formats']) {
  const others = formats.filter(({ servesVersions }) => servesVersions === 'protocol')
  return sql<boolean>`not (${sql.join([sql`1 = 0`, ...others.map(({ name }) => sql`distribution.type like ${`${name}.%`}`)], sql` or `)})`
}

/** The guards with these ids. */
export async function findGuards(db: Db, ids: readonly number[]): Promise<Map<number, Guard>> {
  if (ids.length === 0) return new Map()
  const rows = await db
    .selectFrom('guard')
    .select(['id', 'uuid', 'type', 'settings'])
    .where('id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .execute()
  return new Map(rows.map((row) => [row.id, row]))
}

/** The next segments of base paths that start with `prefix`, which is '' or ends in a slash. Hidden ones are left out. */
export async function findBranches({ db, formats }: Pick<Ctx, 'db' | 'formats'>, prefix: string): Promise<Branch[]> {
  const rows = await startingWith(db, db.selectFrom('distribution').select(['base_path', 'guard_id']), 'base_path', prefix)
    .where('hidden', '=', 0)
    .where(isBrowsed(formats))
    .execute()
  const guardIds = new Map<string, Set<number | null>>()
  for (const { base_path, guard_id } of rows) {
    const [name = ''] = base_path.slice(prefix.length).split('/', 1)
    const ids = guardIds.get(name)
    if (ids) ids.add(guard_id)
    else guardIds.set(name, new Set([guard_id]))
  }
  const guards = await findGuards(db, [...new Set(rows.map(({ guard_id }) => guard_id).filter((id) => id !== null))])
  return [...guardIds]
    .map(([name, ids]) => ({ name, guards: [...ids].map((id) => (id === null ? null : guards.get(id)!)) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

function startingWith<T extends keyof Schema, O>(
  db: Db,
  query: SelectQueryBuilder<Schema, T, O>,
  column: string,
  prefix: string,
) {
  if (prefix === '') return query
  // PostgreSQL's order depends on the collation, so only SQLite can look for a range; both compare whole prefixes.
  if (engineOf(db) === 'postgres') return query.where(sql<boolean>`starts_with(${sql.ref(column)}, ${prefix})`)
  const after = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`
  return query.where(sql<boolean>`${sql.ref(column)} >= ${prefix} and ${sql.ref(column)} < ${after}`)
}

async function findTarget(ctx: Ctx, distribution: Row<'distribution'>): Promise<Target | undefined> {
  const { db } = ctx
  const publication = await findPublication(db, distribution)
  if (publication) return findPublished(ctx, distribution, publication)
  const format = formatNamed(ctx, distribution.type.split('.')[0]!)
  const version = format.servesVersions === 'files' ? await findVersion(db, distribution) : undefined
  return version && complete(db, { format, version, publication })
}

async function findPublished(
  ctx: Ctx,
  { type }: Row<'distribution'>,
  publication: Row<'publication'>,
): Promise<Target | undefined> {
  const format = formatNamed(ctx, type.split('.')[0]!)
  const version = await ctx.db.selectFrom('version').selectAll().where('id', '=', publication.version_id).executeTakeFirst()
  return version && complete(ctx.db, { format, version, publication })
}

async function complete(db: Db, target: Omit<Target, 'repository'>): Promise<Target | undefined> {
  const { repository_id } = target.version
  const repository = await db.selectFrom('repository').selectAll().where('id', '=', repository_id).executeTakeFirst()
  return repository && { ...target, repository }
}

/** The publication itself, or the newest one of the newest version that has one. Version ids rise with version numbers. */
async function findPublication(db: Db, distribution: Row<'distribution'>): Promise<Row<'publication'> | undefined> {
  const { publication_id, repository_id, version_id } = distribution
  const query = db.selectFrom('publication').selectAll()
  if (publication_id !== null) return query.where('id', '=', publication_id).executeTakeFirst()
  const newest = query.orderBy('version_id', 'desc').orderBy('id', 'desc').limit(1)
  if (version_id !== null) return newest.where('version_id', '=', version_id).executeTakeFirst()
  return repository_id === null ? undefined : newest.where('repository_id', '=', repository_id).executeTakeFirst()
}

async function findVersion(db: Db, { repository_id, version_id }: Row<'distribution'>): Promise<Row<'version'> | undefined> {
  const query = db.selectFrom('version').selectAll()
  if (version_id !== null) return query.where('id', '=', version_id).executeTakeFirst()
  if (repository_id === null) return undefined
  return query.where('repository_id', '=', repository_id).orderBy('number', 'desc').limit(1).executeTakeFirst()
}

function distributionFile(
  ctx: Ctx,
  distribution: Row<'distribution'>,
  target: Target | undefined,
  path: string,
  origin: string,
): string | undefined {
  const format = target?.format ?? formatNamed(ctx, distribution.type.split('.')[0]!)
  return format.distributionFile?.(path, {
    name: distribution.name,
    url: `${origin}/pulp/content/${encodeURI(distribution.base_path)}/`,
    settings: JSON.parse(distribution.settings),
    repository: target && { name: target.repository.name, settings: JSON.parse(target.repository.settings) },
    publicationSettings: target?.publication && JSON.parse(target.publication.settings),
  })
}

interface FoundFile {
  id: number | null
  size: number | null
  checksum: string | null
  sha256: string | null
  blobSize: number | null
  modified: Micros | null
}

async function findFile(db: Db, target: Target, path: string): Promise<Served | undefined> {
  const file =
    (target.publication && (await findPublishedFile(db, target.publication.id, path))) ??
    (await findContentFile(db, target, path))
  if (!file) return undefined
  const headers = target.format.headers?.(path) ?? {}
  if (file.sha256 !== null)
    return { kind: 'blob', path, sha256: file.sha256, size: file.blobSize!, modified: file.modified!, headers }
  if (file.id === null) return undefined
  return { kind: 'remote', path, fileId: file.id, size: file.size, checksum: file.checksum, headers }
}

async function findPublishedFile(db: Db, publicationId: number, path: string): Promise<FoundFile | undefined> {
  return db
    .selectFrom('published_file')
    .leftJoin('file', 'file.id', 'published_file.file_id')
    .leftJoin('blob', (join) => join.on('blob.id', '=', ({ fn }) => fn.coalesce('published_file.blob_id', 'file.blob_id')))
    .select(['file.id', 'file.size', 'file.checksum', 'blob.sha256', 'blob.size as blobSize', 'blob.created as modified'])
    .where('published_file.publication_id', '=', publicationId)
    .where('published_file.path', '=', path)
    .executeTakeFirst()
}

/** A file that content of the version brings. Two at one path cannot both be served: the one that came last is. */
async function findContentFile(db: Db, { format, version, publication }: Target, path: string): Promise<FoundFile | undefined> {
  const layout = publication?.layout ?? 'verbatim'
  const placed = layout === 'verbatim' ? undefined : format.publications?.placed
  // A cross join is an inner one whose order SQLite keeps: first the few files called so, then whether the version has them.
  const query = db
    .selectFrom('file')
    .crossJoin('membership')
    .leftJoin('blob', 'blob.id', 'file.blob_id')
    .select(['file.id', 'file.path', 'file.name', 'file.size', 'file.checksum'])
    .select(['blob.sha256', 'blob.size as blobSize', 'blob.created as modified'])
    .whereRef('membership.content_id', '=', 'file.content_id')
    .where('membership.repository_id', '=', version.repository_id)
    .where('membership.added_in', '<=', version.number)
    .where((row) => row.or([row('membership.removed_in', 'is', null), row('membership.removed_in', '>', version.number)]))
    .orderBy('file.id', 'desc')
  if (!placed) return query.where('file.path', '=', path).limit(1).executeTakeFirst()
  const rows = await query
    .innerJoin('content', 'content.id', 'file.content_id')
    .select('content.type')
    .where('file.name', '=', path.slice(path.lastIndexOf('/') + 1))
    .execute()
  return rows.find((file) => placed(file, layout) === path)
}

/** A file that has this blob and can be had from upstream. */
export async function findFileWithSource(db: Db, sha256: string): Promise<number | undefined> {
  const found = await db
    .selectFrom('file')
    .innerJoin('blob', 'blob.id', 'file.blob_id')
    .innerJoin('source', 'source.file_id', 'file.id')
    .select('file.id')
    .where('blob.sha256', '=', sha256)
    .orderBy('file.id', 'desc')
    .limit(1)
    .executeTakeFirst()
  return found?.id
}
