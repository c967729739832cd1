import { parseMembers } from '../../lib/json.ts'
import { showUrl, Trouble, troubleOfStatus } from './trouble.ts'
import type { Response } from './response.ts'

/*
 * Registries answer 401 and name a realm that gives tokens: https://distribution.github.io/distribution/spec/auth/token/
 * A token is asked for with the credentials of the access, and sent to its origin only. Who controls an upstream, or the wire to it, must
 * not be able to have the credentials sent anywhere else: they go to a realm of the upstream's own origin, or to one that is known to
 * belong to it. Any other realm is asked without them, as everybody may.
 */

export interface Tokens {
  /** What to send as Authorization: the token that was good last, if there is one. */
  authorization(): string | undefined
  /** The Authorization that a 401 asks for, when the one sent was `used`. Undefined when it asks for no token. Throws Trouble. */
  answer(response: Response, url: URL, used: string | undefined, signal: AbortSignal | undefined): Promise<Answer | undefined>
}

export interface Answer {
  authorization: string
  /** The realm, where credentials are there and were not sent to it. */
  withheldFrom: URL | undefined
}

interface TokenOptions {
  home: URL
  /** What proves who asks, if anything. */
  basic: string | undefined
  /** Origins that credentials may be sent to beyond that of the upstream. */
  realms: readonly string[]
  /** Whether this URL is of the same origin as the upstream. */
  isHome(url: URL): boolean
  /** Sends one GET, following nothing. */
  send(url: URL, headers: Record<string, string>, signal: AbortSignal | undefined): Promise<Response>
}

interface Token {
  authorization: string
  /** Milliseconds on the clock of performance.now(). */
  until: number
  withheldFrom: URL | undefined
}

/** Realms of registries that are known to have them elsewhere. */
const knownRealms: readonly { host: RegExp; realm: string }[] = [
  { host: /^(?:[\w-]+\.)*docker\.io$/, realm: 'https://auth.docker.io' },
  { host: /^registry\.gitlab\.com$/, realm: 'https://gitlab.com' },
]
/** Seconds that a token holds when nobody says: what the specification names. */
const defaultLife = 60
/** Seconds that it is no longer used before its end. */
const margin = 5
const largestAnswer = 1 << 20

export function openTokens(options: TokenOptions): Tokens {
  const tokens = new Map<string, Promise<Token>>()
  let last: Token | undefined

  async function fetchToken(challenge: Challenge, signal: AbortSignal | undefined): Promise<Token> {
    const trusted = mayHaveCredentials(challenge.realm, options)
    const headers = {
      accept: 'application/json',
      ...(trusted && options.basic !== undefined && { authorization: options.basic }),
    }
    const response = await options.send(urlOf(challenge), headers, signal)
    const { token, life } = await readToken(response, challenge.realm)
    return {
      authorization: `Bearer ${token}`,
      until: performance.now() + 1000 * Math.max(life - margin, 1),
      withheldFrom: options.basic !== undefined && !trusted ? challenge.realm : undefined,
    }
  }

  async function getToken(challenge: Challenge, used: string | undefined, signal: AbortSignal | undefined): Promise<Token> {
    const key = `${challenge.realm.href} ${challenge.service ?? ''} ${challenge.scope ?? ''}`
    const known = await tokens.get(key)
    // The one that was just refused may have been taken back.
    if (known && known.until > performance.now() && known.authorization !== used) return known
    const running = fetchToken(challenge, signal)
    tokens.set(key, running)
    running.catch(() => tokens.delete(key))
    return running
  }

  return {
    authorization: () => (last && last.until > performance.now() ? last.authorization : undefined),
    async answer(response, url, used, signal) {
      const challenge = parseChallenge(response.headers['www-authenticate'], url)
      if (!challenge) return undefined
      if (options.home.protocol === 'https:' && challenge.realm.protocol !== 'https:')
        throw new Trouble(`asks for a token from ${showUrl(challenge.realm)}, which is not https`)
      last = await getToken(challenge, used, signal)
      return last
    },
  }
}

interface Challenge {
  realm: URL
  service: string | undefined
  scope: string | undefined
}

/** Reads `Bearer realm="…",service="…",scope="…"`, wherever it stands among the challenges. */
function parseChallenge(header: string | string[] | undefined, url: URL): Challenge | undefined {
  const text = [header ?? []].flat().join(', ')
  const bearer = /(?:^|,\s*)bearer\s+/i.exec(text)
  if (!bearer) return undefined
  const values = new Map<string, string>()
  const parameter = /\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)/y
  parameter.lastIndex = bearer.index + bearer[0].length
  for (let match = parameter.exec(text); match; match = parameter.exec(text))
    values.set(match[1]!.toLowerCase(), match[2]?.replace(/\\(.)/g, '$1') ?? match[3]!)
  const realm = URL.parse(values.get('realm') ?? '', url)
  if (!values.has('realm') || !realm || !/^https?:$/.test(realm.protocol))
    throw new Trouble('asks for a token and does not say where to get it')
  realm.username = realm.password = ''
  return { realm, service: values.get('service'), scope: values.get('scope') ?? scopeOf(url) }
}

/** What is asked for when the challenge does not say. */
function scopeOf({ pathname }: URL): string | undefined {
  const name = /^\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(pathname)?.[1]
  return name && `repository:${decodeURIComponent(name)}:pull`
}

function urlOf({ realm, service, scope }: Challenge): URL {
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.set('service', service)
  // Several scopes are one parameter each.
  for (const each of scope?.split(' ') ?? []) if (each) url.searchParams.append('scope', each)
  return url
}

function mayHaveCredentials(realm: URL, { home, realms, isHome }: TokenOptions): boolean {
  if (isHome(realm)) return true
  // What came over plain http may be anybody's word.
  if (home.protocol !== 'https:' || realm.protocol !== 'https:') return false
  return (
    realms.includes(realm.origin) ||
    knownRealms.some(({ host, realm: known }) => known === realm.origin && host.test(home.hostname))
  )
}

async function readToken(response: Response, realm: URL): Promise<{ token: string; life: number }> {
  const bytes = await readBody(response, realm)
  if (response.statusCode !== 200) {
    const { passing, wait, message } = troubleOfStatus(response.statusCode, response.headers['retry-after'])
    const reason = `asks for a token, which ${showUrl(realm)} did not give (${message})`
    // Refused by the realm is refused by the upstream; whatever else it answers says nothing of what was asked for.
    const status = [401, 403].includes(response.statusCode) ? response.statusCode : undefined
    throw new Trouble(reason, { passing, wait, status })
  }
  const body = parseMembers(bytes.toString('utf8'))
  const token = body['token'] || body['access_token']
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw new Trouble(`was given no token by ${showUrl(realm)}`)
  const life = body['expires_in']
  return { token, life: typeof life === 'number' && life > 0 ? life : defaultLife }
}

async function readBody({ body }: Response, realm: URL): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > largestAnswer) throw new Trouble(`was given a token too large by ${showUrl(realm)}`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
