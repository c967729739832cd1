import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Distribution, Guard, Repository } from '../src/api/resources.ts'
import { execute, median, report, reportMachine, serveFiles, startServer, temporary } from './measure.ts'

const runs = 5
const basic = (name: string, password: string) => `Authorization: Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`

/** A hot small file (unguarded; guarded with Basic) and a large file, served by Signalbox and by nginx with one worker, in turn. */
export async function bench(): Promise<void> {
  reportMachine()
  await using work = await temporary()
  await chmod(work.path, 0o755)
  const files = join(work.path, 'files')
  await mkdir(files)
  const bodies = { small: randomBytes(4096), large: randomBytes(256 * 1024 * 1024) }
  for (const [name, body] of Object.entries(bodies)) await writeFile(join(files, name), body)
  const manifest = Object.entries(bodies).map(
    ([name, body]) => `${name},${createHash('sha256').update(body).digest('hex')},${body.length}\n`,
  )
  await writeFile(join(files, 'PULP_MANIFEST'), manifest.join(''))

  await using upstream = await serveFiles(files)
  await using server = await startServer(join(work.path, 'data'))
  await using nginx = await startNginx(work.path, files)
  const { api } = server
  const remote = await api.create<Repository>('remotes/file/file/', { name: 'bench', url: `${upstream.url}PULP_MANIFEST` })
  const repository = await api.create<Repository>('repositories/file/file/', { name: 'bench', remote: remote.pulp_href })
  await api.act(`${repository.pulp_href}sync/`, {})
  const guard = await api.create<Guard>('contentguards/core/rbac/', { name: 'bench' })
  const shared = { repository: repository.pulp_href }
  const open = await api.create<Distribution>('distributions/file/file/', { ...shared, name: 'open', base_path: 'open' })
  await api.create<Distribution>('distributions/file/file/', {
    ...shared,
    name: 'guarded',
    base_path: 'guarded',
    content_guard: guard.pulp_href,
  })

  const ours = `${server.url}/pulp/content/${open.base_path}`
  const guarded = `${server.url}/pulp/content/guarded`
  const header = basic('admin', server.password)
  const small: Record<string, number[]> = { nginx: [], open: [], guarded: [] }
  const large: Record<string, number[]> = { nginx: [], open: [] }
  for (let run = 0; run < runs; run++) {
    small['nginx']!.push(await requestsPerSecond(`${nginx.url}/small`))
    small['open']!.push(await requestsPerSecond(`${ours}/small`))
    small['guarded']!.push(await requestsPerSecond(`${guarded}/small`, header))
    large['nginx']!.push(await megabytesPerSecond(`${nginx.url}/large`))
    large['open']!.push(await megabytesPerSecond(`${ours}/large`))
  }
  const ratio = (values: number[], peer: number[]) => `${(median(values) / median(peer)).toFixed(2)}x nginx`
  report('4 KiB file, nginx with one worker', small['nginx']!, 'req/s')
  report('4 KiB file, Signalbox', small['open']!, 'req/s', ratio(small['open']!, small['nginx']!))
  report('4 KiB file, Signalbox, guard and Basic', small['guarded']!, 'req/s', ratio(small['guarded']!, small['nginx']!))
  report('256 MiB file, nginx', large['nginx']!, 'MB/s')
  report('256 MiB file, Signalbox', large['open']!, 'MB/s', ratio(large['open']!, large['nginx']!))
}

async function requestsPerSecond(url: string, header?: string): Promise<number> {
  const { stdout } = await execute('wrk', ['-t1', '-c16', '-d3s', ...(header ? ['-H', header] : []), url])
  if (/Non-2xx/.test(stdout)) throw new Error(`${url} did not answer 200:\n${stdout}`)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)![1])
}

async function megabytesPerSecond(url: string): Promise<number> {
  const { stdout } = await execute('curl', ['-sf', '-o', '/dev/null', '-w', '%{speed_download}', url])
  return Number(stdout) / 1e6
}

async function startNginx(directory: string, root: string): Promise<{ url: string } & AsyncDisposable> {
  const port = await freePort()
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/nginx-${name};`)
    .join(' ')
  await writeFile(
    join(directory, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${directory}/nginx.pid; error_log ${directory}/nginx.log; ${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 256; }
http { access_log off; sendfile on; keepalive_requests 1000000; ${temp} server { listen 127.0.0.1:${port}; root ${root}; } }\n`,
  )
  const child = spawn('/usr/sbin/nginx', ['-e', `${directory}/nginx.log`, '-c', `${directory}/nginx.conf`], { stdio: 'inherit' })
  await sleep(300)
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await new Promise((resolve) => child.once('exit', resolve))
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
