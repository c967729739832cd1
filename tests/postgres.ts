import { execFile, spawn } from 'node:child_process'
import { chown, glob, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'

const run = promisify(execFile)

/** A PostgreSQL of its own, on loopback, that forgets everything when it is disposed. */
export interface ThrowAwayPostgres extends AsyncDisposable {
  /** Of its superuser, without a password. */
  readonly url: string
}

/** Starts Debian's PostgreSQL in a temporary directory. Undefined when it is not installed. */
export async function startPostgres(): Promise<ThrowAwayPostgres | undefined> {
  const programs = await findPrograms()
  if (!programs) return undefined
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-postgres-'))
  const identity = await identityOf(directory)
  const data = join(directory, 'data')
  // It holds nothing worth keeping, so nothing waits for the disk.
  await run(join(programs, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], {
    ...identity,
    cwd: directory,
  })
  const port = await findFreePort()
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: directory,
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    max_connections: '300',
    shared_buffers: '64MB',
  }
  const flags = Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])
  const server = spawn(join(programs, 'postgres'), ['-D', data, '-p', String(port), ...flags], {
    ...identity,
    cwd: directory,
    stdio: 'ignore',
  })
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()))
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const stop = async () => {
    // SIGQUIT: at once, without tidying what is thrown away.
    server.kill('SIGQUIT')
    await ended
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await untilReady(url, () => server.exitCode !== null)
  } catch (error) {
    await stop()
    throw error
  }
  return { url, [Symbol.asyncDispose]: stop }
}

async function findPrograms(): Promise<string | undefined> {
  const found: string[] = []
  for await (const path of glob(['/usr/lib/postgresql/*/bin/initdb', '/usr/local/bin/initdb', '/opt/homebrew/bin/initdb']))
    found.push(dirname(path))
  return found.toSorted().at(-1)
}

/** PostgreSQL refuses to run as root: then it runs as Debian's user for it. */
async function identityOf(directory: string): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {}
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  const [uid, gid] = [await id('-u'), await id('-g')]
  await chown(directory, uid, gid)
  return { uid, gid }
}

async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function untilReady(url: string, gone: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (gone()) throw new Error('PostgreSQL ended before it was ready.')
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      await client.end()
      return
    } catch {
      await sleep(100)
    }
  }
  throw new Error('PostgreSQL was not ready within 20 s.')
}
