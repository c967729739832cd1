import { isAllowed } from '../../core/access/auth.ts'
import type { Format, NamespaceType } from '../../core/format.ts'
import { createNamespace, distributionsIn } from '../../core/access/namespace-resources.ts'
import { prnOf } from '../../core/names.ts'
import { pushedTo } from '../../core/resources.ts'
import { baseFields, nameFilters } from './engine/filters.ts'
import {
  answerSchema,
  created,
  creating,
  deletingLater,
  listing,
  postponed,
  prnOfRow,
  reading,
  roleOperations,
} from './engine/operations.ts'
import type { Call, Fields, Resource } from './engine/resource.ts'

const fields: Fields = { name: { type: 'string', required: true } }

/** The namespaces of a format, if its paths lie in some. */
export function namespaceResources(format: Format): Resource<'namespace'>[] {
  return format.namespaces ? [namespaceResource(format, format.namespaces)] : []
}

function namespaceResource({ name: app }: Format, { path, model }: NamespaceType): Resource<'namespace'> {
  const lower = model.toLowerCase()
  const view = `${app}.view_${lower}`
  const schema = `${app}.${model}`
  const answer = answerSchema(schema, baseFields, fields)
  const type = `${app}.namespace`
  return {
    path,
    app,
    model,
    table: 'namespace',
    kind: 'namespace',
    type,
    fields,
    filters: nameFilters('namespace.name'),
    ordering: { name: 'namespace.name' },
    view,
    show: async (_call, rows) => rows.map(({ name }) => ({ name })),
    operations: [
      listing(answer),
      reading(answer),
      creating({
        summary: 'Create a namespace',
        body: { schema, fields },
        answers: { 201: answer },
        allow: {
          other: {
            conditions: [`has_model_or_domain_perms:${app}.add_${lower}`, 'namespace_is_username'],
            withBody: true,
            holds: async ({ ctx, user, body }) => body['name'] === user!.username || isAllowed(ctx, user!, `${app}.add_${lower}`),
          },
        },
        run: async (call) => created(call, await createNamespace(call.ctx, type, call.body['name'], call.user!.id)),
      }),
      deletingLater({
        summary: 'Delete a namespace with all that lies in it',
        allow: { object: [`${app}.delete_${lower}`, view] },
        run: async (call) =>
          postponed(call, {
            name: 'pulpcore.app.tasks.base.general_multi_delete',
            kind: 'delete-namespace',
            args: { namespaceId: call.row.id },
            exclusive: [...(await heldBy(call)), prnOfRow(call)],
          }),
      }),
      ...roleOperations(`${app}.${lower}`, [view]),
    ],
  }
}

/** What goes with a namespace: its distributions, and the repositories that pushes made for them. */
async function heldBy({ ctx, row }: Call): Promise<string[]> {
  const distributions = await distributionsIn(ctx.db, row).select(['id', 'uuid', 'type']).execute()
  const prns = distributions.map((each) => prnOf(ctx.formats, 'distribution', each))
  for (const { id } of distributions) {
    const pushed = await pushedTo(ctx.db, ctx.formats, id)
    if (pushed) prns.push(prnOf(ctx.formats, 'repository', pushed))
  }
  return prns
}
