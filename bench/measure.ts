import { execFile, spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createServer as createSocketServer } from 'node:net'
import { type Api, connect } from '../src/api/client.ts'

export const execute = promisify(execFile)

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** Seconds that `act` takes. */
export async function seconds(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await act()
  return (performance.now() - start) / 1000
}

/** One line of a result: what, the median, and all runs. */
export function report(what: string, values: readonly number[], unit: string, note = ''): void {
  const digits = unit === 's' ? 2 : 0
  console.log(
    `${what.padEnd(46)} ${median(values).toFixed(digits).padStart(9)} ${unit.padEnd(6)} ${note.padEnd(30)} [${values.map((value) => value.toFixed(digits)).join(' ')}]`,
  )
}

export function reportMachine(): void {
  console.log(
    `${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}\n`,
  )
}

export async function temporary(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'signalbox-bench-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

export interface Running extends AsyncDisposable {
  url: string
  api: Api
  pid: number
  /** Seconds from start to ready. */
  readyAfter: number
  password: string
}

/** A Signalbox server in a process of its own, on a free port. */
export async function startServer(data: string, env: Record<string, string> = {}): Promise<Running> {
  const password = 'bench-password-1'
  const started = performance.now()
  const child = spawn('bin/signalbox', ['serve', '--data', data, '--listen', '127.0.0.1:0'], {
    env: { ...process.env, SIGNALBOX_ADMIN_PASSWORD: password, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const url = await new Promise<string>((resolve, reject) => {
    let printed = ''
    child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk
      const match = /http:\/\/[\d.]+:\d+/.exec(printed)
      if (match) resolve(match[0])
    })
    child.once('exit', (code) => reject(new Error(`The server ended with ${code}: ${printed}`)))
  })
  const readyAfter = (performance.now() - started) / 1000
  return {
    url,
    api: connect({ url, username: 'admin', password }),
    pid: child.pid!,
    readyAfter,
    password,
    async [Symbol.asyncDispose]() {
      child.removeAllListeners('exit')
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** Resident memory of a process in MB: now, and the most it ever had. */
export async function memory(pid: number): Promise<{ now: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const read = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
  return { now: read('VmRSS'), peak: read('VmHWM') }
}

/** Seconds of CPU that a process has used: what other work on the machine disturbs least. */
export async function cpuSeconds(pid: number): Promise<number> {
  return ticksIn(await readFile(`/proc/${pid}/stat`, 'utf8'), 11, 12)
}

/** Runs a command; seconds of CPU that it used. */
export async function cpuOf(file: string, args: readonly string[]): Promise<number> {
  const { stdout } = await execute('sh', ['-c', '"$@" >&2 && cat /proc/$$/stat', 'sh', file, ...args])
  return ticksIn(stdout, 13, 14)
}

/** Fields of /proc/PID/stat, counted from the one behind the name. */
function ticksIn(stat: string, ...fields: number[]): number {
  const values = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.reduce((sum, field) => sum + Number(values[field]), 0) / 100
}

/** Serves one directory that can be exchanged between requests, as an upstream does. */
export async function serveFiles(
  directory: string,
): Promise<{ url: string; directory: string; requests: number } & AsyncDisposable> {
  const state = { directory, requests: 0 }
  const server = createServer(async (request, response) => {
    state.requests++
    const file = join(state.directory, decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname))
    const found = await stat(file).catch(() => undefined)
    if (!found?.isFile()) return void response.writeHead(404).end()
    response.writeHead(200, { 'content-length': found.size })
    createReadStream(file, { highWaterMark: 1 << 20 }).pipe(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return Object.assign(state, {
    url: `http://127.0.0.1:${address.port}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  })
}

/** A port of loopback that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createSocketServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
