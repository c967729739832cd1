import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Remote, Repository } from '../src/api/resources.ts'
import { cpuSeconds, execute, median, report, reportMachine, seconds, startServer, temporary } from './measure.ts'
import { startNginx } from './serving.ts'

const runs = 3
const chunk = randomBytes(16 << 20)
const chunks = 16

/**
 * Downloads, verifies and stores one file of 256 MiB, from a server that gives 100 MB a second (a good line) and from one that gives all it
 * can. Beside it, curl downloads the same to a file, which `sync -d` then makes durable.
 */
export async function bench(): Promise<void> {
  reportMachine()
  await using work = await temporary()
  await chmod(work.path, 0o755)
  const files = join(work.path, 'files')
  await mkdir(files)
  await using nginx = await startNginx(work.path, files)
  await using server = await startServer(join(work.path, 'data'))
  const { api } = server
  for (const [line, path] of [
    ['100 MB/s', 'limited/'],
    ['any speed', ''],
  ] as const) {
    const [ours, plain, durable, cpu]: number[][] = [[], [], [], []]
    for (let run = 0; run < runs; run++) {
      // Another file each time, because nothing is downloaded twice.
      const name = `${path}${run}`
      await writeFile(join(files, 'PULP_MANIFEST'), await writeLarge(join(files, 'large'), name))
      const remote = await api.create<Remote>('remotes/file/file/', { name, url: `${nginx.url}/${path}PULP_MANIFEST` })
      const repository = await api.create<Repository>('repositories/file/file/', { name, remote: remote.pulp_href })
      const target = join(work.path, 'curl')
      const get = () => execute('curl', ['-sf', '-o', target, `${nginx.url}/${path}large`])
      plain!.push(await seconds(get))
      await rm(target)
      durable!.push(await seconds(async () => void (await get(), await execute('sync', ['-d', target]))))
      await rm(target)
      const before = await cpuSeconds(server.pid)
      ours!.push(await seconds(() => api.act(`${repository.pulp_href}sync/`, {})))
      cpu!.push((await cpuSeconds(server.pid)) - before)
    }
    const rate = (values: number[]) => values.map((value) => (chunks * chunk.length) / 1e6 / value)
    const ratio = (peer: number[]) => `${(median(peer) / median(ours!)).toFixed(2)}x`
    report(`${line}: curl to a file`, rate(plain!), 'MB/s')
    report(`${line}: curl to a file and sync`, rate(durable!), 'MB/s')
    report(`${line}: verified and stored`, rate(ours!), 'MB/s', `${ratio(plain!)} curl, ${ratio(durable!)} with sync`)
    report('  CPU', cpu!, 's')
  }
}

/** Writes the file and returns its line in the manifest. */
async function writeLarge(path: string, name: string): Promise<string> {
  const digest = createHash('sha256')
  await using file = await open(path, 'w')
  for (let index = 0; index < chunks; index++) {
    chunk.write(`${name} ${index} `.padEnd(64))
    digest.update(chunk)
    await file.write(chunk)
  }
  return `large,${digest.digest('hex')},${chunk.length * chunks}\n`
}
