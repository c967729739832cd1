import type { Api } from '../api/client.ts'
import type { Group, Guard, HeldRole, Remote, Repository } from '../api/resources.ts'
import { forEach } from '../lib/for-each.ts'
import { keyOf, type Plan, type ServerState, type Step, trainLabel } from './plan.ts'
import { findSnapshots } from './snapshots.ts'
import { apiPaths, type FormatName, type Train } from './train.ts'

const guards = 'contentguards/core/rbac/'
const downloader = 'core.rbaccontentguard_downloader'

/** Reads what planApply compares with. */
export async function readServer(api: Api, train: Train): Promise<ServerState> {
  const groups = new Set<string>()
  for await (const { name } of api.list<Group>('groups/')) groups.add(name)

  const found = await findGuards(api)
  const withReaders = new Map<string, { href: string; readers: readonly string[] }>()
  for (const stage of train.stages) {
    const href = found.get(stage)
    if (href !== undefined) withReaders.set(stage, { href, readers: await readersOf(api, href) })
  }

  const remotes = new Map<string, Remote>()
  const repositories = new Map<string, Repository>()
  const labelled: { format: FormatName; name: string }[] = []
  for (const format of new Set(train.repositories.map((each) => each.format))) {
    for await (const remote of api.list<Remote>(`remotes/${apiPaths[format]}`))
      remotes.set(keyOf({ format, name: remote.name }), remote)
    for await (const repository of api.list<Repository>(`repositories/${apiPaths[format]}`)) {
      repositories.set(keyOf({ format, name: repository.name }), repository)
      if (repository.pulp_labels[trainLabel] === train.name) labelled.push({ format, name: repository.name })
    }
  }
  const snapshots = [...(await findSnapshots(api, train.repositories)).values()].flat()
  const unguarded = snapshots.filter(({ guard }) => guard === null).map(({ name }) => name)
  return { groups, guards: withReaders, remotes, repositories, labelled, unguarded }
}

/** Hrefs of the RBAC guards, by name. */
export async function findGuards(api: Api): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for await (const { name, pulp_href } of api.list<Guard>(guards)) found.set(name, pulp_href)
  return found
}

async function readersOf(api: Api, guard: string): Promise<readonly string[]> {
  const { roles } = await api.get<{ roles: HeldRole[] }>(`${guard}list_roles/`)
  return roles.filter(({ role }) => role === downloader).flatMap((held) => held.groups)
}

/** Does a plan. `done` hears of each step once it is done. Steps of one kind run side by side; later kinds need earlier ones. */
export async function applyPlan(api: Api, plan: Plan, server: ServerState, done: (step: Step) => void, jobs = 4): Promise<void> {
  const known: Hrefs = {
    guards: new Map([...server.guards].map(([name, { href }]) => [name, href])),
    remotes: new Map([...server.remotes].map(([key, { pulp_href }]) => [key, pulp_href])),
  }
  const phases = [
    isA('add', 'group'),
    isA('add', 'guard'),
    isA('grant', 'guard'),
    isA('revoke', 'guard'),
    isA('any', 'remote'),
    isA('any', 'repository'),
  ]
  for (const phase of phases) {
    await forEach(plan.steps.filter(phase), jobs, async (step) => {
      if ('format' in step) await applyToResource(api, step, known)
      else await applyToAccess(api, step, known)
      done(step)
    })
  }
}

/** What earlier steps made, for later ones to name. */
interface Hrefs {
  guards: Map<string, string>
  remotes: Map<string, string>
}

function isA(act: Step['act'] | 'any', what: Step['what']) {
  return (step: Step) => step.what === what && (act === 'any' || step.act === act)
}

async function applyToAccess(api: Api, step: Exclude<Step, { format: FormatName }>, known: Hrefs): Promise<void> {
  if (step.act === 'grant') await api.post(`${known.guards.get(step.name)}add_role/`, { role: downloader, groups: [step.group] })
  else if (step.act === 'revoke')
    await api.post(`${known.guards.get(step.name)}remove_role/`, { role: downloader, groups: [step.group] })
  else if (step.what === 'group') await api.create('groups/', { name: step.name })
  else {
    const guard = await api.create<Guard>(guards, { name: step.name, description: `What is at stage ${step.name}.` })
    known.guards.set(step.name, guard.pulp_href)
  }
}

async function applyToResource(api: Api, step: Extract<Step, { format: FormatName }>, known: Hrefs): Promise<void> {
  const remote = step.remote === undefined ? {} : { remote: known.remotes.get(keyOf({ format: step.format, name: step.remote })) }
  const body = { ...step.body, ...remote }
  if (step.act === 'change') {
    await api.update(step.href, body)
    return
  }
  const collection = step.what === 'remote' ? 'remotes' : 'repositories'
  const made = await api.create<Remote | Repository>(`${collection}/${apiPaths[step.format]}`, body)
  if (step.what === 'remote') known.remotes.set(keyOf(step), made.pulp_href)
}
