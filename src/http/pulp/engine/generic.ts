import { sql, type SqlBool } from 'kysely'
import { lookups } from './filters.ts'
import { visibleRows } from './list.ts'
import type { Call, Resource, Rows } from './resource.ts'

/** A list over all types of a kind (`repositories/`), of what the caller may see of each type. */
export function overTypes(list: Resource, resources: readonly Resource[]): Resource {
  const types = resources.map(({ type }) => type!).sort()
  return {
    ...list,
    filters: { ...list.filters, ...lookups('pulp_type', `${list.table}.type`, 'text', ['exact', 'in'], types) },
    where: (rows, call) => whereVisible(rows, call, list.table, resources),
  }
}

/** The versions of the repositories that the caller may see. */
export function overRepositories(list: Resource, repositories: readonly Resource[]): Resource {
  return {
    ...list,
    async where(rows, call) {
      if (call.user!.isSuperuser) return rows
      const { db } = call.ctx
      const visible = await whereVisible(
        db.selectFrom('repository').select('repository.id') as any,
        call,
        'repository',
        repositories,
      )
      return rows.where('version.repository_id', 'in', visible as any)
    },
  }
}

async function whereVisible(rows: Rows<any>, call: Call, table: string, resources: readonly Resource[]): Promise<Rows<any>> {
  if (call.user!.isSuperuser) return rows
  const visible = await Promise.all(
    resources.map(async (resource) => {
      const condition = await visibleRows(call, resource)
      return sql<SqlBool>`(${sql.ref(`${table}.type`)} = ${resource.type} and ${condition ?? sql`true`})`
    }),
  )
  return rows.where(sql<SqlBool>`(${sql.join([sql`false`, ...visible], sql` or `)})`)
}
