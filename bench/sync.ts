import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Publication, Remote, Repository } from '../src/api/resources.ts'
import {
  cpuOf,
  cpuSeconds,
  execute,
  median,
  memory,
  report,
  reportMachine,
  seconds,
  serveFiles,
  startServer,
  temporary,
} from './measure.ts'

/**
 * Reads the metadata of a large rpm repository (DIR; CHANGED is a slightly different state of it), on demand, and publishes it.
 * Beside it, createrepo_c's mergerepo_c reads and writes the same metadata.
 */
export async function bench([full, changed, runs = '3']: readonly string[]): Promise<void> {
  if (!full || !changed) throw new Error('usage: npm run bench -- sync DIR CHANGED_DIR [RUNS]')
  reportMachine()
  await using work = await temporary()
  await using upstream = await serveFiles(full)
  const first: number[] = []
  const unchanged: number[] = []
  const requests: number[] = []
  const partly: number[] = []
  const publish: number[] = []
  const republish: number[] = []
  const peak: number[] = []
  const peakOfSync: number[] = []
  const reference: number[] = []
  const firstCpu: number[] = []
  const publishCpu: number[] = []
  const partlyCpu: number[] = []
  const republishCpu: number[] = []
  const referenceCpu: number[] = []

  for (let run = 0; run < Number(runs); run++) {
    await using server = await startServer(join(work.path, `run-${run}`))
    const { api } = server
    upstream.directory = full
    const remote = await api.create<Remote>('remotes/rpm/rpm/', { name: 'big', url: upstream.url, policy: 'on_demand' })
    const repository = await api.create<Repository>('repositories/rpm/rpm/', { name: 'big', remote: remote.pulp_href })
    const sync = () => api.act(`${repository.pulp_href}sync/`, { sync_policy: 'mirror_content_only' })
    const publishing = () => api.create<Publication>('publications/rpm/rpm/', { repository: repository.pulp_href })

    const measured = async (act: () => Promise<unknown>, wall: number[], cpu: number[]) => {
      const before = await cpuSeconds(server.pid)
      wall.push(await seconds(act))
      cpu.push((await cpuSeconds(server.pid)) - before)
    }
    await measured(sync, first, firstCpu)
    peakOfSync.push((await memory(server.pid)).peak)
    const before = upstream.requests
    unchanged.push(await seconds(sync))
    requests.push(upstream.requests - before)
    await measured(publishing, publish, publishCpu)
    upstream.directory = changed
    await measured(sync, partly, partlyCpu)
    await measured(publishing, republish, republishCpu)
    peak.push((await memory(server.pid)).peak)

    const out = join(work.path, `merged-${run}`)
    await mkdir(join(work.path, 'empty'), { recursive: true })
    await execute('createrepo_c', ['--quiet', join(work.path, 'empty')])
    const sources = [full, join(work.path, 'empty')].flatMap((path) => ['-r', `file://${path}`])
    reference.push(
      await seconds(async () =>
        referenceCpu.push(await cpuOf('mergerepo_c', ['--no-database', '--compress-type=gz', ...sources, '-o', out])),
      ),
    )
  }
  const times = (values: number[], peer: number[]) => `${(median(peer) / median(values)).toFixed(1)}x createrepo_c`
  report('first sync, on demand', first, 's', times(first, reference))
  report('  CPU', firstCpu, 's', times(firstCpu, referenceCpu))
  report('unchanged', unchanged, 's', `${median(requests)} requests upstream`)
  report('publish', publish, 's')
  report('  CPU', publishCpu, 's')
  report('sync of a changed upstream', partly, 's')
  report('  CPU', partlyCpu, 's')
  report('publish after that', republish, 's')
  report('  CPU', republishCpu, 's')
  report('createrepo_c: read and write the same', reference, 's')
  report('  CPU', referenceCpu, 's')
  report('peak memory of the server, first sync', peakOfSync, 'MB')
  report('  all of it', peak, 'MB')
}
