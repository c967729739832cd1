import { saveContent } from './content.ts'
import { formatNamed } from './ctx.ts'
import { leavingMembers } from './members.ts'
import { prnOf } from './names.ts'
import { publishVersion } from './publish.ts'
import { takeSlots } from './slots.ts'
import type { Job } from './tasks/tasks.ts'
import { commitVersion, contentIds, contentOf, getRepository, latestVersion, markChanged } from './versions.ts'
import { type Db, transact } from '../store/database.ts'
import { Failure } from '../lib/failure.ts'

export interface ModifyArgs {
  repositoryId: number
  add: readonly number[]
  /** `*` removes everything that is not added. */
  remove: readonly number[] | '*'
  /** Start from this version's content instead of the latest's. */
  baseVersionId?: number | null
}

/** Adds and removes content by hand. What holds the slot of something added goes. */
export async function modifyRepository(job: Job, { repositoryId, add, remove, baseVersionId = null }: ModifyArgs): Promise<void> {
  const { ctx } = job
  const repository = await getRepository(ctx.db, repositoryId)
  const latest = await latestVersion(ctx.db, repositoryId)
  const present = await contentIds(ctx.db, latest)
  const base = baseVersionId === null ? present : await baseContent(job, baseVersionId)
  const wanted = new Set(base)
  if (remove === '*') wanted.clear()
  else for (const id of remove) wanted.delete(id)
  const format = formatNamed(ctx, repository.type.split('.')[0]!)
  const arriving = add.filter((id) => !wanted.has(id))
  const slots = await takeSlots(ctx, format, arriving, wanted)
  for (const id of slots.remove) wanted.delete(id)
  for (const id of slots.add) wanted.add(id)
  const leaving = [...base].filter((id) => !wanted.has(id))
  for (const id of await leavingMembers(ctx, format, leaving, wanted)) if (!slots.add.has(id)) wanted.delete(id)

  const version = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    const gone = [...present].filter((id) => !wanted.has(id))
    const made = await commitVersion(tx, { repositoryId, add: wanted, remove: gone, baseVersionId })
    // The next sync compares with the upstream again: this version is no longer what the last one left.
    if (made) await tx.updateTable('repository').set({ last_sync: null }).where('id', '=', repositoryId).execute()
    if (made) await markChanged(tx, repositoryId)
    return made
  })
  if (!version) return
  ctx.changes.bump()
  await job.created(prnOf(ctx.formats, 'version', version))
  if (repository.autopublish) await publishVersion(job, { versionId: version.id, asked: {} })
}

async function baseContent({ ctx }: Job, versionId: number): Promise<Set<number>> {
  const base = await ctx.db.selectFrom('version').selectAll().where('id', '=', versionId).executeTakeFirst()
  if (!base) throw new Failure('not_found', 'The base version was deleted.')
  return contentIds(ctx.db, base)
}

export interface UploadArgs {
  type: string
  fields: Record<string, unknown>
  /** The uploaded file, already a blob. */
  sha256?: string
  repositoryId?: number | null
  /** Content types of which nothing else stays in the repository. */
  replaces?: readonly string[]
}

/** Describes an uploaded file as content, and adds it to a repository if one is named. Returns the ids of the content. */
export async function uploadContent(
  job: Job,
  { type, fields, sha256, repositoryId = null, replaces = [] }: UploadArgs,
): Promise<number[]> {
  const { ctx } = job
  const format = formatNamed(ctx, type.split('.')[0]!)
  if (!format.inspect) throw new Failure('invalid', `A ${format.name} content cannot be uploaded.`)
  const blob = sha256 ? await ctx.db.selectFrom('blob').selectAll().where('sha256', '=', sha256).executeTakeFirst() : undefined
  if (sha256 && !blob) throw new Failure('not_found', 'The artifact was deleted.')
  const described = await format.inspect({
    type,
    fields,
    ...(blob && { file: { size: blob.size, digests: digestsOf(blob), open: () => ctx.blobs.open(blob.sha256) } }),
  })
  const ids = await saveContent(ctx, described)
  if (repositoryId !== null) {
    const remove = replaces.length > 0 ? await idsOfTypes(ctx.db, repositoryId, replaces) : []
    await modifyRepository(job, { repositoryId, add: ids, remove })
  }
  const rows = await ctx.db.selectFrom('content').select(['uuid', 'type']).where('id', 'in', ids).orderBy('id').execute()
  for (const row of rows) await job.created(prnOf(ctx.formats, 'content', row))
  return ids
}

async function idsOfTypes(db: Db, repositoryId: number, types: readonly string[]): Promise<number[]> {
  const rows = await contentOf(db, await latestVersion(db, repositoryId))
    .select('content.id')
    .where('content.type', 'in', types)
    .execute()
  return rows.map(({ id }) => id)
}

function digestsOf(blob: Record<string, unknown>) {
  const digests: Record<string, string> = {}
  for (const name of ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'])
    if (typeof blob[name] === 'string') digests[name] = blob[name]
  return digests as { sha256: string }
}
