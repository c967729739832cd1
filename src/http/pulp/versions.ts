import { sql } from 'kysely'
import type { Format, RepositoryRight, RepositoryType } from '../../core/format.ts'
import { repositoryPermission } from '../../core/access/roles.ts'
import { type Counts, isDistributed, protectedVersion } from '../../core/versions.ts'
import type { Row } from '../../store/schema.ts'
import { idRows } from '../../store/bulk.ts'
import { contentTargets } from './content-targets.ts'
import { baseFields, lookups, timeFilters } from './engine/filters.ts'
import { apiRoot, hrefOf, versionHrefs } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { answerSchema, deletingLater, listing, postponed, reading, taskAnswer } from './engine/operations.ts'
import { snakeCase } from './engine/endpoints.ts'
import { prnOf } from '../../core/names.ts'
import type { Call, Field, Fields, Filter, Filters, Resource, Rule } from './engine/resource.ts'

const tasks = 'pulpcore.app.tasks.repository'

const summaryPart: Field = { type: 'object', required: true, items: { type: 'object' } }

const fields: Fields = {
  number: { type: 'integer', format: 'int64', readOnly: true },
  repository: { type: 'string', format: 'uri', readOnly: true },
  base_version: {
    type: 'string',
    format: 'uri',
    description: 'A repository version whose content was used as the initial set of content for this repository version',
  },
  content_summary: {
    type: 'object',
    readOnly: true,
    description: 'Various count summaries of the content in the version and the HREF to view them.',
    properties: { added: summaryPart, removed: summaryPart, present: summaryPart },
  },
}

/** Versions that hold any of the named content. Also for what names a version: `version` is its alias in the query. */
export function contentFilter(many: boolean, versionId = sql.ref('version.id')): Filter {
  const one: Field = { type: 'string', description: 'Content Unit referenced by HREF/PRN' }
  return {
    field: many ? { type: 'array', items: { type: 'string' } } : one,
    empty: { refusal: 'No value supplied for content filter' },
    async where(value: string | string[], call) {
      const found = await contentTargets(call, undefined, [value].flat())
      const ids = idRows(
        call.ctx.db,
        found.map(({ id }) => id),
      )
      return sql`${versionId} in (select v.id from membership m join version v on v.repository_id = m.repository_id
        and m.added_in <= v.number and (m.removed_in is null or m.removed_in > v.number)
        where m.content_id in (select id from ${ids} as i))`
    },
  }
}

const filters: Filters = {
  ...lookups('number', 'version.number', 'number', ['exact', 'gt', 'gte', 'lt', 'lte', 'range']),
  ...timeFilters('pulp_created', 'version.created'),
  content: contentFilter(false),
  content__in: contentFilter(true),
}

const ordering = { number: 'version.number', complete: '', info: '' }
const answer = answerSchema('RepositoryVersion', baseFields, fields)

export const verifyField: Fields = {
  verify_checksums: {
    type: 'boolean',
    default: true,
    description: 'Will verify that the checksum of all stored files matches what saved in the database.',
  },
}

/** The versions of a format's repositories. */
export function versionResource(format: Format, type: RepositoryType, parent: Resource<'repository'>): Resource<'version'> {
  // What pushes made is nobody's to undo.
  const may = (right: RepositoryRight): Rule =>
    type.pushed ? 'admin' : { parent: [repositoryPermission(format, type, right), parent.view!] }
  return {
    path: 'versions',
    parent: { resource: parent, column: 'repository_id' },
    app: format.name,
    model: 'RepositoryVersion',
    placeholder: `${parent.app}_${snakeCase(type.model)}_repository_version_href`,
    schema: 'RepositoryVersion',
    table: 'version',
    kind: 'version',
    type: parent.type!,
    key: 'number',
    fields,
    filters,
    ordering,
    show: showVersions,
    operations: [
      listing(answer),
      reading(answer),
      deletingLater({
        summary: 'Delete a repository version',
        allow: may('delete_version'),
        async run(call) {
          if (await isDistributed(call.ctx.db, call.row.id)) throw invalid([protectedVersion])
          return postponed(call, {
            name: `${tasks}.delete_version`,
            kind: 'delete-version',
            args: { versionId: call.row.id },
            exclusive: [repositoryPrn(call)],
          })
        },
      }),
      {
        name: 'repair',
        method: 'POST',
        on: 'item',
        segment: 'repair',
        summary: 'Repair Repository Version',
        body: { schema: 'Repair', fields: verifyField },
        answers: { 202: taskAnswer },
        allow: may('repair'),
        run: (call) =>
          postponed(call, {
            name: `${tasks}.repair_version`,
            kind: 'repair',
            args: { versionId: call.row.id, verifyChecksums: call.body['verify_checksums'] },
            shared: [repositoryPrn(call)],
          }),
      },
    ],
  }
}

const repositoryPrn = ({ ctx, parent }: Call) => prnOf(ctx.formats, 'repository', parent)

async function showVersions(call: Call, rows: readonly Row<'version'>[], wanted: (field: string) => boolean) {
  if (rows.length === 0) return []
  const repositories = await call.ctx.db
    .selectFrom('repository')
    .select(['id', 'uuid', 'type'])
    .where('id', 'in', [...new Set(rows.map(({ repository_id }) => repository_id))])
    .execute()
  const hrefs = new Map(repositories.map((row) => [row.id, hrefOf(call.registry, 'repository', row)]))
  const bases = await versionHrefs(call, wanted('base_version') ? rows.map(({ base_version_id }) => base_version_id) : [])
  return rows.map((row) => {
    const repository = hrefs.get(row.repository_id)!
    const href = `${repository}versions/${row.number}/`
    return {
      pulp_href: href,
      number: row.number,
      repository,
      base_version: row.base_version_id === null ? null : (bases.get(row.base_version_id) ?? null),
      content_summary: summarize(call, JSON.parse(row.counts), href),
    }
  })
}

/** Counts by type, each with the list that it counts. */
function summarize(
  { registry }: Call,
  counts: Counts,
  href: string,
): Record<string, Record<string, { count: number; href: string }>> {
  const part = (name: 'added' | 'removed' | 'present', filter: string) =>
    Object.fromEntries(
      Object.entries(counts).flatMap(([type, { [name]: count }]) => {
        const resource = registry.find('content', type)
        return count > 0 && resource ? [[type, { count, href: `${apiRoot}${resource.path}/?${filter}=${href}` }]] : []
      }),
    )
  return {
    added: part('added', 'repository_version_added'),
    removed: part('removed', 'repository_version_removed'),
    present: part('present', 'repository_version'),
  }
}

/** `repository_versions/`: those of all repositories that the caller may see. */
export const versionsList: Resource<'version'> = {
  path: 'repository_versions',
  app: 'core',
  model: 'RepositoryVersion',
  table: 'version',
  kind: 'version',
  generic: true,
  fields,
  filters,
  ordering,
  show: showVersions,
  operations: [listing(answer)],
}
