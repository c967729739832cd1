import { type Expression, sql, type SqlBool } from 'kysely'
import { isAllowed } from '../../core/auth.ts'
import { prnOf } from '../../core/names.ts'
import { cancelTask, cancelTaskGroup, deleteTask, finalStates } from '../../core/tasks.ts'
import { Failure } from '../../lib/failure.ts'
import { now, renderTime } from '../../lib/time.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups, timeFilters } from './filters.ts'
import { findTarget, hrefOf, hrefsOfPrns } from './hrefs.ts'
import { invalid, invalidField } from './invalid.ts'
import { noFilters, showRow, visibleTo } from './list.ts'
import { answerSchema, domainLock, listing, postponed, reading, roleOperations, taskAnswer } from './operations.ts'
import type { AnswerSchema, Call, Field, Fields, Filter, Filters, Resource } from './resource.ts'

const states = ['canceled', 'canceling', 'completed', 'failed', 'running', 'skipped', 'waiting'] as const
const day = 86_400_000_000

const time = (description: string): Field => ({ type: 'string', format: 'date-time', readOnly: true, description })
const href = (description: string): Field => ({ type: 'string', format: 'uri', readOnly: true, description })
const shown = (type: 'string' | 'integer', nullable = false): Field => ({
  type,
  readOnly: true,
  ...(type === 'integer' ? { format: 'int64' } : {}),
  ...(nullable ? { nullable } : {}),
})

const progressFields: Fields = {
  message: shown('string'),
  code: shown('string'),
  state: shown('string'),
  total: shown('integer'),
  done: shown('integer'),
  suffix: shown('string', true),
}

const minimalFields: Fields = {
  name: { type: 'string', required: true, description: 'The name of task.' },
  state: { type: 'string', readOnly: true, description: 'The current state of the task.' },
  unblocked_at: time('Timestamp of when this task was identified ready for pickup.'),
  started_at: time('Timestamp of when this task started execution.'),
  finished_at: time('Timestamp of when this task stopped execution.'),
  worker: href('The worker associated with this task.'),
}

const fields: Fields = {
  ...minimalFields,
  logging_cid: { type: 'string', required: true, description: 'The logging correlation id associated with this task' },
  created_by: { type: 'string', readOnly: true, description: 'User who dispatched this task.' },
  error: { type: 'object', readOnly: true, description: 'A JSON Object of a fatal error encountered during the execution of this task.' },
  parent_task: href('The parent task that spawned this task.'),
  child_tasks: { type: 'array', readOnly: true, items: { type: 'string', format: 'uri' } },
  task_group: href('The task group that this task is a member of.'),
  progress_reports: { type: 'array', readOnly: true, items: { type: 'object', properties: progressFields } },
  created_resources: { type: 'array', readOnly: true, items: { type: 'string', format: 'uri' } },
  reserved_resources_record: { type: 'array', readOnly: true, items: { type: 'string' } },
}

/** Lists that Pulp's older clients reserved under names of their own. */
const oldLocks: Record<string, string> = {
  '/api/v3/orphans/cleanup/': 'orphans',
  '/api/v3/repair/': 'repair',
  '/api/v3/distributions/': 'distributions',
  '/api/v3/repositories/reclaim_space/': 'reclaim_space',
}

const foreign = (name: string, column: string, kind: 'task' | 'task_group' | 'worker'): Filters => ({ [name]: oneOf(column, kind, false) })

function oneOf(column: string, kind: 'task' | 'task_group' | 'worker', many: boolean): Filter {
  const one: Field = { type: 'string', format: 'uuid', description: 'Foreign Key referenced by HREF' }
  return {
    field: many ? { type: 'array', items: one } : one,
    async where(value: string | string[], call) {
      const ids = await Promise.all([value].flat().map((each) => idOf(call, each, kind)))
      return sql`${sql.ref(column)} in (${sql.join(ids)})`
    },
  }
}

async function idOf(call: Call, value: string, kind: 'task' | 'task_group' | 'worker'): Promise<number> {
  const found = await findTarget(call, value, [kind])
  if (found === 'unknown') throw invalid([`URI couldn't be resolved: ${value}`])
  if (found === 'other') throw invalid([`URI/PRN is not a valid href for ${kind} model: ${value}`])
  return found === 'absent' ? -1 : found.id
}

/** Tasks that hold each of the named resources, as exclusive or shared. */
function reserved(exclusive: boolean, shared: boolean, many: boolean): Filter {
  const one: Field = { type: 'string' }
  return {
    field: many ? { type: 'array', items: one } : one,
    async where(value: string | string[], call) {
      const names = await Promise.all([value].flat().map((each) => lockName(call, each)))
      const held = (name: string) => holds(call.ctx.db, name)
      return sql`(${sql.join(
        names.map((name) =>
          exclusive && shared ? sql`(${held(name)} or ${held(`shared:${name}`)})` : held(shared ? `shared:${name}` : name),
        ),
        sql` and `,
      )})`
    },
  }
}

function holds(db: Db, name: string): Expression<SqlBool> {
  return engineOf(db) === 'postgres'
    ? sql`jsonb_exists(task.resources, ${name}::text)`
    : sql`instr(task.resources, ${JSON.stringify(name)}) > 0`
}

async function lockName(call: Call, value: string): Promise<string> {
  if (oldLocks[value]) return domainLock(call, oldLocks[value])
  if (!value.startsWith('/')) return value
  const found = await findTarget(call, value, ['repository', 'remote', 'publication', 'distribution', 'guard', 'version', 'upload', 'content'])
  return typeof found === 'string' ? value : found.prn
}

const filters: Filters = {
  ...lookups('state', 'task.state', 'text', ['exact'], states),
  ...lookups('state', 'task.state', 'text', ['in', 'ne']),
  ...foreign('worker', 'task.worker_id', 'worker'),
  worker__in: oneOf('task.worker_id', 'worker', true),
  ...lookups('worker', 'task.worker_id', 'number', ['isnull']),
  ...lookups('name', 'task.name', 'text', ['exact', 'contains', 'in', 'ne']),
  ...lookups('logging_cid', 'task.logging_cid', 'text', ['exact', 'contains']),
  ...timeFilters('pulp_created', 'task.created'),
  ...timeFilters('started_at', 'task.started'),
  ...timeFilters('finished_at', 'task.finished'),
  ...timeFilters('unblocked_at', 'task.unblocked'),
  ...foreign('parent_task', 'task.parent_id', 'task'),
  ...foreign('task_group', 'task.group_id', 'task_group'),
  child_tasks: {
    field: { type: 'string', format: 'uuid' },
    where: async (value: string, call) => sql`task.id = (select parent_id from task child where child.id = ${await idOf(call, value, 'task')})`,
  },
  created_resources: {
    field: { type: 'string', format: 'uuid' },
    async where(value: string, call) {
      const found = await findTarget(call, value, [
        'repository', 'version', 'remote', 'publication', 'distribution', 'guard', 'content', 'artifact', 'upload', // biome-ignore format: a list
      ])
      if (found === 'unknown') throw invalid([`URI not valid: ${value}`])
      if (typeof found === 'string') throw invalid([`URI ${value} not found.`])
      return sql`task.id in (select task_id from task_created where object = ${found.prn})`
    },
  },
  reserved_resources: reserved(true, true, false),
  reserved_resources__in: reserved(true, true, true),
  exclusive_resources: reserved(true, false, false),
  exclusive_resources__in: reserved(true, false, true),
  shared_resources: reserved(false, true, false),
  shared_resources__in: reserved(false, true, true),
}

const ordering = {
  state: 'task.state',
  name: 'task.name',
  logging_cid: 'task.logging_cid',
  started_at: 'task.started',
  finished_at: 'task.finished',
  unblocked_at: 'task.unblocked',
  error: '',
  deferred: '',
  immediate: '',
  enc_args: '',
  enc_kwargs: '',
  reserved_resources_record: '',
  versions: '',
}

const answer = answerSchema('Task', baseFields, fields)

const cancelBody = {
  schema: 'TaskCancel',
  fields: {
    state: { type: 'string', required: true, description: "The desired state of the task. Only 'canceled' is accepted." },
  } satisfies Fields,
  // Called by PATCH, but the state is needed all the same.
  documentedPartial: true,
}

function checkCancel({ body }: Call): void {
  if (body['state'] !== 'canceled') throw invalidField('state', "The only acceptable value for 'state' is 'canceled'.")
}

export const tasks: Resource<'task'> = {
  path: 'tasks',
  app: 'core',
  model: 'Task',
  table: 'task',
  kind: 'task',
  fields,
  filters,
  ordering,
  view: 'core.view_task',
  show: showTasks,
  operations: [
    listing(answer),
    reading(answer),
    {
      name: 'cancel',
      method: 'PATCH',
      on: 'item',
      summary: 'Cancel a task',
      body: cancelBody,
      answers: { 200: answer, 409: answer },
      allow: { object: ['core.change_task'] },
      async run(call) {
        checkCancel(call)
        const { task, canceled } = await cancelTask(call.ctx, call.row.id)
        return { status: canceled ? 200 : 409, body: await showRow(call, tasks, task) }
      },
    },
    {
      name: 'delete',
      method: 'DELETE',
      on: 'item',
      summary: 'Delete a task',
      answers: { 204: null },
      allow: { object: ['core.delete_task'] },
      async run(call) {
        await deleteTask(call.ctx.db, call.row.id)
        return { status: 204 }
      },
    },
    {
      name: 'profile_artifacts',
      method: 'GET',
      on: 'item',
      segment: 'profile_artifacts',
      summary: 'Fetch downloadable links for profile artifacts',
      answers: {
        200: { schema: 'ProfileArtifactResponse', fields: { urls: { type: 'object', required: true, items: { type: 'string' } } } },
      },
      allow: { object: ['core.view_task_profile_artifacts'] },
      run: async () => ({ status: 200, body: { urls: {} } }),
    },
    {
      name: 'purge',
      method: 'POST',
      on: 'collection',
      segment: 'purge',
      summary: 'Purge Completed Tasks',
      body: {
        schema: 'Purge',
        fields: {
          finished_before: {
            type: 'string',
            format: 'date-time',
            description: "Purge tasks completed earlier than this timestamp. Format '%Y-%m-%d[T%H:%M:%S]'. 30 days ago by default.",
          },
          states: {
            type: 'array',
            items: { type: 'string', enum: finalStates },
            default: ['completed'],
            description: "List of task-states to be purged. Only 'final' states are allowed.",
          },
        },
      },
      answers: { 202: taskAnswer },
      allow: 'authenticated',
      run: (call) =>
        postponed(call, {
          name: 'pulpcore.app.tasks.purge.purge',
          kind: 'purge',
          args: {
            finishedBefore: call.body['finished_before'] ?? now() - 30 * day,
            states: call.body['states'],
            onlyOf: call.user!.isSuperuser ? null : call.user!.id,
          },
        }),
    },
    ...roleOperations('core.task', ['core.view_task']),
  ],
}

async function showTasks(call: Call, rows: readonly Row<'task'>[], wanted: (field: string) => boolean) {
  if (rows.length === 0) return []
  const minimal = call.query.get('minimal')?.toLowerCase() === 'true'
  const related = await relatedTo(call, rows, (field) => !(minimal && !(field in minimalFields)) && wanted(field))
  return rows.map((row) => ({
    name: row.name,
    state: row.state,
    unblocked_at: timeOf(row.unblocked),
    started_at: timeOf(row.started),
    finished_at: timeOf(row.finished),
    worker: related.workers.get(row.worker_id ?? -1) ?? null,
    ...(minimal
      ? {}
      : {
          logging_cid: row.logging_cid,
          created_by: row.user_id === null ? null : hrefOf(call.registry, 'user', { uuid: row.user_id }),
          error: row.error === null ? null : JSON.parse(row.error),
          parent_task: related.tasks.get(row.parent_id ?? -1) ?? null,
          child_tasks: related.children.get(row.id) ?? [],
          task_group: related.groups.get(row.group_id ?? -1) ?? null,
          progress_reports: related.reports.get(row.id) ?? [],
          created_resources: related.created.get(row.id) ?? [],
          reserved_resources_record: JSON.parse(row.resources),
        }),
  }))
}

const timeOf = (micros: number | null) => (micros === null ? null : renderTime(micros))

async function relatedTo(call: Call, rows: readonly Row<'task'>[], wanted: (field: string) => boolean) {
  const { db } = call.ctx
  const ids = rows.map(({ id }) => id)
  const some = (values: (number | null)[]) => values.filter((id) => id !== null)
  const hrefs = async (kind: 'worker' | 'task' | 'task_group', wantedIds: number[]) => {
    if (wantedIds.length === 0) return new Map<number, string>()
    const found = await db.selectFrom(kind as 'task').select(['id', 'uuid']).where('id', 'in', wantedIds).execute()
    return new Map(found.map(({ id, uuid }) => [id, hrefOf(call.registry, kind, { uuid })]))
  }
  const children = wanted('child_tasks')
    ? await db.selectFrom('task').select(['uuid', 'parent_id']).where('parent_id', 'in', ids).orderBy('id').execute()
    : []
  const reports = wanted('progress_reports')
    ? await db.selectFrom('task_progress').selectAll().where('task_id', 'in', ids).execute()
    : []
  return {
    workers: await hrefs('worker', some(rows.map(({ worker_id }) => worker_id))),
    tasks: await hrefs('task', some(rows.map(({ parent_id }) => parent_id))),
    groups: await hrefs('task_group', some(rows.map(({ group_id }) => group_id))),
    children: groupTexts(children.map(({ parent_id, uuid }) => [parent_id!, hrefOf(call.registry, 'task', { uuid })])),
    reports: groupReports(reports),
    created: wanted('created_resources') ? await createdBy(call, ids) : new Map<number, string[]>(),
  }
}

function groupTexts(pairs: readonly (readonly [number, string])[]): Map<number, string[]> {
  return new Map([...Map.groupBy(pairs, ([id]) => id)].map(([id, group]) => [id, group.map(([, text]) => text)]))
}

function groupReports(rows: readonly Row<'task_progress'>[]) {
  const groups = Map.groupBy(rows, ({ task_id }) => task_id)
  return new Map(
    [...groups].map(([id, group]) => [
      id,
      group.map(({ message, code, state, total, done, suffix }) => ({ message, code, state, total, done, suffix })),
    ]),
  )
}

async function createdBy(call: Call, ids: readonly number[]): Promise<Map<number, string[]>> {
  const rows = await call.ctx.db
    .selectFrom('task_created')
    .select(['task_id', 'object'])
    .where('task_id', 'in', ids)
    .orderBy('task_id')
    .orderBy('position')
    .execute()
  const hrefs = await hrefsOfPrns(call, rows.map(({ object }) => object))
  return groupTexts(rows.map(({ task_id }, index) => [task_id, hrefs[index]!]))
}

const groupFields: Fields = {
  pulp_href: baseFields['pulp_href']!,
  prn: baseFields['prn']!,
  description: { type: 'string', required: true, description: 'A description of the task group.' },
  all_tasks_dispatched: { type: 'boolean', required: true },
  ...Object.fromEntries(states.map((state) => [state, shown('integer')])),
  group_progress_reports: {
    type: 'array',
    readOnly: true,
    items: { type: 'object', properties: Object.fromEntries(Object.entries(progressFields).filter(([name]) => name !== 'state')) },
  },
  tasks: { type: 'array', readOnly: true, items: { type: 'object', properties: { ...baseFields, ...minimalFields } } },
}
const groupAnswer: AnswerSchema = { schema: 'TaskGroupResponse', fields: groupFields }

export const taskGroups: Resource<'task_group'> = {
  path: 'task-groups',
  app: 'core',
  model: 'TaskGroup',
  table: 'task_group',
  kind: 'task_group',
  base: false,
  fields: groupFields,
  filters: noFilters,
  ordering: {},
  async where(rows, call) {
    if (call.user!.isSuperuser) return rows
    const visible = await visibleTo(call, tasks, 'core.view_task')
    return visible
      ? rows.where(sql<SqlBool>`task_group.id in (select task.group_id from task where task.parent_id is null and ${visible})`)
      : rows
  },
  show: showGroups,
  operations: [
    listing(groupAnswer),
    reading(groupAnswer),
    {
      name: 'cancel',
      method: 'PATCH',
      on: 'item',
      summary: 'Cancel a task group',
      body: cancelBody,
      answers: { 200: groupAnswer, 409: groupAnswer },
      allow: 'authenticated',
      async run(call) {
        checkCancel(call)
        await permitAll(call)
        await cancelTaskGroup(call.ctx, call.row.id)
        const body = await showRow(call, taskGroups, call.row)
        const left = (body['tasks'] as { state: string }[]).some(({ state }) => state === 'running' || state === 'waiting')
        return { status: left ? 409 : 200, body }
      },
    },
  ],
}

/** Whoever cancels a group must be allowed to cancel each of its tasks. */
async function permitAll(call: Call): Promise<void> {
  if (call.user!.isSuperuser) return
  const rows = await call.ctx.db.selectFrom('task').select('uuid').where('group_id', '=', call.row.id).execute()
  for (const { uuid } of rows)
    if (!(await isAllowed(call.ctx, call.user!, 'core.change_task', prnOf(call.ctx.formats, 'task', { uuid }))))
      throw new Failure('denied', 'You do not have permission to perform this action.')
}

async function showGroups(call: Call, rows: readonly Row<'task_group'>[]) {
  if (rows.length === 0) return []
  const { db } = call.ctx
  const members = await db
    .selectFrom('task')
    .selectAll()
    .where('group_id', 'in', rows.map(({ id }) => id))
    .orderBy('id')
    .execute()
  const minimal = { ...call, query: new URLSearchParams('minimal=true') }
  const views = await showTasks(minimal, members, () => true)
  const reports = await reportsOf(db, members.map(({ id }) => id))
  return rows.map((row) => {
    const own = members.flatMap((task, index) => (task.group_id === row.id ? [{ task, view: views[index]! }] : []))
    return {
      pulp_href: hrefOf(call.registry, 'task_group', row),
      prn: prnOf(call.ctx.formats, 'task_group', row),
      description: row.description,
      all_tasks_dispatched: row.all_dispatched === 1,
      ...Object.fromEntries(states.map((state) => [state, own.filter(({ task }) => task.state === state).length])),
      group_progress_reports: sumReports(reports.filter(({ task_id }) => own.some(({ task }) => task.id === task_id))),
      tasks: own.map(({ task, view }) => ({
        pulp_href: hrefOf(call.registry, 'task', task),
        prn: prnOf(call.ctx.formats, 'task', task),
        pulp_created: renderTime(task.created),
        pulp_last_updated: renderTime(task.updated),
        ...view,
      })),
    }
  })
}

async function reportsOf(db: Db, ids: readonly number[]): Promise<Row<'task_progress'>[]> {
  return ids.length === 0 ? [] : db.selectFrom('task_progress').selectAll().where('task_id', 'in', ids).execute()
}

/** The reports of a group's tasks, added up by their code. */
function sumReports(rows: readonly Row<'task_progress'>[]) {
  return [...Map.groupBy(rows, ({ code }) => code)].map(([code, group]) => ({
    message: group[0]!.message,
    code,
    total: group.reduce((sum, { total }) => sum + (total ?? 0), 0),
    done: group.reduce((sum, { done }) => sum + done, 0),
    suffix: group[0]!.suffix,
  }))
}

