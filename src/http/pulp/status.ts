import { sql } from 'kysely'
import type { Ctx } from '../../core/ctx.ts'
import { workerPatience } from '../../core/tasks/tasks.ts'
import { now, renderTime } from '../../lib/time.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups, nameFilters, timeFilters } from './engine/filters.ts'
import { apiRoot, collectionHref, hrefOf } from './engine/hrefs.ts'
import { prnOf } from '../../core/names.ts'
import { answerSchema, listing, reading, roleOperations } from './engine/operations.ts'
import type { Call, Endpoint, Field, Fields, Filter, Resource } from './engine/resource.ts'

/** The Pulp release whose API this is: clients choose what to do by it. */
export const coreVersion = '3.81.0'

/** What speaks which version, as the status and the document both say it. */
export function appVersions({ formats }: Pick<Ctx, 'formats'>): Record<string, string> {
  return { core: coreVersion, ...Object.fromEntries(formats.map(({ name, pulp }) => [name, pulp.version])) }
}

const workerFields: Fields = {
  name: { type: 'string', readOnly: true, description: 'The name of the worker.' },
  last_heartbeat: {
    type: 'string',
    format: 'date-time',
    readOnly: true,
    description: 'Timestamp of the last time the worker talked to the service.',
  },
  versions: {
    type: 'object',
    readOnly: true,
    items: { type: 'string', nullable: true },
    description: 'Versions of the components installed.',
  },
  current_task: {
    type: 'string',
    format: 'uri',
    readOnly: true,
    description: 'The task this worker is currently executing, or empty if the worker is not currently assigned to a task.',
  },
}
const workerAnswer = answerSchema('Worker', baseFields, workerFields)

const aliveSince = () => now() - workerPatience

/** Workers that showed life lately, or did not. */
function alive(wanted: (online: boolean) => boolean): Filter {
  return {
    field: { type: 'boolean' },
    where: (value: number) =>
      wanted(value === 1) ? sql`worker.heartbeat >= ${aliveSince()}` : sql`worker.heartbeat < ${aliveSince()}`,
  }
}

export const workers: Resource<'worker'> = {
  path: 'workers',
  app: 'core',
  model: 'Worker',
  table: 'worker',
  kind: 'worker',
  fields: workerFields,
  filters: {
    ...nameFilters('worker.name'),
    ...timeFilters('last_heartbeat', 'worker.heartbeat'),
    online: alive((online) => online),
    missing: alive((missing) => !missing),
  },
  ordering: { name: 'worker.name', last_heartbeat: 'worker.heartbeat', versions: '' },
  show: showWorkers,
  operations: [listing(workerAnswer, 'admin'), reading(workerAnswer, 'admin')],
}

async function showWorkers(call: Call, rows: readonly Row<'worker'>[]) {
  if (rows.length === 0) return []
  const running = await call.ctx.db
    .selectFrom('task')
    .select(['uuid', 'worker_id'])
    .where('state', '=', 'running')
    .where(
      'worker_id',
      'in',
      rows.map(({ id }) => id),
    )
    .execute()
  const current = new Map(running.map(({ worker_id, uuid }) => [worker_id, hrefOf(call.registry, 'task', { uuid })]))
  return rows.map((row) => ({
    name: row.name,
    last_heartbeat: renderTime(row.heartbeat),
    versions: appVersions(call.ctx),
    current_task: current.get(row.id) ?? null,
  }))
}

const flag = (description: string): Field => ({ type: 'boolean', required: true, description })
const list = (properties: Fields): Field => ({ type: 'array', required: true, items: { type: 'object', properties } })
const bytes: Field = { type: 'integer', format: 'int64', required: true, nullable: true, minimum: 0 }
const appFields: Fields = Object.fromEntries(Object.entries(workerFields).filter(([name]) => name !== 'current_task'))
const name: Field = { type: 'string', required: true }

/** `status/`: what everybody may know of the server. */
export const status: Endpoint = {
  name: 'read',
  method: 'GET',
  url: `${apiRoot}status/`,
  documented: `${apiRoot}status/`,
  operationId: 'status_read',
  tag: 'Status',
  summary: 'Inspect status of Pulp',
  answers: {
    200: {
      schema: 'StatusResponse',
      fields: {
        versions: list({
          component: name,
          version: name,
          package: name,
          module: name,
          domain_compatible: flag('Domain feature compatibility of component'),
        }),
        online_workers: list({ ...baseFields, ...workerFields }),
        online_api_apps: list(appFields),
        online_content_apps: list(appFields),
        database_connection: {
          type: 'object',
          required: true,
          properties: { connected: flag('Whether the app can connect to the database') },
        },
        redis_connection: { type: 'object', properties: { connected: flag('Whether the app can connect to Redis') } },
        storage: { type: 'object', properties: { total: bytes, used: bytes, free: bytes } },
        content_settings: {
          type: 'object',
          required: true,
          properties: { content_origin: { type: 'string', nullable: true }, content_path_prefix: name },
        },
        domain_enabled: flag('Is Domains enabled'),
      },
    },
  },
  allow: 'anyone',
  run: async (call) => ({ status: 200, body: await showStatus(call) }),
}

async function showStatus(call: Call) {
  const { ctx } = call
  const rows = await ctx.db.selectFrom('worker').selectAll().where('heartbeat', '>=', aliveSince()).orderBy('id').execute()
  const shown = await showWorkers(call, rows)
  const apps = shown.map(({ name, last_heartbeat, versions }) => ({ name, last_heartbeat, versions }))
  return {
    versions: [
      { component: 'core', version: coreVersion, package: 'pulpcore', module: 'pulpcore.app', domain_compatible: true },
      ...ctx.formats.map(({ name: component, pulp }) => ({
        component,
        version: pulp.version,
        package: pulp.package,
        module: pulp.module,
        domain_compatible: true,
      })),
    ],
    online_workers: rows.map((row, index) => ({
      pulp_href: hrefOf(call.registry, 'worker', row),
      prn: prnOf(ctx.formats, 'worker', row),
      pulp_created: renderTime(row.created),
      pulp_last_updated: renderTime(row.updated),
      ...shown[index],
    })),
    online_api_apps: apps,
    online_content_apps: apps,
    database_connection: { connected: true },
    redis_connection: { connected: false },
    storage: await ctx.blobs.space(),
    content_settings: { content_origin: ctx.config.origin ?? null, content_path_prefix: '/pulp/content/' },
    domain_enabled: false,
  }
}

export const livez: Endpoint = {
  name: 'read',
  method: 'GET',
  url: `${apiRoot}livez/`,
  documented: `${apiRoot}livez/`,
  operationId: 'livez_read',
  tag: 'Livez',
  summary: "Inspect liveness of Pulp's REST API.",
  answers: { 200: null },
  allow: 'anyone',
  run: async () => ({ status: 200 }),
}

/** `/pulp/api/v3/`: where the collections are. */
export const root: Endpoint = {
  name: 'read',
  method: 'GET',
  url: apiRoot,
  documented: apiRoot,
  operationId: 'root',
  tag: 'Root',
  summary: 'List the collections',
  answers: { 200: null },
  allow: 'authenticated',
  hidden: true,
  run: async ({ origin, registry }) => ({
    status: 200,
    body: Object.fromEntries(
      registry.resources
        .filter(({ parent }) => !parent)
        .map((resource) => [resource.path, `${origin}${collectionHref(resource)}`])
        .sort(([a], [b]) => (a! < b! ? -1 : 1)),
    ),
  }),
}

const text: Field = { type: 'string', required: true }

const domainFields: Fields = {
  name: text,
  description: { type: 'string', nullable: true },
  pulp_labels: { type: 'object', items: { type: 'string', nullable: true } },
  storage_class: {
    ...text,
    enum: [
      'pulpcore.app.models.storage.FileSystem',
      'storages.backends.s3boto3.S3Boto3Storage',
      'storages.backends.azure_storage.AzureStorage',
    ],
  },
  storage_settings: { type: 'object', required: true },
  redirect_to_object_storage: { type: 'boolean', default: true },
  hide_guarded_distributions: { type: 'boolean', default: false },
}
const domainAnswer = answerSchema('Domain', baseFields, domainFields)

/** The one domain, by which tasks reserve what is shared by all. Its uuid is a setting; the rest is fixed. */
export const domains = {
  path: 'domains',
  app: 'core',
  model: 'Domain',
  table: 'domain' as never,
  from: sql`(select 1 as id, value as uuid, 'default' as name, '{}' as labels, 0 as created, 0 as updated from setting where key = 'domain')`,
  kind: 'domain',
  fields: domainFields,
  filters: {
    ...nameFilters('domain.name'),
    pulp_label_select: { field: { type: 'string' }, where: () => sql`false` },
  },
  ordering: Object.fromEntries([...Object.keys(domainFields), 'pulp_labels'].map((each) => [each, ''])),
  view: 'core.view_domain',
  show: async (_call, rows) =>
    rows.map(() => ({
      name: 'default',
      description: null,
      pulp_labels: {},
      storage_class: 'pulpcore.app.models.storage.FileSystem',
      storage_settings: {
        hidden_fields: [],
        location: '',
        base_url: '/',
        file_permissions_mode: 420,
        directory_permissions_mode: null,
      },
      redirect_to_object_storage: true,
      hide_guarded_distributions: false,
    })),
  operations: [listing(domainAnswer), reading(domainAnswer)],
} satisfies Resource as Resource

const nothing = sql`(select 1 as id, '' as uuid, '' as name, 0 as created, 0 as updated where 1 = 0)`

const scheduleFields: Fields = {
  name: text,
  task_name: text,
  dispatch_interval: { type: 'string', required: true, nullable: true },
  next_dispatch: { type: 'string', format: 'date-time', readOnly: true, nullable: true },
  last_task: { type: 'string', format: 'uri', readOnly: true },
}
const scheduleAnswer = answerSchema('TaskSchedule', baseFields, scheduleFields)

/** Task schedules: maintenance runs without any. */
export const taskSchedules = {
  path: 'task-schedules',
  app: 'core',
  model: 'TaskSchedule',
  table: 'task_schedule' as never,
  from: nothing,
  fields: scheduleFields,
  filters: {
    ...lookups('name', 'task_schedule.name', 'text', ['exact', 'contains']),
    ...lookups('task_name', 'task_schedule.name', 'text', ['exact', 'contains']),
  },
  ordering: { name: '', task_name: '', dispatch_interval: '', next_dispatch: '' },
  show: async () => [],
  operations: [listing(scheduleAnswer), reading(scheduleAnswer), ...roleOperations('core.taskschedule')],
} satisfies Resource as Resource
