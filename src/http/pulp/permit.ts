import { sql, type SqlBool } from 'kysely'
import { isAllowed } from '../../core/access/auth.ts'
import { formatNamed } from '../../core/ctx.ts'
import type { RepositoryRight } from '../../core/format.ts'
import { type Kind, repositoryTypeOf } from '../../core/names.ts'
import { repositoryPermission } from '../../core/access/roles.ts'
import { Failure } from '../../lib/failure.ts'
import { rowsOf } from './list.ts'
import { prnOfRow } from './operations.ts'
import type { Call, Rule, Target } from './resource.ts'

export const denied = () => new Failure('denied', 'You do not have permission to perform this action.')

/** Throws Failure denied unless the caller may do it. Looks at the item and the collection that holds it, not at the body. */
export async function permit(call: Call, rule: Rule): Promise<void> {
  if (rule === 'anyone' || call.user?.isSuperuser) return
  if (rule === 'authenticated') return
  if (rule === 'admin') throw denied()
  await demand(call, rule.model)
  if (rule.object) await demand(call, rule.object, objectPrn(call))
  if (rule.parent) await demand(call, rule.parent, parentPrn(call))
  if (rule.other && !rule.other.withBody && !(await rule.other.holds(call))) throw denied()
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

/** The same for what the body names: whoever makes something serve a repository must be allowed to see that repository. */
export async function permitNamed(call: Call, rule: Rule): Promise<void> {
  if (typeof rule === 'string' || call.user?.isSuperuser) return
  for (const [field, permission] of Object.entries(rule.named ?? {})) {
    const target = call.body[field] as Target | null | undefined
    if (!target) continue
    const prn = target.kind === 'version' ? await repositoryOf(call, target) : target.prn
    const kind = target.kind === 'version' ? 'repository' : target.kind
    // What has rules of its own is seen by those.
    if (call.registry.find(kind, target.type)?.visible) {
      if (!(await maySee(call, kind, target.type, prn))) throw denied()
    } else if (!(await isAllowed(call.ctx, call.user!, permission, prn))) throw denied()
  }
  if (rule.other?.withBody && !(await rule.other.holds(call))) throw denied()
}

/** The PRN of the repository that a version is of. */
export async function repositoryOf({ ctx, registry }: Call, { id }: Target): Promise<string> {
  const row = await ctx.db
    .selectFrom('version')
    .innerJoin('repository', 'repository.id', 'version.repository_id')
    .select(['repository.uuid', 'repository.type'])
    .where('version.id', '=', id)
    .executeTakeFirstOrThrow()
  const resource = registry.find('repository', row.type)!
  return prnOfRow({ ctx, resource, row } as unknown as Call)
}

/** Whether the caller may see what a PRN names. */
export async function maySee(call: Call, kind: Kind, type: string, prn: string): Promise<boolean> {
  if (call.user!.isSuperuser) return true
  const resource = call.registry.find(kind, type)!
  const rows = await rowsOf({ ...call, resource, parent: undefined, query: new URLSearchParams() }, resource)
  const uuid = prn.slice(prn.lastIndexOf(':') + 1)
  const named = sql<SqlBool>`${sql.ref(`${resource.table}.uuid`)} = ${uuid}`
  return (await rows.where(named).executeTakeFirst()) !== undefined
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

const modelIn = (prn: string) => prn.split(':')[1] ?? ''
