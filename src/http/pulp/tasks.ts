import { cancelTask, deleteTask, finalStates } from '../../core/tasks/tasks.ts'
import { now, renderTime } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields } from './engine/filters.ts'
import { hrefOf, hrefsOfPrns } from './engine/hrefs.ts'
import { invalidField } from './engine/invalid.ts'
import { showRow } from './engine/list.ts'
import { answerSchema, deleting, listing, postponed, reading, roleOperations, taskAnswer } from './engine/operations.ts'
import type { Call, Field, Fields, Resource } from './engine/resource.ts'
import { taskFilters } from './task-filters.ts'

const day = 86_400_000_000

const time = (description: string): Field => ({ type: 'string', format: 'date-time', readOnly: true, description })
const href = (description: string): Field => ({ type: 'string', format: 'uri', readOnly: true, description })
export const shown = (type: 'string' | 'integer', nullable = false): Field => ({
  type,
  readOnly: true,
  ...(type === 'integer' ? { format: 'int64' } : {}),
  ...(nullable ? { nullable } : {}),
})

export const progressFields: Fields = {
  message: shown('string'),
  code: shown('string'),
  state: shown('string'),
  total: shown('integer'),
  done: shown('integer'),
  suffix: shown('string', true),
}

export const minimalFields: Fields = {
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
  error: {
    type: 'object',
    readOnly: true,
    description: 'A JSON Object of a fatal error encountered during the execution of this task.',
  },
  parent_task: href('The parent task that spawned this task.'),
  child_tasks: { type: 'array', readOnly: true, items: { type: 'string', format: 'uri' } },
  task_group: href('The task group that this task is a member of.'),
  progress_reports: { type: 'array', readOnly: true, items: { type: 'object', properties: progressFields } },
  created_resources: { type: 'array', readOnly: true, items: { type: 'string', format: 'uri' } },
  reserved_resources_record: { type: 'array', readOnly: true, items: { type: 'string' } },
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

export const cancelBody = {
  schema: 'TaskCancel',
  fields: {
    state: { type: 'string', required: true, description: "The desired state of the task. Only 'canceled' is accepted." },
  } satisfies Fields,
  // Called by PATCH, but the state is needed all the same.
  documentedPartial: true,
}

export function checkCancel({ body }: Call): void {
  if (body['state'] !== 'canceled') throw invalidField('state', "The only acceptable value for 'state' is 'canceled'.")
}

export const tasks: Resource<'task'> = {
  path: 'tasks',
  app: 'core',
  model: 'Task',
  table: 'task',
  kind: 'task',
  fields,
  filters: taskFilters,
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
    deleting({
      summary: 'Delete a task',
      allow: { object: ['core.delete_task'] },
      remove: (call) => deleteTask(call.ctx.db, call.row.id),
    }),
    {
      name: 'profile_artifacts',
      method: 'GET',
      on: 'item',
      segment: 'profile_artifacts',
      summary: 'Fetch downloadable links for profile artifacts',
      answers: {
        200: {
          schema: 'ProfileArtifactResponse',
          fields: { urls: { type: 'object', required: true, items: { type: 'string' } } },
        },
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
        lenient: true,
        fields: {
          finished_before: {
            type: 'string',
            format: 'date-time',
            description:
              "Purge tasks completed earlier than this timestamp. Format '%Y-%m-%d[T%H:%M:%S]'. 30 days ago by default.",
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

export async function showTasks(call: Call, rows: readonly Row<'task'>[], wanted: (field: string) => boolean) {
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
    const found = await db
      .selectFrom(kind as 'task')
      .select(['id', 'uuid'])
      .where('id', 'in', wantedIds)
      .execute()
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
  const hrefs = await hrefsOfPrns(
    call,
    rows.map(({ object }) => object),
  )
  return groupTexts(rows.map(({ task_id }, index) => [task_id, hrefs[index]!]))
}
