import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Ctx } from '../../core/ctx.ts'
import type { OnDemand } from '../../core/serving/on-demand.ts'
import type { Stock } from '../content/files.ts'
import { type Action, type Caller, covers } from './callers.ts'
import { type OciCode, OciFailure } from './failures.ts'
import type { ManifestBodies } from './manifests.ts'
import { beginPlace, type Place, type Places } from './places.ts'
import { mayBegin, mayPull, mayPush, pushType } from './rights.ts'
import { isName } from './target.ts'
import type { Pulls } from './pull-through.ts'
import type { Tokens } from './tokens.ts'

/** What answering takes. */
export interface Desk {
  ctx: Ctx
  places: Places
  /** Undefined where only passwords are taken. */
  tokens: Tokens | undefined
  stock: Stock
  bodies: ManifestBodies
  onDemand: OnDemand
  pulls: Pulls
  /** When this process last let a repository hold a blob for a while, by both: a client that asks for a blob again and again causes one write. */
  leased: Map<string, number>
}

/** A request that is being answered. */
export interface Exchange {
  req: IncomingMessage
  res: ServerResponse
  query: URLSearchParams
  caller: Caller
}

/** The place that somebody reads from. What is absent and what is hidden are answered alike. */
export async function getReadable(desk: Desk, { caller }: Exchange, name: string): Promise<Place> {
  requireScope(caller, name, 'pull')
  const place = await findReadable(desk, caller, name)
  if (place) return place
  throw caller.user ? unknownName(name) : new OciFailure('UNAUTHORIZED', 'Log in to see whether this is there.')
}

/** As getReadable; undefined when it is not there or not theirs to read. */
export async function findReadable(
  { ctx, places }: Pick<Desk, 'ctx' | 'places'>,
  caller: Caller,
  name: string,
): Promise<Place | undefined> {
  if (!covers(caller, name, 'pull')) return undefined
  const place = await places.find(name)
  return (await mayPull(ctx, caller.user, place ?? places.absence(name))) ? place : undefined
}

/** A place that is there and whose repository takes what clients push. Throws OciFailure NAME_UNKNOWN where they might begin one. */
export async function getWritable(desk: Desk, exchange: Exchange, name: string, action: Action = 'push'): Promise<Place> {
  const place = await findWritable(desk, exchange, name, action)
  if (!place) throw unknownName(name)
  return place
}

/** As getWritable; makes it when it is not there. */
export async function ensureWritable(desk: Desk, exchange: Exchange, name: string): Promise<Place> {
  const found = await findWritable(desk, exchange, name, 'push')
  if (found) return found
  if (!isName(name)) throw new OciFailure('NAME_INVALID', `${JSON.stringify(name)} cannot be the name of a repository.`)
  await beginPlace(desk.ctx, name, exchange.caller.user!)
  const made = await findWritable(desk, exchange, name, 'push')
  if (!made) throw new OciFailure('DENIED', `${name} cannot be pushed to: its distribution serves no repository.`)
  return made
}

/** Undefined: it is not there, and they may make it. */
async function findWritable(
  { ctx, places }: Desk,
  { caller }: Exchange,
  name: string,
  action: Action,
): Promise<Place | undefined> {
  const { user } = caller
  if (!user) throw new OciFailure('UNAUTHORIZED', `Log in to ${action} here.`)
  requireScope(caller, name, action)
  const place = await places.find(name)
  const isPusher = await mayPush(ctx, user, place ?? places.absence(name))
  if (place) {
    if (!isPusher) throw denied(name)
    requireTarget(place)
    return place
  }
  if (!(await mayBegin(ctx, user, name, places.absence(name)))) throw denied(name)
  return undefined
}

function requireTarget(place: Place): void {
  if (place.repository.type !== pushType || place.isPinned)
    throw new OciFailure('DENIED', `${place.name} cannot be pushed to: what it serves is synced, copied or promoted.`)
}

function requireScope(caller: Caller, name: string, action: Action): void {
  if (!covers(caller, name, action))
    throw new OciFailure('UNAUTHORIZED', `The token is not one to ${action} ${name} with.`, { token: 'insufficient_scope' })
}

/** Sends a client whose token was never asked for this place to get another. Whether that was granted is not told. */
export function requireAsked({ access }: Caller, name: string): void {
  if (access && !access.some((each) => each.type === 'repository' && each.name === name))
    throw new OciFailure('UNAUTHORIZED', `The token is not one for ${name}.`, { token: 'insufficient_scope' })
}

const denied = (name: string) => new OciFailure('DENIED', `You may not do this with ${name}.`)

const unknownName = (name: string) => new OciFailure('NAME_UNKNOWN', `There is no repository ${name}.`)

const version = ['Docker-Distribution-Api-Version', 'registry/2.0'] as const

/** Headers of every answer. */
export const always: readonly string[] = [
  ...version,
  // By this clients know that signatures are to be had, and to be sent, at /extensions/v2/.
  'X-Registry-Supports-Signatures',
  '1',
  'X-Content-Type-Options',
  'nosniff',
]

/** An answer without a body. */
export function sendEmpty(res: ServerResponse, status: number, headers: readonly string[]): void {
  res.writeHead(status, [...always, ...headers, ...(status === 204 ? [] : ['Content-Length', '0'])])
  res.end()
}

export function sendJson(res: ServerResponse, body: unknown, headers: readonly string[] = [], type = 'application/json'): void {
  const bytes = Buffer.from(JSON.stringify(body))
  res.writeHead(200, [...always, 'Content-Type', type, 'Content-Length', String(bytes.length), ...headers])
  res.end(res.req.method === 'HEAD' ? undefined : bytes)
}

/** A small body, whole. `code` is what a larger one is told. */
export async function readBody(req: IncomingMessage, limit: number, code: OciCode): Promise<Buffer> {
  const tooLarge = () => new OciFailure(code, `This may have ${limit} bytes.`, { status: 413, headers: { Connection: 'close' } })
  if (Number(req.headers['content-length'] ?? 0) > limit) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limit) throw tooLarge()
    chunks.push(chunk)
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
}
