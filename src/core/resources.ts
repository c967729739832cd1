import { isDeepStrictEqual } from 'node:util'
import { type Expression, sql, type SqlBool } from 'kysely'
import { Failure, hasCode } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { type Db, transact, type Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { forgetObject, grantToCreator } from './access/auth.ts'
import type { Ctx } from './ctx.ts'
import { ensureRedirectGuard } from './access/guard-resources.ts'
import { distributionTypeOf, modelOf, prnOf, repositoryTypeOf } from './names.ts'
import { ensureNamespace, namespaceIn } from './access/namespaces.ts'
import type { Job, Work } from './tasks/tasks.ts'
import { insertFirstVersion } from './versions.ts'

/*
 * Repositories, remotes, publications and distributions: making, changing and deleting them. Each verb is one transaction, in which names
 * and paths are looked at once more, so that two requests at a time cannot both have them. `settings`, `secrets` and `labels` are plain
 * objects here; a change of settings or secrets names only the members that change.
 */

type Act = Pick<Ctx, 'db' | 'formats' | 'changes'>
type Json = Record<string, unknown>

interface Named {
  name: string
  labels?: Json
  settings?: Json
}

export interface RepositoryValues extends Named {
  description?: string | null
  remote_id?: number | null
  retain_versions?: number | null
  autopublish?: boolean
}

export interface RemoteValues extends Named {
  url: string
  policy?: string
  /** What never leaves the server again; null takes one away. */
  secrets?: Json
}

export interface DistributionValues extends Named {
  base_path: string
  guard_id?: number | null
  repository_id?: number | null
  version_id?: number | null
  publication_id?: number | null
  remote_id?: number | null
  made_by_id?: number | null
  hidden?: boolean
}

interface ValuesOf {
  repository: RepositoryValues
  remote: RemoteValues
  distribution: DistributionValues
}

/** Kinds that are made, changed and deleted in the same way. */
export type ResourceKind = keyof ValuesOf

const columns: { [K in ResourceKind]: readonly (keyof ValuesOf[K])[] } = {
  repository: ['name', 'description', 'remote_id', 'retain_versions', 'autopublish'],
  remote: ['name', 'url', 'policy'],
  distribution: [
    'name',
    'base_path',
    'guard_id',
    'repository_id',
    'version_id',
    'publication_id',
    'remote_id',
    'made_by_id',
    'hidden',
  ],
}

/** Makes one and gives its creator the owner's role on it. Throws Failure invalid for a name or path that is taken. */
export async function createResource<K extends ResourceKind>(
  ctx: Act,
  kind: K,
  type: string,
  values: ValuesOf[K],
  userId: number | null,
): Promise<Row<K>> {
  const row = await transact(ctx.db, (tx) => insertResource(tx, ctx.formats, kind, type, values, userId))
  ctx.changes.bump()
  return row
}

/** As createResource, as a part of a transaction. Bump ctx.changes after it. */
export async function insertResource<K extends ResourceKind>(
  tx: Tx,
  formats: Ctx['formats'],
  kind: K,
  type: string,
  values: ValuesOf[K],
  userId: number | null,
): Promise<Row<K>> {
  const at = now()
  await checkUnique(tx, formats, kind, type, values)
  const whole = kind === 'distribution' ? await inNamespace(tx, formats, type, values, userId) : values
  const created = await tx
    .insertInto(kind)
    .values({ ...defaultsOf(kind, at), ...rowOf(kind, whole, {}), uuid: newUuid(), type, created: at, updated: at } as never)
    .returningAll()
    .executeTakeFirstOrThrow()
  const stored = created as unknown as Row<'repository'>
  if (kind === 'repository') await insertFirstVersion(tx, stored.id)
  const prn = prnOf(formats, kind, stored)
  await grantToCreator(tx, userId, [`${modelOf(formats, kind, type)}_owner`], prn)
  return created
}

/** Where paths lie in namespaces, there is one for each distribution, and its content has a guard for links. */
async function inNamespace(
  tx: Tx,
  formats: Ctx['formats'],
  type: string,
  values: Partial<DistributionValues>,
  userId: number | null,
): Promise<Partial<DistributionValues>> {
  const [app] = type.split('.')
  if (!formats.find(({ name }) => name === app)?.namespaces || values.base_path === undefined) return values
  await ensureNamespace(tx, formats, `${app}.namespace`, namespaceIn(values.base_path), userId)
  return { ...values, guard_id: values.guard_id ?? (await ensureRedirectGuard(tx)) }
}

/** Changes what `changes` names. Throws Failure not_found when it is gone, invalid as createResource does. */
export async function updateResource<K extends ResourceKind>(
  ctx: Act,
  kind: K,
  id: number,
  changes: Partial<ValuesOf[K]>,
  userId: number | null = null,
): Promise<void> {
  await transact(ctx.db, async (tx) => {
    const row = await getRow(tx, kind, id)
    await checkUnique(tx, ctx.formats, kind, row.type, changes, id)
    if (kind === 'distribution') await inNamespace(tx, ctx.formats, row.type, changes, userId)
    const values = rowOf(kind, changes, row)
    const at = now()
    const served = kind === 'distribution' && changesServing(row, values) ? { content_changed: at } : {}
    await tx
      .updateTable(kind as 'repository')
      .set({ ...values, ...served, updated: at })
      .where('id', '=', id)
      .execute()
    if (changesSyncing(row, values)) await forgetSync(tx, kind, id)
  })
  ctx.changes.bump()
}

/**
 * Deletes one; a repository takes its versions and publications with it, a distribution the repository that pushes made for it. Nothing
 * happens when it is gone already.
 */
export async function deleteResource(ctx: Act, kind: ResourceKind | 'publication', id: number): Promise<void> {
  await transact(ctx.db, (tx) => removeResource(tx, ctx.formats, kind, id))
  ctx.changes.bump()
}

/** As deleteResource, as a part of a transaction. */
export async function removeResource(
  tx: Tx,
  formats: Ctx['formats'],
  kind: ResourceKind | 'publication',
  id: number,
): Promise<void> {
  const row = await tx
    .selectFrom(kind as 'repository')
    .select(['id', 'uuid', 'type'])
    .where('id', '=', id)
    .executeTakeFirst()
  if (!row) return
  const pushed = kind === 'distribution' ? await pushedTo(tx, formats, id) : undefined
  if (kind === 'distribution')
    for (const made of await tx.selectFrom('distribution').select('id').where('made_by_id', '=', id).execute())
      await removeResource(tx, formats, kind, made.id)
  if (kind === 'repository') await releaseRepository(tx, id)
  await tx
    .deleteFrom(kind as 'repository')
    .where('id', '=', id)
    .execute()
  await forgetObject(tx, prnOf(formats, kind, row))
  if (pushed) await removeResource(tx, formats, 'repository', pushed.id)
}

/** The repository that pushes through this distribution made, unless another distribution serves it, too. */
export async function pushedTo(
  db: Db,
  formats: Ctx['formats'],
  distributionId: number,
): Promise<{ id: number; uuid: string; type: string } | undefined> {
  const row = await db
    .selectFrom('distribution')
    .innerJoin('repository', 'repository.id', 'distribution.repository_id')
    .select(['repository.id', 'repository.uuid', 'repository.type'])
    .where('distribution.id', '=', distributionId)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('distribution as other')
            .select('other.id')
            .whereRef('other.repository_id', '=', 'repository.id')
            .where('other.id', '<>', distributionId),
        ),
      ),
    )
    .executeTakeFirst()
  return row && repositoryTypeOf(formats, row.type).pushed ? row : undefined
}

/** Sets labels, or takes one away where its value is undefined. */
export async function setLabels(
  db: Db,
  kind: ResourceKind | 'content',
  id: number,
  changes: Record<string, string | null | undefined>,
): Promise<void> {
  await transact(db, async (tx) => {
    const row = await tx.selectFrom(kind).select('labels').where('id', '=', id).executeTakeFirst()
    if (!row) throw new Failure('not_found', `The ${kind} was deleted.`)
    // JSON leaves out what is undefined.
    const labels = JSON.stringify({ ...JSON.parse(row.labels), ...changes })
    await tx
      .updateTable(kind)
      .set({ labels, updated: now() } as never)
      .where('id' as never, '=', id as never)
      .execute()
  })
}

/**
 * Checks that a name is free, and that a base path overlaps no other. Throws Failure invalid with the field. Which one a path overlaps
 * with is not said: whoever asks may not see it.
 */
export async function checkUnique(
  db: Db,
  formats: Ctx['formats'],
  kind: ResourceKind,
  type: string,
  values: { name?: string; base_path?: string },
  id = -1,
): Promise<void> {
  if (values.name !== undefined && (await isNameTaken(db, kind, values.name, id)))
    throw new Failure('invalid', 'This field must be unique.', { field: 'name' })
  if (values.base_path === undefined) return
  const other = await findOverlap(db, formats, type, values.base_path, id)
  if (other?.base_path === values.base_path) throw new Failure('invalid', 'This field must be unique.', { field: 'base_path' })
  if (other) throw new Failure('invalid', 'Overlaps with an existing distribution.', { field: 'base_path' })
}

/** Whether another one has this name. As in Pulp, over all types: an rpm and a file repository cannot have the same name either. */
export async function isNameTaken(db: Db, kind: ResourceKind, name: string, id: number): Promise<boolean> {
  const other = await db
    .selectFrom(kind as 'repository')
    .select('id')
    .where('name', '=', name)
    .where('id', '<>', id)
    .limit(1)
    .executeTakeFirst()
  return other !== undefined
}

/**
 * A distribution whose base path is this one, above it or below it; one of a type that nests only minds its own path. Ranges of the index on
 * base_path, however many there are.
 */
export async function findOverlap(
  db: Db,
  formats: Ctx['formats'],
  type: string,
  path: string,
  id: number,
): Promise<Pick<Row<'distribution'>, 'id' | 'uuid' | 'type' | 'name' | 'base_path'> | undefined> {
  const nests = distributionTypeOf(formats, type).nests === true
  const segments = path.split('/')
  const above = nests ? [path] : segments.map((_, index) => segments.slice(0, index + 1).join('/'))
  const found = await db
    .selectFrom('distribution')
    .select(['id', 'uuid', 'type', 'name', 'base_path'])
    .where('id', '<>', id)
    .where('base_path', 'in', above)
    .orderBy('base_path', 'desc')
    .limit(1)
    .executeTakeFirst()
  if (found || nests) return found
  return db
    .selectFrom('distribution')
    .select(['id', 'uuid', 'type', 'name', 'base_path'])
    .where('id', '<>', id)
    .where(below(path))
    .limit(1)
    .executeTakeFirst()
}

/** Paths that begin with `<path>/`: '0' is the character after '/'. */
function below(path: string): Expression<SqlBool> {
  return sql`base_path >= ${`${path}/`} and base_path < ${`${path}0`}`
}

function defaultsOf(kind: ResourceKind, at: number): Json {
  const named = { labels: '{}', settings: '{}' }
  if (kind === 'repository') return { ...named, description: null, autopublish: 0, next_version: 1 }
  if (kind === 'remote') return { ...named, policy: 'immediate', secrets: '{}' }
  return { ...named, hidden: 0, content_changed: at }
}

/** Values as columns: booleans as 0 and 1, objects as JSON on top of what is stored. */
function rowOf(kind: ResourceKind, values: Partial<RepositoryValues & RemoteValues & DistributionValues>, stored: Json): Json {
  const row: Json = {}
  for (const name of columns[kind] as readonly (keyof typeof values)[]) {
    const value = values[name]
    if (value !== undefined) row[name] = typeof value === 'boolean' ? Number(value) : value
  }
  if (values.labels) row['labels'] = JSON.stringify(values.labels)
  for (const name of ['settings', 'secrets'] as const)
    if (values[name]) row[name] = JSON.stringify({ ...JSON.parse(String(stored[name] ?? '{}')), ...values[name] })
  return row
}

async function getRow(tx: Tx, kind: ResourceKind, id: number) {
  const row = await tx.selectFrom(kind).selectAll().where('id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('not_found', `The ${kind} was deleted.`)
  return row as { id: number; uuid: string; type: string }
}

function changesServing(before: Json, after: Json): boolean {
  return ['repository_id', 'version_id', 'publication_id', 'base_path'].some(
    (name) => name in after && after[name] !== before[name],
  )
}

/** Whether an upstream that looks the same as in the last sync may have to be read again. Credentials alone are no reason. */
function changesSyncing(before: Json, after: Json): boolean {
  if (['url', 'policy'].some((name) => name in after && after[name] !== before[name])) return true
  const parsed = (row: Json) => JSON.parse(String(row['settings']))
  return 'settings' in after && !isDeepStrictEqual(parsed(before), parsed(after))
}

async function forgetSync(tx: Tx, kind: ResourceKind, id: number): Promise<void> {
  if (kind === 'distribution') return
  await tx
    .updateTable('repository')
    .set({ last_sync: null })
    .where(kind === 'remote' ? 'remote_id' : 'id', '=', id)
    .execute()
}

/** What a repository's publications serve goes with it; distributions that name it stay and serve nothing. */
async function releaseRepository(tx: Tx, id: number): Promise<void> {
  const publications = tx.selectFrom('publication').select('id').where('repository_id', '=', id)
  await tx.updateTable('distribution').set({ publication_id: null }).where('publication_id', 'in', publications).execute()
}

interface CreateArguments {
  resource: ResourceKind
  type: string
  values: never
}

async function create({ ctx, task, created }: Job, { resource, type, values }: CreateArguments): Promise<void> {
  const row = await createResource(ctx, resource, type, values, task.userId)
  await created(prnOf(ctx.formats, resource, row))
}

async function update(
  { ctx, task }: Job,
  { resource, id, changes }: { resource: ResourceKind; id: number; changes: Json },
): Promise<void> {
  await updateResource(ctx, resource, id, changes, task.userId)
}

async function remove({ ctx }: Job, { resource, id }: { resource: ResourceKind; id: number }): Promise<void> {
  try {
    await deleteResource(ctx, resource, id)
  } catch (error) {
    if (!hasCode(error, 'SQLITE_CONSTRAINT', '23503')) throw error
    throw new Failure('conflict', `The ${resource} is still in use.`, { cause: error })
  }
}

/** Tasks that make, change and delete. Arguments name the kind: `{resource: 'remote', id, changes}`. */
export const resourceWorks: Record<string, Work> = { create, update, delete: remove }
