import { sql } from 'kysely'
import { saveBlob } from '../../core/content.ts'
import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import type { Staged } from '../../store/blobs.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups } from './engine/filters.ts'
import { findTarget } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { answerSchema, created, creating, listing, reading } from './engine/operations.ts'
import type { Call, Fields, Resource } from './engine/resource.ts'
import { isHeldVisibly } from './visible-content.ts'

const digests = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'] as const
const minute = 60_000_000
const protectionTime = 1440
/** Minutes: longer than anything is here. */
const ages = 1e8

const common: Fields = {
  size: { type: 'integer', format: 'int64', description: 'The size of the file in bytes.' },
  ...Object.fromEntries(
    digests.map((name) => [
      name,
      { type: 'string', nullable: true, description: `The ${name} checksum of the file if available.` },
    ]),
  ),
}
const answer = answerSchema('Artifact', baseFields, {
  file: { type: 'string', required: true, description: 'The stored file.' },
  ...common,
})

/** Blobs, under the name that Pulp has for them. */
export const artifacts: Resource<'blob'> = {
  path: 'artifacts',
  app: 'core',
  model: 'Artifact',
  table: 'blob',
  kind: 'artifact',
  fields: common,
  // Lists are the administrators'; others may name those of content that they see, and those that tasks of theirs made.
  async visible(call) {
    if (call.user!.isSuperuser) return undefined
    return sql`(exists (select 1 from file where file.blob_id = blob.id and ${await isHeldVisibly(call, sql.ref('file.content_id'), call.ctx.formats)})
      or exists (select 1 from task_created join task on task.id = task_created.task_id
        where task_created.object = 'prn:core.artifact:' || blob.uuid and task.user_id = ${call.user!.id}))`
  },
  filters: {
    ...Object.assign({}, ...digests.map((name) => lookups(name, `blob.${name}`, 'text', ['exact']))),
    repository_version: {
      field: { type: 'string', description: 'Repository Version referenced by HREF/PRN' },
      empty: { refusal: 'No value supplied for repository version filter' },
      async where(value: string, call) {
        const found = await findTarget(call, value, ['version'])
        if (found === 'unknown') throw invalid([`URI not valid: ${value}`])
        if (typeof found === 'string') throw invalid([`URI ${value} not found for repositoryversion.`])
        return sql`blob.id in (select file.blob_id from version v join membership m on m.repository_id = v.repository_id
          and m.added_in <= v.number and (m.removed_in is null or m.removed_in > v.number)
          join file on file.content_id = m.content_id where v.id = ${found.id} and file.blob_id is not null)`
      },
    },
    orphaned_for: {
      field: { type: 'number', description: 'Minutes Artifacts have been orphaned for. -1 uses ORPHAN_PROTECTION_TIME.' },
      where: (minutes: number) =>
        sql`(blob.touched < ${now() - Math.trunc(minutes < 0 ? protectionTime : Math.min(minutes, ages)) * minute}
          and not exists (select 1 from file where file.blob_id = blob.id)
          and not exists (select 1 from published_file p where p.blob_id = blob.id))`,
    },
  },
  ordering: {
    ...Object.fromEntries([...digests, 'size'].map((name) => [name, `blob.${name}`])),
    file: 'blob.sha256',
    timestamp_of_interest: 'blob.touched',
  },
  show: async ({ ctx }, rows) =>
    rows.map((row) => ({
      file: `artifact/${row.sha256.slice(0, 2)}/${row.sha256.slice(2)}`,
      size: row.size,
      ...Object.fromEntries(
        digests.map((name) => [name, ctx.config.allowedChecksums.includes(name) ? (row[name] ?? null) : null]),
      ),
      sha256: row.sha256,
    })),
  operations: [
    listing(answer, 'admin'),
    reading(answer, 'admin'),
    creating({
      summary: 'Create an artifact',
      body: {
        schema: 'Artifact',
        form: true,
        fields: { file: { type: 'string', format: 'binary', required: true, description: 'The stored file.' }, ...common },
      },
      answers: { 201: answer },
      allow: 'admin',
      run: createArtifact,
    }),
    {
      name: 'delete',
      method: 'DELETE',
      on: 'item',
      summary: 'Delete an artifact',
      answers: { 204: null },
      allow: 'admin',
      // Pulp's policy lets nobody do it: content may still need the bytes. Orphans are cleaned up instead.
      async run() {
        throw new Failure('denied', 'You do not have permission to perform this action.')
      },
    },
  ],
}

async function createArtifact(call: Call) {
  const { db, config } = call.ctx
  const file: Staged = call.body['file']
  const problem = (message: string) => invalid({ non_field_errors: [message] })
  if (call.body['size'] !== undefined && call.body['size'] !== file.size)
    throw problem('The size did not match actual size of file.')
  const given = digests.filter((name) => typeof call.body[name] === 'string')
  const forbidden = given.filter((name) => name !== 'sha256' && !config.allowedChecksums.includes(name))
  if (forbidden.length > 0)
    throw problem(`Checksum algorithms [${forbidden.map((name) => `'${name}'`).join(', ')}] forbidden for this Pulp instance.`)
  for (const name of [...given].reverse())
    if (file.digests[name] !== call.body[name]) throw problem(`The ${name} checksum did not match.`)
  const known = await db.selectFrom('blob').select('id').where('sha256', '=', file.digests.sha256).executeTakeFirst()
  if (known) throw problem(`Artifact with sha256 checksum of '${file.digests.sha256}' already exists.`)
  await file.keep()
  const id = await saveBlob(db, file.digests, file.size)
  const row: Row<'blob'> = await db.selectFrom('blob').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  return created(call, row)
}
