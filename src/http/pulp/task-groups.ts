import { sql, type SqlBool } from 'kysely'
import { isAllowed } from '../../core/access/auth.ts'
import { prnOf } from '../../core/names.ts'
import { cancelTaskGroup } from '../../core/tasks/tasks.ts'
import { renderTime } from '../../lib/time.ts'
import type { Db } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields } from './engine/filters.ts'
import { hrefOf } from './engine/hrefs.ts'
import { noFilters, showRow, visibleTo } from './engine/list.ts'
import { listing, reading } from './engine/operations.ts'
import type { AnswerSchema, Call, Fields, Resource } from './engine/resource.ts'
import { states } from './task-filters.ts'
import { cancelBody, checkCancel, minimalFields, progressFields, shown, showTasks, tasks } from './tasks.ts'

const groupFields: Fields = {
  pulp_href: baseFields['pulp_href']!,
  prn: baseFields['prn']!,
  description: { type: 'string', required: true, description: 'A description of the task group.' },
  all_tasks_dispatched: { type: 'boolean', required: true },
  ...Object.fromEntries(states.map((state) => [state, shown('integer')])),
  group_progress_reports: {
    type: 'array',
    readOnly: true,
    items: {
      type: 'object',
      properties: Object.fromEntries(Object.entries(progressFields).filter(([name]) => name !== 'state')),
    },
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
      // Whoever cancels a group must be allowed to cancel each of its tasks.
      allow: { other: { conditions: ['has_model_or_domain_or_obj_perms:core.change_task'], holds: mayCancelAll } },
      async run(call) {
        checkCancel(call)
        await cancelTaskGroup(call.ctx, call.row.id)
        const body = await showRow(call, taskGroups, call.row)
        const left = (body['tasks'] as { state: string }[]).some(({ state }) => state === 'running' || state === 'waiting')
        return { status: left ? 409 : 200, body }
      },
    },
  ],
}

async function mayCancelAll({ ctx, user, row }: Call): Promise<boolean> {
  const tasksOf = await ctx.db.selectFrom('task').select('uuid').where('group_id', '=', row.id).execute()
  for (const { uuid } of tasksOf)
    if (!(await isAllowed(ctx, user!, 'core.change_task', prnOf(ctx.formats, 'task', { uuid })))) return false
  return true
}

async function showGroups(call: Call, rows: readonly Row<'task_group'>[]) {
  if (rows.length === 0) return []
  const { db } = call.ctx
  const members = await db
    .selectFrom('task')
    .selectAll()
    .where(
      'group_id',
      'in',
      rows.map(({ id }) => id),
    )
    .orderBy('id')
    .execute()
  const minimal = { ...call, query: new URLSearchParams('minimal=true') }
  const views = await showTasks(minimal, members, () => true)
  const reports = await reportsOf(
    db,
    members.map(({ id }) => id),
  )
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
