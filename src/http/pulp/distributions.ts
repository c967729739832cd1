import { sql } from 'kysely'
import { isCheckpoint } from '../../core/checkpoints.ts'
import type { Format } from '../../core/format.ts'
import { type DistributionValues, findOverlap, isNameTaken } from '../../core/resources.ts'
import type { Problems } from '../../lib/failure.ts'
import { renderTime } from '../../lib/time.ts'
import type { Db } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, labelFilter, lookups, nameFilters, targetFilter } from './filters.ts'
import { findTarget, hrefOf } from './hrefs.ts'
import { invalid } from './invalid.ts'
import {
  answerSchema,
  domainLock,
  labelOperations,
  listing,
  postponed,
  reading,
  roleOperations,
  taskAnswer,
} from './operations.ts'
import type { Call, Fields, Filters, Operation, Resource } from './resource.ts'
import { checkLabels, labelsField, pickSettings, showSettings } from './settings.ts'

const tasks = 'pulpcore.app.tasks.base'

/** Where content is served, below the origin. */
const contentPrefix = '/pulp/content/'

const commonFields: Fields = {
  base_path: {
    type: 'string',
    required: true,
    description:
      'The base (relative) path component of the published url. Avoid paths that overlap with other distribution base paths (e.g. "foo" and "foo/bar")',
  },
  base_url: {
    type: 'string',
    readOnly: true,
    description: 'The URL for accessing the publication as defined by this distribution.',
  },
  content_guard: { type: 'href', to: 'guard', nullable: true, description: 'An optional content-guard.' },
  no_content_change_since: {
    type: 'string',
    readOnly: true,
    description: 'Timestamp since when the distributed content served by this distribution has not changed.',
  },
  hidden: { type: 'boolean', default: false, description: 'Whether this distribution should be shown in the content app.' },
  pulp_labels: labelsField,
  name: { type: 'string', required: true, description: 'A unique name. Ex, `rawhide` and `stable`.' },
  repository: {
    type: 'href',
    to: 'repository',
    nullable: true,
    description: 'The latest RepositoryVersion for this Repository will be served.',
  },
}

const checkpoint: Fields = { checkpoint: { type: 'boolean' } }

const filters: Filters = {
  ...nameFilters('distribution.name'),
  ...lookups('base_path', 'distribution.base_path', 'text', ['exact', 'contains', 'icontains', 'in']),
  ...lookups('checkpoint', isCheckpoint, 'boolean', ['exact']),
  pulp_label_select: labelFilter('distribution.labels'),
  repository: targetFilter('distribution.repository_id', ['repository']),
  repository__in: targetFilter('distribution.repository_id', ['repository'], { many: true }),
  with_content: {
    field: { type: 'string', description: 'Filter distributions based on the content served by them' },
    async where(value: string, call) {
      const found = await findTarget(call, value, ['content'])
      if (found === 'unknown' || found === 'other') throw invalid([`URI not valid: ${value}`])
      if (found === 'absent') throw invalid([`URI ${value} not found for content.`])
      return sql`(distribution.repository_id in (select repository_id from membership where content_id = ${found.id} and removed_in is null)
        or coalesce(distribution.version_id, (select version_id from publication where publication.id = distribution.publication_id)) in (
          select v.id from membership m join version v on v.repository_id = m.repository_id
          and m.added_in <= v.number and (m.removed_in is null or m.removed_in > v.number) where m.content_id = ${found.id}))`
    },
  },
}

const ordering = {
  name: 'distribution.name',
  base_path: 'distribution.base_path',
  hidden: 'distribution.hidden',
  checkpoint: '',
  pulp_labels: '',
  pulp_type: 'distribution.type',
}

/** The distributions of one format. All changes of distributions exclude one another, as in Pulp: their paths must not overlap. */
export function distributionResource(format: Format): Resource<'distribution'> {
  const { name: app, pulp } = format
  const type = `${app}.${pulp.type}`
  const model = `${pulp.model}Distribution`
  const schema = `${app}.${model}`
  const may = (action: string) => `${app}.${action}_${model.toLowerCase()}`
  const view = may('view')
  const named = {
    repository: `${app}.view_${pulp.model.toLowerCase()}repository`,
    publication: `${app}.view_${pulp.model.toLowerCase()}publication`,
  }
  const fields: Fields = {
    ...commonFields,
    repository: { ...commonFields['repository']!, to: `repository:${type}` },
    publication: { type: 'href', to: `publication:${type}`, nullable: true, description: 'Publication to be served' },
    ...checkpoint,
    ...format.fields.distribution,
  }
  const settings = { ...checkpoint, ...format.fields.distribution }
  const answer = answerSchema(schema, baseFields, fields)
  const body = { schema, fields: fields }
  const change = { object: [may('change'), view], named }
  const task = async (call: Call, kind: string, args: Record<string, unknown>, name: string) =>
    postponed(call, {
      name: `${tasks}.${name}`,
      kind,
      args: { resource: 'distribution', ...args },
      exclusive: [await domainLock(call, 'distributions')],
      immediate: true,
    })
  const updating = (name: 'update' | 'partial_update'): Operation => ({
    name,
    method: name === 'update' ? 'PUT' : 'PATCH',
    on: 'item',
    summary: `Update a ${app} distribution`,
    body: name === 'update' ? body : { ...body, partial: true },
    answers: { 202: taskAnswer },
    allow: change,
    async run(call) {
      const changes = await distributionValues(settings, call, call.row)
      return task(call, 'update', { id: call.row.id, changes }, 'ageneral_update')
    },
  })
  return {
    path: `distributions/${app}/${pulp.type}`,
    app,
    model,
    table: 'distribution',
    kind: 'distribution',
    type,
    fields,
    filters,
    ordering,
    view,
    show: (call, rows) => showDistributions(call, rows, settings),
    operations: [
      listing(answer),
      reading(answer),
      {
        name: 'create',
        method: 'POST',
        on: 'collection',
        summary: `Create a ${app} distribution`,
        body,
        answers: { 202: taskAnswer },
        allow: { model: [may('add')], named },
        run: async (call) => task(call, 'create', { type, values: await distributionValues(settings, call) }, 'general_create'),
      },
      updating('update'),
      updating('partial_update'),
      {
        name: 'delete',
        method: 'DELETE',
        on: 'item',
        summary: `Delete a ${app} distribution`,
        answers: { 202: taskAnswer },
        allow: { object: [may('delete'), view] },
        run: (call) => task(call, 'delete', { id: call.row.id }, 'ageneral_delete'),
      },
      ...roleOperations(`${app}.${model.toLowerCase()}`),
      ...labelOperations('distribution', { object: [may('change'), view] }, 200),
    ],
  }
}

/** What a request sets, as core names it, checked against what is there. */
async function distributionValues(settings: Fields, call: Call, row?: Row<'distribution'>): Promise<Partial<DistributionValues>> {
  const { body, ctx } = call
  checkPath(body['base_path'])
  checkLabels(body['pulp_labels'])
  await checkPlace(ctx.db, body, row?.id ?? -1)
  const repository = idOf(body, 'repository', row?.repository_id)
  const publication = idOf(body, 'publication', row?.publication_id)
  const given = pickSettings(settings, body)
  const checkpoints = given['checkpoint'] ?? (row ? JSON.parse(row.settings).checkpoint : false)
  if (repository !== null && publication !== null)
    throw invalid({ non_field_errors: ["Only one of the attributes 'repository' and 'publication' may be used simultaneously."] })
  if (checkpoints && (repository === null || publication !== null))
    throw invalid({ non_field_errors: ["The 'checkpoint' attribute may only be used with the 'repository' attribute."] })
  return {
    name: body['name'],
    base_path: body['base_path'],
    hidden: body['hidden'],
    labels: body['pulp_labels'],
    ...('content_guard' in body ? { guard_id: body['content_guard']?.id ?? null } : {}),
    ...('repository' in body ? { repository_id: repository } : {}),
    ...('publication' in body ? { publication_id: publication } : {}),
    settings: given,
  }
}

/** Throws Invalid for a name or a path that is taken, and for a path above or below another one. */
async function checkPlace(db: Db, { name, base_path: path }: Call['body'], id: number): Promise<void> {
  const problems: Record<string, Problems> = {}
  const other = path === undefined ? undefined : await findOverlap(db, path, id)
  if (other?.base_path === path && other) problems['base_path'] = ['This field must be unique.']
  // Pulp raises this one as a dictionary inside the field's own error, so it is nested and no list.
  else if (other)
    problems['base_path'] = { base_path: `Overlaps with existing distribution '${other.name}'` } as unknown as Problems
  if (name !== undefined && (await isNameTaken(db, 'distribution', name, id))) problems['name'] = ['This field must be unique.']
  if (Object.keys(problems).length > 0) throw invalid(problems)
}

/** The id that a field names after the change. */
function idOf(body: Call['body'], field: string, stored: number | null = null): number | null {
  return field in body ? (body[field]?.id ?? null) : stored
}

function checkPath(path: string | undefined): void {
  if (path === undefined) return
  const problem = (message: string) => invalid({ base_path: [message] })
  if (path.includes(' ')) throw problem('Relative path cannot contain spaces.')
  if (/[\s?#\\]/.test(path)) throw problem('Enter a valid URL.')
  if (path.startsWith('/') || path.endsWith('/')) throw problem('Relative path cannot begin or end with slashes.')
  if (path.split('/').some((segment) => segment === '' || segment === '.' || segment === '..'))
    throw problem('Enter a valid URL.')
}

async function showDistributions(call: Call, rows: readonly Row<'distribution'>[], settings?: Fields) {
  const guards = await hrefsById(
    call,
    'guard',
    rows.map(({ guard_id }) => guard_id),
  )
  const repositories = await hrefsById(
    call,
    'repository',
    rows.map(({ repository_id }) => repository_id),
  )
  const publications = await hrefsById(
    call,
    'publication',
    rows.map(({ publication_id }) => publication_id),
  )
  const origin = (call.ctx.config.origin ?? call.origin).replace(/\/$/, '')
  return rows.map((row) => ({
    base_path: row.base_path,
    base_url: `${origin}${contentPrefix}${row.base_path}/`,
    content_guard: row.guard_id === null ? null : (guards.get(row.guard_id) ?? null),
    no_content_change_since: row.publication_id === null ? null : renderTime(row.updated),
    hidden: row.hidden === 1,
    pulp_labels: JSON.parse(row.labels),
    name: row.name,
    repository: row.repository_id === null ? null : (repositories.get(row.repository_id) ?? null),
    ...(settings
      ? {
          publication: row.publication_id === null ? null : (publications.get(row.publication_id) ?? null),
          ...showSettings(settings, JSON.parse(row.settings)),
        }
      : {}),
  }))
}

async function hrefsById(
  call: Call,
  kind: 'guard' | 'repository' | 'publication',
  ids: readonly (number | null)[],
): Promise<Map<number, string>> {
  const wanted = [...new Set(ids.filter((id) => id !== null))]
  if (wanted.length === 0) return new Map()
  const rows = await call.ctx.db
    .selectFrom(kind as 'guard')
    .select(['id', 'uuid', 'type'])
    .where('id', 'in', wanted)
    .execute()
  return new Map(rows.map((row) => [row.id, hrefOf(call.registry, kind, row)]))
}

/** `distributions/`: those of all formats. */
export const distributionsList: Resource<'distribution'> = {
  path: 'distributions',
  app: 'core',
  model: 'Distribution',
  table: 'distribution',
  kind: 'distribution',
  generic: true,
  fields: commonFields,
  filters,
  ordering,
  show: (call, rows) => showDistributions(call, rows),
  operations: [listing(answerSchema('Distribution', baseFields, commonFields))],
}
