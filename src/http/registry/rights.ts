import { isAllowed, isAllowedFast, scopeOf, type User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { prnOf } from '../../core/names.ts'
import { isAllowedIn, namespaceIn } from '../../core/access/namespaces.ts'

/*
 * Who may pull and push what; who may see and change distributions stands in http/pulp/in-namespaces.ts. A right is held on everything, on the distribution,
 * or on the namespace that it lies in. Who has no right on what is private learns nothing of it: what is absent and what is hidden are
 * answered alike.
 */

type Ask = Pick<Ctx, 'db' | 'changes'>

/** What the rights on a distribution hang on. */
export interface Guarded {
  readonly prn: string
  readonly namespacePrn: string | undefined
  readonly isPrivate: boolean
  /** The pull-through distribution that made it, or is it. */
  readonly makerPrn?: string | undefined
}

export const containerType = 'container.container'
export const pushType = 'container.container-push'
export const pullThroughType = 'container.pull-through'
export const namespaceType = 'container.namespace'

const permissions = {
  pull: 'container.pull_containerdistribution',
  pullNew: 'container.pull_new_containerdistribution',
  push: 'container.push_containerdistribution',
  add: 'container.add_containerdistribution',
  addNamespace: 'container.add_containernamespace',
} as const

/** `settings` are the distribution's, as JSON; `namespace` is the one that its path lies in. */
export function guardedOf(
  formats: Ctx['formats'],
  distribution: { uuid: string; settings: string },
  namespace: { uuid: string } | undefined,
  maker?: { uuid: string },
): Guarded {
  return {
    prn: prnOf(formats, 'distribution', { uuid: distribution.uuid, type: containerType }),
    namespacePrn: namespace && namespacePrnOf(formats, namespace),
    makerPrn: maker && prnOf(formats, 'distribution', { uuid: maker.uuid, type: pullThroughType }),
    isPrivate: JSON.parse(distribution.settings)['private'] === true,
  }
}

export function namespacePrnOf(formats: Ctx['formats'], { uuid }: { uuid: string }): string {
  return prnOf(formats, 'namespace', { uuid, type: namespaceType })
}

export async function mayPull(ctx: Ask, user: User | undefined, guarded: Guarded): Promise<boolean> {
  if (!guarded.isPrivate) return true
  if (!user) return false
  return (await isAllowedIn(ctx, user, permissions.pull, guarded.prn, guarded.namespacePrn)) || mayPullNew(ctx, user, guarded)
}

/** Whether a user may have what is not here yet fetched through a pull-through distribution. They may read what that made, too. */
export async function mayPullNew(ctx: Ask, user: User, { makerPrn }: Guarded): Promise<boolean> {
  return makerPrn !== undefined && isAllowed(ctx, user, permissions.pullNew, makerPrn)
}

/** As mayPull, from memory alone. Undefined when it would have to look. */
export function mayPullFast(ctx: Pick<Ctx, 'changes'>, user: User | undefined, guarded: Guarded): boolean | undefined {
  if (!guarded.isPrivate) return true
  if (user === undefined) return false
  const { prn, namespacePrn, makerPrn } = guarded
  const onObject = isAllowedFast(ctx, user, permissions.pull, prn)
  if (makerPrn !== undefined) return onObject || undefined
  if (onObject !== false || namespacePrn === undefined) return onObject
  return isAllowedFast(ctx, user, permissions.pull.replace('.', '.namespace_'), namespacePrn)
}

/** Whether a user may push to a distribution, and delete from it. */
export async function mayPush(ctx: Ask, user: User, guarded: Guarded): Promise<boolean> {
  return isAllowedIn(ctx, user, permissions.push, guarded.prn, guarded.namespacePrn)
}

/** Whether a user may make a distribution at a path by pushing to it, where there is none. */
export async function mayBegin(ctx: Ask, user: User, path: string, { namespacePrn }: Guarded): Promise<boolean> {
  if (user.username === namespaceIn(path)) return true
  if (namespacePrn === undefined) return isAllowed(ctx, user, permissions.addNamespace)
  return (
    (await isAllowedIn(ctx, user, permissions.add, undefined, namespacePrn)) &&
    isAllowedIn(ctx, user, permissions.push, undefined, namespacePrn)
  )
}

/** The distributions that a user may pull beside the public ones: all, or those on a list or in the namespaces on one, as PRNs. */
export async function pullable(ctx: Ask, user: User | undefined): Promise<'all' | ReadonlySet<string>> {
  if (!user) return new Set()
  const own = await scopeOf(ctx, user, permissions.pull)
  if (own === 'all') return 'all'
  const below = await scopeOf(ctx, user, permissions.pull.replace('.', '.namespace_'))
  // A permission on namespaces that is held on all of them is one on everything that lies below.
  return below === 'all' ? 'all' : new Set([...own, ...below])
}
