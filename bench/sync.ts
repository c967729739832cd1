import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Publication, Remote, Repository } from '../src/api/resources.ts'
import { execute, median, memory, report, reportMachine, seconds, serveFiles, startServer, temporary } from './measure.ts'

/**
 * Reads the metadata of a large rpm repository (DIR; CHANGED is a slightly different state of it), on demand, and publishes it.
 * Beside it, createrepo_c's mergerepo_c reads and writes the same metadata.
 */
export async function bench([full, changed, times = '3']: readonly string[]): Promise<void> {
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
  const reference: number[] = []

  for (let run = 0; run < Number(times); run++) {
    await using server = await startServer(join(work.path, `run-${run}`))
    const { api } = server
    upstream.directory = full
    const remote = await api.create<Remote>('remotes/rpm/rpm/', { name: 'big', url: upstream.url, policy: 'on_demand' })
    const repository = await api.create<Repository>('repositories/rpm/rpm/', { name: 'big', remote: remote.pulp_href })
    const sync = () => api.act(`${repository.pulp_href}sync/`, { sync_policy: 'mirror_content_only' })
    const publishing = () => api.create<Publication>('publications/rpm/rpm/', { repository: repository.pulp_href })

    first.push(await seconds(sync))
    const before = upstream.requests
    unchanged.push(await seconds(sync))
    requests.push(upstream.requests - before)
    publish.push(await seconds(publishing))
    upstream.directory = changed
    partly.push(await seconds(sync))
    republish.push(await seconds(publishing))
    peak.push((await memory(server.pid)).peak)

    const out = join(work.path, `merged-${run}`)
    await mkdir(join(work.path, 'empty'), { recursive: true })
    await execute('createrepo_c', ['--quiet', join(work.path, 'empty')])
    reference.push(
      await seconds(() =>
        execute('mergerepo_c', [
          '--no-database',
          '--compress-type=gz',
          '-r',
          `file://${full}`,
          '-r',
          `file://${join(work.path, 'empty')}`,
          '-o',
          out,
        ]),
      ),
    )
  }
  report('first sync, on demand', first, 's', `${(median(reference) / median(first)).toFixed(1)}x createrepo_c`)
  report('unchanged', unchanged, 's', `${median(requests)} requests upstream`)
  report('publish', publish, 's')
  report('sync of a changed upstream', partly, 's')
  report('publish after that', republish, 's')
  report(
    'first sync and publish',
    first.map((value, index) => value + publish[index]!),
    's',
    `${(median(reference) / (median(first) + median(publish))).toFixed(1)}x createrepo_c`,
  )
  report('createrepo_c: read and write the same', reference, 's')
  report('peak memory of the server', peak, 'MB')
}
