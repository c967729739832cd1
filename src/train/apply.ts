import type { Api } from '../api/client.ts'
import type { Entity, Group, Guard, HeldRole, Remote, Repository } from '../api/resources.ts'
import { forEach } from '../lib/for-each.ts'
import { keyOf, type Plan, type ServerState, type Step, trainLabel } from './plan.ts'
import { namespaceRoles, type NamespaceGroups } from './plan-images.ts'
import { findServedImages } from './served-images.ts'
import { findSnapshots } from './snapshots.ts'
import { apiPaths, type FormatName, syncedRepositories, type Train } from './train.ts'

const guards = 'contentguards/core/rbac/'
const downloader = 'core.rbaccontentguard_downloader'
const namespaces = 'pulp_container/namespaces/'

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
  const formats = new Set([
    ...syncedRepositories(train).map((each) => each.format),
    ...(train.images ? ['container' as const] : []),
  ])
  for (const format of formats) {
    for await (const remote of api.list<Remote>(`remotes/${apiPaths[format]}`))
      remotes.set(keyOf({ format, name: remote.name }), remote)
    for await (const repository of api.list<Repository>(`repositories/${apiPaths[format]}`)) {
      repositories.set(keyOf({ format, name: repository.name }), repository)
      if (repository.pulp_labels[trainLabel] === train.name) labelled.push({ format, name: repository.name })
    }
  }
  const snapshots = [...(await findSnapshots(api, train.repositories)).values()].flat()
  const unguarded = snapshots.filter(({ guard }) => guard === null).map(({ name }) => name)
  return {
    groups,
    guards: withReaders,
    remotes,
    repositories,
    labelled,
    unguarded,
    namespaces: await findNamespaces(api, train),
    images: train.images ? await findServedImages(api) : new Map(),
  }
}

async function findNamespaces(api: Api, { images }: Train): Promise<ServerState['namespaces']> {
  const found = new Map<string, NamespaceGroups & { href: string }>()
  const wanted = new Set(images?.namespaces.values())
  if (wanted.size === 0) return found
  for await (const { name, pulp_href: href } of api.list<Entity & { name: string }>(namespaces)) {
    if (!wanted.has(name)) continue
    const { roles } = await api.get<{ roles: HeldRole[] }>(`${href}list_roles/`)
    const holding = (role: string) => roles.filter((held) => held.role === role).flatMap((held) => held.groups)
    found.set(name, {
      href,
      consumer: holding(namespaceRoles.consumer),
      collaborator: holding(namespaceRoles.collaborator),
    })
  }
  return found
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
    namespaces: new Map([...server.namespaces].map(([name, { href }]) => [name, href])),
    remotes: new Map([...server.remotes].map(([key, { pulp_href }]) => [key, pulp_href])),
    repositories: new Map([...server.repositories].map(([key, { pulp_href }]) => [key, pulp_href])),
  }
  const phases = [
    isA('add', 'group'),
    isA('add', 'guard'),
    isA('grant', 'guard'),
    isA('revoke', 'guard'),
    isA('add', 'namespace'),
    isA('grant', 'namespace'),
    isA('revoke', 'namespace'),
    isA('any', 'remote'),
    isA('any', 'repository'),
    isA('any', 'image'),
  ]
  for (const phase of phases) {
    await forEach(plan.steps.filter(phase), jobs, async (step) => {
      if ('format' in step) await applyToResource(api, step, known)
      else if (step.what === 'image') await applyToImage(api, step, known)
      else await applyToAccess(api, step, known)
      done(step)
    })
  }
}

/** What earlier steps made, for later ones to name. */
interface Hrefs {
  guards: Map<string, string>
  namespaces: Map<string, string>
  remotes: Map<string, string>
  repositories: Map<string, string>
}

function isA(act: Step['act'] | 'any', what: Step['what']) {
  return (step: Step) => step.what === what && (act === 'any' || step.act === act)
}

type ImageStep = Extract<Step, { what: 'image' }>
type ResourceStep = Extract<Step, { format: FormatName }>

async function applyToAccess(api: Api, step: Exclude<Step, ImageStep | ResourceStep>, known: Hrefs): Promise<void> {
  if (step.act !== 'add') {
    const act = step.act === 'grant' ? 'add_role' : 'remove_role'
    const [on, role] =
      step.what === 'guard'
        ? [known.guards.get(step.name), downloader]
        : [known.namespaces.get(step.name), namespaceRoles[step.role]]
    await api.post(`${on}${act}/`, { role, groups: [step.group] })
  } else if (step.what === 'group') await api.create('groups/', { name: step.name })
  else if (step.what === 'namespace') {
    const made = await api.create<Entity>(namespaces, { name: step.name })
    known.namespaces.set(step.name, made.pulp_href)
  } else {
    const guard = await api.create<Guard>(guards, { name: step.name, description: `What is at stage ${step.name}.` })
    known.guards.set(step.name, guard.pulp_href)
  }
}

/** The distribution is made as private as it shall be: there is no moment at which anyone may pull. */
async function applyToImage(api: Api, step: ImageStep, known: Hrefs): Promise<void> {
  if (step.act === 'change') {
    await api.update(step.href, step.body)
    return
  }
  const { name, labels: pulp_labels } = step
  const named = { name, pulp_labels }
  const repository =
    known.repositories.get(keyOf({ format: 'container', name })) ??
    (await api.create<Repository>(`repositories/${apiPaths.container}`, named)).pulp_href
  await api.create(`distributions/${apiPaths.container}`, { ...named, base_path: name, repository, private: step.private })
}

async function applyToResource(api: Api, step: ResourceStep, known: Hrefs): Promise<void> {
  const remote = step.remote === undefined ? {} : { remote: known.remotes.get(keyOf({ format: step.format, name: step.remote })) }
  const body = { ...step.body, ...remote }
  if (step.act === 'change') {
    await api.update(step.href, body)
    return
  }
  const collection = step.what === 'remote' ? 'remotes' : 'repositories'
  const made = await api.create<Remote | Repository>(`${collection}/${apiPaths[step.format]}`, body)
  known[step.what === 'remote' ? 'remotes' : 'repositories'].set(keyOf(step), made.pulp_href)
}
