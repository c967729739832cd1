import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { idRows } from '../store/bulk.ts'
import type { Row } from '../store/schema.ts'
import { unitsById } from './content.ts'
import { formatNamed } from './ctx.ts'
import type { Unit, VersionView } from './format.ts'
import { modifyRepository } from './modify.ts'
import { viewVersion } from './publish.ts'
import type { Job } from './tasks/tasks.ts'
import { contentIds, contentOf, getRepository, latestVersion } from './versions.ts'

export interface CopyArgs {
  copies: readonly Copy[]
  /** Whether what the copied content needs comes along, if the format knows. */
  dependencySolving: boolean
}

interface Copy {
  sourceVersionId: number
  repositoryId: number
  /** Number of the version of the destination to start from; its latest when absent. */
  baseVersion?: number | null
  /** Everything when absent. */
  content?: readonly number[] | null
}

/** Copies content of versions into repositories: one new version for each that changes. */
export async function copyContent(job: Job, { copies, dependencySolving }: CopyArgs): Promise<void> {
  const destinations = await Promise.all(copies.map(({ repositoryId }) => viewLatest(job, repositoryId)))
  const wanted = new Map<number, { add: Set<number>; baseVersion: number | null }>()
  for (const copy of copies) {
    job.signal.throwIfAborted()
    const entry = wanted.get(copy.repositoryId) ?? { add: new Set(), baseVersion: copy.baseVersion ?? null }
    for (const id of await resolve(job, copy, destinations, dependencySolving)) entry.add.add(id)
    wanted.set(copy.repositoryId, entry)
  }
  for (const [repositoryId, { add, baseVersion }] of wanted) {
    const baseVersionId = baseVersion === null ? null : (await versionNumbered(job, repositoryId, baseVersion)).id
    await modifyRepository(job, { repositoryId, add: [...add], remove: [], baseVersionId })
  }
}

async function resolve(
  job: Job,
  { sourceVersionId, content }: Copy,
  destinations: readonly VersionView[],
  dependencySolving: boolean,
): Promise<Iterable<number>> {
  const { db } = job.ctx
  const source = await db.selectFrom('version').selectAll().where('id', '=', sourceVersionId).executeTakeFirst()
  if (!source) throw new Failure('not_found', 'The source version was deleted.')
  if (!content) return contentIds(db, source)
  const inSource = await contentOf(db, source)
    .select('content.id')
    .where('content.id', 'in', sql<number>`(select id from ${idRows(db, content)} as i)`)
    .execute()
  const repository = await getRepository(db, source.repository_id)
  const format = formatNamed(job.ctx, repository.type.split('.')[0]!)
  const chosen: Unit[] = []
  for await (const unit of unitsById(
    db,
    inSource.map(({ id }) => id),
  ))
    chosen.push(unit)
  if (!format.unitsToCopy || chosen.length === 0) return chosen.map(({ id }) => id)
  return format.unitsToCopy({ chosen, source: viewOf(job, repository, source), destinations, dependencySolving })
}

async function viewLatest(job: Job, repositoryId: number): Promise<VersionView> {
  return viewOf(job, await getRepository(job.ctx.db, repositoryId), await latestVersion(job.ctx.db, repositoryId))
}

function viewOf({ ctx }: Job, { name, settings }: Row<'repository'>, version: Row<'version'>): VersionView {
  return viewVersion(ctx, { name, settings: JSON.parse(settings) }, version)
}

async function versionNumbered({ ctx }: Job, repositoryId: number, number: number): Promise<Row<'version'>> {
  const version = await ctx.db
    .selectFrom('version')
    .selectAll()
    .where('repository_id', '=', repositoryId)
    .where('number', '=', number)
    .executeTakeFirst()
  if (!version) throw new Failure('invalid', `The destination has no version ${number} to start from.`)
  return version
}
