import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Db, Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { grantToCreator, isAllowed, type User } from './auth.ts'
import type { Ctx } from '../ctx.ts'
import { modelOf, prnOf } from '../names.ts'

/*
 * A namespace is the first segment of paths. A role on it gives rights on all that lies below: a permission there is called after the one
 * that it stands for, `container.namespace_push_containerdistribution` for `container.push_containerdistribution`.
 */

/** The namespace that a path lies in. */
export function namespaceIn(path: string): string {
  return path.split('/', 1)[0]!
}

export async function findNamespace(db: Db, type: string, name: string): Promise<Row<'namespace'> | undefined> {
  return db.selectFrom('namespace').selectAll().where('type', '=', type).where('name', '=', name).executeTakeFirst()
}

/** The namespace of this name; made, and owned by this user, when there is none. Bump ctx.changes after the transaction. */
export async function ensureNamespace(
  tx: Tx,
  formats: Ctx['formats'],
  type: string,
  name: string,
  userId: number | null,
): Promise<Row<'namespace'>> {
  const known = await findNamespace(tx, type, name)
  if (known) return known
  const at = now()
  const made = await tx
    .insertInto('namespace')
    .values({ uuid: newUuid(), type, name, created: at, updated: at })
    .onConflict((conflict) => conflict.columns(['type', 'name']).doNothing())
    .returningAll()
    .executeTakeFirst()
  if (!made) return (await findNamespace(tx, type, name))!
  await grantToCreator(tx, userId, [`${modelOf(formats, 'namespace', type)}_owner`], prnOf(formats, 'namespace', made))
  return made
}

/** Whether a user holds a permission on everything, on the object, or through the namespace that it lies in. */
export async function isAllowedIn(
  ctx: Pick<Ctx, 'db' | 'changes'>,
  user: User,
  permission: string,
  objectPrn: string | undefined,
  namespacePrn: string | undefined,
): Promise<boolean> {
  if (await isAllowed(ctx, user, permission, objectPrn)) return true
  return namespacePrn !== undefined && isAllowed(ctx, user, permission.replace('.', '.namespace_'), namespacePrn)
}
