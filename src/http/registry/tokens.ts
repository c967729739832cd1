import { createHash, randomUUID } from 'node:crypto'
import { decodeProtectedHeader, jwtVerify, SignJWT } from 'jose'
import type { User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { algorithm, openTokenKeys, tokenLife } from './token-keys.ts'

/*
 * Tokens of https://distribution.github.io/distribution/spec/auth/jwt/. A token says who somebody is and what was granted when they asked;
 * what they may do now is looked at when it is used, so nothing has to be taken back from a token.
 */

/** What a token was asked for, and how much of that was granted. */
export interface Access {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

export interface Bearer {
  /** Undefined: nobody in particular. */
  readonly user: User | undefined
  readonly access: readonly Access[]
}

export interface Tokens {
  /** A token for a user, or for nobody in particular. */
  issue(user: User | undefined, access: readonly Access[]): Promise<{ token: string; issued: Date }>
  /** Who a token stands for; undefined when it is not one of ours, is over, or its user is gone, disabled or has another password. */
  verify(token: string): Promise<Bearer | undefined>
  /** As verify, from memory alone. Undefined also when it would have to look. */
  recall(token: string): Bearer | undefined
}

interface Claims {
  /** Of a user: their id, and what tells whether their password is still the same. */
  readonly uid?: number
  readonly pwd?: string
  readonly sub: string
  readonly access: readonly Access[]
  /** Milliseconds of performance.now(). */
  readonly until: number
}

interface Known {
  readonly claims: Claims
  bearer: Bearer
  /** As of which the user was looked at. */
  change: number
}

const remembered = 20_000
/** Characters. Whoever asks for many scopes has a long token, and anybody may: those are read anew each time. */
const longestRemembered = 4096

export function openTokens(ctx: Pick<Ctx, 'db' | 'changes'>, service: string): Tokens {
  const keys = openTokenKeys(ctx.db)
  const known = new Map<string, Known>()

  async function read(token: string): Promise<Claims | undefined> {
    try {
      const { kid } = decodeProtectedHeader(token)
      const key = typeof kid === 'string' ? await keys.verifying(kid) : undefined
      if (!key) return undefined
      const { payload } = await jwtVerify(token, key, { algorithms: [algorithm], audience: service, issuer: service, typ: 'JWT' })
      const { sub = '', exp = 0, uid, pwd, access } = payload as typeof payload & Partial<Claims>
      const until = performance.now() + exp * 1000 - Date.now()
      return { sub, access: access ?? [], until, ...(uid !== undefined && { uid }), ...(pwd !== undefined && { pwd }) }
    } catch {
      // Whatever is wrong with it: it is not one of ours.
      return undefined
    }
  }

  async function userOf({ uid, pwd, sub }: Claims): Promise<{ user: User | undefined } | undefined> {
    if (uid === undefined) return { user: undefined }
    const row = await ctx.db
      .selectFrom('user')
      .select(['id', 'username', 'password', 'is_active', 'is_superuser'])
      .where('id', '=', uid)
      .executeTakeFirst()
    if (!row?.is_active || row.username !== sub || passwordMark(row.password) !== pwd) return undefined
    return { user: { id: row.id, username: row.username, isSuperuser: row.is_superuser === 1 } }
  }

  function recall(token: string): Bearer | undefined {
    const entry = known.get(token)
    return entry && entry.change === ctx.changes.current() && entry.claims.until > performance.now() ? entry.bearer : undefined
  }

  return {
    recall,
    async issue(user, access) {
      const { kid, key } = await keys.signing()
      const issued = new Date()
      const at = Math.floor(issued.getTime() / 1000)
      const who = user ? { uid: user.id, pwd: await currentMark(ctx, user) } : {}
      const token = await new SignJWT({ access, ...who })
        .setProtectedHeader({ alg: algorithm, kid, typ: 'JWT' })
        .setIssuer(service)
        .setAudience(service)
        .setSubject(user?.username ?? '')
        .setIssuedAt(at)
        .setNotBefore(at)
        .setExpirationTime(at + tokenLife)
        .setJti(randomUUID())
        .sign(key)
      return { token, issued }
    },
    async verify(token) {
      const remembers = recall(token)
      if (remembers) return remembers
      const change = ctx.changes.current()
      const before = known.get(token)
      const claims = before?.claims ?? (await read(token))
      const found = claims && claims.until > performance.now() ? await userOf(claims) : undefined
      known.delete(token)
      if (!claims || !found) return undefined
      const bearer = { user: found.user, access: claims.access }
      if (token.length <= longestRemembered) known.set(token, { claims, bearer, change })
      if (known.size > remembered) known.delete(known.keys().next().value!)
      return bearer
    },
  }
}

async function currentMark({ db }: Pick<Ctx, 'db'>, { id }: User): Promise<string | undefined> {
  const row = await db.selectFrom('user').select('password').where('id', '=', id).executeTakeFirst()
  return row && passwordMark(row.password)
}

/** Another one when the password is. It tells nothing: what is stored is a salted hash already. */
function passwordMark(stored: string): string {
  return createHash('sha256').update(`registry token ${stored}`).digest('base64url').slice(0, 16)
}
