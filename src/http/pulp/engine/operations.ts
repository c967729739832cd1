import { addRole, myPermissions, removeRole, rolesOf } from '../../../core/access/auth.ts'
import { prnOf } from '../../../core/names.ts'
import { type ResourceKind, setLabels } from '../../../core/resources.ts'
import { defaultDomain, dispatchTask, type NewTask } from '../../../core/tasks/tasks.ts'
import { hrefOf } from './hrefs.ts'
import { invalid } from './invalid.ts'
import { checkQuery, listPage, showRow } from './list.ts'
import type { Answer, AnswerSchema, BodySchema, Call, Fields, Operation, Resource, Rule } from './resource.ts'
import { readable } from './validate.ts'

/* The operations that many resources have in common. */

/** `GET` on the collection. */
export function listing(schema: AnswerSchema, allow: Rule = 'authenticated'): Operation {
  return {
    name: 'list',
    method: 'GET',
    on: 'collection',
    summary: 'List',
    answers: { 200: { ...schema, page: true } },
    allow,
    run: (call) => listPage(call as Call & { resource: Resource }),
  }
}

/** `GET` on an item. Rows that the caller may not see are not found, so whoever gets here may read. */
export function reading(schema: AnswerSchema, allow: Rule = 'authenticated'): Operation {
  return {
    name: 'read',
    method: 'GET',
    on: 'item',
    summary: 'Inspect',
    answers: { 200: schema },
    allow,
    async run(call) {
      checkQuery(call as Call & { resource: Resource })
      return { status: 200, body: await showRow(call, call.resource!, call.row) }
    },
  }
}

type Declared = Pick<Operation, 'summary' | 'allow'>
type Changing = Declared & Pick<Operation, 'answers' | 'run'> & { body: BodySchema }

/** `POST` on the collection. */
export function creating(declared: Changing): Operation {
  return { name: 'create', method: 'POST', on: 'collection', ...declared }
}

/** `PUT` and `PATCH` on an item. */
export function updating({ body, ...declared }: Changing): Operation[] {
  return [
    { name: 'update', method: 'PUT', on: 'item', body, ...declared },
    { name: 'partial_update', method: 'PATCH', on: 'item', body: { ...body, partial: true }, ...declared },
  ]
}

/** `DELETE` on an item. */
export function deleting({ remove, ...declared }: Declared & { remove(call: Call): Promise<void> }): Operation {
  return {
    name: 'delete',
    method: 'DELETE',
    on: 'item',
    answers: { 204: null },
    ...declared,
    async run(call) {
      await remove(call)
      return { status: 204 }
    },
  }
}

/** `DELETE` on an item, by a task. */
export function deletingLater(declared: Declared & Pick<Operation, 'run'>): Operation {
  return { name: 'delete', method: 'DELETE', on: 'item', answers: { 202: taskAnswer }, ...declared }
}

/** Component of a resource's answers: all but what is write-only, with the base fields first. */
export function answerSchema(schema: string, base: Fields, fields: Fields): AnswerSchema {
  return { schema: `${schema}Response`, fields: readable({ ...base, ...fields }) }
}

/** The answer of what was made: 201 with its place. */
export async function created(call: Call, row: unknown): Promise<Answer> {
  const body = await showRow(call, call.resource!, row)
  return { status: 201, body, headers: { Location: String(body['pulp_href']) } }
}

const nestedRole: Fields = {
  users: { type: 'array', items: { type: 'string' }, default: [] },
  groups: { type: 'array', items: { type: 'string' }, default: [] },
  role: { type: 'string', required: true },
}
const roleAnswer = { schema: 'NestedRoleResponse', fields: nestedRole }

/** list_roles, add_role, remove_role and my_permissions of an item. `model` is `rpm.rpmrepository`. */
export function roleOperations(model: string, visible: readonly string[] = []): Operation[] {
  const [app, name] = model.split('.')
  const allow: Rule = { object: [`${app}.manage_roles_${name}`] }
  // Names of users and groups are looked up by the verb, which says what is wrong with them.
  const body = { schema: 'NestedRole', fields: nestedRole }
  return [
    {
      name: 'list_roles',
      method: 'GET',
      on: 'item',
      segment: 'list_roles',
      summary: 'List roles',
      answers: {
        200: {
          schema: 'ObjectRolesResponse',
          fields: { roles: { type: 'array', required: true, items: { type: 'object', properties: nestedRole } } },
        },
      },
      allow,
      run: async (call) => ({ status: 200, body: { roles: await rolesOf(call.ctx, prnOfRow(call)) } }),
    },
    roleChange('add_role', 'Add a role', body, allow, addRole),
    roleChange('remove_role', 'Remove a role', body, allow, removeRole),
    {
      name: 'my_permissions',
      method: 'GET',
      on: 'item',
      segment: 'my_permissions',
      summary: 'List user permissions',
      answers: {
        200: {
          schema: 'MyPermissionsResponse',
          fields: { permissions: { type: 'array', required: true, items: { type: 'string' } } },
        },
      },
      allow: visible.length > 0 ? { object: visible } : 'authenticated',
      run: async (call) => ({ status: 200, body: { permissions: await myPermissions(call.ctx, call.user!, prnOfRow(call)) } }),
    },
  ]
}

function roleChange(
  name: string,
  summary: string,
  body: NonNullable<Operation['body']>,
  allow: Rule,
  verb: typeof addRole,
): Operation {
  return {
    name,
    method: 'POST',
    on: 'item',
    segment: name,
    summary,
    body,
    answers: { 201: roleAnswer },
    allow,
    run: async (call) => ({ status: 201, body: await verb(call.ctx, prnOfRow(call), call.body) }),
  }
}

/** The PRN of the item that is called upon. */
export function prnOfRow({ ctx, resource, row }: Call): string {
  return prnOf(ctx.formats, resource!.kind!, { uuid: row.uuid ?? row.id, type: row.type })
}

const slug = '^[-a-zA-Z0-9_]+$'

/** set_label and unset_label of an item. `documented` is the status that Pulp's document gives them; the answer is 201 anyway. */
export function labelOperations(kind: ResourceKind | 'content', allow: Rule, documented: 200 | 201 = 201): Operation[] {
  const key = { type: 'string', required: true, pattern: slug } as const
  const labelsOf = (call: Call): Record<string, string> => JSON.parse(call.row.labels)
  return [
    {
      name: 'set_label',
      method: 'POST',
      on: 'item',
      segment: 'set_label',
      summary: 'Set a label',
      body: {
        schema: 'SetLabel',
        lenient: true,
        fields: { key, value: { type: 'string', required: true, nullable: true, allowBlank: true } },
      },
      answers: {
        [documented]: { schema: 'SetLabelResponse', fields: { key, value: { type: 'string', required: true, nullable: true } } },
      },
      allow,
      async run(call) {
        await setLabels(call.ctx.db, kind, call.row.id, { [call.body['key']]: call.body['value'] })
        return { status: 201, body: { key: call.body['key'], value: call.body['value'] } }
      },
    },
    {
      name: 'unset_label',
      method: 'POST',
      on: 'item',
      segment: 'unset_label',
      summary: 'Unset a label',
      body: { schema: 'UnsetLabel', fields: { key }, lenient: true },
      answers: { [documented]: { schema: 'UnsetLabelResponse', fields: { key, value: { type: 'string', readOnly: true } } } },
      allow,
      async run(call) {
        const name: string = call.body['key']
        const labels = labelsOf(call)
        if (!Object.hasOwn(labels, name)) throw invalid({ key: [`Label '${name}' is not set on the object.`] })
        await setLabels(call.ctx.db, kind, call.row.id, { [name]: undefined })
        return { status: 201, body: { key: name, value: labels[name] } }
      },
    },
  ]
}

/** The lock that all work of one sort in the domain takes: `pdrn:<domain>:distributions`. */
export async function domainLock({ ctx }: Call, sort: string): Promise<string> {
  return `pdrn:${await defaultDomain(ctx.db)}:${sort}`
}

export const taskAnswer: AnswerSchema = {
  schema: 'AsyncOperationResponse',
  fields: { task: { type: 'string', format: 'uri', required: true, description: 'The href of the task.' } },
}

export const taskGroupAnswer: AnswerSchema = {
  schema: 'TaskGroupOperationResponse',
  fields: { task_group: { type: 'string', format: 'uri', required: true, description: 'The href of the task group.' } },
}

/** Starts a task on behalf of the caller and answers with it. */
export async function postponed(call: Call, task: Omit<NewTask, 'userId' | 'cid'>): Promise<Answer> {
  const row = await dispatchTask(call.ctx, { ...task, userId: call.user?.id ?? null, cid: call.cid })
  return { status: 202, body: { task: hrefOf(call.registry, 'task', row) } }
}
