import { join } from 'node:path'
import { connect } from '../src/api/client.ts'
import type { Publication, Remote, Repository } from '../src/api/resources.ts'
import { median, report, reportMachine, seconds, serveFiles, startServer, temporary } from './measure.ts'

/** The same calls to Signalbox and to a real Pulp at URL (admin/password): sync and publish the rpm repository in DIR, on demand. */
export async function bench([url, directory, times = '3']: readonly string[]): Promise<void> {
  if (!url || !directory) throw new Error('usage: npm run bench -- pulp URL DIR [RUNS]')
  reportMachine()
  await using work = await temporary()
  await using upstream = await serveFiles(directory)
  await using server = await startServer(join(work.path, 'data'))
  const sides = { signalbox: server.api, pulp: connect({ url, username: 'admin', password: 'password', timeout: 600 }) }
  const results: Record<string, Record<keyof typeof sides, number[]>> = {}
  const note = (what: string, side: keyof typeof sides, value: number) => {
    results[what] ??= { signalbox: [], pulp: [] }
    results[what][side].push(value)
  }
  for (let run = 0; run < Number(times); run++)
    for (const side of ['signalbox', 'pulp'] as const) {
      const api = sides[side]
      const name = `bench-${run}-${Date.now()}`
      const remote = await api.create<Remote>('remotes/rpm/rpm/', { name, url: upstream.url, policy: 'on_demand' })
      const repository = await api.create<Repository>('repositories/rpm/rpm/', { name, remote: remote.pulp_href })
      const sync = () => api.act(`${repository.pulp_href}sync/`, { sync_policy: 'mirror_content_only' })
      note('first sync', side, await seconds(sync))
      note('unchanged', side, await seconds(sync))
      note(
        'publish',
        side,
        await seconds(() => api.create<Publication>('publications/rpm/rpm/', { repository: repository.pulp_href })),
      )
      note(
        'list 100 packages',
        side,
        await seconds(() =>
          api.get('content/rpm/packages/', { limit: 100, repository_version: `${repository.pulp_href}versions/1/` }),
        ),
      )
      await api.remove(repository.pulp_href)
      await api.remove(remote.pulp_href)
    }
  for (const [what, { signalbox, pulp }] of Object.entries(results)) {
    report(`${what}, Signalbox`, signalbox, 's', `${(median(pulp) / median(signalbox)).toFixed(1)}x faster`)
    report(`${what}, Pulp`, pulp, 's')
  }
}
