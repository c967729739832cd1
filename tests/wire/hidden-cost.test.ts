import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Db } from '../../src/store/database.ts'
import { forEachDatabase } from '../databases.ts'
import { addUser, openPulp } from '../pulp.ts'
import { makeImage, openRegistry, pushImage } from '../registry.ts'

/* How long an answer takes tells nothing, either: what is hidden costs as many looks at the database as what is absent, and the same ones. */

/** The database, and what it was asked since the last look at that. */
function watched(db: Db) {
  let asked: string[] = []
  const counting = db.withPlugin({
    transformQuery({ node }) {
      asked.push(node.kind)
      return node
    },
    transformResult: async ({ result }) => result,
  })
  return { db: counting, taken: () => asked.splice(0), forget: () => void (asked = []) }
}

forEachDatabase((engine, open) => {
  test(`${engine}: a hidden image is looked for as one that is absent, by whoever asks`, async (t) => {
    const watch = watched(await open(t))
    const registry = await openRegistry(t, watch.db)
    const { ctx, send } = registry
    for (const name of ['eve', 'rival']) await registry.addUser(name)
    await pushImage(registry, 'rival/private', makeImage(), 'latest', { as: 'rival' })
    const cost = async (name: string, method: string, path: string, as: string | null) => {
      await send('GET', '/v2/', { as })
      watch.forget()
      const { status } = await send(method, `/v2/${name}/${path}`, { as })
      return [status, watch.taken()]
    }
    for (const as of ['eve', null])
      for (const [method, path] of [
        ['GET', 'manifests/latest'],
        ['HEAD', 'manifests/latest'],
        ['GET', `blobs/sha256:${'0'.repeat(64)}`],
        ['GET', 'tags/list'],
        ['POST', 'blobs/uploads/'],
        ['DELETE', 'manifests/latest'],
      ] as const) {
        // Cold, after a change of anything; and again, from memory.
        const looks = []
        for (const name of ['rival/private', 'rival/absence']) {
          ctx.changes.bump()
          const first = await cost(name, method, path, as)
          const second = await cost(name, method, path, as)
          looks.push([first, second])
          assert.deepEqual(second[1], [], `${method} ${name} ${path}`)
        }
        assert.deepEqual(looks[0], looks[1], `${as} ${method} ${path}`)
      }
  })

  test(`${engine}: a hidden object of the REST API is not looked for at all`, async (t) => {
    const watch = watched(await open(t))
    const { ctx, call } = await openPulp(t, watch.db)
    await addUser(ctx, 'eve')
    const { pulp_href } = (await call('POST', 'repositories/file/file/', { name: 'hidden' })).body
    for (const href of [pulp_href, pulp_href.replace(/.{12}\/$/, '000000000000/')]) {
      for (const turn of ['first', 'second']) {
        if (turn === 'second') watch.forget()
        assert.equal((await call('GET', href, undefined, { as: 'eve' })).status, 404)
      }
      assert.deepEqual(watch.taken(), [], href)
    }
  })
})
