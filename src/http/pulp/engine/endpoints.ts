import type { Ctx } from '../../../core/ctx.ts'
import { type Kind, modelOf } from '../../../core/names.ts'
import { apiRoot } from './hrefs.ts'
import type { Endpoint, Operation, Registry, Resource } from './resource.ts'

/** Addresses and names of what resources can do. */
export function endpointsOf(resources: readonly Resource[]): Endpoint[] {
  return resources.flatMap((resource) => resource.operations.map((operation) => endpointOf(resource, operation)))
}

function endpointOf(resource: Resource, operation: Operation): Endpoint {
  const { on, segment, id, ...rest } = operation
  const suffix = segment ? `${segment}/` : ''
  const item = on === 'item'
  const collection = resource.parent
    ? `${apiRoot}${resource.parent.resource.path}/:parent/${resource.path}/`
    : `${apiRoot}${resource.path}/`
  const documentedCollection = resource.parent
    ? `{${placeholderOf(resource.parent.resource)}}${resource.path}/`
    : `${apiRoot}${resource.path}/`
  const trail = resource.parent ? `${resource.parent.resource.path}/${resource.path}` : resource.path
  return {
    ...rest,
    url: item ? `${collection}:item/${suffix}` : `${collection}${suffix}`,
    documented: item ? `{${placeholderOf(resource)}}${suffix}` : `${documentedCollection}${suffix}`,
    operationId: id ?? `${identifier(trail)}_${operation.name}`,
    tag: tagOf(trail),
    resource,
  }
}

const identifier = (path: string) => path.replace(/[/-]/g, '_')

/** `Repositories: Rpm`, as Pulp groups its operations. */
function tagOf(path: string): string {
  const [first = '', second, third] = path.split('/').map((word) => word[0]!.toUpperCase() + word.slice(1).replaceAll('-', '_'))
  return third && second !== third ? `${first}: ${third}` : second ? `${first}: ${second}` : first
}

/** What stands for an item's href in the document: `rpm_rpm_repository_href`. Capitals in a row are split one by one, as in Pulp. */
export function placeholderOf({ placeholder, app, model }: Resource): string {
  if (placeholder) return placeholder
  return `${app === 'core' ? '' : `${app}_`}${snakeCase(model)}_href`
}

export function snakeCase(model: string): string {
  return model.replace(/[A-Z]/g, (letter, at) => `${at > 0 ? '_' : ''}${letter.toLowerCase()}`)
}

/** Finds resources by what names them. */
export function openRegistry(
  ctx: Pick<Ctx, 'formats'>,
  resources: readonly Resource[],
  endpoints: readonly Endpoint[],
): Registry {
  const places = resources.filter(({ generic, kind }) => !generic && kind)
  const byType = new Map(places.map((resource) => [`${resource.kind} ${resource.type ?? ''}`, resource]))
  const byModel = new Map(
    places.filter(({ parent }) => !parent).map((resource) => [modelOf(ctx.formats, resource.kind!, resource.type), resource]),
  )
  return {
    resources,
    endpoints,
    find: (kind: Kind, type = '') => byType.get(`${kind} ${type}`) ?? byType.get(`${kind} `),
    named: (model) => byModel.get(model),
  }
}
