import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Ctx } from '../../core/ctx.ts'
import { openOnDemand } from '../../core/serving/on-demand.ts'
import { Failure } from '../../lib/failure.ts'
import { pathOf } from '../../lib/log.ts'
import { openFileSender } from '../content/send-file.ts'
import { openSmallBlobs } from '../content/small-blobs.ts'
import { sendBlobFast, sendHeldBlob } from './blobs.ts'
import { covers, identify, recallCaller } from './callers.ts'
import { always, type Desk, type Exchange, sendJson } from './desk.ts'
import { asOciFailure, ociBody, OciFailure } from './failures.ts'
import { sendCatalog, sendReferrers, sendTags } from './lists.ts'
import { openManifestBodies, sendHeldFast } from './manifests.ts'
import { openPlaces } from './places.ts'
import { openPulls, pullManifest } from './pull-through.ts'
import { putManifest } from './push-manifest.ts'
import { deleteBlob, deleteManifest } from './removal.ts'
import { mayPullFast } from './rights.ts'
import { putSignature, sendSignatures } from './signatures.ts'
import { extensionsRoot, parseTarget, registryRoot, type Target } from './target.ts'
import { answerTokenRequest } from './token-endpoint.ts'
import { openTokens } from './tokens.ts'
import { beginUpload, cancelUpload, continueUpload, finishUpload, sendUploadStatus } from './uploads.ts'

/** The registry of container images, on Node's own requests. https://github.com/opencontainers/distribution-spec/blob/main/spec.md */
export interface RegistryHandler extends AsyncDisposable {
  /** Answers a request when its path is one of the registry; false when it is somebody else's to answer. */
  handle(req: IncomingMessage, res: ServerResponse): boolean
}

export interface RegistryOptions {
  /** How clients log in: with tokens that `/token` gives (and passwords too), or with passwords only. */
  auth?: 'token' | 'basic' | undefined
  /** Milliseconds for which the upstream of what is pulled through is not asked again; 10 s by default. */
  freshFor?: number | undefined
}

/** What answers refer to. */
interface Counter extends Desk {
  service: string
}

export function openRegistryHandler(ctx: Ctx, { auth = 'token', freshFor }: RegistryOptions = {}): RegistryHandler {
  const service = ctx.config.origin === undefined ? 'signalbox' : new URL(ctx.config.origin).host
  const onDemand = openOnDemand(ctx)
  const counter: Counter = {
    ctx,
    service,
    onDemand,
    pulls: openPulls(ctx, freshFor),
    places: openPlaces(ctx),
    tokens: auth === 'token' ? openTokens(ctx, service) : undefined,
    stock: { blobs: ctx.blobs, small: openSmallBlobs(ctx.blobs), files: openFileSender() },
    bodies: openManifestBodies(ctx.db),
    leased: new Map(),
  }

  function handle(req: IncomingMessage, res: ServerResponse): boolean {
    const url = req.url!
    const isExtension = url.startsWith(extensionsRoot)
    if (!isExtension && (!url.startsWith('/v2') || !/^\/v2(?:[/?]|$)/.test(url))) return handleToken(counter, req, res)
    if (!isExtension && (req.method === 'GET' || req.method === 'HEAD') && answerFast(counter, req, res)) return true
    run(counter, req, res, () => answer(counter, req, res))
    return true
  }
  async function close(): Promise<void> {
    await counter.pulls[Symbol.asyncDispose]()
    await onDemand[Symbol.asyncDispose]()
  }
  return { handle, [Symbol.asyncDispose]: close }
}

function handleToken(counter: Counter, req: IncomingMessage, res: ServerResponse): boolean {
  const { tokens } = counter
  if (!tokens || !/^\/token\/?(?:\?|$)/.test(req.url!)) return false
  run(counter, req, res, () => answerTokenRequest({ ...counter, tokens }, req, res))
  return true
}

function run(counter: Counter, req: IncomingMessage, res: ServerResponse, act: () => Promise<void>): void {
  // A client that goes away is seen by res.destroyed; the error that a late write raises tells nothing more.
  res.on('error', () => {})
  const began = performance.now()
  act()
    .catch((error: unknown) => fail(counter, req, res, error))
    .finally(() => {
      if (req.method !== 'GET' && req.method !== 'HEAD') logWrite(counter.ctx, req, res, performance.now() - began)
    })
}

function logWrite({ log }: Ctx, { method, url }: IncomingMessage, { statusCode: status }: ServerResponse, ms: number): void {
  log.info({ method, path: pathOf(url!), status, ms: Math.round(ms * 10) / 10 }, 'request')
}

/** Answers at once what is in memory: who asks, that they may, and what they ask for. */
function answerFast(counter: Counter, req: IncomingMessage, res: ServerResponse): boolean {
  const url = req.url!
  // Without escapes and query the target is the path itself.
  if (url.includes('%') || url.includes('?')) return false
  const slash = url.lastIndexOf('/')
  const isBlob = url.endsWith('/blobs', slash)
  if (!isBlob && !url.endsWith('/manifests', slash)) return false
  const name = url.slice(registryRoot.length, slash - (isBlob ? 6 : 10))
  const place = counter.places.recall(name)
  const caller = place && recallCaller(counter.ctx, counter.tokens, req.headers.authorization)
  if (!caller || !covers(caller, name, 'pull') || mayPullFast(counter.ctx, caller.user, place) !== true) return false
  const last = url.slice(slash + 1)
  if (!isBlob && place.pulled && !counter.pulls.isFresh(place, last)) return false
  return isBlob ? sendBlobFast(counter, req, res, place, last) : sendHeldFast(counter, req, res, place, last)
}

async function answer(counter: Counter, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { target, query } = parseTarget(req.url!)
  const caller = await identify(counter.ctx, counter.tokens, req)
  const exchange: Exchange = { req, res, query, caller }
  const act = actionFor(target, req.method === 'HEAD' ? 'GET' : req.method!)
  if (act) return act(counter, exchange)
  if (target.kind === 'unknown') throw new OciFailure('UNSUPPORTED', 'The registry has nothing at this path.', { status: 404 })
  throw new OciFailure('UNSUPPORTED', `${req.method} is not possible here.`)
}

type Act = (counter: Counter, exchange: Exchange) => Promise<void>

function actionFor(target: Target, method: string): Act | undefined {
  return actsOn(target)[method]
}

function actsOn(target: Target): Partial<Record<string, Act>> {
  switch (target.kind) {
    case 'root':
      return { GET: sendRoot }
    case 'catalog':
      return { GET: sendCatalogTo }
    case 'tags':
      return { GET: (desk, exchange) => sendTags(desk, exchange, target.name) }
    case 'manifest':
      return {
        GET: (desk, exchange) => pullManifest(desk, exchange, target.name, target.reference),
        PUT: (desk, exchange) => putManifest(desk, exchange, target.name, target.reference),
        DELETE: (desk, exchange) => deleteManifest(desk, exchange, target.name, target.reference),
      }
    case 'blob':
      return {
        GET: (desk, exchange) => sendHeldBlob(desk, exchange, target.name, target.digest),
        DELETE: (desk, exchange) => deleteBlob(desk, exchange, target.name, target.digest),
      }
    case 'uploads':
      return { POST: (desk, exchange) => beginUpload(desk, exchange, target.name) }
    case 'upload':
      return {
        GET: (desk, exchange) => sendUploadStatus(desk, exchange, target.name, target.uuid),
        PATCH: (desk, exchange) => continueUpload(desk, exchange, target.name, target.uuid),
        PUT: (desk, exchange) => finishUpload(desk, exchange, target.name, target.uuid),
        DELETE: (desk, exchange) => cancelUpload(desk, exchange, target.name, target.uuid),
      }
    case 'referrers':
      return { GET: (desk, exchange) => sendReferrers(desk, exchange, target.name, target.digest) }
    case 'signatures':
      return {
        GET: (desk, exchange) => sendSignatures(desk, exchange, target.name, target.digest),
        PUT: (desk, exchange) => putSignature(desk, exchange, target.name, target.digest),
      }
    case 'unknown':
      return {}
  }
}

/** Clients find out here how to log in, and whether their credentials are good. */
async function sendRoot(_: Counter, { caller, res }: Exchange): Promise<void> {
  if (!caller.user && !caller.access) throw new OciFailure('UNAUTHORIZED', 'Log in, or get a token for what is public.')
  sendJson(res, {})
}

async function sendCatalogTo(counter: Counter, exchange: Exchange): Promise<void> {
  const { caller } = exchange
  if (!caller.user && !caller.access) throw new OciFailure('UNAUTHORIZED', 'Log in to list repositories.')
  return sendCatalog(counter, exchange)
}

function fail(counter: Counter, req: IncomingMessage, res: ServerResponse, error: unknown): void {
  // A body that began cannot be called back: only a broken connection tells that it is not what it should be.
  if (res.headersSent || res.destroyed || req.errored) {
    res.destroy()
    return
  }
  const failure = asOciFailure(error)
  if (failure) return refuse(counter, req, res, failure)
  const [status, message] = statusOf(error)
  if (status === 500) counter.ctx.log.error({ err: error, path: pathOf(req.url!) }, 'a request to the registry failed')
  send(res, status, ociBody('UNKNOWN', message), [])
}

/** What is not the client's fault. */
function statusOf(error: unknown): [number, string] {
  const code = error instanceof Failure ? error.code : undefined
  if (code === 'upstream') return [502, (error as Failure).message]
  if (code === 'conflict') return [503, (error as Failure).message]
  if (code === 'not_found') return [404, (error as Failure).message]
  return [500, 'The server failed to answer; its log says why.']
}

function refuse(counter: Counter, req: IncomingMessage, res: ServerResponse, failure: OciFailure): void {
  const given = Object.entries(failure.headers).flatMap(([name, value]) => [name, String(value)])
  const asked = failure.status === 401 ? ['WWW-Authenticate', challenge(counter, req, failure)] : []
  send(res, failure.status, ociBody(failure.oci, failure.message, failure.details), [...given, ...asked])
}

function send(res: ServerResponse, status: number, body: Buffer, headers: readonly string[]): void {
  res.writeHead(status, [...always, 'Content-Type', 'application/json', 'Content-Length', String(body.length), ...headers])
  res.end(res.req.method === 'HEAD' ? undefined : body)
}

/** How to log in for this: https://distribution.github.io/distribution/spec/auth/token/#how-to-authenticate */
function challenge({ ctx, tokens, service }: Counter, req: IncomingMessage, { token }: OciFailure): string {
  if (!tokens) return 'Basic realm="registry"'
  const scope = scopeFor(parseTarget(req.url!), req.method!)
  return [
    `Bearer realm="${ctx.config.origin ?? originOf(req)}/token"`,
    `service="${service}"`,
    ...(scope ? [`scope="${scope}"`] : []),
    ...(token ? [`error="${token}"`] : []),
  ].join(',')
}

function scopeFor({ target, query }: ReturnType<typeof parseTarget>, method: string): string | undefined {
  if (target.kind === 'catalog') return 'registry:catalog:*'
  // What cannot be written between quotes is nobody's name.
  if (!('name' in target) || !isPrintable(target.name)) return undefined
  const from = query.get('from')
  const mount = from !== null && query.has('mount') && isPrintable(from) ? ` repository:${from}:pull` : ''
  return `repository:${target.name}:${actionsOn(target, method)}${mount}`
}

/** How far an upload is concerns those who push. */
function actionsOn({ kind }: Target, method: string): string {
  if (kind !== 'upload' && (method === 'GET' || method === 'HEAD')) return 'pull'
  return method === 'DELETE' ? 'pull,push,delete' : 'pull,push'
}

const isPrintable = (text: string) => /^[\w./:-]{1,255}$/.test(text)

function originOf({ headers }: IncomingMessage): string {
  const host = headers.host ?? ''
  return `http://${/^[\w.:[\]-]+$/.test(host) ? host : 'localhost'}`
}
