import { keyIn } from '../../core/names.ts'
import { uuidPattern } from '../../lib/uuid.ts'
import { idRows, textRows } from '../../store/bulk.ts'
import { sql } from 'kysely'
import { apiRoot } from './engine/hrefs.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import { rowsOf } from './engine/list.ts'
import type { Call } from './engine/resource.ts'

/** Content that hrefs or PRNs name, 60,000 of them in one query; `field` of a body, or a filter's value. Throws Failure invalid for what is no name or names nothing that the caller may see. */
export async function contentTargets(
  call: Call,
  field: string | undefined,
  values: readonly string[],
): Promise<{ id: number; type: string }[]> {
  if (values.length === 0) return []
  const byUuid = new Map(values.map((value) => [uuidOf(field, value), value]))
  const { rows: all } = await sql<{ id: number; type: string; uuid: string }>`
    select c.id, c.type, c.uuid from ${textRows(call.ctx.db, byUuid.keys())} as k cross join content c where c.uuid = k.text`.execute(
    call.ctx.db,
  )
  const rows = !call.user!.isSuperuser ? await onlySeen(call, all) : all
  for (const { uuid } of rows) byUuid.delete(uuid)
  // What the caller may not see does not exist.
  if (byUuid.size > 0)
    throw wrong(
      field,
      `Could not find the following content units: [${[...byUuid.values()].map((value) => `'${value}'`).join(', ')}]`,
    )
  return rows
}

/** Those of these units that are in a repository which the caller may see. */
async function onlySeen<T extends { id: number; type: string }>(call: Call, rows: readonly T[]): Promise<T[]> {
  const seen = new Set<number>()
  for (const type of new Set(rows.map((row) => row.type))) {
    const resource = call.registry.find('content', type)!
    const ids = rows.filter((row) => row.type === type).map(({ id }) => id)
    const found = await (await rowsOf({ ...call, resource, parent: undefined, query: new URLSearchParams() }, resource))
      .where(sql<boolean>`content.id in (select id from ${idRows(call.ctx.db, ids)} as i)`)
      .execute()
    for (const { id } of found as { id: number }[]) seen.add(id)
  }
  return rows.filter(({ id }) => seen.has(id))
}

function uuidOf(field: string | undefined, value: string): string {
  const path = value.replace(/^https?:\/\/[^/]+/, '')
  const uuid = value.startsWith('prn:') ? keyIn(value) : path.split('/').at(-2)
  const known = value.startsWith('prn:') || path.startsWith(apiRoot)
  if (!known || !uuid || !uuidPattern.test(uuid)) throw wrong(field, `URI not valid: ${value}`)
  return uuid
}

const wrong = (field: string | undefined, message: string) =>
  field === undefined ? invalid([message]) : invalidField(field, message)
