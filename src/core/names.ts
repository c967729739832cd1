import type { Ctx } from './ctx.ts'
import type { DistributionType, Format, RepositoryType, ResourceType } from './format.ts'

/** Tables whose rows have names outside: PRNs here, hrefs in http/pulp. */
export type Kind =
  | 'repository'
  | 'version'
  | 'remote'
  | 'publication'
  | 'distribution'
  | 'guard'
  | 'content'
  | 'artifact'
  | 'upload'
  | 'task'
  | 'task_group'
  | 'worker'
  | 'role'
  | 'user_group'
  | 'user'
  | 'domain'
  | 'namespace'
  | 'signing_service'

const guardModels: Record<string, string> = {
  'core.rbac': 'rbaccontentguard',
  'core.header': 'headercontentguard',
  'core.composite': 'compositecontentguard',
  'core.content_redirect': 'contentredirectcontentguard',
}

const coreModels: Partial<Record<Kind, string>> = {
  version: 'core.repositoryversion',
  artifact: 'core.artifact',
  upload: 'core.upload',
  task: 'core.task',
  task_group: 'core.taskgroup',
  worker: 'core.worker',
  role: 'core.role',
  user_group: 'core.group',
  user: 'auth.user',
  domain: 'core.domain',
  signing_service: 'core.signingservice',
}

const typesOf: Partial<Record<Kind, (format: Format) => readonly ResourceType[]>> = {
  repository: ({ repositories }) => repositories,
  remote: ({ remotes }) => remotes,
  distribution: ({ distributions }) => distributions,
  // What is published is of the usual type.
  publication: ({ repositories }) => repositories,
}

/** A type of resource of a format by the name that it has there: what follows the dot in the type column. */
function typeNamed(format: Format, kind: Kind, name: string): ResourceType {
  const found = typesOf[kind]?.(format).find(({ type }) => type === name)
  if (!found) throw new Error(`no ${kind} type ${name} of ${format.name}`)
  return found
}

/** The type that a repository's row names. */
export function repositoryTypeOf(formats: Ctx['formats'], type: string): RepositoryType {
  return typeOfRow(formats, 'repository', type)
}

/** The type that a distribution's row names. */
export function distributionTypeOf(formats: Ctx['formats'], type: string): DistributionType {
  return typeOfRow(formats, 'distribution', type)
}

function typeOfRow(formats: Ctx['formats'], kind: Kind, type: string): ResourceType {
  const [app, name = ''] = type.split('.')
  const format = formats.find((each) => each.name === app)
  if (!format) throw new Error(`no format for ${kind} of type ${type}`)
  return typeNamed(format, kind, name)
}

/** Pulp's model of a row, lower-cased: `rpm.rpmrepository`, `core.rbaccontentguard`. `type` is the row's type column where it has one. */
export function modelOf(formats: Ctx['formats'], kind: Kind, type = ''): string {
  const fixed = coreModels[kind]
  if (fixed) return fixed
  const [app = '', name = ''] = type.split('.')
  if (kind === 'guard') return `core.${guardModels[type]}`
  const format = formats.find((each) => each.name === app)
  if (!format) throw new Error(`no format for ${kind} of type ${type}`)
  if (kind === 'namespace') return `${app}.${format.namespaces!.model.toLowerCase()}`
  if (kind !== 'content') return `${app}.${typeNamed(format, kind, name).model.toLowerCase()}${kind}`
  const contentType = format.contentTypes.find((each) => each.name === name)
  if (!contentType) throw new Error(`no content type ${type}`)
  return `${app}.${contentType.model.toLowerCase()}`
}

/** `prn:rpm.rpmrepository:<uuid>`. Users and groups are named by their integer id. */
export function prnOf(formats: Ctx['formats'], kind: Kind, row: { uuid: string | number; type?: string }): string {
  return `prn:${modelOf(formats, kind, row.type)}:${row.uuid}`
}

/** Pulp's model of what a PRN names: `rpm.rpmrepository`. */
export function modelIn(prn: string): string {
  return prn.split(':')[1] ?? ''
}

/** What a PRN names its thing by: a uuid, or an integer id. */
export function keyIn(prn: string): string {
  return prn.slice(prn.lastIndexOf(':') + 1)
}
