import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Distribution, Guard, Repository } from '../src/api/resources.ts'
import { freePort, cpuSeconds, execute, median, report, reportMachine, serveFiles, startServer, temporary } from './measure.ts'
import { findProgram } from './programs.ts'

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
  const cpu: Record<string, number[]> = { nginx: [], open: [], guarded: [], largeNginx: [], largeOpen: [] }
  for (let run = 0; run < runs; run++) {
    for (const [name, pid, url, credentials] of [
      ['nginx', nginx.pid, `${nginx.url}/small`],
      ['open', server.pid, `${ours}/small`],
      ['guarded', server.pid, `${guarded}/small`, header],
    ] as const) {
      const before = await cpuSeconds(pid)
      const { rate, requests } = await requestsPerSecond(url, credentials)
      small[name]!.push(rate)
      cpu[name]!.push(((await cpuSeconds(pid)) - before) / requests)
    }
    for (const [name, used, pid, url] of [
      ['nginx', 'largeNginx', nginx.pid, `${nginx.url}/large`],
      ['open', 'largeOpen', server.pid, `${ours}/large`],
    ] as const) {
      const before = await cpuSeconds(pid)
      for (let time = 0; time < 4; time++) large[name]!.push(await megabytesPerSecond(url))
      cpu[used]!.push(((await cpuSeconds(pid)) - before) / 4)
    }
  }
  const ratio = (values: number[], peer: number[]) => `${(median(values) / median(peer)).toFixed(2)}x nginx`
  const reportCpu = (what: string, values: number[], unit: number, peer?: number[]) =>
    report(
      `  CPU, ${what}`,
      values.map((value) => value * unit),
      unit === 1e6 ? 'µs' : 'ms',
      peer && `${(median(peer) / median(values)).toFixed(2)}x nginx`,
    )
  report('4 KiB file, nginx with one worker', small['nginx']!, 'req/s')
  report('4 KiB file, Signalbox', small['open']!, 'req/s', ratio(small['open']!, small['nginx']!))
  report('4 KiB file, Signalbox, guard and Basic', small['guarded']!, 'req/s', ratio(small['guarded']!, small['nginx']!))
  reportCpu('nginx', cpu['nginx']!, 1e6)
  reportCpu('Signalbox', cpu['open']!, 1e6, cpu['nginx'])
  reportCpu('Signalbox, guard and Basic', cpu['guarded']!, 1e6, cpu['nginx'])
  report('256 MiB file, nginx', large['nginx']!, 'MB/s')
  report('256 MiB file, Signalbox', large['open']!, 'MB/s', ratio(large['open']!, large['nginx']!))
  reportCpu('nginx', cpu['largeNginx']!, 1e3)
  reportCpu('Signalbox', cpu['largeOpen']!, 1e3, cpu['largeNginx'])
}

async function requestsPerSecond(url: string, header?: string): Promise<{ rate: number; requests: number }> {
  const { stdout } = await execute('wrk', ['-t1', '-c16', '-d3s', ...(header ? ['-H', header] : []), url])
  if (/Non-2xx/.test(stdout)) throw new Error(`${url} did not answer 200:\n${stdout}`)
  const number = (pattern: RegExp) => Number(pattern.exec(stdout)![1])
  return { rate: number(/Requests\/sec:\s+([\d.]+)/), requests: number(/(\d+) requests in/) }
}

async function megabytesPerSecond(url: string): Promise<number> {
  const { stdout } = await execute('curl', ['-sf', '-o', '/dev/null', '-w', '%{speed_download}', url])
  return Number(stdout) / 1e6
}

export async function startNginx(directory: string, root: string): Promise<{ url: string; pid: number } & AsyncDisposable> {
  const port = await freePort()
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/nginx-${name};`)
    .join(' ')
  await writeFile(
    join(directory, 'nginx.conf'),
    `daemon off; master_process off; worker_processes 1; pid ${directory}/nginx.pid; error_log ${directory}/nginx.log; ${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 256; }
http { access_log off; sendfile on; keepalive_requests 1000000; ${temp} server { listen 127.0.0.1:${port}; root ${root}; location /limited/ { alias ${root}/; limit_rate 100m; } } }\n`,
  )
  const child = spawn((await findProgram('nginx'))!, ['-e', `${directory}/nginx.log`, '-c', `${directory}/nginx.conf`], {
    stdio: 'inherit',
  })
  await sleep(300)
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await new Promise((resolve) => child.once('exit', resolve))
    },
  }
}
