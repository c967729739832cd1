import { sql } from 'kysely'
import type { Format, Publications } from '../../core/format.ts'
import { prnOf } from '../../core/names.ts'
import { deleteResource } from '../../core/resources.ts'
import { latestVersion } from '../../core/versions.ts'
import { renderTime } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups, timeFilters } from './engine/filters.ts'
import { findTarget, hrefOf, versionHrefs } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { answerSchema, creating, deleting, listing, postponed, reading, roleOperations, taskAnswer } from './engine/operations.ts'
import type { Call, Fields, Filter, Filters, Operation, Resource, Target } from './engine/resource.ts'
import { checkSetting, pickSettings, showSettings } from './engine/settings.ts'
import { contentFilter } from './versions.ts'

const commonFields: Fields = {
  repository_version: { type: 'href', to: 'version' },
  repository: { type: 'href', to: 'repository', description: 'A URI of the repository to be published.' },
}

const checkpoint: Fields = { checkpoint: { type: 'boolean' } }

/** Which distributions serve it now. */
const distributions: Fields = {
  distributions: { type: 'array', items: { type: 'string', format: 'uri' }, readOnly: true },
}

const filters: Filters = {
  ...timeFilters('pulp_created', 'publication.created'),
  ...lookups('checkpoint', 'publication.checkpoint', 'boolean', ['exact']),
  repository: namedFilter('repository', 'publication.repository_id', {
    type: 'string',
    description: 'Repository referenced by HREF/PRN',
  }),
  repository_version: namedFilter('version', 'publication.version_id', {
    type: 'string',
    format: 'uuid',
    description: 'Repository Version referenced by HREF/PRN',
  }),
  content: contentFilter(false, sql.ref('publication.version_id')),
  content__in: contentFilter(true, sql.ref('publication.version_id')),
}

const ordering = { checkpoint: 'publication.checkpoint', complete: '', pass_through: '', pulp_type: 'publication.type' }

/** What names one thing and must exist, with Pulp's words when it does not. */
function namedFilter(kind: 'repository' | 'version', column: string, field: Filter['field']): Filter {
  const model = kind === 'version' ? 'repositoryversion' : 'repository'
  return {
    field,
    empty: { refusal: `No value supplied for ${kind === 'version' ? 'repository version' : kind} filter` },
    async where(value: string, call) {
      const found = await findTarget(call, value, [kind])
      if (found === 'unknown') throw invalid([`URI not valid: ${value}`])
      if (typeof found === 'string') throw invalid([`URI ${value} not found for ${model}.`])
      return sql`${sql.ref(column)} = ${found.id}`
    },
  }
}

/** The publications of one format, if it has some. */
export function publicationResources(format: Format): Resource<'publication'>[] {
  return format.publications ? [publicationResource(format, format.publications)] : []
}

function publicationResource(format: Format, publications: Publications): Resource<'publication'> {
  const { name: app } = format
  const usual = format.repositories[0]!
  const type = `${app}.${usual.type}`
  const model = `${usual.model}Publication`
  const schema = `${app}.${model}`
  const may = (action: string) => `${app}.${action}_${model.toLowerCase()}`
  const view = may('view')
  const viewRepository = `${app}.view_${usual.model.toLowerCase()}repository`
  const fields: Fields = {
    repository_version: { ...commonFields['repository_version']!, to: `version:${type}` },
    repository: { ...commonFields['repository']!, to: `repository:${type}` },
    ...distributions,
    ...checkpoint,
    ...publications.fields,
  }
  const answer = answerSchema(schema, baseFields, fields)
  return {
    path: `publications/${app}/${usual.type}`,
    app,
    model,
    table: 'publication',
    kind: 'publication',
    type,
    fields,
    filters,
    ordering,
    view,
    show: (call, rows, wanted) => showPublications(call, rows, wanted, publications),
    operations: [
      listing(answer),
      reading(answer),
      publishing(
        format,
        publications,
        { schema, fields: fields },
        {
          model: [may('add')],
          named: { repository: viewRepository, repository_version: viewRepository },
        },
      ),
      deleting({
        summary: `Delete a ${app} publication`,
        allow: { object: [may('delete'), view] },
        remove: (call) => deleteResource(call.ctx, 'publication', call.row.id),
      }),
      ...roleOperations(`${app}.${model.toLowerCase()}`),
    ],
  }
}

function publishing(
  format: Format,
  { fields, task }: Publications,
  body: NonNullable<Operation['body']>,
  allow: Operation['allow'],
): Operation {
  return creating({
    summary: `Create a ${format.name} publication`,
    body,
    answers: { 202: taskAnswer },
    allow,
    async run(call) {
      const { versionId, repositoryPrn } = await versionToPublish(call)
      const asked = pickSettings(fields, call.body)
      checkSetting(format, 'publication', asked)
      return postponed(call, {
        name: task,
        kind: 'publish',
        args: { versionId, asked, checkpoint: call.body['checkpoint'] === true },
        shared: [repositoryPrn],
      })
    },
  })
}

async function versionToPublish(call: Call): Promise<{ versionId: number; repositoryPrn: string }> {
  const repository: Target | undefined = call.body['repository']
  const version: Target | undefined = call.body['repository_version']
  const problem = (message: string) => invalid({ non_field_errors: [message] })
  if (repository && version) throw problem("Either the 'repository' or 'repository_version' need to be specified but not both.")
  if (repository) return { versionId: (await latestVersion(call.ctx.db, repository.id)).id, repositoryPrn: repository.prn }
  if (!version) throw problem("Either the 'repository' or 'repository_version' need to be specified")
  if (call.body['checkpoint']) throw problem("'checkpoint' may only be used with 'repository'")
  const row = await call.ctx.db
    .selectFrom('version')
    .innerJoin('repository', 'repository.id', 'version.repository_id')
    .select(['repository.uuid', 'repository.type'])
    .where('version.id', '=', version.id)
    .executeTakeFirstOrThrow()
  return { versionId: version.id, repositoryPrn: prnOf(call.ctx.formats, 'repository', row) }
}

async function showPublications(
  call: Call,
  rows: readonly Row<'publication'>[],
  wanted: (field: string) => boolean,
  publications?: Publications,
) {
  if (rows.length === 0) return []
  const { db } = call.ctx
  const versions = await versionHrefs(call, wanted('repository_version') ? rows.map(({ version_id }) => version_id) : [])
  const repositories = await db
    .selectFrom('repository')
    .select(['id', 'uuid', 'type'])
    .where('id', 'in', [...new Set(rows.map(({ repository_id }) => repository_id))])
    .execute()
  const hrefs = new Map(repositories.map((row) => [row.id, hrefOf(call.registry, 'repository', row)]))
  const serving =
    publications && wanted('distributions')
      ? await db
          .selectFrom('distribution')
          .select(['uuid', 'type', 'publication_id'])
          .where(
            'publication_id',
            'in',
            rows.map(({ id }) => id),
          )
          .orderBy('id')
          .execute()
      : []
  const byPublication = Map.groupBy(serving, ({ publication_id }) => publication_id)
  return rows.map((row) => ({
    pulp_last_updated: renderTime(row.updated),
    repository_version: versions.get(row.version_id) ?? null,
    repository: hrefs.get(row.repository_id) ?? null,
    ...(publications
      ? {
          distributions: (byPublication.get(row.id) ?? []).map((each) => hrefOf(call.registry, 'distribution', each)),
          checkpoint: row.checkpoint === 1,
          ...showSettings(call.registry, publications.fields, JSON.parse(row.settings)),
        }
      : {}),
  }))
}

/** `publications/`: those of all formats. */
export const publicationsList: Resource<'publication'> = {
  path: 'publications',
  app: 'core',
  model: 'Publication',
  table: 'publication',
  kind: 'publication',
  generic: true,
  fields: commonFields,
  filters,
  ordering,
  show: (call, rows, wanted) => showPublications(call, rows, wanted),
  operations: [listing(answerSchema('Publication', baseFields, commonFields))],
}
