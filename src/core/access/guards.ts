import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'
import type { Row } from '../../store/schema.ts'
import { authenticate, isAllowed, isAllowedFast, remembered } from './auth.ts'
import type { Ctx } from '../ctx.ts'

/*
 * Guards say who may read a distribution. Their settings:
 *   core.rbac              none: whoever holds `core.download_rbaccontentguard` on it
 *   core.header            header_name, header_value, jq_filter: whoever sends the value, base64-encoded
 *   core.composite         guards, the uuids of others: whoever one of them lets in
 *   core.content_redirect  secret: whoever has a URL that signUrl made with it
 */

export type Guard = Pick<Row<'guard'>, 'uuid' | 'type' | 'settings'>

/** What a guard judges by. `url` is the path with its query, as it came. */
export interface GuardedRequest {
  readonly authorization?: string | undefined
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly url: string
  /** Whose wrong passwords are counted together. */
  readonly address?: string | undefined
}

/** Pulp's answer to whom a guard refuses: never a challenge, always plain text. */
export interface Denial {
  readonly status: 403
  readonly text: string
}

type Ask = Pick<Ctx, 'db' | 'changes'>

const noCredentials = deny('Authentication credentials were not provided.')
const noPermission = deny('You do not have permission to perform this action.')
const wrongHeader = deny('Access denied.')
const expired = deny('Authentication expired')
const notSigned = deny('Access not authenticated')
// Pulp tells whoever asks the names of all guards that refused; nobody outside needs them.
const nonePassed = deny('Access forbidden.')

export const downloadPermission = 'core.download_rbaccontentguard'

/** Whether a request may read what a guard stands before. Throws Failure conflict when too many passwords are being checked. */
export async function mayDownload(ctx: Ask, guard: Guard, request: GuardedRequest): Promise<true | Denial> {
  return judge(ctx, guard, request, new Set())
}

/** As mayDownload, from memory alone: no waiting. Undefined when only mayDownload can tell. */
export function decideFast(ctx: Pick<Ctx, 'changes'>, guard: Guard, request: GuardedRequest): true | Denial | undefined {
  if (guard.type === 'core.rbac') return decideUser(ctx, guard, request)
  if (guard.type === 'core.composite') return decideMembers(ctx, guard, request)
  return judgeRequest(guard, request)
}

function decideUser(ctx: Pick<Ctx, 'changes'>, guard: Guard, { authorization }: GuardedRequest): true | Denial | undefined {
  if (authorization === undefined) return noCredentials
  const user = remembered(ctx, authorization)
  const allowed = user && isAllowedFast(ctx, user, downloadPermission, rbacPrn(guard))
  return allowed === undefined ? undefined : allowed || noPermission
}

/** Only where each member is an ordinary guard: they cannot lead in circles. */
function decideMembers(ctx: Pick<Ctx, 'changes'>, guard: Guard, request: GuardedRequest): true | Denial | undefined {
  const known = members.get(ctx.changes)
  const its = known?.change === ctx.changes.current() ? known.of.get(guard.uuid) : undefined
  if (!its || its === 'everybody') return its && true
  for (const member of its) {
    const answer = member.type === 'core.composite' ? undefined : decideFast(ctx, member, request)
    if (answer === true || answer === undefined) return answer
  }
  return nonePassed
}

async function judge(ctx: Ask, guard: Guard, request: GuardedRequest, asked: Set<string>): Promise<true | Denial> {
  if (guard.type === 'core.rbac') return judgeUser(ctx, guard, request)
  if (guard.type === 'core.composite') return judgeMembers(ctx, guard, request, asked)
  return judgeRequest(guard, request)
}

/** Guards that need nothing but the request. */
function judgeRequest(guard: Guard, request: GuardedRequest): true | Denial {
  const settings = JSON.parse(guard.settings)
  if (guard.type === 'core.header') return judgeHeader(settings, request)
  if (guard.type === 'core.content_redirect') return judgeSignature(settings['secret'], request.url)
  throw new Error(`no guard of type ${guard.type}`)
}

async function judgeUser(ctx: Ask, guard: Guard, request: GuardedRequest): Promise<true | Denial> {
  try {
    const user = await authenticate(ctx, request.authorization, request.address)
    if (!user) return noCredentials
    return (await isAllowed(ctx, user, downloadPermission, rbacPrn(guard))) || noPermission
  } catch (error) {
    if (error instanceof Failure && error.code === 'denied') return deny(error.message)
    throw error
  }
}

interface HeaderSettings {
  header_name: string
  header_value: string
  jq_filter?: string | null
}

function judgeHeader({ header_name, header_value, jq_filter }: HeaderSettings, { headers }: GuardedRequest): true | Denial {
  const sent = headers[header_name.toLowerCase()]
  // A header that came twice, perhaps once by whoever asks and once by a proxy that knows them, is joined by a comma: that proves nothing.
  if (typeof sent !== 'string' || !/^[\w+/-]+={0,2}$/.test(sent)) return wrongHeader
  const text = Buffer.from(sent, 'base64').toString('utf8')
  const value = jq_filter ? pick(text, parsePath(jq_filter)) : text
  return (typeof value === 'string' && isEqual(value, header_value)) || wrongHeader
}

async function judgeMembers(ctx: Ask, guard: Guard, request: GuardedRequest, asked: Set<string>): Promise<true | Denial> {
  asked.add(guard.uuid)
  const its = await findMembers(ctx, guard)
  if (its === 'everybody') return true
  for (const member of its) {
    if (asked.has(member.uuid)) continue
    asked.add(member.uuid)
    if ((await judge(ctx, member, request, asked)) === true) return true
  }
  return nonePassed
}

interface Members {
  readonly change: number
  readonly of: Map<string, readonly Guard[] | 'everybody'>
}

/** Members of composite guards, as of a change. */
const members = new WeakMap<Ctx['changes'], Members>()

async function findMembers(ctx: Ask, guard: Guard): Promise<readonly Guard[] | 'everybody'> {
  const change = ctx.changes.current()
  let known = members.get(ctx.changes)
  if (known?.change !== change) {
    known = { change, of: new Map() }
    members.set(ctx.changes, known)
  }
  const uuids: string[] = JSON.parse(guard.settings)['guards']
  // A member that was deleted lets nobody in: its uuid stays, so that the list never becomes empty and open by itself.
  const its =
    known.of.get(guard.uuid) ??
    (uuids.length === 0
      ? 'everybody'
      : await ctx.db.selectFrom('guard').select(['uuid', 'type', 'settings']).where('uuid', 'in', uuids).orderBy('id').execute())
  known.of.set(guard.uuid, its)
  return its
}

const signature = /^(.*?[?&]expires=(\d{1,12}))&validate_token=([0-9a-f]{32}):([0-9a-f]{64})$/

function judgeSignature(secret: string, url: string): true | Denial {
  const [, signed = '', expires = '', salt = '', token = ''] = signature.exec(url) ?? []
  if (expires === '') {
    const plain = /[?&]expires=(\d+)/.exec(url)
    return plain && Number(plain[1]) < Date.now() / 1000 ? expired : notSigned
  }
  if (Number(expires) < Date.now() / 1000) return expired
  return timingSafeEqual(sign(secret, salt, signed), Buffer.from(token, 'hex')) || notSigned
}

/** A path (with or without a query) that a content redirect guard lets in for a while; an hour in Pulp. */
export function signUrl(guard: Guard, path: string, seconds = 3600): string {
  const expires = Math.floor(Date.now() / 1000) + seconds
  const signed = `${path}${path.includes('?') ? '&' : '?'}expires=${expires}`
  const salt = randomBytes(16).toString('hex')
  return `${signed}&validate_token=${salt}:${sign(JSON.parse(guard.settings)['secret'], salt, signed).toString('hex')}`
}

function sign(secret: string, salt: string, url: string): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'hex')).update(`${salt}\n${url}`).digest()
}

/**
 * Reads a simple path of jq: `.`, `.identity.org_id`, `.users[0]."first name"`, `.["x-y"]`. Throws Failure invalid for any other program:
 * a guard must not let in, or shut out, whom its owner did not mean.
 */
export function parsePath(filter: string): (string | number)[] {
  const steps: (string | number)[] = []
  const step = /(?:\.([A-Za-z_]\w*)|\.?\["([^"\\]*)"\]|\."([^"\\]*)"|\.?\[(\d+)\])\??/y
  const text = filter.trim()
  let read = text === '.'
  while (text.startsWith('.') && !read) {
    const match = step.exec(text)
    if (!match) break
    steps.push(match[1] ?? match[2] ?? match[3] ?? Number(match[4]))
    read = step.lastIndex === text.length
  }
  if (read) return steps
  throw new Failure('invalid', `Only simple paths are supported, such as .identity.org_id; not "${filter}".`, {
    field: 'jq_filter',
  })
}

function pick(json: string, path: readonly (string | number)[]): unknown {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    return undefined
  }
  for (const step of path) {
    const fits =
      typeof step === 'number' ? Array.isArray(value) : value !== null && typeof value === 'object' && Object.hasOwn(value, step)
    if (!fits) return undefined
    value = (value as Record<string | number, unknown>)[step]
  }
  return value
}

export function rbacPrn({ uuid }: { uuid: string }): string {
  return `prn:core.rbaccontentguard:${uuid}`
}

function isEqual(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

function deny(reason: string): Denial {
  return { status: 403, text: `403: ${reason}` }
}
