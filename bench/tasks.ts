import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { cpus } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Distribution, Entity, Remote, Repository, Task } from '../src/api/resources.ts'
import { forEach } from '../src/lib/for-each.ts'
import { makeRepository } from '../tests/rpm-upstream.ts'
import { cpuSeconds, report, reportMachine, type Running, startServer, temporary } from './measure.ts'
import { startNginx } from './serving.ts'

const packages = 1000

/**
 * How much faster many small repositories are synced and published beside each other than one after another; and what requests for a hot small file
 * feel of that, and of the first sync and publication of a large rpm repository (DIR).
 */
export async function bench([large, count = '32']: readonly string[]): Promise<void> {
  if (!large) throw new Error('usage: npm run bench -- tasks DIR [REPOSITORIES]')
  reportMachine()
  const repositories = Number(count)
  await using work = await temporary()
  const small = join(work.path, 'upstream')
  for (let index = 0; index < repositories; index++) await makeUpstream(join(small, String(index)), index)
  await symlink(resolve(large), join(small, 'large'))
  // In a process of its own: what it does is not felt by who measures.
  await using upstream = await startNginx(work.path, small)
  const workers = Math.min(cpus().length, repositories)
  const start = (name: string) => startServer(join(work.path, name), { SIGNALBOX_WORKERS: String(workers) })

  {
    await using alone = await start('alone')
    await using together = await start('together')
    const sum = spent(await doJobs(alone, upstream.url, repositories, 1))
    const span = spanOf(await doJobs(together, upstream.url, repositories, repositories))
    report(`${repositories * 2} tasks, one after another`, [sum], 's')
    report('  CPU', [await cpuSeconds(alone.pid)], 's')
    report(`  beside each other, ${workers} workers`, [span], 's', `efficiency ${(sum / span / workers).toFixed(2)}`)
    report('  CPU', [await cpuSeconds(together.pid)], 's')
  }

  await using server = await start('serving')
  const url = await serveSmallFile(server)
  await probe(url, sleep(2000))
  const idle = await probe(url, sleep(15_000))
  const compare = (what: string, felt: Felt) => {
    report(`hot file while ${what}: p50`, [felt.p50], 'µs')
    report('  p99', [felt.p99], 'µs', `${(felt.p99 / idle.p99).toFixed(2)}x of nothing`)
  }
  compare('nothing is done', idle)
  const repository = await makeRepositoryAt(server, 'large', `${upstream.url}/large/`)
  compare('a large repository is synced', await probe(url, server.api.act(`${repository.pulp_href}sync/`)))
  const publication = { repository: repository.pulp_href }
  compare('it is published', await probe(url, server.api.act('publications/rpm/rpm/', publication)))
  compare(`${repositories * 2} small tasks are done`, await probe(url, doJobs(server, upstream.url, repositories, repositories)))
}

async function makeUpstream(directory: string, index: number): Promise<void> {
  const names = Array.from({ length: packages }, (_, number) => ({ name: `package${index}-${number}` }))
  for (const [path, bytes] of Object.entries(makeRepository({ packages: names }))) {
    if (!path.startsWith('repodata/')) continue
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), bytes)
  }
}

async function makeRepositoryAt({ api }: Running, name: string, url: string): Promise<Repository> {
  const remote = await api.create<Remote>('remotes/rpm/rpm/', { name, url, policy: 'on_demand' })
  return api.create<Repository>('repositories/rpm/rpm/', { name, remote: remote.pulp_href })
}

/** Syncs and publishes the small repositories, some at once. */
async function doJobs(server: Running, url: string, repositories: number, width: number): Promise<Task[]> {
  const made: Repository[] = []
  for (let index = 0; index < repositories; index++) made.push(await makeRepositoryAt(server, String(index), `${url}/${index}/`))
  const tasks: Task[] = []
  await forEach(made, width, async ({ pulp_href }) => {
    tasks.push(await server.api.act(`${pulp_href}sync/`))
    tasks.push(await server.api.act('publications/rpm/rpm/', { repository: pulp_href }))
  })
  return tasks
}

const startOf = ({ started_at }: Task) => Date.parse(started_at!) / 1000
const endOf = ({ finished_at }: Task) => Date.parse(finished_at!) / 1000

function spent(tasks: readonly Task[]): number {
  return tasks.reduce((sum, task) => sum + endOf(task) - startOf(task), 0)
}

function spanOf(tasks: readonly Task[]): number {
  return Math.max(...tasks.map(endOf)) - Math.min(...tasks.map(startOf))
}

/** A distribution of one file of 4 KiB. */
async function serveSmallFile({ api, url, password }: Running): Promise<string> {
  const form = new FormData()
  form.set('file', new Blob([Buffer.alloc(4096, 'hot ')]), 'hot')
  const headers = { authorization: `Basic ${Buffer.from(`admin:${password}`).toString('base64')}` }
  const response = await fetch(`${url}/pulp/api/v3/artifacts/`, { method: 'POST', headers, body: form })
  const { pulp_href: artifact } = (await response.json()) as Entity
  const content = await api.create<Entity>('content/file/files/', { relative_path: 'hot', artifact })
  const repository = await api.create<Repository>('repositories/file/file/', { name: 'hot' })
  await api.act(`${repository.pulp_href}modify/`, { add_content_units: [content.pulp_href] })
  const where = { name: 'hot', base_path: 'hot', repository: repository.pulp_href }
  await api.create<Distribution>('distributions/file/file/', where)
  return `${url}/pulp/content/hot/hot`
}

/** How long requests took, in microseconds. */
interface Felt {
  p50: number
  p99: number
}

/** Asks for a file some two hundred times a second, as long as something is being done. */
async function probe(url: string, act: Promise<unknown>): Promise<Felt> {
  const agent = new Agent({ keepAlive: true })
  const took: number[] = []
  const done = act.then(() => true)
  do {
    const start = performance.now()
    await ask(url, agent)
    took.push((performance.now() - start) * 1000)
  } while (!(await Promise.race([done, sleep(5, false)])))
  agent.destroy()
  took.sort((a, b) => a - b)
  const at = (part: number) => took[Math.floor(took.length * part)]!
  return { p50: at(0.5), p99: at(0.99) }
}

function ask(url: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${url} answered ${response.statusCode}`))
      response.resume().on('end', resolve).on('error', reject)
    }).on('error', reject)
  })
}
