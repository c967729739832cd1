import { join } from 'node:path'
import { connectRegistry } from '../src/api/registry.ts'
import type { Distribution, Entity, Guard, Repository } from '../src/api/resources.ts'
import { makeDemoImage } from '../src/cli/demo-image.ts'
import { forEach } from '../src/lib/for-each.ts'
import { report, reportMachine, type Running, seconds, startServer, temporary } from './measure.ts'

const repositories = 200
const images = 150
const runs = 5

/**
 * Re-guards 200 distributions in one transaction, and, for comparison, one after another as a train without that has to; then 150 images
 * of two platforms with them.
 */
export async function bench(): Promise<void> {
  reportMachine()
  await using work = await temporary()
  await using server = await startServer(join(work.path, 'data'))
  const { api } = server
  const development = await api.create<Guard>('contentguards/core/rbac/', { name: 'development' })
  const release = await api.create<Guard>('contentguards/core/rbac/', { name: 'release' })
  // One file in all of them: a distribution of nothing cannot be promoted.
  const artifact = await upload(server)
  const content = await api.create<Entity>('content/file/files/', { relative_path: 'a', artifact })
  const made: Distribution[] = []
  const creating = await seconds(async () => {
    for (let index = 0; index < repositories; index++) {
      const name = `r${index}`
      const repository = await api.create<Repository>('repositories/file/file/', { name })
      await api.act(`${repository.pulp_href}modify/`, { add_content_units: [content.pulp_href] })
      const body = {
        name,
        base_path: `${name}/20261101T020000`,
        repository: repository.pulp_href,
        content_guard: development.pulp_href,
      }
      made.push(await api.create<Distribution>('distributions/file/file/', body))
    }
  })
  const hrefs = made.map(({ pulp_href }) => pulp_href)
  const promotions = '/pulp/api/v3/signalbox/promotions/'
  const together: number[] = []
  const apart: number[] = []
  for (let run = 0; run < runs; run++) {
    together.push(await seconds(() => api.post(promotions, { distributions: hrefs, guard: release.pulp_href })))
    await api.post(promotions, { distributions: hrefs, guard: development.pulp_href })
    apart.push(
      await seconds(async () => {
        for (const href of hrefs) await api.update(href, { content_guard: release.pulp_href })
      }),
    )
    await api.post(promotions, { distributions: hrefs, guard: development.pulp_href })
  }
  const registry = connectRegistry({ url: server.url, username: 'admin', password: server.password })
  const withImages: number[] = []
  for (let run = 0; run <= runs; run++) {
    // Each run is another build of every image, and the first makes what it is promoted to.
    const tag = `v${run}`
    await forEach(Array(images).keys(), 4, async (index) => {
      await registry.push(`dev/i${index}`, tag, makeDemoImage(`${index} ${tag}`, '2026-11-01T02:00:00Z'))
    })
    const moves = Array.from({ length: images }, (_, index) => ({ from: `dev/i${index}`, to: `rel/i${index}`, tag }))
    withImages.push(await seconds(() => api.post(promotions, { distributions: hrefs, guard: release.pulp_href, images: moves })))
    await api.post(promotions, { distributions: hrefs, guard: development.pulp_href })
  }
  const [first = 0, ...later] = withImages
  report(`create ${repositories} repositories and distributions`, [creating], 's')
  report(`promote ${repositories}, one transaction`, together, 's')
  report(`promote ${repositories}, one request each`, apart, 's')
  report(`promote ${repositories} and ${images} images, one transaction`, later, 's', `first time: ${first.toFixed(2)} s`)
}

async function upload({ url, password }: Running): Promise<string> {
  const body = new FormData()
  body.set('file', new Blob(['a']))
  const authorization = `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`
  const response = await fetch(`${url}/pulp/api/v3/artifacts/`, { method: 'POST', body, headers: { authorization } })
  return ((await response.json()) as { pulp_href: string }).pulp_href
}
