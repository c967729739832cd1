import { type RawBuilder, sql, type SqlBool } from 'kysely'
import type { Format } from '../../core/format.ts'
import { visibleRows } from './engine/list.ts'
import type { Call } from './engine/resource.ts'

/** The condition that content is in a repository which the caller may see: what it is in, not what it is, makes it visible. */
export async function isHeldVisibly(
  call: Call,
  contentId: RawBuilder<unknown>,
  formats: readonly Format[],
): Promise<RawBuilder<SqlBool>> {
  if (call.user!.isSuperuser) return sql`true`
  const visible: RawBuilder<SqlBool>[] = []
  for (const format of formats)
    for (const { type } of format.repositories) {
      const resource = call.registry.find('repository', `${format.name}.${type}`)!
      const condition = await visibleRows(call, resource)
      const ofType = sql<SqlBool>`repository.type = ${resource.type}`
      visible.push(condition ? sql`(${ofType} and ${condition})` : ofType)
    }
  return sql`exists (select 1 from membership join repository on repository.id = membership.repository_id
    where membership.content_id = ${contentId} and (${sql.join(visible, sql` or `)}))`
}
