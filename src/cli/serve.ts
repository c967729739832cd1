import { once } from 'node:events'
import { join } from 'node:path'
import { Failure } from '../lib/failure.ts'
import { serve as startServer } from '../serve.ts'
import { command } from './command.ts'
import { readVersion } from './version.ts'

export const serve = command({
  usage: 'serve [--data DIR] [--listen HOST:PORT] [--origin URL] [--registry-auth token|basic]',
  about: 'Runs the server until Ctrl-C or SIGTERM.',
  options: {
    data: { type: 'string', default: './var', value: 'DIR', about: 'Where everything is stored.' },
    listen: { type: 'string', default: '127.0.0.1:8080', value: 'HOST:PORT', about: 'Where to listen.' },
    origin: { type: 'string', value: 'URL', about: 'Origin of content URLs, where a proxy stands before the server.' },
    'registry-auth': {
      type: 'string',
      value: 'token|basic',
      about: 'How clients of the registry log in: with tokens (default), or with passwords only.',
    },
  },
  async run({ values }, { out, env, signal }) {
    const { host, port } = parseListen(values.listen)
    const server = await startServer({
      data: values.data,
      host,
      port,
      origin: values.origin === undefined ? undefined : parseOrigin(values.origin),
      database: env['SIGNALBOX_DATABASE'],
      adminPassword: env['SIGNALBOX_ADMIN_PASSWORD'],
      allowedChecksums: env['SIGNALBOX_CHECKSUMS']?.split(','),
      upstreamAddresses: env['SIGNALBOX_UPSTREAM_ADDRESSES'] || undefined,
      registryAuth: parseRegistryAuth(values['registry-auth'], env['SIGNALBOX_TOKEN_AUTH_DISABLED']),
      tokenRealms: env['SIGNALBOX_TOKEN_REALMS']
        ?.split(',')
        .filter(Boolean)
        .map((each) => parseOrigin(each, 'SIGNALBOX_TOKEN_REALMS')),
      reserve: env['SIGNALBOX_RESERVE'] || undefined,
      workers: parseWorkers(env['SIGNALBOX_WORKERS']),
      logLevel: env['SIGNALBOX_LOG'],
    })
    const password =
      server.madePassword === undefined
        ? ''
        : `   (user admin, password ${server.madePassword}: also in ${join(values.data, 'admin-password')})`
    out.write(`Signalbox ${await readVersion()} · data in ${values.data} · ${server.url}${password}\n`)
    if (!signal.aborted) await once(signal, 'abort')
    await server.close()
    return 0
  },
})

/** `HOST:PORT`, `[::1]:PORT`, or `:PORT` for every address. */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65_535) throw new Failure('invalid', `--listen takes HOST:PORT, such as 127.0.0.1:8080, not "${text}".`)
  return { host: match[1] ?? (match[2] || '::'), port }
}

function parseOrigin(text: string, where = '--origin'): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search || url.hash || url.username)
    throw new Failure('invalid', `${where} takes an origin, such as https://packages.example.org, not "${text}".`)
  return url.origin
}

/** The option, or else the variable that says what Pulp's setting of this name does. */
function parseRegistryAuth(text: string | undefined, disabled: string | undefined): 'token' | 'basic' {
  if (text === 'token' || text === 'basic') return text
  if (text !== undefined) throw new Failure('invalid', `--registry-auth takes token or basic, not "${text}".`)
  return /^(?:1|true|yes)$/i.test(disabled ?? '') ? 'basic' : 'token'
}

function parseWorkers(text: string | undefined): number | undefined {
  if (!text) return undefined
  if (!/^[1-9]\d?$/.test(text))
    throw new Failure('invalid', `SIGNALBOX_WORKERS takes a number of tasks at once from 1 to 99, not "${text}".`)
  return Number(text)
}
