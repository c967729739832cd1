import { randomBytes } from 'node:crypto'
import { sql, type SqlBool } from 'kysely'
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { authenticate, isAllowed, refusalOf } from '../../../core/access/auth.ts'
import type { Ctx } from '../../../core/ctx.ts'
import { prnOf } from '../../../core/names.ts'
import { Failure } from '../../../lib/failure.ts'
import { pathOf } from '../../../lib/log.ts'
import { pulpBody, statusOf } from '../../failures.ts'
import { readBody, releaseBody, UnsupportedMedia } from './body.ts'
import { isKey } from './hrefs.ts'
import { BrokenBody } from './invalid.ts'
import { rowsOf } from './list.ts'
import { permit, permitBody, permitLook } from './permit.ts'
import type { Answer, Call, Endpoint, Registry, Resource } from './resource.ts'
import { refuseOtherSites, userOfSession } from './session-cookie.ts'
import { checkBody } from './validate.ts'

/** Someone who is nobody: 401. */
class Unauthenticated extends Error {
  override readonly name = 'Unauthenticated'
}

const methods: readonly HTTPMethods[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** Mounts endpoints. Everything below `/pulp/api/` answers as Pulp does, also what does not exist. */
export async function mountEndpoints(app: FastifyInstance, ctx: Ctx, registry: Registry): Promise<void> {
  // Bodies are read by the handlers, after they know who asks.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  app.setErrorHandler((error, request, reply) => answerError(ctx, error, request, reply))
  app.setNotFoundHandler((request, reply) => {
    addHeaders(reply, correlationId(request))
    return reply.code(404).header('Content-Type', 'text/html; charset=utf-8').send(notFoundPage)
  })
  for (const [url, endpoints] of Map.groupBy(registry.endpoints, (endpoint) => endpoint.url))
    mountUrl(app, ctx, registry, url, endpoints)
}

/** Where the endpoints are mounted; their URLs are whole. */
export const mountedAt = '/pulp/api'
const below = (url: string) => url.slice(mountedAt.length)

function mountUrl(app: FastifyInstance, ctx: Ctx, registry: Registry, url: string, endpoints: readonly Endpoint[]): void {
  const taken = methods.filter((method) => endpoints.some((endpoint) => endpoint.method === method))
  const allow = [...taken, ...(taken.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ')
  for (const endpoint of endpoints)
    app.route({
      method: endpoint.method,
      url: below(url),
      handler: async (request, reply) => {
        prepare(request, reply, allow, endpoints)
        const answer = await answerCall(ctx, registry, endpoint, request)
        return send(reply, answer)
      },
    })
  app.route({
    method: methods.filter((method) => !taken.includes(method)),
    url: below(url),
    handler: async (request, reply) => {
      prepare(request, reply, allow, endpoints)
      if (!endpoints.some(({ allow }) => allow === 'anyone')) await whoAsks(ctx, request)
      return send(reply, { status: 405, body: { detail: `Method "${request.method}" not allowed.` } })
    },
  })
}

async function answerCall(ctx: Ctx, registry: Registry, endpoint: Endpoint, request: FastifyRequest): Promise<Answer> {
  const call = await openCall(ctx, registry, endpoint, request)
  await permit(call, endpoint.allow)
  if (!endpoint.body) return endpoint.run(call)
  const raw = await readBody(call, endpoint.body, request.raw)
  try {
    const withBody = { ...call, body: await checkBody(call, endpoint.body, raw) }
    await permitBody(withBody, endpoint.allow)
    return await endpoint.run(withBody)
  } finally {
    await releaseBody(raw.values)
  }
}

async function openCall(ctx: Ctx, registry: Registry, endpoint: Endpoint, request: FastifyRequest): Promise<Call> {
  const user = endpoint.allow === 'anyone' ? undefined : await whoAsks(ctx, request)
  const at = request.url.indexOf('?')
  const { parent: parentKey, item } = request.params as { parent?: string; item?: string }
  const call: Call = {
    ctx,
    user,
    cid: correlationId(request),
    method: request.method,
    path: at < 0 ? request.url : request.url.slice(0, at),
    origin: `${request.protocol}://${request.host}`,
    query: new URLSearchParams(at < 0 ? '' : request.url.slice(at)),
    headers: request.headers,
    registry,
    resource: endpoint.resource,
    row: undefined,
    parent: undefined,
    body: {},
  }
  const { resource } = endpoint
  if (endpoint.allow === 'admin') await permitLook(call, endpoint.allow)
  const parent = parentKey === undefined ? undefined : await itemOf(call, resource!.parent!.resource, parentKey)
  const placed = { ...call, parent }
  await permitLook(placed, endpoint.allow)
  return item === undefined ? placed : { ...placed, row: await itemOf(placed, resource!, item) }
}

/** The row that a URL names, when the caller may see it. Throws Failure not_found with Pulp's words. */
async function itemOf(call: Call, resource: Resource, key: string): Promise<any> {
  const column = resource.key ?? 'uuid'
  if (!isKey(column, key)) throw new Failure('not_found', 'Not found.')
  const absent = () => new Failure('not_found', `No ${resource.model} matches the given query.`)
  const { kind, view, visible, type } = resource
  // Asked of the name, before anybody looks whether there is something: what is hidden takes as long as what is absent.
  const isAsked = kind !== undefined && view !== undefined && visible === undefined
  const prn = isAsked ? prnOf(call.ctx.formats, kind, { uuid: column === 'uuid' ? key : Number(key), ...(type && { type }) }) : ''
  if (isAsked && !(await isAllowed(call.ctx, call.user!, view, prn))) throw absent()
  const plain = isAsked ? { ...resource, view: undefined } : resource
  const rows = await rowsOf({ ...call, resource, query: new URLSearchParams() }, plain)
  const named = sql<SqlBool>`${sql.ref(`${resource.table}.${column}`)} = ${column === 'uuid' ? key : Number(key)}`
  const row = await rows.where(named).executeTakeFirst()
  if (!row) throw absent()
  return row
}

const isBasic = ({ headers }: FastifyRequest) => /^basic\b/i.test(headers.authorization ?? '')

async function whoAsks(ctx: Ctx, request: FastifyRequest) {
  const { authorization } = request.headers
  refuseOtherSites(request.method, request.headers)
  // Whoever sends a name and a password is judged by these alone.
  const user = isBasic(request)
    ? await authenticate(ctx, authorization, request.ip)
    : await userOfSession(ctx.db, request.method, request.headers)
  if (!user) throw new Unauthenticated(refusalOf(authorization))
  return user
}

const correlationIds = new WeakMap<FastifyRequest, string>()

/** The id that the request and its tasks are logged under: the client's when it is a UUID, else our own. */
function correlationId(request: FastifyRequest): string {
  const known = correlationIds.get(request)
  if (known) return known
  const given = request.headers['correlation-id']
  const id =
    typeof given === 'string' && /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(given)
      ? given
      : randomBytes(16).toString('hex')
  correlationIds.set(request, id)
  return id
}

function prepare(request: FastifyRequest, reply: FastifyReply, allow: string, endpoints: readonly Endpoint[]): void {
  addHeaders(reply, correlationId(request))
  const open = endpoints.some((endpoint) => endpoint.allow === 'anyone')
  reply.header('Vary', !open && !isBasic(request) ? 'Accept, Cookie' : 'Accept').header('Allow', allow)
}

function addHeaders(reply: FastifyReply, cid: string): void {
  reply.headers({
    'X-Frame-Options': 'DENY',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Access-Control-Expose-Headers': 'Correlation-ID',
  })
  // As Pulp spells it: what Fastify sets is in small letters, and pulp-cli shows it to people, and scripts, as it came.
  reply.raw.setHeader('Correlation-ID', cid)
}

/** Bytes and their exact type: given text or objects, Fastify would add a charset that clients trip over. */
function send(reply: FastifyReply, { status, body, headers = {} }: Answer): FastifyReply {
  reply.code(status).headers(headers)
  if (body === undefined) return reply.send()
  if (!headers['Content-Type']) reply.header('Content-Type', 'application/json')
  return reply.send(Buffer.isBuffer(body) ? body : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)))
}

function answerError(ctx: Ctx, error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof Unauthenticated)
    return send(reply, { status: 401, body: { detail: error.message }, headers: { 'WWW-Authenticate': 'Basic realm="api"' } })
  if (error instanceof UnsupportedMedia) return send(reply, { status: 415, body: { detail: error.message } })
  if (error instanceof BrokenBody) return send(reply, { status: 400, body: { detail: error.message } })
  if (error instanceof Failure) return send(reply, { status: statusOf[error.code], body: pulpBody(error) })
  ctx.log.error({ err: error, request: correlationId(request), path: pathOf(request.url) }, 'request failed')
  return send(reply, { status: 500, body: errorPage, headers: { 'Content-Type': 'text/html; charset=utf-8' } })
}

const page = (title: string, heading: string, text: string) => `
<!doctype html>
<html lang="en">
<head>
  <title>${title}</title>
</head>
<body>
  <h1>${heading}</h1><p>${text}</p>
</body>
</html>
`
const notFoundPage = page('Not Found', 'Not Found', 'The requested resource was not found on this server.')
const errorPage = page('Server Error (500)', 'Server Error (500)', '')
