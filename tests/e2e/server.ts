import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Api, connect } from '../../src/api/client.ts'

/** What hands out the end of a test: a test's own context, or `{ after }` of node:test for a whole file. */
export interface Scope {
  after(clean: () => Promise<void> | void): void
}

/** The real server as a process of its own. After a stop or a kill it starts again on the same data and port. */
export interface TestServer {
  readonly url: string
  readonly api: Api
  readonly data: string
  /** Ends it as an operator does, and returns its exit code. */
  stop(): Promise<number | null>
  /** kill -9. */
  kill(): Promise<void>
  start(): Promise<void>
  pid(): number
  /** What it printed since it was first started. */
  printed(): string
}

export const adminPassword = 'a-password-for-tests'
export const program = fileURLToPath(new URL('../../bin/signalbox', import.meta.url))
/** Milliseconds until a server must be ready. The bar is 3 s; test machines are busy. */
const patience = 60_000

interface ServerOptions {
  /** A data directory to keep; one of its own by default. */
  data?: string
  env?: Record<string, string>
  /** Errors in its log are no defects. */
  mayFail?: boolean
}

export async function startServer(t: Scope, { data: given, env = {}, mayFail = false }: ServerOptions = {}): Promise<TestServer> {
  const data = given ?? (await mkdtemp(join(tmpdir(), 'signalbox-server-')))
  const output: string[] = []
  let child: ChildProcess | undefined
  let port = 0
  const end = async (signal: NodeJS.Signals) => {
    if (!child) return null
    const ended = exitOf(child)
    child.kill(signal)
    child = undefined
    return ended
  }
  t.after(async () => {
    await end('SIGKILL')
    // A defect that no test asked about is still one.
    const defects = output.join('').match(/^.*"level":[56]0.*$/gm)
    if (defects && !mayFail) console.error(`The server logged:\n${defects.join('\n')}`)
    if (given === undefined) await rm(data, { recursive: true, force: true })
  })

  const server = {
    data,
    stop: () => end('SIGTERM'),
    kill: async () => void (await end('SIGKILL')),
    pid: () => child!.pid!,
    printed: () => output.join(''),
    async start() {
      child = spawn(program, ['serve', '--data', data, '--listen', `127.0.0.1:${port}`], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, SIGNALBOX_ADMIN_PASSWORD: adminPassword, SIGNALBOX_LOG: 'warn', ...env },
      })
      port = Number(new URL(await readyUrl(child, output)).port)
    },
  }
  await server.start()
  const url = `http://127.0.0.1:${port}`
  return { ...server, url, api: connect({ url, username: 'admin', password: adminPassword, timeout: 60 }) }
}

/** Waits for the line that says where it serves. Throws with what it printed when it ends before. */
export function readyUrl(child: ChildProcess, output: string[] = []): Promise<string> {
  const begin = output.length
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`The server ${why}:\n${output.slice(begin).join('')}`))
    const late = setTimeout(() => fail('was not ready in time'), patience)
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output.push(text)
        const url = /^Signalbox .* (http:\/\/\S+)/m.exec(output.slice(begin).join(''))?.[1]
        if (url === undefined) return
        clearTimeout(late)
        resolve(url)
      })
    child.once('exit', (code) => {
      clearTimeout(late)
      fail(`ended with ${code}`)
    })
  })
}

export function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode)
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)))
}

/** `http://user:password@host:port/pulp/content/<path>/`. */
export function contentUrl({ url }: { url: string }, path: string, [username, password]: readonly string[] = []): string {
  const at = username === undefined ? '' : `${encodeURIComponent(username)}:${encodeURIComponent(password!)}@`
  return `${url.replace('://', `://${at}`)}/pulp/content/${path}/`
}

/** Asks for a file below a content path, as nobody or with a name and password. */
export function getContent(
  { url }: { url: string },
  path: string,
  {
    as,
    headers = {},
    method = 'GET',
  }: { as?: readonly [string, string]; headers?: Record<string, string>; method?: string } = {},
): Promise<Response> {
  const authorization = as && { authorization: `Basic ${Buffer.from(as.join(':')).toString('base64')}` }
  return fetch(`${url}/pulp/content/${path}`, { method, redirect: 'error', headers: { ...authorization, ...headers } })
}
