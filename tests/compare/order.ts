import type { Step } from './step.ts'

/** A list that comes in no order, in the same order for both servers: by what they cannot but agree upon. */
export function inOrder({ sorted }: Step, body: unknown): unknown {
  if (!sorted || typeof body !== 'object' || body === null || !('results' in body) || !Array.isArray(body.results)) return body
  return { ...body, results: body.results.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)) }
}

/** Without ids, times, and digests, which one server may lack, and whatever the order of its members: PostgreSQL has one of its own. */
function keyOf(item: unknown): string {
  const own = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{40,}\b|\d{4}-\d\d-\d\dT[\d:.]+Z/g
  const parts = Object.entries(item as object).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify(parts, (_, value) => (value === null ? '' : typeof value === 'string' ? value.replace(own, '') : value))
}
