import { spawn } from 'node:child_process'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { comps, modules, updateinfo } from './around-packages.ts'
import { addMetadata, buildRpms, createRepository, type Key } from './rpms.ts'
import { exitOf, type Scope } from './server.ts'

/** A plain HTTP server on loopback, as small sites have it: no ranges, no dates. */
export interface Served {
  readonly url: string
  /** The paths asked for, oldest first. */
  readonly requests: string[]
  /** A directory, or files by path; others from now on when it is set. */
  files: string | ReadonlyMap<string, Buffer>
  /** Answers a request itself when it returns true. */
  intercept: ((path: string, response: ServerResponse, request: IncomingMessage) => boolean | Promise<boolean>) | undefined
}

export async function serveFiles(t: Scope, files: Served['files']): Promise<Served> {
  const served: Served = { url: '', requests: [], files, intercept: undefined }
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname)
    served.requests.push(path)
    if (await served.intercept?.(path, response, request)) return
    const bytes = await readServed(served.files, path)
    if (bytes) response.end(bytes)
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return Object.assign(served, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` })
}

async function readServed(files: Served['files'], path: string): Promise<Buffer | undefined> {
  if (typeof files !== 'string') return files.get(path.slice(1))
  return readFile(join(files, path)).catch(() => undefined)
}

/** A port on which nothing listens at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/**
 * Packages and metadata of four nights in `<directory>/1` to `4`: each night `app` has a new version; everything else stays. With a
 * key, packages and repomd.xml are signed.
 */
export async function makeNights(directory: string, key?: Key): Promise<string[]> {
  const pool = join(directory, 'pool')
  await mkdir(pool, { recursive: true })
  const names = await buildRpms(pool, [
    ...[1, 2, 3, 4].map((night) => ({ name: 'app', version: `${night}.0`, lines: ['Requires: lib >= 1.0', 'Recommends: docs'] })),
    { name: 'lib', version: '1.2', lines: ['Provides: bundled(zlib) = 1.3'] },
    { name: 'tool', arch: 'x86_64', lines: ['Requires: (app or lib)'] },
    { name: 'docs', epoch: 2, lines: ['Enhances: app'] },
    { name: 'choir', version: '4.0', lines: ['ModularityLabel: choir:4:20261101:be11be11'] },
  ])
  await key?.signRpms(names.map((name) => join(pool, name)))
  const nights: string[] = []
  await writeFile(join(directory, 'comps.xml'), comps)
  for (const night of [1, 2, 3, 4]) {
    const root = join(directory, String(night))
    await mkdir(join(root, 'Packages'), { recursive: true })
    for (const name of names)
      if (!name.startsWith('app-') || name.startsWith(`app-${night}.0`))
        await copyFile(join(pool, name), join(root, 'Packages', name))
    await createRepository(root, '--groupfile', join(directory, 'comps.xml'))
    await addMetadata(root, 'updateinfo', 'updateinfo.xml', updateinfo)
    await addMetadata(root, 'modules', 'modules.yaml', modules)
    await addMetadata(root, 'productid', 'productid', 'a file of a kind that nobody knows\n', '--no-compress')
    await key?.signRepomd(root)
    nights.push(root)
  }
  return nights
}

/** The files of a directory and all below it, by their paths relative to it. */
export async function filesIn(directory: string): Promise<Map<string, Buffer>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return new Map(await Promise.all(paths.map(async (path) => [path.slice(directory.length + 1), await readFile(path)] as const)))
}

/** Starts nginx over a directory, behind HTTP Basic. Returns its URL. */
export async function startNginx(
  t: Scope,
  directory: string,
  home: string,
  [username, password]: readonly string[],
): Promise<string> {
  const port = await freePort()
  await writeFile(join(home, 'htpasswd'), `${username}:{PLAIN}${password}\n`)
  const config = join(home, 'nginx.conf')
  await writeFile(
    config,
    `daemon off; master_process off; pid ${home}/nginx.pid; error_log ${home}/error.log;
events {}
http {
  access_log off;
  client_body_temp_path ${home}; proxy_temp_path ${home}; fastcgi_temp_path ${home}; uwsgi_temp_path ${home}; scgi_temp_path ${home};
  server {
    listen 127.0.0.1:${port};
    location / { root ${directory}; auth_basic upstream; auth_basic_user_file ${home}/htpasswd; }
  }
}
`,
  )
  const child = spawn('nginx', ['-e', `${home}/error.log`, '-c', config], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
  })
  t.after(async () => {
    child.kill('SIGQUIT')
    await exitOf(child)
  })
  for (let tries = 0; tries < 400; tries++) {
    if (await answers(port)) return `http://127.0.0.1:${port}/`
    await sleep(50)
  }
  throw new Error('nginx was not ready within 20 s.')
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    }).once('error', () => resolve(false))
  })
}
