import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { idRows } from '../store/bulk.ts'
import { type Db, transact, type Tx } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { putContent } from './content.ts'
import { viewPlace } from './content-place.ts'
import type { Ctx } from './ctx.ts'
import type { ContentChange, Described, RepositoryAction } from './format.ts'
import { prnOf, repositoryTypeOf } from './names.ts'
import { keptByOthers, leavingAbout, leavingReferences, type Place, withReferences } from './references.ts'
import type { Job } from './tasks/tasks.ts'
import { commitVersion, contentIds, getRepository, latestVersion, lockRepository, markChanged } from './versions.ts'

export interface ActionArgs {
  repositoryId: number
  /** Name of the action that the repository's type declares. */
  action: string
  fields: Record<string, unknown>
  /** What the field that names content names. */
  units: '*' | readonly number[]
  sourceVersionId: number | null
  /** Where the units are: what belongs to them comes from there. */
  places: readonly Place[]
  /** See ActionRequest. */
  host: string
}

/**
 * Changes what a repository holds in one of the ways that its type declares: a new version, unless that changes nothing. All in one
 * transaction, so what was found in the repository is still there when the version is made.
 */
export async function actOnRepository(job: Job, args: ActionArgs): Promise<void> {
  const { ctx } = job
  const { version, made } = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    const repository = await lockRepository(tx, args.repositoryId)
    const change = await planChange(ctx.formats, tx, repository, args)
    const latest = await latestVersion(tx, repository.id)
    const made = await unknownAmong(tx, change.put ?? [])
    const add = [...(await arriving(tx, change, latest, args)), ...(await putContent(tx, change.put ?? []))]
    const committed = await commitVersion(tx, {
      repositoryId: repository.id,
      add,
      remove: await leaving(tx, change, latest, new Set(add)),
    })
    if (committed) {
      await tx.updateTable('repository').set({ last_sync: null }).where('id', '=', repository.id).execute()
      await markChanged(tx, repository.id)
    }
    return { version: committed, made: await rowsOf(tx, made) }
  })
  if (version) {
    ctx.changes.bump()
    await job.created(prnOf(ctx.formats, 'version', version))
  }
  for (const row of made) await job.created(prnOf(ctx.formats, 'content', row))
}

/** What an action asks for. Throws Failure invalid as the format says, also before any task. */
export async function planChange(
  formats: Ctx['formats'],
  db: Db,
  repository: Row<'repository'>,
  { action: name, fields, units, sourceVersionId, host }: Omit<ActionArgs, 'repositoryId' | 'places'>,
): Promise<ContentChange> {
  const action = actionNamed(formats, repository.type, name)
  return action.plan({
    fields,
    units,
    target: viewPlace(db, repository, await latestVersion(db, repository.id)),
    source: sourceVersionId === null ? undefined : await sourcePlace(db, sourceVersionId),
    repository: { name: repository.name, settings: JSON.parse(repository.settings) },
    host,
    paths: () => pathsOf(db, repository.id),
  })
}

async function pathsOf(db: Db, repositoryId: number): Promise<string[]> {
  const rows = await db
    .selectFrom('distribution')
    .select('base_path')
    .where('repository_id', '=', repositoryId)
    .orderBy('id')
    .execute()
  return rows.map(({ base_path }) => base_path)
}

/** A task from another version of Signalbox may name what there is no more. */
function actionNamed(formats: Ctx['formats'], type: string, name: string): RepositoryAction {
  const found = repositoryTypeOf(formats, type).actions?.find((action) => action.name === name)
  if (!found) throw new Failure('invalid', `A ${type} repository has no action ${name}.`)
  return found
}

async function sourcePlace(db: Db, versionId: number) {
  const version = await findVersion(db, versionId)
  return viewPlace(db, await getRepository(db, version.repository_id), version)
}

async function findVersion(db: Db, id: number): Promise<Row<'version'>> {
  const version = await db.selectFrom('version').selectAll().where('id', '=', id).executeTakeFirst()
  if (!version) throw new Failure('not_found', 'The source version was deleted.')
  return version
}

/** What comes: the chosen units and, from each place that has some of them, what belongs to those. */
async function arriving(
  tx: Tx,
  { add = [], from }: ContentChange,
  latest: Row<'version'>,
  { places, sourceVersionId }: ActionArgs,
): Promise<number[]> {
  const whole = new Set(add)
  for (const place of await placesOf(tx, from, latest, { places, sourceVersionId })) {
    const there = await amongPlace(tx, add, place)
    for (const id of there.length > 0 ? await withReferences(tx, there, place) : []) whole.add(id)
  }
  return [...whole]
}

async function placesOf(
  tx: Tx,
  from: ContentChange['from'],
  latest: Row<'version'>,
  { places, sourceVersionId }: Pick<ActionArgs, 'places' | 'sourceVersionId'>,
): Promise<readonly Place[]> {
  if (from === 'target') return [latest]
  return from === 'source' ? [await findVersion(tx, sourceVersionId!)] : places
}

async function amongPlace(tx: Tx, ids: readonly number[], { repository_id, number }: Place): Promise<number[]> {
  const { rows } = await sql<{ id: number }>`select membership.content_id as id from ${idRows(tx, ids)} as i cross join membership
    where membership.repository_id = ${repository_id} and membership.content_id = i.id
      and membership.added_in <= ${number} and (membership.removed_in is null or membership.removed_in > ${number})`.execute(tx)
  return rows.map(({ id }) => id)
}

/** What goes: the chosen units and, if that is deep, all that only they needed. */
async function leaving(
  tx: Tx,
  { remove = [], deep = false }: ContentChange,
  latest: Row<'version'>,
  staying: ReadonlySet<number>,
): Promise<number[]> {
  if (remove === '*') return [...(await contentIds(tx, latest))]
  if (!deep || remove.length === 0) return [...remove]
  const kept = await keptByOthers(tx, remove, latest)
  const gone = remove.filter((id) => !kept.has(id))
  // What goes takes what was said of it along, which takes what that was made of.
  for (let more = gone; more.length > 0; ) {
    for (const id of await leavingReferences(tx, gone, latest)) gone.push(id)
    more = await leavingAbout(tx, gone, latest)
    for (const id of more) gone.push(id)
  }
  return gone.filter((id) => !staying.has(id))
}

/** Those of these units that are not stored yet. */
async function unknownAmong(tx: Tx, units: readonly Described[]): Promise<readonly Described[]> {
  const known = await rowsOf(tx, units)
  return units.filter(({ type, key }) => !known.some((row) => row.type === type && row.key === key))
}

async function rowsOf(tx: Tx, units: readonly Described[]): Promise<{ uuid: string; type: string; key: string }[]> {
  const found = []
  for (const { type, key } of units)
    found.push(
      ...(await tx
        .selectFrom('content')
        .select(['uuid', 'type', 'key'])
        .where('type', '=', type)
        .where('key', '=', key)
        .execute()),
    )
  return found
}
