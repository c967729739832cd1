import type { IncomingMessage, ServerResponse } from 'node:http'
import { authenticate, type User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { Failure } from '../../lib/failure.ts'
import { sendJson } from './desk.ts'
import { ociBody, OciFailure } from './failures.ts'
import type { Places } from './places.ts'
import type { Pulls } from './pull-through.ts'
import { mayBegin, mayPull, mayPush } from './rights.ts'
import type { Access, Tokens } from './tokens.ts'
import { tokenLife } from './token-keys.ts'

/*
 * Where clients get tokens: GET with a password in the header, https://distribution.github.io/distribution/spec/auth/token/, or a form,
 * https://distribution.github.io/distribution/spec/auth/oauth/. Nobody in particular gets one too.
 */

export interface TokenDesk {
  ctx: Ctx
  places: Places
  pulls: Pick<Pulls, 'mayBegin'>
  tokens: Tokens
  service: string
}

const largestForm = 64 * 1024
const mostScopes = 100

export async function answerTokenRequest(desk: TokenDesk, req: IncomingMessage, res: ServerResponse): Promise<void> {
  if (req.method === 'POST') return answerForm(desk, req, res)
  if (req.method !== 'GET')
    return refuse(res, 405, 'UNSUPPORTED', 'Tokens are asked for with GET or POST.', ['Allow', 'GET, POST'])
  const query = new URLSearchParams(req.url!.split('?').slice(1).join('?'))
  if (!isOurService(desk, query.get('service'))) return refuseService(desk, res)
  const { authorization } = req.headers
  const user = authorization === undefined ? undefined : await authenticate(desk.ctx, authorization, req.socket.remoteAddress)
  if (authorization !== undefined && !user) return refuseLogin(res)
  const { token, issued } = await desk.tokens.issue(user, await grant(desk, user, query.getAll('scope')))
  sendJson(res, { token, access_token: token, expires_in: tokenLife, issued_at: issued.toISOString() }, noStore)
}

async function answerForm(desk: TokenDesk, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const form = await readForm(req)
  if (!isOurService(desk, form.get('service'))) return refuseService(desk, res)
  if (form.get('grant_type') !== 'password')
    return refuse(res, 400, 'UNSUPPORTED', 'Only grants of type "password" are given.', [])
  const basic = Buffer.from(`${form.get('username') ?? ''}:${form.get('password') ?? ''}`).toString('base64')
  const user = await authenticate(desk.ctx, `Basic ${basic}`, req.socket.remoteAddress)
  if (!user) return refuseLogin(res)
  const access = await grant(desk, user, form.getAll('scope'))
  const { token, issued } = await desk.tokens.issue(user, access)
  const scope = access.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`).join(' ')
  sendJson(res, { access_token: token, token, scope, expires_in: tokenLife, issued_at: issued.toISOString() }, noStore)
}

const noStore = ['Cache-Control', 'no-store']

async function readForm(req: IncomingMessage): Promise<URLSearchParams> {
  let text = ''
  for await (const chunk of req.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk
    if (text.length > largestForm) throw new OciFailure('SIZE_INVALID', 'The form is too large.', { status: 413 })
  }
  return new URLSearchParams(text)
}

/** Whoever names no service means the only one. */
function isOurService({ service }: TokenDesk, asked: string | null): boolean {
  return asked === null || asked === '' || asked === service
}

function refuseService({ service }: TokenDesk, res: ServerResponse): void {
  refuse(res, 400, 'UNSUPPORTED', `Tokens are given for the service ${service} only.`, [])
}

function refuseLogin(res: ServerResponse): void {
  refuse(res, 401, 'UNAUTHORIZED', 'The user name or the password is wrong.', ['WWW-Authenticate', 'Basic realm="registry"'])
}

function refuse(res: ServerResponse, status: number, code: string, message: string, headers: readonly string[]): void {
  const body = ociBody(code, message)
  res.writeHead(status, ['Content-Type', 'application/json', 'Content-Length', String(body.length), ...headers])
  res.end(body)
}

/** What of the scopes that were asked for somebody may have: `repository:stackhpc/nova:pull,push`, several in one text or in many. */
async function grant(desk: TokenDesk, user: User | undefined, scopes: readonly string[]): Promise<Access[]> {
  const asked = scopes.flatMap((text) => text.split(' ')).filter((text) => text !== '')
  if (asked.length > mostScopes) throw new Failure('invalid', `${asked.length} scopes are too many.`)
  const granted: Access[] = []
  for (const scope of asked) {
    // Names may have colons (of a port), actions not.
    const match = /^([a-z]+)(?:\([^)]*\))?:(.+):([^:]*)$/.exec(scope)
    if (!match || scope.includes('\0')) continue
    const [, type = '', name = '', actions = ''] = match
    granted.push({ type, name, actions: await grantOne(desk, user, type, name, new Set(actions.split(','))) })
  }
  return granted
}

async function grantOne(
  { ctx, places, pulls }: TokenDesk,
  user: User | undefined,
  type: string,
  name: string,
  actions: ReadonlySet<string>,
): Promise<string[]> {
  if (type === 'registry') return name === 'catalog' && actions.has('*') ? ['*'] : []
  if (type !== 'repository') return []
  const asks = (...some: string[]) => actions.has('*') || some.some((each) => actions.has(each))
  const place = await places.find(name)
  // The same is asked of what is absent as of what is hidden.
  const guarded = place ?? places.absence(name)
  const isPusher = user !== undefined && asks('push', 'delete') && (await mayPush(ctx, user, guarded))
  const isPuller = asks('pull') && (await mayPull(ctx, user, guarded))
  const writes = place ? isPusher : user !== undefined && asks('push', 'delete') && (await mayBegin(ctx, user, name, guarded))
  // Whoever may push to what is not there yet reads back what they push.
  const begins = async () => user !== undefined && (user.isSuperuser || (await pulls.mayBegin(user, name)))
  const reads = place ? isPuller : asks('pull') && (writes || (await begins()))
  return [...(reads || writes ? ['pull'] : []), ...(writes ? ['push', ...(asks('delete') ? ['delete'] : [])] : [])]
}
