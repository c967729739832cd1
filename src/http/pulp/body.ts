import type { Readable } from 'node:stream'
import type { Staged } from '../../store/blobs.ts'
import { BrokenBody, invalid } from './invalid.ts'
import { multipartParts } from './multipart.ts'
import type { BodySchema, Call } from './resource.ts'
import type { RawBody } from './validate.ts'

/** The most that a body without files may hold: a modify request may name 60,000 units. */
const bodyLimit = 64 * 1024 * 1024

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

async function readText(stream: Readable): Promise<string> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of stream) {
    size += piece.length
    if (size > bodyLimit) throw invalid(['The request body is too large.'])
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

function parseJson(text: string): Record<string, unknown> {
  if (text === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new BrokenBody(`JSON parse error - ${error instanceof Error ? error.message : 'invalid'}`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  if (value === null) throw invalid({ non_field_errors: ['No data provided'] })
  const type = Array.isArray(value) ? 'list' : typeof value === 'string' ? 'str' : 'int'
  throw invalid({ non_field_errors: [`Invalid data. Expected a dictionary, but got ${type}.`] })
}

/** Keys that come once are texts, those that come again lists. */
function gather(pairs: Iterable<[string, unknown]>): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  for (const [name, value] of pairs) values[name] = name in values ? [values[name], value].flat() : value
  return values
}

async function readParts(call: Call, schema: BodySchema, stream: Readable, type: string): Promise<Record<string, unknown>> {
  const pairs: [string, unknown][] = []
  const staged: Staged[] = []
  try {
    for await (const { name, isFile, body } of multipartParts(stream, type)) {
      const takesFile = schema.fields[name]?.format === 'binary'
      if (!takesFile || !isFile) pairs.push([name, await readSmall(body)])
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

async function readSmall(body: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    size += piece.length
    if (size > bodyLimit) throw invalid(['The request body is too large.'])
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

/** Files of a body that nobody kept are removed. */
export async function releaseBody(values: Readonly<Record<string, unknown>>): Promise<void> {
  for (const value of Object.values(values))
    if (typeof value === 'object' && value !== null && Symbol.asyncDispose in value)
      await (value as Staged)[Symbol.asyncDispose]()
}
