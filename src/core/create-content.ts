import { Failure } from '../lib/failure.ts'
import type { Staged } from '../store/blobs.ts'
import { saveBlob } from './content.ts'
import type { Ctx } from './ctx.ts'
import { uploadContent } from './modify.ts'
import { setLabels } from './resources.ts'
import type { Job } from './tasks/tasks.ts'
import { deleteUpload, openUpload } from './uploads.ts'

export interface CreateContentArgs {
  type: string
  fields: Record<string, unknown>
  labels?: Record<string, string>
  repositoryId: number | null
  /** Where the bytes are: a stored blob, an upload, or a URL; none for content without a file. */
  sha256?: string
  uploadId?: number
  fileUrl?: string
  /** Content types of which nothing else stays in the repository. */
  replaces?: readonly string[]
}

/** The task that makes content out of what a user gave, and puts it into a repository if one is named. */
export async function createContent(job: Job, { labels, uploadId, fileUrl, ...args }: CreateContentArgs): Promise<void> {
  const sha256 =
    uploadId !== undefined
      ? await takeUpload(job.ctx, uploadId)
      : fileUrl !== undefined
        ? await download(job, fileUrl)
        : args.sha256
  const ids = await uploadContent(job, { ...args, ...(sha256 !== undefined && { sha256 }) })
  if (labels) for (const id of ids) await setLabels(job.ctx.db, 'content', id, labels)
  if (uploadId !== undefined) await deleteUpload(job.ctx, await getUpload(job.ctx, uploadId))
}

async function getUpload({ db }: Ctx, id: number) {
  const row = await db.selectFrom('upload').selectAll().where('id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('not_found', 'The upload was deleted.')
  return row
}

async function takeUpload(ctx: Ctx, id: number): Promise<string> {
  await using staged = await ctx.blobs.stage(openUpload(ctx, await getUpload(ctx, id)), {}, allowed(ctx))
  return await keep(ctx, staged)
}

async function download({ ctx, signal }: Job, text: string): Promise<string> {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) throw new Failure('invalid', `${text} is not an http or https URL.`)
  const { username, password } = url
  url.username = url.password = ''
  await using upstream = ctx.fetch.open({
    url: url.href,
    ...(username && { username: decodeURIComponent(username), password: decodeURIComponent(password) }),
  })
  await using staged = await upstream.download([url], {}, signal)
  return await keep(ctx, staged)
}

async function keep({ db }: Ctx, staged: Staged): Promise<string> {
  await staged.keep()
  await saveBlob(db, staged.digests, staged.size)
  return staged.digests.sha256
}

function allowed({ config }: Ctx) {
  return config.allowedChecksums.filter((each) => each !== 'sha256') as []
}
