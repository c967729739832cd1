import type { ServerResponse } from 'node:http'
import type { Range } from '../../store/blobs.ts'

/**
 * A body that is kept, to be sent again and again. A small one is text with a character for each byte: Node joins text to the head before it
 * and writes both as one, while bytes are a part of their own, which costs a fifth of the whole answer.
 */
export type Body = Buffer | string

/** Up to here Node writes text without memory of its own, a head included. */
const small = 12 * 1024

export function bodyOf(bytes: Buffer): Body {
  return bytes.length <= small ? bytes.toString('latin1') : bytes
}

export function partOf(body: Body, { start, end }: Range): Body {
  return typeof body === 'string' ? body.slice(start, end + 1) : body.subarray(start, end + 1)
}

/** Ends an answer whose head is written. */
export function endWith(res: ServerResponse, body: Body | undefined): void {
  if (body === undefined) res.end()
  else res.end(body, 'latin1')
}
