import { saveBlob } from '../../core/content.ts'
import type { Format, FormatAction } from '../../core/format.ts'
import { prnOf } from '../../core/names.ts'
import { createTaskGroup, dispatchTask } from '../../core/tasks/tasks.ts'
import type { Staged } from '../../store/blobs.ts'
import { contentTargets } from './content-targets.ts'
import { apiRoot, findTarget, hrefOf } from './engine/hrefs.ts'
import { permitUpload } from './content.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import { postponed, taskAnswer, taskGroupAnswer } from './engine/operations.ts'
import { permitCopy } from './engine/permit.ts'
import type { Answer, Call, Endpoint, Target } from './engine/resource.ts'

/** The endpoints that formats have of their own: `rpm/copy/`. */
export function actionEndpoints(format: Format): Endpoint[] {
  return (format.actions ?? []).map((action) => ({
    name: action.operationId,
    method: 'POST',
    url: `${apiRoot}${action.path}/`,
    documented: `${apiRoot}${action.path}/`,
    operationId: action.operationId,
    tag: tagOf(action.path),
    summary: action.summary,
    body: {
      schema: action.schema,
      fields: action.fields,
      lenient: action.lenient === true,
      form: Object.values(action.fields).some(({ format: kind }) => kind === 'binary'),
    },
    answers: { 202: action.group ? taskGroupAnswer : taskAnswer },
    allow: 'authenticated',
    run: (call) => start(call, format, action),
  }))
}

const tagOf = (path: string) =>
  path
    .split('/')
    .map((word) => word[0]!.toUpperCase() + word.slice(1))
    .join(': ')

async function start(call: Call, format: Format, action: FormatAction): Promise<Answer> {
  const raw = Object.fromEntries(Object.entries(call.body).map(([name, value]) => [name, isTarget(value) ? value.prn : value]))
  const { exclusive, shared } = action.resources(raw)
  const locks = { exclusive: await prnsOf(call, exclusive), shared: await prnsOf(call, shared) }
  await permitCopy(call, locks.exclusive, locks.shared)
  const args = { ...(await (argumentsOf[action.kind] ?? plainArguments)(call, format)), ...action.args?.(raw) }
  const held = { ...locks, exclusive: [...locks.exclusive, ...(action.locks ?? [])] }
  const task = { name: action.task, kind: action.kind, args, ...held }
  if (!action.group) return postponed(call, task)
  const group = await createTaskGroup(call.ctx.db, action.group)
  await dispatchTask(call.ctx, { ...task, userId: call.user!.id, cid: call.cid, groupId: group.id })
  return { status: 202, body: { task_group: hrefOf(call.registry, 'task_group', group) } }
}

function isTarget(value: unknown): value is Target {
  return typeof value === 'object' && value !== null && 'prn' in value && 'kind' in value
}

/** What hrefs name: repositories, versions by the repository that they are of. */
async function prnsOf(call: Call, names: readonly string[]): Promise<string[]> {
  const found = await Promise.all(names.map((name) => repositoryNamed(call, name)))
  return [...new Set(found)]
}

async function repositoryNamed(call: Call, name: string): Promise<string> {
  const repository = name.replace(/versions\/\d+\/$/, '')
  const found = await findTarget(call, repository, ['repository', 'version'])
  if (found === 'unknown') throw invalid([`URI not valid: ${name}`])
  if (typeof found === 'string') throw invalid([`URI ${name} not found for repository.`])
  return found.prn
}

/** How the arguments of a kind of work are found in a body that has them in another form. */
const argumentsOf: Readonly<Record<string, (call: Call, format: Format) => Promise<Record<string, unknown>>>> = {
  copy: copyArguments,
  prune: pruneArguments,
  async 'upload-content'(call, format) {
    await permitUpload(call, format, call.body['repository'])
    return plainArguments(call)
  },
}

/** The arguments of core/prune.ts. */
async function pruneArguments(call: Call, format: Format): Promise<Record<string, unknown>> {
  const {
    repo_hrefs: names,
    keep_days: keepDays,
    dry_run: dryRun,
  } = call.body as {
    repo_hrefs: string[]
    keep_days: number
    dry_run: boolean
  }
  const repositories = await repositoriesNamed(call, format, names)
  await permitCopy(
    call,
    repositories.map((row) => prnOf(call.ctx.formats, 'repository', row)),
    [],
  )
  return { repositoryIds: repositories.map(({ id }) => id), keepDays, dryRun }
}

/** Repositories of a format by their hrefs or PRNs; `*` is all of them. Throws Failure invalid. */
async function repositoriesNamed(call: Call, format: Format, names: readonly string[]) {
  const wrong = (message: string) => invalidField('repo_hrefs', message)
  if (names.length === 0) throw wrong('Must not be [].')
  if (names.includes('*') && names.length > 1) throw wrong("Can't specify specific HREFs when using '*'")
  const [usual] = format.repositories
  const type = `${format.name}.${usual!.type}`
  const all = call.ctx.db.selectFrom('repository').select(['id', 'uuid', 'type']).where('type', '=', type).orderBy('id')
  if (names[0] === '*') return all.execute()
  const ids = new Set<number>()
  for (const name of names) {
    const found = await findTarget(call, name, [`repository:${type}`])
    if (found === 'unknown') throw wrong(`URI not valid: ${name}`)
    if (typeof found === 'string') throw wrong(`URI ${name} not found for ${usual!.model.toLowerCase()}repository.`)
    ids.add(found.id)
  }
  return all.where('id', 'in', [...ids]).execute()
}

/** Values of a body as a task's arguments: what hrefs name by id, files as digests of kept blobs. */
async function plainArguments(call: Call): Promise<Record<string, unknown>> {
  const args: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(call.body)) {
    if (isTarget(value)) args[`${name}Id`] = value.id
    else if (isStaged(value)) args['sha256'] = await keep(call, value)
    else args[name] = value
  }
  return args
}

function isStaged(value: unknown): value is Staged {
  return typeof value === 'object' && value !== null && 'digests' in value
}

async function keep({ ctx }: Call, file: Staged): Promise<string> {
  await file.keep()
  await saveBlob(ctx.db, file.digests, file.size)
  return file.digests.sha256
}

interface CopyConfig {
  source_repo_version: string
  dest_repo: string
  dest_base_version?: number
  content?: string[]
}

/** The arguments of core/copy.ts, from the list of copies that Pulp's clients send. */
async function copyArguments(call: Call): Promise<Record<string, unknown>> {
  const { dependency_solving: dependencySolving = true } = call.body
  const config = checkConfig(call.body['config'])
  const copies = []
  for (const entry of config) copies.push(await copyOf(call, entry))
  return { copies, dependencySolving }
}

/** Pulp checks it against a JSON schema and says what that says, in Python's way of writing lists. */
function checkConfig(config: unknown): CopyConfig[] {
  const problem = (text: string) => invalid({ non_field_errors: [`Provided copy criteria is invalid:'[${text}]'`] })
  if (!Array.isArray(config)) throw problem(`"${pythonRepr(config)} is not of type 'array'"`)
  if (config.length === 0) throw problem("'[] should be non-empty'")
  const lacking = config.flatMap((entry) =>
    ['dest_repo', 'source_repo_version'].filter((name) => typeof (entry as Record<string, unknown> | null)?.[name] !== 'string'),
  )
  if (lacking.length > 0) throw problem(lacking.map((name) => `"'${name}' is a required property"`).join(', '))
  const base = config.map(({ dest_base_version: base }) => base).find((base) => base !== undefined && !Number.isInteger(base))
  if (base !== undefined) throw problem(`"${pythonRepr(base)} is not of type 'integer'"`)
  return config as CopyConfig[]
}

const pythonRepr = (value: unknown) => (typeof value === 'string' ? `'${value}'` : JSON.stringify(value))

async function copyOf(call: Call, { source_repo_version, dest_repo, dest_base_version, content }: CopyConfig) {
  const source = await targetOf(call, source_repo_version, 'version')
  const destination = await targetOf(call, dest_repo, 'repository')
  if (source.type !== destination.type) throw invalid([`${source_repo_version} is of another type than ${dest_repo}.`])
  return {
    sourceVersionId: source.id,
    repositoryId: destination.id,
    baseVersion: dest_base_version ?? null,
    content: content ? (await contentTargets(call, undefined, content)).map(({ id }) => id) : null,
  }
}

async function targetOf(call: Call, value: string, kind: 'version' | 'repository'): Promise<Target> {
  const found = await findTarget(call, value, [kind])
  if (found === 'unknown') throw invalid([`URI not valid: ${value}`])
  if (typeof found === 'string')
    throw invalid([`URI ${value} not found for ${kind === 'version' ? 'repositoryversion' : 'repository'}.`])
  return found
}
