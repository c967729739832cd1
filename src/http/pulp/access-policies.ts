import { isDeepStrictEqual } from 'node:util'
import { builtInRoles } from '../../core/access/roles.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Row } from '../../store/schema.ts'
import { baseFields, lookups, nameFilters } from './engine/filters.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import { showRow } from './engine/list.ts'
import { answerSchema, listing, reading, updating } from './engine/operations.ts'
import type { Answer, Call, Field, Fields, Registry, Resource, Rule } from './engine/resource.ts'

/*
 * Pulp's access policies: who may do what with each collection, as statements that an administrator may change. Here the rules stand with
 * the operations; policies are made from them, so they say what is enforced. They cannot be changed: a client that saves one and sets it
 * again is served, any other change is refused.
 */

const dictionaries: Field = { type: 'array', items: { type: 'object' } }

const fields: Fields = {
  permissions_assignment: { ...dictionaries, description: 'Deprecated. Use `creation_hooks` instead.' },
  creation_hooks: { ...dictionaries, description: 'List of callables that may associate user roles for new objects.' },
  statements: { ...dictionaries, required: true, description: 'List of policy statements defining the policy.' },
  viewset_name: { type: 'string', readOnly: true, description: 'The name of ViewSet this AccessPolicy authorizes.' },
  customized: {
    type: 'boolean',
    readOnly: true,
    description: 'True if the AccessPolicy has been user-modified. False otherwise.',
  },
  queryset_scoping: { type: 'object', description: 'A callable for performing queryset scoping.' },
}

const answer = answerSchema('AccessPolicy', baseFields, fields)
const body = { schema: 'AccessPolicy', fields: fields }

export const accessPolicies: Resource<'access_policy'> = {
  path: 'access_policies',
  app: 'core',
  model: 'AccessPolicy',
  table: 'access_policy',
  fields,
  filters: {
    ...nameFilters('access_policy.viewset_name', 'viewset_name'),
    ...lookups('customized', 'access_policy.customized', 'boolean', ['exact']),
  },
  ordering: {
    viewset_name: 'access_policy.viewset_name',
    customized: 'access_policy.customized',
    creation_hooks: '',
    queryset_scoping: '',
    statements: '',
  },
  async where(rows, call) {
    await ensurePolicies(call)
    return rows.where('viewset_name', 'in', viewsets(call.registry).map(viewsetName))
  },
  show: async (call, rows) => rows.map((row) => ({ prn: `prn:core.accesspolicy:${row.uuid}`, ...showPolicy(call, row) })),
  operations: [
    listing(answer, 'admin'),
    reading(answer, 'admin'),
    ...updating({
      summary: 'Update an access policy',
      body,
      answers: { 200: answer },
      allow: 'admin',
      run(call) {
        const policy = showPolicy(call, call.row)
        const { permissions_assignment: hooks, creation_hooks: alsoHooks } = call.body
        if (hooks && alsoHooks && !isDeepStrictEqual(hooks, alsoHooks))
          throw invalid({ non_field_errors: ["Cannot specify both 'permissions_assignment' and 'creation_hooks'."] })
        for (const [field, value] of Object.entries(call.body))
          if (!isDeepStrictEqual(value, policy[field]))
            throw invalidField(
              field,
              `The access policy of "${String(policy['viewset_name'])}" is fixed: rights are given by roles. Only its present value can be set.`,
            )
        return setCustomized(call, Object.keys(call.body).length > 0 ? 1 : call.row.customized)
      },
    }),
    {
      name: 'reset',
      method: 'POST',
      on: 'item',
      segment: 'reset',
      summary: 'Reset the access policy to its uncustomized default value.',
      answers: { 200: answer },
      allow: 'admin',
      run: (call) => setCustomized(call, 0),
    },
  ],
}

async function setCustomized(call: Call, customized: 0 | 1): Promise<Answer> {
  const row = await call.ctx.db
    .updateTable('access_policy')
    .set({ customized, updated: now() })
    .where('id', '=', call.row.id)
    .returningAll()
    .executeTakeFirstOrThrow()
  return { status: 200, body: await showRow(call, accessPolicies, row) }
}

/** A row for each policy that has none yet. */
async function ensurePolicies({ ctx: { db }, registry }: Call): Promise<void> {
  const known = new Set(
    (await db.selectFrom('access_policy').select('viewset_name').execute()).map(({ viewset_name }) => viewset_name),
  )
  const missing = viewsets(registry)
    .map(viewsetName)
    .filter((name) => !known.has(name))
  if (missing.length === 0) return
  const time = now()
  const rows = missing.map((viewset_name) => ({
    uuid: newUuid(),
    viewset_name,
    customized: 0 as const,
    created: time,
    updated: time,
  }))
  await db
    .insertInto('access_policy')
    .values(rows)
    .onConflict((conflict) => conflict.column('viewset_name').doNothing())
    .execute()
}

/** Resources that others than administrators have to do with: Pulp has policies for these. */
function viewsets({ resources }: Registry): Resource[] {
  return resources.filter(({ operations }) => operations.some(({ allow }) => allow !== 'admin' && allow !== 'anyone'))
}

function viewsetName({ parent, path }: Resource): string {
  return parent ? `${parent.resource.path}/${path}` : path
}

function showPolicy(call: Call, row: Row<'access_policy'>): Record<string, unknown> {
  const resource = viewsets(call.registry).find((each) => viewsetName(each) === row.viewset_name)!
  const hooks = creationHooks(call, resource)
  return {
    permissions_assignment: hooks,
    creation_hooks: hooks,
    statements: statements(resource),
    viewset_name: row.viewset_name,
    customized: row.customized === 1,
    queryset_scoping: resource.parent ? null : { function: 'scope_queryset' },
  }
}

interface Statement {
  action: string[]
  principal: 'authenticated' | 'admin'
  effect: 'allow'
  condition?: string | string[]
}

const actions: Readonly<Record<string, string>> = { read: 'retrieve', delete: 'destroy' }

/** One statement for all that the same rule allows. */
function statements(resource: Resource): Statement[] {
  const rules = new Map<string, { rule: Rule; names: string[] }>()
  for (const { name, allow } of resource.operations) {
    // Whoever sees a thing may read it: Pulp asks for the permission to see once more.
    const rule: Rule = name === 'read' && allow === 'authenticated' && resource.view ? { object: [resource.view] } : allow
    const key = JSON.stringify(rule)
    const entry = rules.get(key) ?? { rule, names: [] }
    entry.names.push(actions[name] ?? name)
    rules.set(key, entry)
  }
  return [...rules.values()].map(({ rule, names }) => {
    const conditions = conditionsOf(rule, resource)
    return {
      action: names,
      principal: rule === 'admin' ? 'admin' : 'authenticated',
      effect: 'allow',
      ...(conditions.length > 0 && { condition: conditions.length === 1 ? conditions[0]! : conditions }),
    }
  })
}

function conditionsOf(rule: Rule, resource: Resource): string[] {
  if (typeof rule === 'string') return []
  const inDomain = resource.app === 'core' && resource.model === 'Group' ? '' : '_or_domain'
  const ofParent = resource.parent?.resource.kind === 'user_group' ? 'group_model' : 'repository_model_or_domain'
  const all = (check: string, permissions: readonly string[] = []) => permissions.map((permission) => `${check}:${permission}`)
  return [
    ...all(`has_model${inDomain}_perms`, rule.model),
    ...all(`has_model${inDomain}_or_obj_perms`, rule.object),
    ...all(`has_${ofParent}_or_obj_perms`, rule.parent),
    ...(rule.other?.conditions ?? []),
    ...Object.entries(rule.named ?? {}).map(
      ([field, permission]) => `has_${field}_param_model_or_domain_or_obj_perms:${permission}`,
    ),
  ]
}

/** What whoever makes a thing gets: the roles of its owner. Pulp writes one role without a list, except for guards. */
function creationHooks({ ctx }: Call, { app, model, kind, parent, operations }: Resource): Record<string, unknown>[] | null {
  if (parent?.resource.kind === 'user_group') return []
  const name = `${app}.${model.toLowerCase()}`
  const owner = `${name}_owner`
  if (
    !operations.some(({ name: operation }) => operation === 'add_role') ||
    !builtInRoles(ctx.formats).some((role) => role.name === owner)
  )
    return null
  const roles = kind !== 'guard' ? owner : model === 'RBACContentGuard' ? [owner, `${name}_downloader`] : [owner]
  return [{ function: 'add_roles_for_object_creator', parameters: { roles } }]
}
