import { sql } from 'kysely'
import type { Format, RepositoryType } from '../../core/format.ts'
import { prnOf } from '../../core/names.ts'
import { checkUnique, createResource, type RepositoryValues } from '../../core/resources.ts'
import { repositoryPermission } from '../../core/access/roles.ts'
import type { Row } from '../../store/schema.ts'
import { contentTargets } from './content-targets.ts'
import { baseFields, labelFilter, lookups, nameFilters, numberLookups, targetFilter } from './engine/filters.ts'
import { findTarget, hrefOf } from './engine/hrefs.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import {
  answerSchema,
  created,
  creating,
  deletingLater,
  labelOperations,
  listing,
  postponed,
  prnOfRow,
  reading,
  roleOperations,
  taskAnswer,
  updating,
} from './engine/operations.ts'
import { acting } from './repository-actions.ts'
import { type RepositoryRules, rightsOfPushed } from './in-namespaces.ts'
import type {
  Answer,
  AnswerSchema,
  BodySchema,
  Call,
  Fields,
  Filters,
  Operation,
  Resource,
  Rule,
  Target,
} from './engine/resource.ts'
import { checkLabels, checkSetting, labelsField, pickSettings, showSettings } from './engine/settings.ts'

const tasks = 'pulpcore.app.tasks'

/** Fields of every repository, and of the generic list. */
const commonFields: Fields = {
  versions_href: { type: 'string', format: 'uri', readOnly: true },
  pulp_labels: labelsField,
  latest_version_href: { type: 'string', format: 'uri', readOnly: true },
  name: { type: 'string', required: true, description: 'A unique name for this repository.' },
  description: { type: 'string', nullable: true, description: 'An optional description.' },
  retain_repo_versions: {
    type: 'integer',
    format: 'int64',
    nullable: true,
    minimum: 1,
    description: 'Retain X versions of the repository. Default is null which retains all versions.',
  },
  remote: { type: 'href', to: 'remote', nullable: true, description: 'An optional remote to use by default when syncing.' },
}

const autopublish: Fields = {
  autopublish: {
    type: 'boolean',
    default: false,
    description:
      'Whether to automatically create publications for new repository versions, and update any distributions pointing to this repository.',
  },
}

const filters: Filters = {
  ...nameFilters('repository.name'),
  ...lookups('retain_repo_versions', 'repository.retain_versions', 'number', numberLookups),
  pulp_label_select: labelFilter('repository.labels'),
  remote: targetFilter('repository.remote_id', ['remote'], { nullable: true }),
  with_content: withContent(false),
  latest_with_content: withContent(true),
}

const ordering = {
  name: 'repository.name',
  description: 'repository.description',
  next_version: 'repository.next_version',
  retain_repo_versions: 'repository.retain_versions',
  pulp_labels: '',
  pulp_type: 'repository.type',
  user_hidden: '',
}

function withContent(latest: boolean): Filters[string] {
  return {
    field: { type: 'string', description: 'Content Unit referenced by HREF/PRN' },
    empty: { refusal: 'No value supplied for content filter' },
    async where(value: string, call) {
      const found = await findTarget(call, value, ['content'])
      if (found === 'unknown' || found === 'other') throw invalid([`URI not valid: ${value}`])
      if (found === 'absent') throw invalid([`URI ${value} not found for content.`])
      const present = latest ? sql` and removed_in is null` : sql``
      return sql`repository.id in (select repository_id from membership where content_id = ${found.id}${present})`
    },
  }
}

/** The repositories of one type of a format. */
export function repositoryResource(format: Format, type: RepositoryType): Resource<'repository'> {
  const { name: app } = format
  const model = `${type.model}Repository`
  const schema = `${app}.${model}`
  const lower = `${app}.${model.toLowerCase()}`
  const { remote, ...withoutRemote } = commonFields
  const fields: Fields = {
    ...withoutRemote,
    ...(type.sync && { remote: remote! }),
    ...(format.publications && autopublish),
    ...type.fields,
  }
  const answer = answerSchema(schema, baseFields, fields)
  const rights = type.pushed ? rightsOfPushed(format, type) : usualRights(format, type)
  const body = { schema, fields }
  return {
    path: `repositories/${app}/${type.type}`,
    app,
    model,
    table: 'repository',
    kind: 'repository',
    type: `${app}.${type.type}`,
    fields,
    filters,
    ordering,
    ...rights.see,
    show: (call, rows, wanted) => showRepositories(call, rows, wanted, { format, type }),
    operations: [
      listing(answer),
      reading(answer),
      ...(type.pushed ? [] : byHand(format, type, body, answer, rights.delete!)),
      ...updating({
        summary: `Update a ${app} repository`,
        body,
        answers: { 202: taskAnswer },
        allow: rights.change,
        async run(call) {
          await checkRemote(call, call.row.type)
          const changes = repositoryValues(format, type, call.body, call.row)
          await checkUnique(call.ctx.db, call.ctx.formats, 'repository', call.row.type, changes, call.row.id)
          return postponed(call, {
            name: `${tasks}.base.ageneral_update`,
            kind: 'update',
            args: { resource: 'repository', id: call.row.id, changes },
            exclusive: [prnOfRow(call)],
            immediate: true,
          })
        },
      }),
      ...(type.sync ? [syncing(format, type, type.sync, rights.right('sync'))] : []),
      ...(type.modify ? [modifying(format, rights.right('modify'))] : []),
      ...(type.actions ?? []).map((action) => acting(action, rights.right(action.right))),
      ...roleOperations(lower),
      // Pulp has none on what pushes made.
      ...(type.pushed ? [] : labelOperations('repository', rights.change)),
    ],
  }
}

function usualRights(format: Format, type: RepositoryType): RepositoryRules {
  const may = (action: string) => `${format.name}.${action}_${type.model.toLowerCase()}repository`
  const view = may('view')
  return {
    see: { view },
    change: { object: [may('change'), view], named: { remote: viewRemote(format, type) } },
    delete: { object: [may('delete'), view] },
    right: (right) => ({ object: [repositoryPermission(format, type, right), view] }),
  }
}

const viewRemote = (format: Format, { model }: RepositoryType) => `${format.name}.view_${model.toLowerCase()}remote`

/** What there is where repositories are made and deleted by users, not by pushes. */
function byHand(format: Format, type: RepositoryType, body: BodySchema, answer: AnswerSchema, mayDelete: Rule): Operation[] {
  const { name: app } = format
  const name = `${app}.${type.type}`
  return [
    creating({
      summary: `Create a ${app} repository`,
      body,
      answers: { 201: answer },
      allow: {
        model: [`${app}.add_${type.model.toLowerCase()}repository`],
        named: { remote: viewRemote(format, type) },
      },
      async run(call) {
        await checkRemote(call, name)
        const values = repositoryValues(format, type, call.body)
        return created(call, await createResource(call.ctx, 'repository', name, values as RepositoryValues, call.user!.id))
      },
    }),
    deletingLater({
      summary: `Delete a ${app} repository`,
      allow: mayDelete,
      run: (call) =>
        postponed(call, {
          name: `${tasks}.base.ageneral_delete`,
          kind: 'delete',
          args: { resource: 'repository', id: call.row.id },
          exclusive: [prnOfRow(call)],
        }),
    }),
  ]
}

/** A remote of another format cannot fill the repository. */
async function checkRemote({ ctx, body }: Call, type: string): Promise<void> {
  const remote: Target | undefined | null = body['remote']
  if (!remote || remote.type === type) return
  const { name } = await ctx.db.selectFrom('remote').select('name').where('id', '=', remote.id).executeTakeFirstOrThrow()
  throw invalidField('remote', `Type for Remote '${name}' does not match Repository.`)
}

/** What a request sets, as core names it. */
function repositoryValues(
  format: Format,
  type: RepositoryType,
  body: Call['body'],
  row?: Row<'repository'>,
): Partial<RepositoryValues> {
  const settings = pickSettings(type.fields, body)
  checkLabels(body['pulp_labels'])
  checkSetting(format, 'repository', { ...(row ? JSON.parse(row.settings) : {}), ...settings, ...autopublishOf(body, row) })
  return {
    name: body['name'],
    description: body['description'],
    retain_versions: body['retain_repo_versions'],
    autopublish: body['autopublish'],
    labels: body['pulp_labels'],
    ...('remote' in body ? { remote_id: body['remote']?.id ?? null } : {}),
    settings,
  }
}

const autopublishOf = (body: Call['body'], row?: Row<'repository'>) => ({
  autopublish: body['autopublish'] ?? row?.autopublish === 1,
})

function syncing(
  format: Format,
  type: RepositoryType,
  sync: NonNullable<RepositoryType['sync']>,
  allow: Exclude<Rule, string>,
): Operation {
  const declaredNames = Object.keys(sync.fields)
  // Formats that only tell mirrors from additions share the schema of the core.
  const schema =
    declaredNames.length === 1 && declaredNames[0] === 'mirror' ? 'RepositorySyncURL' : `${type.model}RepositorySyncURL`
  return {
    name: 'sync',
    method: 'POST',
    on: 'item',
    segment: 'sync',
    summary: 'Sync from remote',
    body: {
      schema,
      fields: {
        remote: {
          type: 'href',
          to: 'remote',
          description: 'A remote to sync from. This will override a remote set on repository.',
        },
        ...sync.fields,
      },
    },
    answers: { 202: taskAnswer },
    allow: { ...allow, named: { remote: viewRemote(format, type) } },
    async run(call) {
      const remote = await remoteOf(call, `${format.name}.${type.type}`)
      const settings = pickSettings(sync.fields, call.body)
      const row: Row<'repository'> = call.row
      const about = { name: row.name, settings: { ...JSON.parse(row.settings), autopublish: row.autopublish === 1 } }
      checkSetting(format, 'sync', settings, about)
      return postponed(call, {
        name: sync.task,
        kind: 'sync',
        args: { repositoryId: row.id, remoteId: remote.id, settings },
        exclusive: [prnOfRow(call)],
        shared: [remote.prn],
      })
    },
  }
}

async function remoteOf(call: Call, type: string): Promise<{ id: number; prn: string }> {
  const named: Target | undefined = call.body['remote']
  if (named && named.type !== type)
    throw invalidField('remote', `Type for Remote '${named.prn}' does not match Repository '${prnOfRow(call)}'.`)
  if (named) return named
  const { remote_id } = call.row as Row<'repository'>
  const row =
    remote_id === null
      ? undefined
      : await call.ctx.db.selectFrom('remote').select(['id', 'uuid', 'type']).where('id', '=', remote_id).executeTakeFirst()
  if (!row) throw invalidField('remote', 'This field is required since a remote is not set on the repository.')
  return { id: row.id, prn: prnOf(call.ctx.formats, 'remote', row) }
}

const units = (description: string): Fields[string] => ({ type: 'array', items: { type: 'string' }, description })

function modifying(format: Format, allow: Operation['allow']): Operation {
  return {
    name: 'modify',
    method: 'POST',
    on: 'item',
    segment: 'modify',
    summary: 'Modify Repository Content',
    body: {
      schema: 'RepositoryAddRemoveContent',
      fields: {
        add_content_units: units('A list of content units to add to a new repository version.'),
        remove_content_units: units('A list of content units to remove from the latest repository version, or "*" for all.'),
        base_version: { type: 'href', to: 'version', description: 'A repository version to start from.' },
      },
    },
    answers: { 202: taskAnswer },
    allow,
    async run(call): Promise<Answer> {
      const { add_content_units: add = [], remove_content_units: remove = [], base_version: base } = call.body
      if (remove.includes('*') && remove.length > 1)
        throw invalidField('remove_content_units', "Cannot supply content units and '*'.")
      const adding = await contentTargets(call, 'add_content_units', add)
      const foreign = adding.find(({ type }) => !type.startsWith(`${format.name}.`))
      if (foreign) throw invalidField('add_content_units', `A ${format.name} repository cannot hold ${foreign.type} content.`)
      const removing = remove[0] === '*' ? '*' : (await contentTargets(call, 'remove_content_units', remove)).map(({ id }) => id)
      return postponed(call, {
        name: `${tasks}.repository.add_and_remove`,
        kind: 'modify',
        args: { repositoryId: call.row.id, add: adding.map(({ id }) => id), remove: removing, baseVersionId: base?.id ?? null },
        exclusive: [prnOfRow(call)],
      })
    },
  }
}

async function showRepositories(
  call: Call,
  rows: readonly Row<'repository'>[],
  wanted: (field: string) => boolean,
  shape?: { format: Format; type: RepositoryType },
) {
  const { db } = call.ctx
  const ids = rows.map(({ id }) => id)
  const latest =
    ids.length > 0 && wanted('latest_version_href')
      ? await db
          .selectFrom('version')
          .select(['repository_id', ({ fn }) => fn.max('number').as('number')])
          .where('repository_id', 'in', ids)
          .groupBy('repository_id')
          .execute()
      : []
  const numbers = new Map(latest.map(({ repository_id, number }) => [repository_id, number]))
  const remotes = await remoteHrefs(
    call,
    rows.flatMap(({ remote_id }) => remote_id ?? []),
  )
  return rows.map((row) => {
    const href = hrefOf(call.registry, 'repository', row)
    return {
      versions_href: `${href}versions/`,
      pulp_labels: JSON.parse(row.labels),
      latest_version_href: `${href}versions/${numbers.get(row.id) ?? 0}/`,
      name: row.name,
      description: row.description,
      retain_repo_versions: row.retain_versions,
      ...((!shape || shape.type.sync) && { remote: row.remote_id === null ? null : (remotes.get(row.remote_id) ?? null) }),
      ...(shape?.format.publications && { autopublish: row.autopublish === 1 }),
      ...(shape && showSettings(call.registry, shape.type.fields, JSON.parse(row.settings))),
    }
  })
}

async function remoteHrefs(call: Call, ids: readonly number[]): Promise<Map<number, string>> {
  if (ids.length === 0) return new Map()
  const rows = await call.ctx.db.selectFrom('remote').select(['id', 'uuid', 'type']).where('id', 'in', ids).execute()
  return new Map(rows.map((row) => [row.id, hrefOf(call.registry, 'remote', row)]))
}

/** `repositories/`: those of all formats. */
export const repositoriesList: Omit<Resource<'repository'>, 'where'> = {
  path: 'repositories',
  app: 'core',
  model: 'Repository',
  table: 'repository',
  kind: 'repository',
  generic: true,
  fields: commonFields,
  filters,
  ordering,
  show: (call, rows, wanted) => showRepositories(call, rows, wanted),
  operations: [listing(answerSchema('Repository', baseFields, commonFields))],
}
