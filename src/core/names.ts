import type { Ctx } from './ctx.ts'

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
}

/** Pulp's model of a row, lower-cased: `rpm.rpmrepository`, `core.rbaccontentguard`. `type` is the row's type column where it has one. */
export function modelOf(formats: Ctx['formats'], kind: Kind, type = ''): string {
  const fixed = coreModels[kind]
  if (fixed) return fixed
  const [app = '', name = ''] = type.split('.')
  if (kind === 'guard') return `core.${guardModels[type]}`
  const format = formats.find((each) => each.name === app)
  if (!format) throw new Error(`no format for ${kind} of type ${type}`)
  if (kind === 'namespace') return `${app}.${format.pulp.model.toLowerCase()}namespace`
  if (kind !== 'content') return `${app}.${(format.variants?.[name] ?? format.pulp.model).toLowerCase()}${kind}`
  const contentType = format.contentTypes.find((each) => each.name === name)
  if (!contentType) throw new Error(`no content type ${type}`)
  return `${app}.${contentType.model.toLowerCase()}`
}

/** `prn:rpm.rpmrepository:<uuid>`. Users and groups are named by their integer id. */
export function prnOf(formats: Ctx['formats'], kind: Kind, row: { uuid: string | number; type?: string }): string {
  return `prn:${modelOf(formats, kind, row.type)}:${row.uuid}`
}
