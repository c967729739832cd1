import { spawn } from 'node:child_process'
import { createHash, createPrivateKey, sign, X509Certificate } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request as send, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { run, temporaryDirectory } from './run.ts'
import { exitOf, type Scope } from './server.ts'
import { freePort } from './upstream.ts'

/* A registry that others run, as an upstream: Debian's docker-registry, or distribution 3 (`registry`). */

export interface OtherRegistry {
  /** `127.0.0.1:5000`. */
  host: string
  url: string
  /** `GET /v2/...`, in the order in which they came. */
  requests: string[]
}

export const registryUser = { username: 'reader', password: 'a-password' }
// bcrypt of that password: nothing in Node makes one.
const htpasswd = 'reader:$2b$04$SfY9VkKVqLJqr/ej1A2zYenenDJyeyp7h8tUGV.QJRuvg1E5B1vM2\n'
const basic = `Basic ${Buffer.from(`${registryUser.username}:${registryUser.password}`).toString('base64')}`

/** Starts one that asks for a password, for a token that is given for the password, or for nothing, behind a front that counts requests. */
export async function startOtherRegistry(
  t: Scope,
  program: string,
  auth: 'none' | 'basic' | 'token' = 'none',
): Promise<OtherRegistry> {
  const directory = await temporaryDirectory(t)
  const address = `127.0.0.1:${await freePort()}`
  const front = await openFront(t, address)
  await writeFile(join(directory, 'htpasswd'), htpasswd)
  const config = {
    version: '0.1',
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
    http: { addr: address },
    ...(auth === 'basic' && { auth: { htpasswd: { realm: 'test', path: join(directory, 'htpasswd') } } }),
    ...(auth === 'token' && { auth: { token: await openTokens(directory, front) } }),
    // Docker's first manifests, as far as the program still knows them.
    compatibility: { schema1: { enabled: true } },
  }
  await writeFile(join(directory, 'config.yml'), JSON.stringify(config))
  const child = spawn(program, ['serve', join(directory, 'config.yml')], { stdio: ['ignore', 'pipe', 'pipe'] })
  const printed: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => printed.push(text))
  t.after(async () => {
    const ended = exitOf(child)
    child.kill('SIGKILL')
    await ended
  })
  for (let tries = 0; !(await fetch(`http://${address}/v2/`).catch(() => undefined)); tries++) {
    if (tries > 300 || child.exitCode !== null) throw new Error(`${program} does not serve:\n${printed.join('')}`)
    await sleep(100)
  }
  return front
}

interface Front extends OtherRegistry {
  tokens: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
}

/** Passes requests on, except those for tokens. */
async function openFront(t: Scope, address: string): Promise<Front> {
  const front: Front = { host: '', url: '', requests: [], tokens: undefined }
  const server = createServer((request, response) => {
    front.requests.push(`${request.method} ${request.url}`)
    if (request.url!.startsWith('/token') && front.tokens) return front.tokens(request, response)
    const onward = send(`http://${address}${request.url}`, { method: request.method!, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(front, { host, url: `http://${host}` })
}

/** Gives tokens for the password, signed as distribution wants them. Returns what it is to be told of them. */
async function openTokens(directory: string, front: Front): Promise<object> {
  const file = (name: string) => join(directory, name)
  const key = '-newkey rsa:2048 -nodes -keyout token.key'
  await run('openssl', `req -x509 ${key} -out token.pem -subj /CN=tokens -days 2`.split(' '), { cwd: directory })
  const certificate = new X509Certificate(await readFile(file('token.pem')))
  const privateKey = createPrivateKey(await readFile(file('token.key')))
  const header = { typ: 'JWT', alg: 'RS256', x5c: [certificate.raw.toString('base64')] }
  front.tokens = (request, response) => {
    if (request.headers.authorization !== basic) return void response.writeHead(401).end()
    const { searchParams } = new URL(request.url!, 'http://x')
    const access = searchParams.getAll('scope').map((scope) => {
      const [type, ...rest] = scope.split(':')
      return { type, name: rest.slice(0, -1).join(':'), actions: rest.at(-1)!.split(',') }
    })
    const at = Math.floor(Date.now() / 1000)
    const jti = createHash('sha256').update(`${at} ${front.requests.length}`).digest('hex')
    const claims = { iss: 'tokens', sub: 'reader', aud: 'other', iat: at, nbf: at - 10, exp: at + 60, jti, access }
    const body = [header, claims].map((each) => Buffer.from(JSON.stringify(each)).toString('base64url')).join('.')
    const token = `${body}.${sign('sha256', Buffer.from(body), privateKey).toString('base64url')}`
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token, expires_in: 60 }))
  }
  return { realm: `${front.url}/token`, service: 'other', issuer: 'tokens', rootcertbundle: file('token.pem') }
}
