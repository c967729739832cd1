import { type Expression, sql, type SqlBool } from 'kysely'
import { type Db, engineOf } from '../../store/database.ts'
import { lookups, timeFilters } from './engine/filters.ts'
import { findTarget } from './engine/hrefs.ts'
import { invalid } from './engine/invalid.ts'
import { domainLock } from './engine/operations.ts'
import type { Call, Field, Filter, Filters } from './engine/resource.ts'

/** States of a task, by name. */
export const states = ['canceled', 'canceling', 'completed', 'failed', 'running', 'skipped', 'waiting'] as const

/** Lists that Pulp's older clients reserved under names of their own. */
const oldLocks: Record<string, string> = {
  '/api/v3/orphans/cleanup/': 'orphans',
  '/api/v3/repair/': 'repair',
  '/api/v3/distributions/': 'distributions',
  '/api/v3/repositories/reclaim_space/': 'reclaim_space',
}

const foreign = (name: string, column: string, kind: 'task' | 'task_group' | 'worker'): Filters => ({
  [name]: oneOf(name, column, kind, false),
})

function oneOf(name: string, column: string, kind: 'task' | 'task_group' | 'worker', many: boolean): Filter {
  const one: Field = { type: 'string', format: 'uuid', description: 'Foreign Key referenced by HREF' }
  return {
    field: many ? { type: 'array', items: one } : one,
    empty: { refusal: `No value supplied for ${name} filter.` },
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
    ...(!many && { empty: 'nothing' as const }),
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
  const found = await findTarget(call, value, [
    'repository',
    'remote',
    'publication',
    'distribution',
    'guard',
    'version',
    'upload',
    'content',
  ])
  return typeof found === 'string' ? value : found.prn
}

/** What lists of tasks are filtered by. */
export const taskFilters: Filters = {
  ...lookups('state', 'task.state', 'text', ['exact'], states),
  ...lookups('state', 'task.state', 'text', ['in', 'ne']),
  ...foreign('worker', 'task.worker_id', 'worker'),
  worker__in: oneOf('worker', 'task.worker_id', 'worker', true),
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
    empty: { refusal: 'No value supplied for child_tasks filter.' },
    where: async (value: string, call) =>
      sql`task.id = (select parent_id from task child where child.id = ${await idOf(call, value, 'task')})`,
  },
  created_resources: {
    field: { type: 'string', format: 'uuid' },
    empty: { refusal: 'URI not valid: ' },
    async where(value: string, call) {
      const found = await findTarget(call, value, [
        'repository',
        'version',
        'remote',
        'publication',
        'distribution',
        'guard',
        'content',
        'artifact',
        'upload', // biome-ignore format: a list
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
