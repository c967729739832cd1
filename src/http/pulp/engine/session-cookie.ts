import type { User } from '../../../core/access/auth.ts'
import { csrfToken, findSession, fitsSession, sessionSeconds } from '../../../core/access/sessions.ts'
import { Failure } from '../../../lib/failure.ts'
import type { Db } from '../../../store/database.ts'

/* Sessions as browsers carry them, under Pulp's names: the token in a cookie that scripts cannot read, and what proves that a request comes
 * from a page of this server in one that they can. Neither is sent with what other sites start. */

type Headers = Readonly<Record<string, string | string[] | undefined>>

const sessionCookie = 'sessionid'
const csrfCookie = 'csrftoken'

/** The token of the session that a request belongs to. */
export function sessionToken(headers: Headers): string | undefined {
  return parseCookies(headers).get(sessionCookie) || undefined
}

/** `Set-Cookie` values that begin a session. */
export function beginCookies(token: string, isSecure: boolean): string[] {
  const attributes = `Max-Age=${sessionSeconds}; Path=/; SameSite=Strict${isSecure ? '; Secure' : ''}`
  return [`${csrfCookie}=${csrfToken(token)}; ${attributes}`, `${sessionCookie}=${token}; HttpOnly; ${attributes}`]
}

/** `Set-Cookie` values that end it. */
export function endCookies(): string[] {
  return [csrfCookie, sessionCookie].map((name) => `${name}=; Max-Age=0; Path=/; SameSite=Strict`)
}

const harmless = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Throws Failure denied for a change that a page of another site started: browsers say so, and would add a password that they remember. */
export function refuseOtherSites(method: string, { 'sec-fetch-site': site }: Headers): void {
  if (harmless.has(method) || typeof site !== 'string' || site === 'same-origin' || site === 'none') return
  throw refused('a page of another site started this request.')
}

/** Whose session a request belongs to. Throws Failure denied when it would change something without proof that its user meant it. */
export async function userOfSession(db: Db, method: string, headers: Headers): Promise<User | undefined> {
  const token = sessionToken(headers)
  const user = token === undefined ? undefined : await findSession(db, token)
  if (user && !harmless.has(method)) checkIntent(token!, headers)
  return user
}

/** In Pulp's words. */
function checkIntent(token: string, headers: Headers): void {
  const { origin, host, 'x-csrftoken': sent } = headers
  if (typeof origin === 'string' && !isOurs(origin, host))
    throw refused(`Origin checking failed - ${origin} does not match any trusted origins.`)
  if (!parseCookies(headers).has(csrfCookie)) throw refused('CSRF cookie not set.')
  if (typeof sent !== 'string' || sent === '') throw refused('CSRF token missing.')
  if (!fitsSession(token, sent)) throw refused("CSRF token from the 'X-Csrftoken' HTTP header incorrect.")
}

const refused = (reason: string) => new Failure('denied', `CSRF Failed: ${reason}`)

/** By host alone: before a proxy it may have been https. */
function isOurs(origin: string, host: unknown): boolean {
  const from = URL.parse(origin)
  return from !== null && from.host === URL.parse(`${from.protocol}//${String(host)}`)?.host
}

function parseCookies({ cookie }: Headers): Map<string, string> {
  const pairs = [cookie ?? []].flat().flatMap((line) => line.split(';'))
  return new Map(
    pairs.map((pair) => {
      const equals = pair.indexOf('=')
      return [pair.slice(0, Math.max(equals, 0)).trim(), pair.slice(equals + 1).trim()]
    }),
  )
}
