import { isAllowed } from '../../../core/access/auth.ts'
import { formatNamed } from '../../../core/ctx.ts'
import type { RepositoryRight } from '../../../core/format.ts'
import { modelIn, repositoryTypeOf } from '../../../core/names.ts'
import { repositoryPermission } from '../../../core/access/roles.ts'
import { Failure } from '../../../lib/failure.ts'
import { prnOfRow } from './operations.ts'
import type { Call, Rule } from './resource.ts'

export const denied = () => new Failure('denied', 'You do not have permission to perform this action.')

/** What can be said before the item is looked for, and so whether or not it is there. Throws Failure denied. */
export async function permitLook(call: Call, rule: Rule): Promise<void> {
  if (rule === 'anyone' || call.user?.isSuperuser) return
  if (rule === 'authenticated') return
  if (rule === 'admin') throw denied()
  await demand(call, rule.model)
  if (rule.parent) await demand(call, rule.parent, parentPrn(call))
}

/** Throws Failure denied unless the caller may do it with this item. Looks not at the body. */
export async function permit(call: Call, rule: Rule): Promise<void> {
  if (typeof rule === 'string' || call.user?.isSuperuser) return
  if (rule.object) await demand(call, rule.object, objectPrn(call))
  if (rule.other && !rule.other.withBody && !(await rule.other.holds(call))) throw denied()
}

/** The same where it depends on the body. */
export async function permitBody(call: Call, rule: Rule): Promise<void> {
  if (typeof rule === 'string' || call.user?.isSuperuser) return
  if (rule.other?.withBody && !(await rule.other.holds(call))) throw denied()
}

async function demand({ ctx, user }: Call, permissions: readonly string[] = [], prn?: string): Promise<void> {
  for (const permission of permissions) if (!(await isAllowed(ctx, user!, permission, prn))) throw denied()
}

function objectPrn(call: Call): string | undefined {
  return call.row && call.resource?.kind && call.resource.kind !== 'version' ? prnOfRow(call) : undefined
}

function parentPrn(call: Call): string | undefined {
  const resource = call.resource?.parent?.resource
  return resource && call.parent ? prnOfRow({ ...call, resource, row: call.parent }) : undefined
}

/** Work over several repositories: whoever is no administrator must be allowed to change the ones and to see the others. */
export async function permitCopy(call: Call, changed: readonly string[], read: readonly string[]): Promise<void> {
  const user = call.user!
  if (user.isSuperuser) return
  for (const prn of changed) {
    if (!(await isAllowed(call.ctx, user, permissionOn(call, modelIn(prn), 'modify'), prn))) throw denied()
  }
  for (const prn of read) {
    const [app, model] = modelIn(prn).split('.')
    if (!(await isAllowed(call.ctx, user, `${app}.view_${model}`, prn))) throw denied()
  }
}

/** The permission to do something with repositories of Pulp's model (`rpm.rpmrepository`). */
function permissionOn(call: Call, model: string, right: RepositoryRight): string {
  const { app, type } = call.registry.named(model)!
  const format = formatNamed(call.ctx, app)
  return repositoryPermission(format, repositoryTypeOf(call.ctx.formats, type!), right)
}
