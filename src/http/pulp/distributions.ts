import { sql } from 'kysely'
import { isCheckpoint } from '../../core/serving/checkpoints.ts'
import type { DistributionType, Format } from '../../core/format.ts'
import { prnOf, repositoryTypeOf } from '../../core/names.ts'
import { namespaceIn } from '../../core/access/namespaces.ts'
import { type DistributionValues, findOverlap, isNameTaken, pushedTo } from '../../core/resources.ts'
import { Failure, type Problems } from '../../lib/failure.ts'
import { renderTime } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, labelFilter, lookups, nameFilters, targetFilter } from './engine/filters.ts'
import { findTarget, hrefOf, isSeen, versionHrefs } from './engine/hrefs.ts'
import { type DistributionRules, namespaceOf, rightsInNamespaces } from './in-namespaces.ts'
import { invalid } from './engine/invalid.ts'
import {
  answerSchema,
  creating,
  deletingLater,
  domainLock,
  labelOperations,
  listing,
  postponed,
  reading,
  roleOperations,
  taskAnswer,
  updating,
} from './engine/operations.ts'
import { denied } from './engine/permit.ts'
import type { Call, Fields, Filters, Resource, Target } from './engine/resource.ts'
import { checkLabels, labelsField, pickSettings, showSettings } from './engine/settings.ts'

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

const noRepository = { refusal: 'No value supplied for repository filter.' }

const filters: Filters = {
  ...nameFilters('distribution.name'),
  ...lookups('base_path', 'distribution.base_path', 'text', ['exact', 'contains', 'icontains', 'in']),
  ...lookups('checkpoint', isCheckpoint, 'boolean', ['exact']),
  pulp_label_select: labelFilter('distribution.labels'),
  repository: targetFilter('distribution.repository_id', ['repository'], { empty: noRepository }),
  repository__in: targetFilter('distribution.repository_id', ['repository'], { many: true, empty: noRepository }),
  with_content: {
    field: { type: 'string', description: 'Filter distributions based on the content served by them' },
    empty: { refusal: 'URI not valid: ' },
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

/** What distributions of a type have, by what they can serve: a publication or a repository, a repository or one version of it, or others below them. */
function fieldsOf(format: Format, type: DistributionType): { fields: Fields; settings: Fields } {
  const own = `${format.name}.${format.repositories[0]!.type}`
  const settings = format.publications ? { ...checkpoint, ...type.fields } : type.fields
  if (format.publications)
    return {
      settings,
      fields: {
        ...commonFields,
        repository: { ...commonFields['repository']!, to: `repository:${own}` },
        publication: { type: 'href', to: `publication:${own}`, nullable: true, description: 'Publication to be served' },
        ...settings,
      },
    }
  const all = (kind: string) => format.repositories.map((each) => `${kind}:${format.name}.${each.type}`).join(',')
  const { base_url: baseUrl, ...common } = commonFields
  const fields: Fields = {
    ...common,
    ...(format.servesVersions === 'files' && { base_url: baseUrl! }),
    repository: { ...commonFields['repository']!, to: all('repository') },
  }
  if (format.namespaces) Object.assign(fields, namespaceFields)
  if (type.pullsThrough)
    return {
      settings,
      fields: {
        ...fields,
        remote: { ...pulledFrom, to: `remote:${format.name}.${type.pullsThrough}`, required: true },
        distributions: {
          type: 'array',
          items: { type: 'href', to: `distribution:${format.name}.${format.distributions[0]!.type}` },
          description: 'Distributions created after pulling content through cache',
        },
        ...settings,
      },
    }
  return {
    settings,
    fields: {
      ...fields,
      repository_version: { type: 'href', to: all('version'), nullable: true, description: 'RepositoryVersion to be served' },
      remote: { ...pulledFrom, type: 'string', format: 'uri', readOnly: true },
      ...type.shown,
      ...settings,
    },
  }
}

const pulledFrom: Fields[string] = {
  type: 'href',
  description: 'Remote that can be used to fetch content when using pull-through caching.',
}

const namespaceFields: Fields = {
  content_guard: {
    type: 'href',
    to: 'guard:core.content_redirect',
    description: 'An optional content-guard. If none is specified, a default one will be used.',
  },
  namespace: { type: 'string', format: 'uri', readOnly: true, description: 'Namespace this distribution belongs to.' },
}

interface Shape {
  format: Format
  type: DistributionType
  settings: Fields
  rules: DistributionRules
}

/** The distributions of one type of a format. All changes of distributions exclude one another, as in Pulp: their paths must not overlap. */
export function distributionResource(format: Format, type: DistributionType): Resource<'distribution'> {
  const { name: app } = format
  const model = `${type.model}Distribution`
  const schema = `${app}.${model}`
  const { fields, settings } = fieldsOf(format, type)
  const rules = format.namespaces ? rightsInNamespaces(format, type) : usualRights(format, type)
  const shape: Shape = { format, type, settings, rules }
  const answer = answerSchema(schema, baseFields, fields)
  const body = { schema, fields }
  const named = {
    repository: `${app}.view_${format.repositories[0]!.model.toLowerCase()}repository`,
    ...(format.publications
      ? { publication: `${app}.view_${format.repositories[0]!.model.toLowerCase()}publication` }
      : { repository_version: `${app}.view_${format.repositories[0]!.model.toLowerCase()}repository` }),
    ...(type.pullsThrough && { remote: `${app}.view_${type.model.toLowerCase()}remote` }),
  }
  const task = async (call: Call, kind: string, args: Record<string, unknown>, name: string, more: readonly string[] = []) =>
    postponed(call, {
      name: `${tasks}.${name}`,
      kind,
      args: { resource: 'distribution', ...args },
      exclusive: [await domainLock(call, 'distributions'), ...more],
      immediate: more.length === 0,
    })
  return {
    path: `distributions/${app}/${type.type}`,
    app,
    model,
    table: 'distribution',
    kind: 'distribution',
    type: `${app}.${type.type}`,
    fields,
    filters: format.namespaces && !type.pullsThrough ? { ...filters, namespace__name: namespaceFilter } : filters,
    ordering: format.namespaces ? { ...ordering, private: '', description: '' } : ordering,
    ...rules.see,
    show: (call, rows) => showDistributions(call, rows, shape),
    operations: [
      listing(answer),
      reading(answer),
      creating({
        summary: `Create a ${app} distribution`,
        body,
        answers: { 202: taskAnswer },
        allow: { ...rules.create, named },
        run: async (call) =>
          task(call, 'create', { type: `${app}.${type.type}`, values: await distributionValues(shape, call) }, 'general_create'),
      }),
      ...updating({
        summary: `Update a ${app} distribution`,
        body,
        answers: { 202: taskAnswer },
        allow: { ...rules.change, named },
        async run(call) {
          const changes = await distributionValues(shape, call, call.row)
          return task(call, 'update', { id: call.row.id, changes }, 'ageneral_update')
        },
      }),
      deletingLater({
        summary: `Delete a ${app} distribution`,
        allow: rules.delete,
        async run(call) {
          const pushed = await pushedTo(call.ctx.db, call.ctx.formats, call.row.id)
          const more = pushed ? [prnOf(call.ctx.formats, 'repository', pushed)] : []
          // Pulp deletes several things by another task.
          const name = format.namespaces && !type.pullsThrough ? 'general_multi_delete' : 'ageneral_delete'
          return task(call, 'delete', { id: call.row.id }, name, more)
        },
      }),
      ...roleOperations(`${app}.${model.toLowerCase()}`),
      ...labelOperations('distribution', rules.change, 200),
    ],
  }
}

function usualRights({ name }: Format, { model }: DistributionType): DistributionRules {
  const may = (action: string) => `${name}.${action}_${model.toLowerCase()}distribution`
  const view = may('view')
  return {
    see: { view },
    create: { model: [may('add')] },
    change: { object: [may('change'), view] },
    delete: { object: [may('delete'), view] },
    mayPut: async () => true,
    mayServe: async () => true,
  }
}

const namespaceFilter: Filters[string] = {
  field: { type: 'string' },
  where: (name: string, { ctx: { db } }) => sql`${namespaceOf(db)} = ${name}`,
}

/** What a request sets, as core names it, checked against what is there. */
async function distributionValues(shape: Shape, call: Call, row?: Row<'distribution'>): Promise<Partial<DistributionValues>> {
  const { body } = call
  checkPath(body['base_path'], shape.type)
  checkLabels(body['pulp_labels'])
  await checkPlace(call, shape, row)
  const given = pickSettings(shape.settings, body)
  await checkServed(call, shape, given, row)
  return {
    name: body['name'],
    base_path: body['base_path'],
    hidden: body['hidden'],
    labels: body['pulp_labels'],
    ...idsOf(body, {
      content_guard: 'guard_id',
      repository: 'repository_id',
      repository_version: 'version_id',
      publication: 'publication_id',
      remote: 'remote_id',
    }),
    settings: given,
  }
}

function idsOf(body: Call['body'], columns: Readonly<Record<string, string>>): Record<string, number | null> {
  return Object.fromEntries(
    Object.entries(columns).flatMap(([field, column]) => (field in body ? [[column, body[field]?.id ?? null]] : [])),
  )
}

/** A distribution serves one thing, and one that its maker may have served. */
async function checkServed(
  call: Call,
  { format, type, rules }: Shape,
  given: Record<string, unknown>,
  row?: Row<'distribution'>,
): Promise<void> {
  const { body } = call
  const problem = (message: string) => invalid({ non_field_errors: [message] })
  const repository = idOf(body, 'repository', row?.repository_id)
  const other = format.publications ? 'publication' : 'repository_version'
  const it = format.publications ? idOf(body, other, row?.publication_id) : idOf(body, other, row?.version_id)
  if (repository !== null && it !== null && !type.pullsThrough)
    throw problem(`Only one of the attributes 'repository' and '${other}' may be used simultaneously.`)
  const version: Target | undefined = body['repository_version']
  if (version && repositoryTypeOf(call.ctx.formats, version.type).pushed)
    throw problem('A container push repository cannot be distributed by specifying a repository version.')
  const checkpoints = given['checkpoint'] ?? (row ? JSON.parse(row.settings).checkpoint : false)
  if (checkpoints && (repository === null || it !== null))
    throw problem("The 'checkpoint' attribute may only be used with the 'repository' attribute.")
  const named: Target | null | undefined = body['repository']
  if (named && named.id !== row?.repository_id && !(await rules.mayServe(call, named))) throw denied()
}

/** Throws Failure invalid for a name or a path that is taken, and for a path above or below another one; denied for a namespace of others. */
async function checkPlace(call: Call, { format, type, rules }: Shape, row?: Row<'distribution'>): Promise<void> {
  const { db, formats } = call.ctx
  const { name, base_path: path } = call.body
  const id = row?.id ?? -1
  const problems: Record<string, Problems> = {}
  const other = path === undefined ? undefined : await findOverlap(db, formats, `${format.name}.${type.type}`, path, id)
  if (other?.base_path === path && other) problems['base_path'] = ['This field must be unique.']
  // Pulp raises this one as a dictionary inside the field's own error, so it is nested and no list.
  else if (other) {
    const isNamed = await isSeen(call, { kind: 'distribution', ...other, prn: prnOf(formats, 'distribution', other) })
    const what = isNamed ? `existing distribution '${other.name}'` : 'an existing distribution'
    problems['base_path'] = { base_path: `Overlaps with ${what}` } as unknown as Problems
  }
  if (name !== undefined && (await isNameTaken(db, 'distribution', name, id))) problems['name'] = ['This field must be unique.']
  if (Object.keys(problems).length > 0) throw invalid(problems)
  if (row && path !== undefined && namespaceIn(path) !== namespaceIn(row.base_path) && !(await rules.mayPut(call, path)))
    throw denied()
}

/** The id that a field names after the change. */
function idOf(body: Call['body'], field: string, stored: number | null = null): number | null {
  return field in body ? (body[field]?.id ?? null) : stored
}

function checkPath(path: string | undefined, type: DistributionType): void {
  if (path === undefined) return
  const problem = (message: string) => invalid({ base_path: [message] })
  if (type.checkPath) {
    try {
      type.checkPath(path)
    } catch (error) {
      if (error instanceof Failure && error.code === 'invalid') throw problem(error.message)
      throw error
    }
  }
  if (path.includes(' ')) throw problem('Relative path cannot contain spaces.')
  if (/[\s?#\\]/.test(path)) throw problem('Enter a valid URL.')
  if (path.startsWith('/') || path.endsWith('/')) throw problem('Relative path cannot begin or end with slashes.')
  if (path.split('/').some((segment) => segment === '' || segment === '.' || segment === '..'))
    throw problem('Enter a valid URL.')
}

async function showDistributions(call: Call, rows: readonly Row<'distribution'>[], shape?: Shape) {
  const hrefs = await linksOf(call, rows)
  const origin = (call.ctx.config.origin ?? call.origin).replace(/\/$/, '')
  const isBrowsed = !shape || shape.format.servesVersions !== 'protocol'
  const further = shape ? await furtherLinks(call, rows, shape) : []
  return rows.map((row, at) => ({
    base_path: row.base_path,
    ...(isBrowsed && { base_url: `${origin}${contentPrefix}${row.base_path}/` }),
    content_guard: hrefs.guard(row.guard_id),
    no_content_change_since: row.publication_id === null && row.version_id === null ? null : renderTime(row.updated),
    hidden: row.hidden === 1,
    pulp_labels: JSON.parse(row.labels),
    name: row.name,
    repository: hrefs.repository(row.repository_id),
    ...(shape?.format.publications && { publication: hrefs.publication(row.publication_id) }),
    ...(shape && showSettings(call.registry, shape.settings, JSON.parse(row.settings))),
    ...further[at],
  }))
}

/** What distributions name, whatever their type. */
async function linksOf(call: Call, rows: readonly Row<'distribution'>[]) {
  const find = async (kind: 'guard' | 'repository' | 'publication', column: 'guard_id' | 'repository_id' | 'publication_id') => {
    const found = await hrefsById(
      call,
      kind,
      rows.map((row) => row[column]),
    )
    return (id: number | null) => (id === null ? null : (found.get(id) ?? null))
  }
  return {
    guard: await find('guard', 'guard_id'),
    repository: await find('repository', 'repository_id'),
    publication: await find('publication', 'publication_id'),
  }
}

/** What distributions have that serve versions, lie in namespaces, or make others. */
async function furtherLinks(
  call: Call,
  rows: readonly Row<'distribution'>[],
  { format, type }: Shape,
): Promise<Record<string, unknown>[]> {
  if (format.publications) return []
  const versions = await versionHrefs(
    call,
    rows.map(({ version_id }) => version_id),
  )
  const remotes = await hrefsById(
    call,
    'remote',
    rows.map(({ remote_id }) => remote_id),
  )
  const namespaces = format.namespaces ? await namespaceHrefs(call, format, rows) : new Map<string, string>()
  const made = type.pullsThrough ? await madeBy(call, rows) : new Map<number, string[]>()
  const host = new URL(call.ctx.config.origin ?? call.origin).host
  return rows.map((row) => ({
    ...(!type.pullsThrough && { repository_version: row.version_id === null ? null : (versions.get(row.version_id) ?? null) }),
    remote: row.remote_id === null ? null : (remotes.get(row.remote_id) ?? null),
    ...(format.namespaces && { namespace: namespaces.get(namespaceIn(row.base_path)) ?? null }),
    ...(type.pullsThrough && { distributions: made.get(row.id) ?? [] }),
    ...type.show?.(row, host),
  }))
}

async function namespaceHrefs(call: Call, { name }: Format, rows: readonly Row<'distribution'>[]): Promise<Map<string, string>> {
  const names = [...new Set(rows.map(({ base_path }) => namespaceIn(base_path)))]
  if (names.length === 0) return new Map()
  const found = await call.ctx.db
    .selectFrom('namespace')
    .select(['uuid', 'type', 'name'])
    .where('type', '=', `${name}.namespace`)
    .where('name', 'in', names)
    .execute()
  return new Map(found.map((row) => [row.name, hrefOf(call.registry, 'namespace', row)]))
}

/** The distributions that these made. */
async function madeBy(call: Call, rows: readonly Row<'distribution'>[]): Promise<Map<number, string[]>> {
  if (rows.length === 0) return new Map()
  const found = await call.ctx.db
    .selectFrom('distribution')
    .select(['uuid', 'type', 'made_by_id'])
    .where(
      'made_by_id',
      'in',
      rows.map(({ id }) => id),
    )
    .orderBy('id')
    .execute()
  const byMaker = Map.groupBy(found, ({ made_by_id }) => made_by_id!)
  return new Map([...byMaker].map(([id, made]) => [id, made.map((row) => hrefOf(call.registry, 'distribution', row))]))
}

async function hrefsById(
  call: Call,
  kind: 'guard' | 'repository' | 'publication' | 'remote',
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
