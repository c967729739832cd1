import type { IncomingHttpHeaders } from 'node:http'
import type { Range } from '../../store/blobs.ts'

/** What is known of a file whose bytes are asked for. */
export interface Facts {
  /** Quoted. Undefined while nobody knows the digest. */
  etag: string | undefined
  /** As in an HTTP header. */
  lastModified: string | undefined
  /** Undefined while nobody knows it. */
  size: number | undefined
}

export type Wish = { status: 200 } | { status: 206; range: Range } | { status: 304 } | { status: 412 } | { status: 416 }

/** What RFC 9110 makes of a GET or HEAD request's conditions and range. Several ranges at once are answered with the whole. */
export function decideWish(headers: IncomingHttpHeaders, facts: Facts): Wish {
  return precondition(headers, facts) ?? rangeWish(headers, facts) ?? { status: 200 }
}

function precondition(headers: IncomingHttpHeaders, { etag, lastModified }: Facts): Wish | undefined {
  const match = headers['if-match']
  const unmodified = headers['if-unmodified-since']
  if (match !== undefined && !names(match, etag)) return { status: 412 }
  if (match === undefined && unmodified !== undefined && lastModified && Date.parse(lastModified) > Date.parse(unmodified))
    return { status: 412 }
  const noneMatch = headers['if-none-match']
  if (noneMatch !== undefined) return names(noneMatch, etag) ? { status: 304 } : undefined
  // Equal, not "not later": a path that goes back to an older snapshot has changed although its date went back.
  if (lastModified && headers['if-modified-since'] === lastModified) return { status: 304 }
  return undefined
}

function names(header: string, etag: string | undefined): boolean {
  if (header.trim() === '*') return true
  return etag !== undefined && header.split(',').some((each) => each.trim().replace(/^W\//, '') === etag)
}

function rangeWish(headers: IncomingHttpHeaders, { etag, lastModified, size }: Facts): Wish | undefined {
  const { range } = headers
  if (range === undefined || size === undefined) return undefined
  const still = headers['if-range']
  if (still !== undefined && still !== etag && still !== lastModified) return undefined
  const match = /^bytes=(?:(\d{1,15})-(\d{1,15})?|-(\d{1,15}))$/.exec(range.trim())
  if (!match) return undefined
  const [, from, to, last] = match
  const start = from === undefined ? Math.max(0, size - Number(last)) : Number(from)
  const end = to === undefined ? size - 1 : Math.min(Number(to), size - 1)
  return start > end || start >= size ? { status: 416 } : { status: 206, range: { start, end } }
}
