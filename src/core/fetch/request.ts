import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createSecureContext, type SecureContext } from 'node:tls'
import { Agent, buildConnector, type Dispatcher, ProxyAgent, request } from 'undici'
import { Failure } from '../../lib/failure.ts'
import { type AddressRule, openLookup } from './addresses.ts'
import { openTokens } from './bearer.ts'
import type { Access } from './remotes.ts'
import { drain, type Response } from './response.ts'
import { showUrl, Trouble, troubleOf, troubleOfStatus } from './trouble.ts'
import type { Throttle } from './throttle.ts'

/** Sends one GET or HEAD, with the secrets of an access, and follows redirects. Throws Trouble. */
export interface Requester {
  get(url: URL, headers: Record<string, string>, signal: AbortSignal | undefined, method?: Method): Promise<Response>
  close(): Promise<void>
}

export type Method = 'GET' | 'HEAD'

const redirectLimit = 5
const defaultConnectTimeout = 30
const defaultReadTimeout = 60

export function openRequester(
  access: Access,
  userAgent: string,
  throttle: Throttle,
  rule: AddressRule,
  realms: readonly string[] = [],
): Requester {
  const home = new URL(access.url)
  const dispatcher = openDispatcher(access, rule)
  const proxy = URL.parse(access.proxyUrl ?? '')
  // Content comes as it is: what is stored are the bytes that the upstream's checksums speak of.
  const open = { 'user-agent': userAgent, 'accept-encoding': 'identity', accept: '*/*' }
  const secret = { ...open, ...credentials(access, home), ...configured(access) }
  const idle = 1000 * (access.readTimeout ?? defaultReadTimeout)

  /** Until when an origin wants no requests: what it told one download counts for all. */
  const rests = new Map<string, number>()

  async function send(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
    method: Method = 'GET',
  ): Promise<Response> {
    await throttle.pace(signal)
    checkHost(rule, url)
    if (proxy) checkHost(rule, proxy)
    const rest = (rests.get(url.origin) ?? 0) - performance.now()
    if (rest > 0) await sleep(rest, undefined, { signal })
    const options = { method, dispatcher, headers, signal, headersTimeout: idle, bodyTimeout: idle }
    const response = await request(withoutCredentials(url), options)
    const { wait } = troubleOfStatus(response.statusCode, response.headers['retry-after'])
    if (wait > 0) rests.set(url.origin, performance.now() + wait)
    return response
  }

  const tokens = openTokens({
    home,
    basic: credentials(access, home)['authorization'],
    realms,
    isHome: (url) => isHome(home, url),
    send: (url, headers, signal) => send(url, { ...open, ...headers }, signal),
  })

  /** Sends a request to the upstream itself: as it wants to know who asks, in the second try if need be. */
  async function sendHome(...[url, headers, signal, method]: Parameters<typeof send>): Promise<Response> {
    const used = tokens.authorization()
    const response = await send(url, { ...secret, ...(used && { authorization: used }), ...headers }, signal, method)
    if (response.statusCode !== 401) return response
    const answer = await tokens.answer(response, url, used, signal)
    if (!answer) return response
    await drain(response)
    const again = await send(url, { ...secret, ...headers, authorization: answer.authorization }, signal, method)
    if (answer.withheldFrom && [401, 403].includes(again.statusCode)) {
      await drain(again)
      const { origin } = answer.withheldFrom
      throw new Trouble(
        `answered ${again.statusCode} without credentials, which are not sent to ${origin}: it is no realm of ${home.origin} that is known`,
      )
    }
    return again
  }

  async function get(
    start: URL,
    extra: Record<string, string>,
    signal: AbortSignal | undefined,
    method: Method = 'GET',
  ): Promise<Response> {
    let url = start
    // Once a request has left home its secrets stay behind, even if a redirect leads back.
    let trusted = isHome(home, start)
    for (let hops = 0; hops <= redirectLimit; hops++) {
      const response = await (trusted ? sendHome(url, extra, signal, method) : send(url, { ...open, ...extra }, signal, method))
      const next = redirectOf(url, response)
      if (!next) return response
      await drain(response)
      trusted &&= isHome(home, next)
      url = next
    }
    throw new Trouble(`redirected more than ${redirectLimit} times`)
  }

  async function translated(...args: Parameters<Requester['get']>): Promise<Response> {
    try {
      return await get(...args)
    } catch (error) {
      args[2]?.throwIfAborted()
      throw troubleOf(error)
    }
  }
  return { get: translated, close: () => dispatcher.destroy() }
}

function redirectOf(url: URL, { statusCode, headers }: Response): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(statusCode)) return undefined
  const next = URL.parse(String(headers.location ?? ''), url)
  if (!headers.location || !next) throw new Trouble(`answered ${statusCode} without a usable Location`)
  if (next.protocol !== 'https:' && next.protocol !== 'http:')
    throw new Trouble(`redirected to ${next.protocol}, which is neither http nor https`)
  if (url.protocol === 'https:' && next.protocol === 'http:')
    throw new Trouble(`redirected from https to plain http (${showUrl(next)})`)
  return next
}

/** Whether secrets meant for `home` may be sent there: same origin, or the same host after a change from http to https. */
function isHome(home: URL, url: URL): boolean {
  const upgraded = home.protocol === 'http:' && url.protocol === 'https:' && home.port === '' && url.port === ''
  return url.origin === home.origin || (upgraded && url.hostname === home.hostname)
}

function credentials({ username, password }: Access, home: URL): Record<string, string> {
  const user = username ?? decodeURIComponent(home.username)
  const pass = password ?? decodeURIComponent(home.password)
  return user || pass ? { authorization: basic(user, pass) } : {}
}

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

function configured({ headers = [] }: Access): Record<string, string> {
  return Object.fromEntries(headers.flatMap((each) => Object.entries(each)).map(([name, value]) => [name.toLowerCase(), value]))
}

function withoutCredentials(url: URL): URL {
  if (!url.username && !url.password) return url
  const open = new URL(url)
  open.username = ''
  open.password = ''
  return open
}

/** A host that is an address is not looked up: it is checked here. */
function checkHost(rule: AddressRule, { hostname, port, protocol }: URL): void {
  const host = hostname.replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0) rule.check(host, Number(port) || (protocol === 'https:' ? 443 : 80))
}

function openDispatcher(access: Access, rule: AddressRule): Dispatcher {
  const connections = access.concurrency ?? undefined
  const tls = {
    secureContext: openSecureContext(access),
    rejectUnauthorized: access.tlsValidation !== false,
    timeout: 1000 * (access.connectTimeout ?? defaultConnectTimeout),
    allowH2: false,
    lookup: openLookup(rule),
  }
  if (!access.proxyUrl) return new Agent({ connections, connect: checked(buildConnector(tls), rule) })
  const { proxyUsername: username, proxyPassword: password = '' } = access
  return new ProxyAgent({
    uri: proxyUri(access.proxyUrl),
    connections,
    requestTls: tls,
    proxyTls: { ...tls, secureContext: openSecureContext({ caCert: access.caCert }) },
    ...(username ? { token: basic(username, password) } : {}),
  })
}

/** Where a name has led to is checked together with the port, before anything is sent. */
function checked(connect: buildConnector.connector, rule: AddressRule): buildConnector.connector {
  return (options, callback) =>
    connect(options, (...[error, socket]) => {
      if (error) return callback(error, null)
      try {
        if (socket.remoteAddress !== undefined) rule.check(socket.remoteAddress, socket.remotePort)
      } catch (refusal) {
        socket.destroy()
        return callback(refusal as Error, null)
      }
      callback(null, socket)
    })
}

function proxyUri(text: string): string {
  const url = URL.parse(text)
  if (url && ['http:', 'https:', 'socks5:'].includes(url.protocol)) return text
  throw new Failure('invalid', 'The proxy URL is not one of http, https or socks5.', { field: 'proxy_url' })
}

/** Made once, because reading certificates anew for each connection takes long. Undefined: that of Node. */
function openSecureContext({
  caCert,
  clientCert,
  clientKey,
}: Pick<Access, 'caCert' | 'clientCert' | 'clientKey'>): SecureContext | undefined {
  if (!caCert && !clientCert && !clientKey) return undefined
  try {
    return createSecureContext({ ca: caCert || undefined, cert: clientCert || undefined, key: clientKey || undefined })
  } catch (error) {
    throw new Failure(
      'invalid',
      'The CA certificate, client certificate or client key cannot be used: they must be PEM, and key and certificate a pair.',
      {
        cause: error,
      },
    )
  }
}
