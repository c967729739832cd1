import { uuidPattern } from '../../lib/uuid.ts'
import { textRows } from '../../store/bulk.ts'
import { sql } from 'kysely'
import { apiRoot } from './hrefs.ts'
import { invalid, invalidField } from './invalid.ts'
import type { Call } from './resource.ts'

/** Content that hrefs or PRNs name, 60,000 of them in one query; `field` of a body, or a filter's value. Throws Failure invalid for what is no name or names nothing. */
export async function contentTargets(
  call: Call,
  field: string | undefined,
  values: readonly string[],
): Promise<{ id: number; type: string }[]> {
  if (values.length === 0) return []
  const byUuid = new Map(values.map((value) => [uuidOf(field, value), value]))
  const { rows } = await sql<{ id: number; type: string; uuid: string }>`
    select c.id, c.type, c.uuid from ${textRows(call.ctx.db, byUuid.keys())} as k cross join content c where c.uuid = k.text`.execute(
    call.ctx.db,
  )
  for (const { uuid } of rows) byUuid.delete(uuid)
  if (byUuid.size > 0)
    throw wrong(
      field,
      `Could not find the following content units: [${[...byUuid.values()].map((value) => `'${value}'`).join(', ')}]`,
    )
  return rows
}

function uuidOf(field: string | undefined, value: string): string {
  const path = value.replace(/^https?:\/\/[^/]+/, '')
  const uuid = value.startsWith('prn:') ? value.slice(value.lastIndexOf(':') + 1) : path.split('/').at(-2)
  const known = value.startsWith('prn:') || path.startsWith(apiRoot)
  if (!known || !uuid || !uuidPattern.test(uuid)) throw wrong(field, `URI not valid: ${value}`)
  return uuid
}

const wrong = (field: string | undefined, message: string) =>
  field === undefined ? invalid([message]) : invalidField(field, message)
