import { Failure } from '../../lib/failure.ts'

/** An upstream that did not give what it was asked for. */
export class UpstreamFailure extends Failure {
  /** Every mirror answered that there is no such file (404 or 410). */
  readonly notFound: boolean
  /** Every mirror answered that, or 403: so do object stores whose files may not be listed. */
  readonly absent: boolean
  /** What the last mirror answered, where it did. */
  readonly status: number | undefined

  constructor(message: string, options: ErrorOptions & { notFound: boolean; absent?: boolean; status?: number | undefined }) {
    super('upstream', message, options)
    this.notFound = options.notFound
    this.status = options.status
    this.absent = options.absent ?? options.notFound
  }
}

interface TroubleOptions extends ErrorOptions {
  /** `gone`: there is no such file; `wrong`: the bytes are not the expected ones. */
  kind?: 'gone' | 'wrong' | 'failed'
  /** Whether another try may end better. */
  passing?: boolean
  /** Milliseconds to wait before it, as the upstream wishes. */
  wait?: number
  /** What was answered. */
  status?: number | undefined
}

/** Why one try of one mirror failed. Its message completes a sentence that begins with the URL. */
export class Trouble extends Error {
  readonly kind: 'gone' | 'wrong' | 'failed'
  readonly passing: boolean
  readonly wait: number
  readonly status: number | undefined

  constructor(message: string, { cause, kind = 'failed', passing = false, wait = 0, status }: TroubleOptions = {}) {
    super(message, { cause })
    this.kind = kind
    this.passing = passing
    this.wait = wait
    this.status = status
  }
}

const longestWait = 60_000

const passingStatuses = new Set([408, 425, 429, 500, 502, 503, 504])

const forbidden = 'answered 403'

/** What an answer other than the wanted one means. */
export function troubleOfStatus(status: number, retryAfter: string | string[] | undefined): Trouble {
  const message = `answered ${status}`
  if (status === 404 || status === 410) return new Trouble(message, { kind: 'gone', status })
  const wait = status === 429 || status === 503 ? parseRetryAfter(String(retryAfter)) : 0
  return new Trouble(message, { passing: passingStatuses.has(status), wait, status })
}

/** Seconds or a date; unreadable ones count as none. */
function parseRetryAfter(text: string): number {
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(wait) ? 0 : Math.min(longestWait, Math.max(0, wait))
}

const reasons: readonly [pattern: RegExp, outlook: 'passing' | 'lasting', message: string][] = [
  [/^ENOTFOUND$/, 'lasting', 'has a host name that is not known'],
  [/^EAI_AGAIN$/, 'passing', 'has a host name that could not be looked up'],
  [/^ECONNREFUSED$/, 'passing', 'refused the connection'],
  [/^(EHOSTUNREACH|ENETUNREACH)$/, 'passing', 'cannot be reached'],
  [/^(ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/, 'passing', 'did not accept the connection in time'],
  [/^UND_ERR_HEADERS_TIMEOUT$/, 'passing', 'did not answer in time'],
  [/^UND_ERR_BODY_TIMEOUT$/, 'passing', 'stopped sending'],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET|UND_ERR_RES_CONTENT_LENGTH_MISMATCH)$/, 'passing', 'closed the connection too early'],
  [/^(HPE_.*|HTTPParserError|UND_ERR_HEADERS_OVERFLOW)$/, 'passing', 'sent something that is not HTTP'],
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'lasting', 'has a certificate for another name'],
  [/^CERT_HAS_EXPIRED$/, 'lasting', 'has a certificate that has expired'],
  [/^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE)/, 'lasting', 'has a certificate that is not trusted'],
  [/^(ERR_SSL_.*|EPROTO)$/, 'lasting', 'refused the TLS connection'],
]

/** What an error of the HTTP client means. */
export function troubleOf(error: unknown): Trouble {
  if (error instanceof Trouble) return error
  const code = codeOf(error)
  const known = reasons.find(([pattern]) => pattern.test(code))
  if (known) return new Trouble(known[2], { cause: error, passing: known[1] === 'passing' })
  const text = error instanceof Error ? error.message : String(error)
  // A proxy that refuses is reported without a code of its own.
  const proxy = /^Proxy (?:response \((\d+)\)|Authentication Required \((407)\))/.exec(text)
  if (proxy) return new Trouble(`could not be reached: the proxy answered ${proxy[1] ?? proxy[2]}`, { cause: error })
  return new Trouble(`failed (${text})`, { cause: error, passing: !code.startsWith('UND_ERR_INVALID') })
}

/** The code of an error, or of what is behind it: several addresses of a host fail as one. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return ''
  if ('code' in error && typeof error.code === 'string') return error.code
  if (error instanceof AggregateError) return codeOf(error.errors.at(-1))
  return codeOf(error.cause) || error.name
}

/** What went wrong at one mirror, after so many tries. */
export interface Problem {
  url: URL
  trouble: Trouble
  tries: number
}

/** The failure that tells of all mirrors. Wrong bytes weigh more than missing ones. */
export function failureOf(problems: readonly Problem[]): Failure {
  const told = problems.map(({ url, trouble, tries }) => `${showUrl(url)} ${trouble.message}${times(tries)}`).join('; ')
  const message =
    problems.length === 1 ? `The upstream ${told}.` : `None of the ${problems.length} mirrors gave the file: ${told}.`
  const cause = problems.at(-1)?.trouble
  if (problems.some(({ trouble }) => trouble.kind === 'wrong')) return new Failure('integrity', message, { cause })
  const isGone = ({ trouble }: Problem) => trouble.kind === 'gone'
  const isForbidden = ({ trouble }: Problem) => trouble.message === forbidden
  const absent = problems.every((each) => isGone(each) || isForbidden(each))
  return new UpstreamFailure(message, {
    cause,
    notFound: problems.every(isGone),
    absent,
    status: problems.at(-1)?.trouble.status,
  })
}

const numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']

function times(tries: number): string {
  return tries === 1 ? '' : tries === 2 ? ' twice' : ` ${numbers[tries] ?? tries} times`
}

const secret = /token|key|sig|pass|secret|auth|cred|session|policy/i
const longestShown = 40

/** A URL as it may be told to people: without credentials, and without parameters that may be some. */
export function showUrl(url: URL): string {
  const query = [...url.searchParams].map(([name, value]) =>
    name.length > longestShown || value.length > longestShown || (secret.test(name) && value)
      ? '…'
      : value
        ? `${name}=${value}`
        : name,
  )
  return `${url.origin}${url.pathname}${query.length > 0 ? `?${query.join('&')}` : ''}`
}
