import { type Expression, type RawBuilder, sql, type SqlBool } from 'kysely'
import { isAllowed, scopeOf } from '../../core/access/auth.ts'
import type { DistributionType, Format, RepositoryRight, RepositoryType } from '../../core/format.ts'
import { keyIn, prnOf, repositoryTypeOf } from '../../core/names.ts'
import { findNamespace, isAllowedIn, namespaceIn } from '../../core/access/namespaces.ts'
import { textRows } from '../../store/bulk.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Call, Resource, Rule, Target } from './engine/resource.ts'

/*
 * Who may do what where paths lie in namespaces. A right on a distribution comes from roles on all of them, on it, or on its namespace;
 * who may see it, if it is not private, is everybody. Repositories that pushes made have no rights of their own: those of their distribution count.
 */

/** Who may do what with repositories of a type. */
export interface RepositoryRules {
  see: Pick<Resource<'repository'>, 'view' | 'visible'>
  change: Exclude<Rule, string>
  delete?: Rule
  right(right: RepositoryRight): Exclude<Rule, string>
}

export interface DistributionRules {
  see: Pick<Resource<'distribution'>, 'view' | 'visible'>
  create: Exclude<Rule, string>
  change: Exclude<Rule, string>
  delete: Exclude<Rule, string>
  /** Whether the caller may put a distribution at this path. */
  mayPut(call: Call, path: string): Promise<boolean>
  /** Whether the caller may have a distribution serve this repository, which they see. */
  mayServe(call: Call, repository: Target): Promise<boolean>
}

export function rightsInNamespaces(format: Format, { model }: Pick<DistributionType, 'model'>): DistributionRules {
  const may = (action: string) => `${format.name}.${action}_${model.toLowerCase()}distribution`
  const allOf = (...permissions: string[]): Exclude<Rule, string> => ({
    other: {
      conditions: permissions.map((permission) => `has_namespace_or_obj_perms:${permission}`),
      async holds(call) {
        for (const permission of permissions) if (!(await isAllowedOn(call, call.row, permission))) return false
        return true
      },
    },
  })
  const mayPut = (call: Call, path: string) => mayCreateIn(call, format, path, may('add'))
  return {
    see: { view: may('view'), visible: (call) => visibleDistributions(call, format, may('view')) },
    create: {
      other: {
        conditions: ['has_namespace_model_perms', `has_namespace_perms:${may('add')}`, 'namespace_is_username'],
        withBody: true,
        holds: (call) => mayPut(call, call.body['base_path']),
      },
    },
    change: allOf(may('change'), may('view')),
    delete: allOf(may('delete'), may('view')),
    mayPut,
    async mayServe(call, { id, type }) {
      const { pushed, model: kind } = repositoryTypeOf(call.ctx.formats, type)
      // Rights on a distribution are rights on what was pushed through it: whoever makes one has them all.
      return !pushed || isAllowedThrough(call, id, inNamespaceToChange(format, kind), may('change'))
    },
  }
}

const inNamespaceToChange = ({ name }: Format, model: string) => `${name}.namespace_change_${model.toLowerCase()}repository`

/** Rights on a repository that pushes made, from its distributions. */
export function rightsOfPushed(format: Format, type: RepositoryType): RepositoryRules {
  const { name: app } = format
  const [served] = format.distributions
  const onDistribution = `${app}.view_${served!.model.toLowerCase()}distribution`
  const any = (inNamespace: string, onIt: string): Exclude<Rule, string> => ({
    other: {
      conditions: [`has_namespace_obj_perms:${inNamespace} or has_distribution_perms:${onIt}`],
      holds: (call) => isAllowedThrough(call, (call.parent ?? call.row).id, inNamespace, onIt),
    },
  })
  const model = `${type.model.toLowerCase()}repository`
  return {
    see: {
      view: `${app}.view_${model}`,
      async visible(call) {
        const condition = await visibleDistributions(call, format, onDistribution)
        return condition && sql`repository.id in (select distribution.repository_id from distribution where ${condition})`
      },
    },
    change: any(inNamespaceToChange(format, type.model), `${app}.change_${served!.model.toLowerCase()}distribution`),
    right(right) {
      const permission = (type.rights?.[right] ?? `${right}_*`).replace('*', model)
      return any(`${app}.namespace_${permission}`, `${app}.${permission}`)
    },
  }
}

/** Distributions that are not private, and those that the caller may see: all, some, or those of some namespaces. */
async function visibleDistributions(call: Call, format: Format, permission: string): Promise<Expression<SqlBool> | undefined> {
  const { ctx, user } = call
  const onAll = await scopeOf(ctx, user!, permission)
  if (onAll === 'all') return undefined
  const viewNamespace = `${format.name}.view_${format.namespaces!.model.toLowerCase()}`
  const scopes = await Promise.all(
    [viewNamespace, permission.replace('.', '.namespace_')].map((each) => scopeOf(ctx, user!, each)),
  )
  if (scopes.includes('all')) return undefined
  const uuids = (prns: readonly string[]) => sql`(select text from ${textRows(ctx.db, prns.map(keyIn))} as k)`
  return sql`(not ${isPrivate(ctx.db)} or distribution.uuid in ${uuids(onAll)} or ${namespaceOf(ctx.db)} in (
    select namespace.name from namespace where namespace.type = ${`${format.name}.namespace`} and namespace.uuid in ${uuids(scopes.flat())}))`
}

function isPrivate(db: Db): RawBuilder<SqlBool> {
  return engineOf(db) === 'postgres'
    ? sql`coalesce((distribution.settings ->> 'private')::boolean, false)`
    : sql`coalesce(json_extract(distribution.settings, '$.private'), 0)`
}

/** The first segment of a base path, in a query. */
export function namespaceOf(db: Db): RawBuilder<string> {
  return engineOf(db) === 'postgres'
    ? sql`split_part(distribution.base_path, '/', 1)`
    : sql`substr(distribution.base_path, 1, instr(distribution.base_path || '/', '/') - 1)`
}

async function isAllowedOn({ ctx, user }: Call, distribution: Row<'distribution'>, permission: string): Promise<boolean> {
  const prn = prnOf(ctx.formats, 'distribution', distribution)
  if (await isAllowed(ctx, user!, permission, prn)) return true
  return isAllowedIn(ctx, user!, permission, prn, await namespacePrn(ctx, distribution))
}

async function isAllowedThrough(
  { ctx, user }: Call,
  repositoryId: number,
  inNamespace: string,
  onDistribution: string,
): Promise<boolean> {
  for (const permission of [inNamespace, onDistribution]) if (await isAllowed(ctx, user!, permission)) return true
  for (const row of await ctx.db.selectFrom('distribution').selectAll().where('repository_id', '=', repositoryId).execute()) {
    if (await isAllowed(ctx, user!, onDistribution, prnOf(ctx.formats, 'distribution', row))) return true
    const namespace = await namespacePrn(ctx, row)
    if (namespace && (await isAllowed(ctx, user!, inNamespace, namespace))) return true
  }
  return false
}

/** Whoever may make namespaces, may add to this one, or is called like it. */
async function mayCreateIn({ ctx, user }: Call, format: Format, path: string, add: string): Promise<boolean> {
  const { name: app, namespaces } = format
  if (user!.isSuperuser || namespaceIn(path) === user!.username) return true
  if (await isAllowed(ctx, user!, `${app}.add_${namespaces!.model.toLowerCase()}`)) return true
  const namespace = await namespacePrn(ctx, { type: `${app}.`, base_path: path })
  return namespace !== undefined && isAllowedIn(ctx, user!, add, undefined, namespace)
}

async function namespacePrn(
  ctx: Call['ctx'],
  { type, base_path }: { type: string; base_path: string },
): Promise<string | undefined> {
  const namespace = await findNamespace(ctx.db, `${type.split('.')[0]}.namespace`, namespaceIn(base_path))
  return namespace && prnOf(ctx.formats, 'namespace', namespace)
}
