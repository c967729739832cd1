import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { now } from '../lib/time.ts'
import { idRows } from '../store/bulk.ts'
import { unitsById } from './content.ts'
import { formatNamed } from './ctx.ts'
import { modifyRepository } from './modify.ts'
import { prnOf } from './names.ts'
import { closeTaskGroup, dispatchTask, type Job } from './tasks/tasks.ts'
import { contentIds, getRepository, latestVersion } from './versions.ts'

const day = 86_400_000_000
/** So many repositories are pruned at once: other work is to find a worker, too. */
const atOnce = 5

interface Pruning {
  keepDays: number
  /** Only tells how much it would be. */
  dryRun: boolean
  /** Pulp's code for what the group reports; with `.repository` that of each task. */
  code: string
}

export interface PruneArgs extends Pruning {
  repositoryIds: readonly number[]
  /** Pulp's name of the task of each repository. */
  task: string
}

/** Removes from repositories what is superseded and came long ago: dispatches a task for each, into the group of this one. */
export async function pruneRepositories(job: Job, { repositoryIds, task: name, ...pruning }: PruneArgs): Promise<void> {
  const { ctx } = job
  const { group_id, logging_cid: cid } = await ctx.db
    .selectFrom('task')
    .select(['group_id', 'logging_cid'])
    .where('id', '=', job.task.id)
    .executeTakeFirstOrThrow()
  const within = { userId: job.task.userId, cid, parentId: job.task.id, ...(group_id !== null && { groupId: group_id }) }
  try {
    job.progress.report(pruning.code, 'Pruning old Packages', { total: repositoryIds.length, finished: true })
    for (const [index, repositoryId] of repositoryIds.entries()) {
      const repository = await ctx.db.selectFrom('repository').selectAll().where('id', '=', repositoryId).executeTakeFirst()
      if (!repository) continue
      const exclusive = [prnOf(ctx.formats, 'repository', repository), `${pruning.code}-worker-${index % atOnce}`]
      await dispatchTask(ctx, { name, kind: 'prune-repository', args: { repositoryId, ...pruning }, exclusive, ...within })
    }
  } finally {
    if (group_id !== null) await closeTaskGroup(ctx.db, group_id)
  }
}

/** Removes from a repository what is superseded by newer content and came more than `keepDays` days ago. */
export async function pruneRepository(
  job: Job,
  { repositoryId, keepDays, dryRun, code }: Pruning & { repositoryId: number },
): Promise<void> {
  const { db } = job.ctx
  const repository = await getRepository(db, repositoryId)
  const format = formatNamed(job.ctx, repository.type.split('.')[0]!)
  if (!format.findSuperseded) throw new Failure('invalid', `A ${format.name} repository has nothing to prune.`)
  const present = await contentIds(db, await latestVersion(db, repositoryId))
  const superseded = await format.findSuperseded(unitsById(db, [...present]))
  const old = await db
    .selectFrom('membership')
    .select('content_id')
    .where('repository_id', '=', repositoryId)
    .where('removed_in', 'is', null)
    .where('added', '<', now() - keepDays * day)
    .where('content_id', 'in', sql<number>`(select id from ${idRows(db, superseded)} as i)`)
    .execute()
  if (!dryRun && old.length > 0)
    await modifyRepository(job, { repositoryId, add: [], remove: old.map(({ content_id }) => content_id) })
  const done = dryRun ? 0 : old.length
  job.progress.report(`${code}.repository`, `Pruning ${repository.name}`, { total: old.length, done, finished: true })
  job.progress.report(code, 'Pruning old Packages', { total: 0, done: 1, finished: true })
}
