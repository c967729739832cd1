import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Ctx } from '../../core/ctx.ts'
import { decideFast, type Guard, type GuardedRequest, mayDownload } from '../../core/access/guards.ts'
import { type OnDemand, openOnDemand } from '../../core/serving/on-demand.ts'
import {
  type Branch,
  findBranches,
  findDistribution,
  findGuards,
  openResolver,
  type Resolver,
  type Served,
} from '../../core/serving/served.ts'
import { Failure } from '../../lib/failure.ts'
import { pathOf } from '../../lib/log.ts'
import type { Row } from '../../store/schema.ts'
import { type Blob, headOf, type Head, sendFromMemory, sendRemote, type Stock } from './files.ts'
import { renderListing } from './listing.ts'
import { mediaTypeOf } from './media-types.ts'
import { sendStored } from './lost.ts'
import { openFileSender } from './send-file.ts'
import { sendChunks, sendText } from './send.ts'
import { openSmallBlobs } from './small-blobs.ts'
import { contentRoot, parseTarget } from './target.ts'

/** Serves what dnf and other clients fetch, on Node's own requests: most answers come from memory, without any framework. */
export interface ContentHandler extends AsyncDisposable {
  /** Answers a request when its path is one of content; false when it is somebody else's to answer. */
  handle(req: IncomingMessage, res: ServerResponse): boolean
}

/** What lies at a path, as long as ctx.changes does not move. */
type Known =
  | { kind: 'blob'; guard: Guard | null; blob: Blob; head: Head }
  | { kind: 'redirect'; guard: Guard | null; to: string | undefined }
  | { kind: 'branches'; branches: Branch[] }

/** What answering takes. */
interface Desk {
  ctx: Ctx
  resolver: Resolver
  onDemand: OnDemand
  stock: Stock
  /** What is known as of now. Whoever adds to it asks again whether it still is: what was looked up meanwhile may be of before a change. */
  known(): Map<string, Known>
}

/** A request that is being answered. `path` is what it names below /pulp/content/. */
interface Exchange {
  req: IncomingMessage
  res: ServerResponse
  path: string
}

export function openContentHandler(ctx: Ctx): ContentHandler {
  const onDemand = openOnDemand(ctx)
  const stock = { blobs: ctx.blobs, small: openSmallBlobs(ctx.blobs), files: openFileSender() }
  const desk = { ctx, onDemand, stock, resolver: openResolver(ctx), known: openMemory(ctx) }

  function handle(req: IncomingMessage, res: ServerResponse): boolean {
    if (!req.url!.startsWith(contentRoot)) return handleOther(req.url!, res)
    if (req.method === 'GET' && answerFast(desk, req, res)) return true
    // A reader that goes away is seen by res.destroyed; the error that a late write raises tells nothing more.
    res.on('error', () => {})
    answer(desk, req, res).catch((error: unknown) => fail(ctx, req, res, error))
    return true
  }
  return { handle, [Symbol.asyncDispose]: () => onDemand[Symbol.asyncDispose]() }
}

const mostKnown = 50_000

function openMemory({ changes }: Ctx): () => Map<string, Known> {
  let known = new Map<string, Known>()
  let seen = changes.current()
  return () => {
    const change = changes.current()
    if (change !== seen || known.size > mostKnown) {
      known = new Map()
      seen = change
    }
    return known
  }
}

/** Answers at once when everything is in memory. */
function answerFast({ ctx, stock, known }: Desk, req: IncomingMessage, res: ServerResponse): boolean {
  const url = req.url!
  // Without escapes and query the target is the path itself.
  if (url.includes('%') || url.includes('?')) return false
  const entry = known().get(url.slice(contentRoot.length))
  if (entry?.kind !== 'blob') return false
  const body = stock.small.find(entry.blob.sha256)
  if (body === undefined || (entry.guard && decideFast(ctx, entry.guard, guarded(req)) !== true)) return false
  return sendFromMemory(req, res, entry.head, body)
}

async function answer(desk: Desk, req: IncomingMessage, res: ServerResponse): Promise<void> {
  if (req.method !== 'GET' && req.method !== 'HEAD') return sendText(res, 405, '405: Method Not Allowed', ['Allow', 'GET,HEAD'])
  const path = parseTarget(req.url!)
  if (path === undefined) return sendText(res, 404, '404: Not Found')
  const exchange = { req, res, path }
  const memory = desk.known()
  const entry = memory.get(path)
  if (entry) return sendKnown(desk, exchange, entry, true)

  const distribution = await findDistribution(desk.ctx, path)
  const fresh = distribution ? await answerFrom(desk, exchange, distribution) : await knownBranches(desk, path)
  if (!fresh) return
  if (memory === desk.known()) memory.set(path, fresh)
  return sendKnown(desk, exchange, fresh, false)
}

/** Answers what is not worth remembering, or says what is. */
async function answerFrom(desk: Desk, exchange: Exchange, distribution: Row<'distribution'>): Promise<Known | undefined> {
  const { ctx, resolver } = desk
  const { req, path } = exchange
  const id = distribution.guard_id
  const guard = id === null ? null : (await findGuards(ctx.db, [id])).get(id)!
  if (!(await admit(ctx, exchange, guard))) return undefined
  const { length } = distribution.base_path
  const rest = path.length === length ? undefined : path.slice(length + 1)
  const served = forWhom(guard, await resolver.resolve(distribution, rest, ctx.config.origin ?? originOf(req)))
  if (served.kind === 'blob') return { kind: 'blob', guard, blob: served, head: headOf(served) }
  if (served.kind === 'redirect') return { kind: 'redirect', guard, to: served.to }
  await sendPassing(desk, exchange, served)
  return undefined
}

/** What a guard let one reader have must not be kept, for others, by a cache on the way: it knows no guard. */
function forWhom(guard: Guard | null, served: Served): Served {
  if (!guard || !('headers' in served)) return served
  return { ...served, headers: { ...served.headers, 'Cache-Control': 'private' } }
}

/** Answers with what may be another thing the next time. */
async function sendPassing(
  { onDemand }: Desk,
  { req, res, path }: Exchange,
  served: Exclude<Served, { kind: 'blob' | 'redirect' }>,
): Promise<void> {
  if (served.kind === 'missing') return sendText(res, 404, `404: ${served.reason ?? 'Not Found'}`)
  if (served.kind === 'remote') return sendRemote(onDemand, req, res, served)
  if (served.kind === 'directory') return sendPage(req, res, renderListing(`${contentRoot}${path}`, served.directory))
  const body = Buffer.from(served.body)
  const type = mediaTypeOf(served.path) ?? 'text/plain; charset=utf-8'
  const headers = ['Content-Type', type, 'Content-Length', String(body.length), 'X-PULP-CACHE', 'MISS', ...nosniff]
  res.writeHead(200, [...headers, ...Object.entries(served.headers).flat()])
  res.end(req.method === 'HEAD' ? undefined : body)
}

async function knownBranches({ ctx }: Desk, path: string): Promise<Known> {
  const prefix = path === '' || path.endsWith('/') ? path : `${path}/`
  return { kind: 'branches', branches: await findBranches(ctx, prefix) }
}

async function sendKnown(desk: Desk, exchange: Exchange, entry: Known, hit: boolean): Promise<void> {
  const { ctx } = desk
  const { req, res } = exchange
  if (entry.kind === 'branches') return sendBranches(ctx, exchange, entry.branches)
  // What was just found was found for somebody who had been let in.
  if (hit && !(await admit(ctx, exchange, entry.guard))) return
  if (entry.kind === 'redirect') return redirect(req, res, entry.to)
  await sendStored(desk, req, res, entry, hit)
}

/** Base paths below this one; those behind guards only for whom these let in. */
async function sendBranches(ctx: Ctx, { req, res, path }: Exchange, branches: readonly Branch[]): Promise<void> {
  const decided = new Map<Guard | null, boolean>([[null, true]])
  for (const guard of new Set(branches.flatMap(({ guards }) => guards)))
    if (guard) decided.set(guard, (await mayDownload(ctx, guard, guarded(req))) === true)
  const lines = branches
    .filter(({ guards }) => guards.some((guard) => decided.get(guard)))
    .map(({ name }) => ({ name: `${name}/` }))
  if (path === '') return sendPage(req, res, renderListing(contentRoot, lines, true))
  if (lines.length === 0) return sendText(res, 404, '404: Not Found')
  return path.endsWith('/') ? sendPage(req, res, renderListing(path, lines)) : redirect(req, res)
}

async function admit(ctx: Ctx, { req, res }: Exchange, guard: Guard | null): Promise<boolean> {
  const decision = guard === null || (await mayDownload(ctx, guard, guarded(req)))
  if (decision === true) return true
  sendText(res, decision.status, decision.text)
  return false
}

function guarded({ headers, url, socket }: IncomingMessage): GuardedRequest {
  return { authorization: headers.authorization, headers, url: url!, address: socket.remoteAddress }
}

const nosniff = ['X-Content-Type-Options', 'nosniff']

/** A target that is not a path is nobody's here: a proxy's request would otherwise be read as ours. */
function handleOther(url: string, res: ServerResponse): boolean {
  if (url === contentRoot.slice(0, -1) || url.startsWith(`${contentRoot.slice(0, -1)}?`))
    sendText(res, 301, '301: Moved Permanently', ['Location', contentRoot])
  else if (!url.startsWith('/') && url !== '*') sendText(res, 400, '400: Bad Request')
  else return false
  return true
}

/** To another path below /pulp/content/, or to the same with a slash. */
function redirect(req: IncomingMessage, res: ServerResponse, to?: string): void {
  const location =
    to === undefined ? `${req.url!.split('?', 1)[0]}/` : `${contentRoot}${to.split('/').map(encodeURIComponent).join('/')}`
  sendText(res, 301, '301: Moved Permanently', ['Location', location])
}

async function sendPage(req: IncomingMessage, res: ServerResponse, chunks: Iterable<string>): Promise<void> {
  const policy = ['Content-Security-Policy', "default-src 'none'; sandbox"]
  const asked = ['Cache-Control', 'no-cache', 'X-PULP-CACHE', 'MISS']
  res.writeHead(200, ['Content-Type', 'text/html; charset=utf-8', ...asked, ...nosniff, ...policy])
  if (req.method === 'HEAD') res.end()
  else await sendChunks(res, chunks)
}

function originOf(req: IncomingMessage): string {
  const host = req.headers.host ?? ''
  return `http://${/^[\w.:[\]-]+$/.test(host) ? host : 'localhost'}`
}

const statuses: Partial<Record<string, [number, string]>> = {
  upstream: [502, 'Bad Gateway'],
  integrity: [502, 'Bad Gateway'],
  conflict: [503, 'Service Unavailable'],
}

function fail(ctx: Ctx, req: IncomingMessage, res: ServerResponse, error: unknown): void {
  const [status, text] = (error instanceof Failure && statuses[error.code]) || [500, 'Internal Server Error']
  if (status === 500) ctx.log.error({ err: error, path: pathOf(req.url!) }, 'a content request failed')
  // A body that began cannot be called back: only a broken connection tells that it is not what it should be.
  if (res.headersSent) res.destroy()
  else sendText(res, status, `${status}: ${text}`)
}
