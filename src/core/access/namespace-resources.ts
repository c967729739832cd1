import { sql } from 'kysely'
import { Failure } from '../../lib/failure.ts'
import { type Db, transact } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { forgetObject } from './auth.ts'
import type { Ctx } from '../ctx.ts'
import { prnOf } from '../names.ts'
import { ensureNamespace, findNamespace } from './namespaces.ts'
import { removeResource } from '../resources.ts'
import type { Job, Work } from '../tasks/tasks.ts'

/* Making and deleting namespaces. What roles on them mean stands in namespaces.ts. */

/** Makes a namespace, which its creator then owns. Throws Failure invalid when there is one of that name. */
export async function createNamespace(
  ctx: Pick<Ctx, 'db' | 'formats' | 'changes'>,
  type: string,
  name: string,
  userId: number | null,
): Promise<Row<'namespace'>> {
  const row = await transact(ctx.db, async (tx) => {
    if (await findNamespace(tx, type, name)) throw new Failure('invalid', 'This field must be unique.', { field: 'name' })
    return ensureNamespace(tx, ctx.formats, type, name, userId)
  })
  ctx.changes.bump()
  return row
}

/** The distributions that lie in a namespace. */
export function distributionsIn(db: Db, { type, name }: Pick<Row<'namespace'>, 'type' | 'name'>) {
  const [app] = type.split('.')
  return db
    .selectFrom('distribution')
    .where(sql<boolean>`(base_path = ${name} or (base_path >= ${`${name}/`} and base_path < ${`${name}0`}))`)
    .where(sql<boolean>`type like ${`${app}.%`}`)
}

/** The task that deletes a namespace with the distributions in it, and the repositories that pushes made for those. */
async function removeNamespace({ ctx }: Job, { namespaceId }: { namespaceId: number }): Promise<void> {
  await transact(ctx.db, async (tx) => {
    const namespace = await tx.selectFrom('namespace').selectAll().where('id', '=', namespaceId).executeTakeFirst()
    if (!namespace) return
    for (const { id } of await distributionsIn(tx, namespace).select('id').execute())
      await removeResource(tx, ctx.formats, 'distribution', id)
    await tx.deleteFrom('namespace').where('id', '=', namespace.id).execute()
    await forgetObject(tx, prnOf(ctx.formats, 'namespace', namespace))
  })
  ctx.changes.bump()
}

export const namespaceWorks: Record<string, Work> = { 'delete-namespace': removeNamespace }
