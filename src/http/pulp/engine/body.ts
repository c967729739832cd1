import type { Readable } from 'node:stream'
import type { Staged } from '../../../store/blobs.ts'
import { BrokenBody, invalid } from './invalid.ts'
import { multipartParts } from './multipart.ts'
import type { BodySchema, Call } from './resource.ts'
import type { RawBody } from './validate.ts'

/** The most that a body may hold beside its files: a modify request may name 60,000 units to add and as many to remove. */
const bodyLimit = 16 * 1024 * 1024
const mostParts = 10_000
/** Nobody writes deeper; what goes through a value comes to no end of its stack. */
const deepest = 64

/** A Content-Type that the API does not take: 415. */
export class UnsupportedMedia extends Error {
  override readonly name = 'UnsupportedMedia'
}

/** Reads a body in whichever of the three encodings it comes. File parts go to `schema.file`, or are staged, as they arrive. */
export async function readBody(call: Call, schema: BodySchema, stream: Readable): Promise<RawBody> {
  const type = String(call.headers['content-type'] ?? '')
  const media = type.split(';')[0]!.trim().toLowerCase()
  const length = call.headers['content-length']
  if (length === '0' || (length === undefined && call.headers['transfer-encoding'] === undefined)) {
    await drain(stream)
    return { values: {}, form: false }
  }
  if (media === 'multipart/form-data') return { values: await readParts(call, schema, stream, type), form: true }
  if (media === 'application/json' || media === '') return { values: parseJson(await readText(stream)), form: false }
  if (media === 'application/x-www-form-urlencoded')
    return { values: gather(new URLSearchParams(await readText(stream))), form: true }
  await drain(stream)
  throw new UnsupportedMedia(`Unsupported media type "${type}" in request.`)
}

async function drain(stream: Readable): Promise<void> {
  stream.resume()
}

async function readText(stream: AsyncIterable<Uint8Array>, limit = bodyLimit): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of stream) {
    size += piece.length
    if (size > limit) throw invalid(['The request body is too large.'])
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

function parseJson(text: string): Record<string, unknown> {
  if (text === '') return {}
  if (isDeeper(text, deepest)) throw new BrokenBody(`JSON parse error - nested more than ${deepest} deep`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new BrokenBody(`JSON parse error - ${error instanceof Error ? error.message : 'invalid'}`)
  }
  // Neither is text that could be stored. Both come only as escapes, which hardly ever occur.
  if (/\\u(?:0000|d[89a-f])/i.test(text) && !isStorable(value))
    throw new BrokenBody('JSON parse error - no text has NUL or half a character')
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  if (value === null) throw invalid({ non_field_errors: ['No data provided'] })
  const type = Array.isArray(value) ? 'list' : typeof value === 'string' ? 'str' : 'int'
  throw invalid({ non_field_errors: [`Invalid data. Expected a dictionary, but got ${type}.`] })
}

function isStorable(value: unknown): boolean {
  if (typeof value === 'string') return !value.includes('\0') && value.isWellFormed()
  return typeof value !== 'object' || value === null || Object.entries(value).flat().every(isStorable)
}

/** Whether lists and objects of a JSON text lie in one another more often than so. */
function isDeeper(text: string, limit: number): boolean {
  let depth = 0
  for (const [mark] of text.matchAll(/[[{\]}]|"(?:[^"\\]|\\.)*"/gs)) {
    if (mark === '[' || mark === '{') depth++
    else if (mark === ']' || mark === '}') depth--
    if (depth > limit) return true
  }
  return false
}

/** Keys that come once are texts, those that come again lists. */
function gather(pairs: Iterable<[string, unknown]>): Record<string, unknown> {
  const lists = new Map<string, unknown[]>()
  for (const [name, value] of pairs) {
    const list = lists.get(name)
    if (list) list.push(value)
    else lists.set(name, [value])
  }
  return Object.fromEntries([...lists].map(([name, list]) => [name, list.length === 1 ? list[0] : list]))
}

async function readParts(call: Call, schema: BodySchema, stream: Readable, type: string): Promise<Record<string, unknown>> {
  const pairs: [string, unknown][] = []
  const staged: Staged[] = []
  let left = bodyLimit
  try {
    for await (const { name, isFile, body } of multipartParts(stream, type)) {
      if (pairs.length === mostParts) throw invalid([`The request body has more than ${mostParts} parts.`])
      const takesFile = schema.fields[name]?.format === 'binary'
      if (!takesFile || !isFile) {
        const text = await readText(body, left)
        left -= text.length + name.length
        pairs.push([name, text])
      } else if (pairs.some(([other]) => other === name)) throw invalid({ [name]: ['This file was submitted twice.'] })
      else if (schema.file) pairs.push([name, await schema.file(call, body, gather(pairs))])
      else {
        const file = await call.ctx.blobs.stage(body, {}, call.ctx.config.allowedChecksums.filter(isExtra) as [])
        staged.push(file)
        pairs.push([name, file])
      }
    }
  } catch (error) {
    await Promise.all(staged.map((file) => file[Symbol.asyncDispose]()))
    throw error
  }
  return gather(pairs)
}

/** SHA-256 is always there. */
const isExtra = (algorithm: string) => algorithm !== 'sha256'

/** Files of a body that nobody kept are removed. */
export async function releaseBody(values: Readonly<Record<string, unknown>>): Promise<void> {
  for (const value of Object.values(values))
    if (typeof value === 'object' && value !== null && Symbol.asyncDispose in value)
      await (value as Staged)[Symbol.asyncDispose]()
}
