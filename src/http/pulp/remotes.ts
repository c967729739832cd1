import { X509Certificate } from 'node:crypto'
import type { Format, ResourceType } from '../../core/format.ts'
import { checkUnique, createResource, type RemoteValues } from '../../core/resources.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, labelFilter, nameFilters, timeFilters } from './engine/filters.ts'
import { invalid } from './engine/invalid.ts'
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
import type { Call, Field, Fields, Filters, Registry, Resource } from './engine/resource.ts'
import { checkLabels, checkSetting, labelsField, pickSettings, showSettings } from './engine/settings.ts'

const tasks = 'pulpcore.app.tasks.base'

const text = (description: string): Field => ({ type: 'string', nullable: true, description })
const secret = (description: string): Field => ({ type: 'string', nullable: true, writeOnly: true, secret: true, description })
const seconds = (what: string): Field => ({
  type: 'number',
  format: 'double',
  nullable: true,
  minimum: 0,
  description: `${what} in seconds.`,
})

/** What a remote stores among its settings, whatever its format. */
const commonSettings: Fields = {
  ca_cert: text('A PEM encoded CA certificate used to validate the server certificate presented by the remote server.'),
  client_cert: text('A PEM encoded client certificate used for authentication.'),
  tls_validation: { type: 'boolean', description: 'If True, TLS peer validation must be performed.' },
  proxy_url: text('The proxy URL. Format: scheme://host:port'),
  download_concurrency: {
    type: 'integer',
    format: 'int64',
    nullable: true,
    minimum: 1,
    description: 'Total number of simultaneous connections.',
  },
  max_retries: {
    type: 'integer',
    format: 'int64',
    nullable: true,
    description: 'Retries of a download that failed; 3 by default.',
  },
  total_timeout: seconds('Limit of a whole download'),
  connect_timeout: seconds('Limit of waiting for a connection'),
  sock_connect_timeout: seconds('Limit of connecting'),
  sock_read_timeout: seconds('Limit of waiting for bytes'),
  headers: { type: 'array', items: { type: 'object' }, description: 'Extra request headers.' },
  rate_limit: { type: 'integer', format: 'int64', nullable: true, description: 'Limits requests per second.' },
}

/** In the order in which Pulp lists them in hidden_fields. */
const secrets: Fields = {
  client_key: secret('A PEM encoded private key used for authentication.'),
  proxy_username: secret('The username to authenticate to the proxy.'),
  proxy_password: secret('The password to authenticate to the proxy.'),
  username: secret('The username to be used for authentication when syncing.'),
  password: secret('The password to be used for authentication when syncing.'),
}

const hiddenFields: Field = {
  type: 'array',
  readOnly: true,
  items: {
    type: 'object',
    properties: { name: { type: 'string', required: true }, is_set: { type: 'boolean', required: true } },
  },
  description: 'List of hidden (write only) fields',
}

const policyField: Field = {
  type: 'string',
  enum: ['immediate', 'on_demand', 'streamed'],
  default: 'immediate',
  description: 'The policy to use when downloading content.',
}

const commonFields: Fields = {
  name: { type: 'string', required: true, description: 'A unique name for this remote.' },
  url: { type: 'string', required: true, description: 'The URL of an external content source.' },
  ...commonSettings,
  ...secrets,
  pulp_labels: labelsField,
  policy: policyField,
  hidden_fields: hiddenFields,
}

const filters: Filters = {
  ...nameFilters('remote.name'),
  ...timeFilters('pulp_last_updated', 'remote.updated'),
  pulp_label_select: labelFilter('remote.labels'),
}

// Orders by what is in settings or among the secrets change nothing: they would tell secrets apart.
const ordering = {
  ...Object.fromEntries(Object.keys({ ...commonSettings, ...secrets }).map((name) => [name, ''])),
  name: 'remote.name',
  url: 'remote.url',
  policy: 'remote.policy',
  pulp_labels: '',
  pulp_type: 'remote.type',
}

/** The remotes of one type of a format. */
export function remoteResource(format: Format, declared: ResourceType): Resource<'remote'> {
  const { name: app } = format
  const type = `${app}.${declared.type}`
  const model = `${declared.model}Remote`
  const schema = `${app}.${model}`
  const may = (action: string) => `${app}.${action}_${model.toLowerCase()}`
  const view = may('view')
  const fields: Fields = { ...commonFields, ...declared.fields }
  const answer = answerSchema(schema, baseFields, fields)
  const body = { schema, fields: fields }
  const change = { object: [may('change'), view] }
  return {
    path: `remotes/${app}/${declared.type}`,
    app,
    model,
    table: 'remote',
    kind: 'remote',
    type,
    fields,
    filters,
    ordering,
    view,
    show: async ({ registry }, rows) => rows.map((row) => showRemote(registry, row, declared)),
    operations: [
      listing(answer),
      reading(answer),
      creating({
        summary: `Create a ${app} remote`,
        body,
        answers: { 201: answer },
        allow: { model: [may('add')] },
        async run(call) {
          const values = remoteValues(format, declared, call.body)
          return created(call, await createResource(call.ctx, 'remote', type, values as RemoteValues, call.user!.id))
        },
      }),
      ...updating({
        summary: `Update a ${app} remote`,
        body,
        answers: { 202: taskAnswer },
        allow: change,
        async run(call) {
          const changes = remoteValues(format, declared, call.body, call.row)
          await checkUnique(call.ctx.db, call.ctx.formats, 'remote', call.row.type, changes, call.row.id)
          return postponed(call, {
            name: `${tasks}.ageneral_update`,
            kind: 'update',
            args: { resource: 'remote', id: call.row.id, changes },
            exclusive: [prnOfRow(call)],
            immediate: true,
          })
        },
      }),
      deletingLater({
        summary: `Delete a ${app} remote`,
        allow: { object: [may('delete'), view] },
        run: (call) =>
          postponed(call, {
            name: `${tasks}.ageneral_delete`,
            kind: 'delete',
            args: { resource: 'remote', id: call.row.id },
            exclusive: [prnOfRow(call)],
          }),
      }),
      ...roleOperations(`${app}.${model.toLowerCase()}`),
      ...labelOperations('remote', change),
    ],
  }
}

/** What a request sets, as core names it. Looks at what is stored where fields go together. */
function remoteValues(format: Format, declared: ResourceType, body: Call['body'], row?: Row<'remote'>): Partial<RemoteValues> {
  const given = pickSettings({ ...commonSettings, ...declared.fields }, body)
  const { policy: _, ...settings } = given
  const hidden = Object.fromEntries(Object.keys(secrets).flatMap((name) => (name in body ? [[name, body[name]]] : [])))
  checkUrl(body['url'])
  for (const name of ['ca_cert', 'client_cert'])
    if (typeof settings[name] === 'string') settings[name] = checkCertificate(name, settings[name])
  checkProxy({ ...(row ? JSON.parse(row.settings) : {}), ...settings }, { ...(row ? JSON.parse(row.secrets) : {}), ...hidden })
  checkLabels(body['pulp_labels'])
  checkSetting(format, 'remote', { url: row?.url, policy: row?.policy, ...(row ? JSON.parse(row.settings) : {}), ...body })
  return { name: body['name'], url: body['url'], policy: body['policy'], labels: body['pulp_labels'], settings, secrets: hidden }
}

function checkUrl(url: string | undefined): void {
  if (url === undefined) return
  if (/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*@/i.test(url))
    throw invalid({
      url: ['The remote url contains username or password. Please use remote username or password instead.'],
    })
  if (/^file:\/\//i.test(url))
    throw invalid({ url: [`The path '${url.slice(7)}' does not start with any of the allowed import paths`] })
}

/** The certificates of a PEM text, without what stands around them. */
function checkCertificate(name: string, pem: string): string {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)
  if (!found) throw invalid({ [name]: [`No ${name} specified in string ${pem}`] })
  if (!found.every(isCertificate)) throw invalid({ [name]: [`Invalid ${name} specified, error 'Unable to load PEM file.'`] })
  return `${found.join('\n')}\n`
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}

function checkProxy(settings: Record<string, unknown>, hidden: Record<string, unknown>): void {
  const { proxy_url } = settings
  const { proxy_username, proxy_password } = hidden
  if (typeof proxy_url === 'string' && proxy_url.includes('@'))
    throw invalid({ proxy_url: ['proxy_url must not contain credentials'] })
  if ((proxy_username || proxy_password) && !proxy_url)
    throw invalid({ non_field_errors: ['proxy credentials cannot be specified without a proxy'] })
  if (Boolean(proxy_username) !== Boolean(proxy_password))
    throw invalid({ non_field_errors: ['proxy username and password can only be specified together'] })
}

function showRemote(registry: Registry, row: Row<'remote'>, declared?: ResourceType): Record<string, unknown> {
  const settings = JSON.parse(row.settings)
  const hidden = JSON.parse(row.secrets)
  return {
    name: row.name,
    url: row.url,
    ...Object.fromEntries(Object.keys(commonSettings).map((name) => [name, settings[name] ?? null])),
    tls_validation: settings.tls_validation ?? true,
    pulp_labels: JSON.parse(row.labels),
    hidden_fields: Object.keys(secrets).map((name) => ({
      name,
      is_set: hidden[name] !== undefined && hidden[name] !== null && hidden[name] !== '',
    })),
    ...(declared ? showSettings(registry, declared.fields, settings) : {}),
    policy: row.policy,
  }
}

/** `remotes/`: those of all formats. */
export const remotesList: Resource<'remote'> = {
  path: 'remotes',
  app: 'core',
  model: 'Remote',
  table: 'remote',
  kind: 'remote',
  generic: true,
  fields: commonFields,
  filters,
  ordering,
  show: async ({ registry }, rows) => rows.map((row) => showRemote(registry, row)),
  operations: [listing(answerSchema('GenericRemote', baseFields, commonFields))],
}
