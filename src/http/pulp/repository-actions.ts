import { sql, type SqlBool } from 'kysely'
import { formatNamed } from '../../core/ctx.ts'
import type { Field, Fields, RepositoryAction } from '../../core/format.ts'
import { planChange } from '../../core/repository-actions.ts'
import { latestVersion } from '../../core/versions.ts'
import { Failure } from '../../lib/failure.ts'
import { idRows } from '../../store/bulk.ts'
import { contentTargets } from './content-targets.ts'
import { repositoryOf } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { visibleRows } from './engine/list.ts'
import { postponed, prnOfRow, taskAnswer } from './engine/operations.ts'
import type { Answer, Call, Operation, Rule, Target } from './engine/resource.ts'

/** What of a repository can be done beyond what all have in common: an operation for an action that its type declares. */
export function acting(action: RepositoryAction, allow: Rule): Operation {
  const { name, summary, schema, documented } = action
  const fields = { ...sourceFields(action), ...action.fields }
  const isForm = Object.values(fields).some(({ format }) => format === 'binary')
  return {
    name,
    method: 'POST',
    on: 'item',
    segment: name,
    summary,
    body: { schema, fields, form: isForm },
    answers: documented ? { [documented.status]: documented } : { 202: taskAnswer },
    allow,
    run: (call) => start(call, action),
  }
}

function sourceFields({ sources }: RepositoryAction): Fields {
  if (!sources) return {}
  const to = (kind: string) => sources.map((type) => `${kind}:${type}`).join(',')
  const from = (what: string, kind: string): Field => ({
    type: 'href',
    to: to(kind),
    description: `A URI of the ${what} to copy content from.`,
  })
  return {
    source_repository: from('repository', 'repository'),
    source_repository_version: from('repository version', 'version'),
  }
}

async function start(call: Call, action: RepositoryAction): Promise<Answer> {
  const { source_repository: _, source_repository_version: __, ...rest } = call.body
  const source = action.sources ? await sourceOf(call) : undefined
  const units = action.units ? await unitsOf(call, call.body[action.units] ?? []) : []
  const fields = Object.fromEntries(
    Object.entries(rest)
      .filter(([name]) => name !== action.units)
      .map(([name, value]) => [name, action.fields[name]?.type === 'href' ? ((value as Target | null)?.prn ?? null) : value]),
  )
  const host = new URL(call.ctx.config.origin ?? call.origin).host
  const args = { action: action.name, fields, units, sourceVersionId: source?.id ?? null, host }
  const planned = await planOf(call, args)
  const places = units === '*' ? [] : await placesOf(call, units)
  return postponed(call, {
    name: action.task,
    kind: planned.sign ? 'sign' : 'act',
    args: { ...args, repositoryId: call.row.id, places },
    exclusive: [prnOfRow(call)],
    shared: source ? [source.repository] : [],
  })
}

async function planOf(call: Call, args: Parameters<typeof planChange>[3]) {
  try {
    return await planChange(call.ctx.formats, call.ctx.db, call.row, args)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'invalid') throw error
    throw invalid({ [error.field ?? 'non_field_errors']: [error.message] })
  }
}

/** The version that is copied from. */
async function sourceOf(call: Call): Promise<{ id: number; repository: string }> {
  const { source_repository: repository, source_repository_version: version } = call.body as Record<string, Target | undefined>
  const problem = (message: string) => invalid({ non_field_errors: [message] })
  if (!repository && !version) throw problem("Either the 'repository' or 'repository_version' needs to be specified")
  if (repository && version) throw problem("Either the 'repository' or 'repository_version' need to be specified but not both.")
  if (repository) return { id: (await latestVersion(call.ctx.db, repository.id)).id, repository: repository.prn }
  return { id: version!.id, repository: (await repositoryOf(call, version!.id)).prn }
}

async function unitsOf(call: Call, given: readonly unknown[]): Promise<'*' | number[]> {
  if (given.includes('*')) {
    if (given.length > 1)
      throw invalid({
        non_field_errors: [`'*' should be the only item present in the [${given.map((each) => `'${String(each)}'`).join(', ')}]`],
      })
    return '*'
  }
  const found = await contentTargets(call, undefined, given.map(String))
  return found.map(({ id }) => id)
}

/** The versions in which the caller may see these units, the newest of each repository. What belongs to the units comes from there. */
async function placesOf(call: Call, ids: readonly number[]): Promise<{ repository_id: number; number: number }[]> {
  if (ids.length === 0) return []
  const [app] = call.row.type.split('.')
  const format = formatNamed(call.ctx, app)
  const visible = await Promise.all(
    format.repositories.map(async ({ type }) => {
      const condition = await visibleRows(call, call.registry.find('repository', `${app}.${type}`)!)
      return sql<SqlBool>`(repository.type = ${`${app}.${type}`} and ${condition ?? sql`true`})`
    }),
  )
  const { rows } = await sql<{ repository_id: number; number: number; removed: number | null }>`
    select distinct membership.repository_id as repository_id, repository.next_version - 1 as number, membership.removed_in as removed
    from ${idRows(call.ctx.db, ids)} as i cross join membership join repository on repository.id = membership.repository_id
    where membership.content_id = i.id and (${sql.join(visible, sql` or `)})`.execute(call.ctx.db)
  return rows.map(({ repository_id, number, removed }) => ({
    repository_id: Number(repository_id),
    number: removed === null ? Number(number) : Number(removed) - 1,
  }))
}
