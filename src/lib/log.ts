import { type DestinationStream, type Logger, pino } from 'pino'

/** A log of JSON lines, on standard error by default; fields that hold secrets are left out of it wherever they turn up. */
export function openLog(level = 'info', to: DestinationStream = pino.destination(2)): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: secretPaths, remove: true },
    serializers: { err: describeError, error: describeError },
  }
  return pino(options, to)
}

const secrets = [
  'authorization',
  'Authorization',
  'cookie',
  'password',
  'client_key',
  'proxy_password',
  'secret',
  'secrets',
  'token',
]
const secretPaths = secrets.flatMap((name) => [name, `*.${name}`, `*.*.${name}`])

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return typeof error === 'string' ? withoutCredentials(error) : error
  const { name, message, stack, cause } = error
  return {
    type: name,
    message: withoutCredentials(message),
    stack: withoutCredentials(stack ?? ''),
    ...('code' in error && { code: error.code }),
    ...(cause !== undefined && { cause: describeError(cause) }),
  }
}

/** A text without the user names, passwords and query strings of the URLs in it: upstreams carry tokens in them. */
export function withoutCredentials(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@'"]*@/gi, '$1')
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s?'"]*)\?[^\s'"]*/gi, '$1?…')
}

/** The path of a request target, for logs: queries may hold secrets. */
export function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query < 0 ? target : `${target.slice(0, query)}?…`
}
