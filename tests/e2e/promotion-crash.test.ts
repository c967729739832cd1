import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectRegistry } from '../../src/api/registry.ts'
import type { Distribution } from '../../src/api/resources.ts'
import { makeDemoImage } from '../../src/cli/demo-image.ts'
import { findServedImages, readTags } from '../../src/train/served-images.ts'
import { forEachDatabase } from '../databases.ts'
import { sha256 } from './made-repository.ts'
import { adminPassword, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

const trials: Readonly<Record<string, number>> = { SQLite: 4, PostgreSQL: 2 }
const images = Array.from({ length: 12 }, (_, index) => `image${index}`)

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: a server that is killed in a promotion has done all of it or nothing`, { timeout: 240_000 }, async (t) => {
    const server = await startServer(t, { env: { SIGNALBOX_DATABASE: await makeDatabase(t) }, mayFail: true })
    const { api, url } = server
    const registry = connectRegistry({ url, username: 'admin', password: adminPassword })
    const upstream = await serveFiles(
      t,
      new Map([
        ['a', Buffer.from('a')],
        ['PULP_MANIFEST', Buffer.from(`a,${sha256('a')},1\n`)],
      ]),
    )
    const remote = await api.create<{ pulp_href: string }>('remotes/file/file/', {
      name: 'files',
      url: `${upstream.url}PULP_MANIFEST`,
    })
    const repository = await api.create<{ pulp_href: string }>('repositories/file/file/', {
      name: 'files',
      remote: remote.pulp_href,
    })
    await api.act(`${repository.pulp_href}sync/`)
    const packages = { name: 'files', base_path: 'files', repository: repository.pulp_href }
    const { pulp_href } = await api.create<Distribution>('distributions/file/file/', packages)
    const guards: string[] = []
    for (const name of ['one', 'two'])
      guards.push((await api.create<{ pulp_href: string }>('contentguards/core/rbac/', { name })).pulp_href)

    const look = async () => {
      const served = await findServedImages(api)
      const tags = await readTags(
        api,
        served,
        images.map((image) => `rel/${image}`),
      )
      const { content_guard } = await api.get<Distribution>(pulp_href)
      return { content_guard, tags: images.map((image) => tags.get(`rel/${image}`) ?? new Map<string, string>()) }
    }
    let took = 300
    const outcomes: string[] = []
    for (let trial = 0; trial <= trials[engine]!; trial++) {
      const tag = `v${trial}`
      for (const image of images)
        await registry.push(`dev/${image}`, tag, makeDemoImage(`${image} ${tag}`, '2026-11-01T02:00:00Z'))
      const before = await look()
      const guard = guards[trial % 2]!
      const body = {
        guard,
        distributions: ['files'],
        images: images.map((image) => ({ from: `dev/${image}`, to: `rel/${image}`, tag })),
      }
      const started = performance.now()
      const promoting = api.post('signalbox/promotions/', body).then(
        () => 'answered',
        () => 'cut off',
      )
      if (trial === 0) {
        assert.equal(await promoting, 'answered')
        took = performance.now() - started
        continue
      }
      await sleep(randomInt(Math.ceil(2 * took)))
      await server.kill()
      const answer = await promoting
      await server.start()
      const after = await look()
      const done = after.tags.filter((tags) => tags.has(tag)).length
      assert.ok(done === 0 || done === images.length, `${done} of ${images.length}`)
      assert.equal(after.content_guard, done === 0 ? before.content_guard : guard)
      if (answer === 'answered') assert.equal(done, images.length)
      if (done === 0) assert.deepEqual(after, before)
      else for (const image of images) await registry.pull(`rel/${image}`, tag)
      outcomes.push(done === 0 ? 'old' : 'new')
      // What was cut off is simply done again.
      await api.post('signalbox/promotions/', body)
    }
    t.diagnostic(`${Math.round(took)} ms a promotion; after kills: ${outcomes.join(', ')}`)
  })
})
