import type { FastifyInstance } from 'fastify'
import type { Ctx } from '../../core/ctx.ts'
import { defaultDomain } from '../../core/tasks/tasks.ts'
import { signalboxEndpoints } from '../signalbox.ts'
import { accessPolicies } from './access-policies.ts'
import { actionEndpoints } from './actions.ts'
import { artifacts } from './artifacts.ts'
import { contentList, contentResource } from './content.ts'
import { distributionResource, distributionsList } from './distributions.ts'
import { documentEndpoints } from './engine/documents.ts'
import { endpointsOf, openRegistry } from './engine/endpoints.ts'
import { overRepositories, overTypes } from './engine/generic.ts'
import { groupRoles, groups, groupUsers } from './groups.ts'
import { guards, guardsList } from './guards.ts'
import { lookups } from './engine/filters.ts'
import { login } from './login.ts'
import { maintenance } from './maintenance.ts'
import { namespaceResources } from './namespaces.ts'
import { buildDocument } from './engine/openapi.ts'
import { publicationResources, publicationsList } from './publications.ts'
import { remoteResource, remotesList } from './remotes.ts'
import { repositoriesList, repositoryResource } from './repositories.ts'
import type { Endpoint, Resource } from './engine/resource.ts'
import { roles } from './roles.ts'
import { mountEndpoints, mountedAt } from './engine/routes.ts'
import { signingServices } from './signing-services.ts'
import { appVersions, domains, livez, root, status, taskSchedules, workers } from './status.ts'
import { taskGroups } from './task-groups.ts'
import { tasks } from './tasks.ts'
import { uploads } from './uploads.ts'
import { userRoles, users } from './users.ts'
import { versionResource, versionsList } from './versions.ts'

/** Mounts the Pulp REST API below `/pulp/api/`. */
export async function registerPulp(app: FastifyInstance, ctx: Ctx): Promise<void> {
  await defaultDomain(ctx.db)
  const registry = describeApi(ctx)
  await app.register((scope) => mountEndpoints(scope, ctx, registry), { prefix: mountedAt })
}

/** All resources and endpoints, those of the formats too. */
export function describeApi(ctx: Pick<Ctx, 'formats'>) {
  const resources = resourcesOf(ctx)
  const endpoints: Endpoint[] = [
    ...endpointsOf(resources),
    ...ctx.formats.flatMap(actionEndpoints),
    ...maintenance,
    ...signalboxEndpoints,
    status,
    livez,
    ...login,
    root,
    ...documentEndpoints(() => documentOf(ctx, endpoints)),
  ]
  return openRegistry(ctx, resources, endpoints)
}

/** The OpenAPI document of this server. */
export function documentOf(ctx: Pick<Ctx, 'formats'>, endpoints: readonly Endpoint[]): Record<string, unknown> {
  return buildDocument(endpoints, appVersions(ctx))
}

function resourcesOf({ formats }: Pick<Ctx, 'formats'>): Resource[] {
  const repositories: Resource[] = []
  const versions: Resource[] = []
  const remotes: Resource[] = []
  const distributions: Resource[] = []
  for (const format of formats) {
    for (const type of format.repositories) {
      const repository = repositoryResource(format, type)
      repositories.push(repository)
      versions.push(versionResource(format, type, repository))
    }
    remotes.push(...format.remotes.map((type) => remoteResource(format, type)))
    distributions.push(...format.distributions.map((type) => distributionResource(format, type)))
  }
  const publications = formats.flatMap(publicationResources)
  const content = formats.flatMap((format) => format.contentTypes.map((type) => contentResource(format, type)))
  const contentTypes = content.map(({ type }) => type!).sort()
  return [
    ...repositories,
    ...versions,
    ...remotes,
    ...publications,
    ...distributions,
    ...formats.flatMap(namespaceResources),
    ...content,
    overTypes(repositoriesList, repositories),
    overRepositories(versionsList, repositories),
    overTypes(remotesList, remotes),
    overTypes(publicationsList, publications),
    overTypes(distributionsList, distributions),
    {
      ...contentList,
      filters: { ...contentList.filters, ...lookups('pulp_type', 'content.type', 'text', ['exact', 'in'], contentTypes) },
    },
    ...guards,
    guardsList,
    artifacts,
    uploads,
    tasks,
    taskGroups,
    workers,
    users,
    userRoles,
    groups,
    groupUsers,
    groupRoles,
    roles,
    accessPolicies,
    domains,
    signingServices,
    taskSchedules,
  ]
}
