import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Distribution } from '../../src/api/resources.ts'
import { countOf, makeGuard, makeMirror } from './mirror.ts'
import { dnf, type Key } from './rpms.ts'
import { temporaryDirectory } from './run.ts'
import { contentUrl, getContent, type TestServer } from './server.ts'
import type { Served } from './upstream.ts'

const client = ['client', 'the-password-of:client/1'] as const
const tester = ['tester', 'the-password-of-tester'] as const

/** The main job: four nights of an upstream become snapshots, the first one is released, and a client installs from it. */
export async function runFirstTrain(
  t: TestContext,
  { server, upstream, nights, key }: { server: TestServer; upstream: Served; nights: readonly string[]; key: Key },
): Promise<void> {
  const { api } = server
  const install = async (path: string, credentials: readonly string[], mayFail = false) => {
    const root = await temporaryDirectory(t)
    const checks = { gpgcheck: '1', repo_gpgcheck: '1', gpgkey: `file://${key.publicKey}` }
    const ran = await dnf(root, contentUrl(server, path, credentials), checks)(['install', 'app', 'tool'], mayFail)
    return { ...ran, root }
  }
  const installed = async (root: string) => (await readFile(join(root, 'usr/share/app/version'), 'utf8')).trim()

  const development = await makeGuard(server, 'development', tester)
  const release = await makeGuard(server, 'release', client)
  await makeGuard(server, 'release-testers', tester)
  const mirror = await makeMirror(server, {
    name: 'apps',
    url: upstream.url,
    remote: { gpgkey: await readFile(key.publicKey, 'utf8') },
    sync: { sync_policy: 'mirror_complete' },
  })
  const snapshots: Distribution[] = []

  await t.test('each night becomes a version, a publication and a snapshot of its own', async () => {
    for (const [index, night] of nights.entries()) {
      upstream.files = night
      await mirror.sync()
      const version = await mirror.latest()
      assert.equal(version.number, index + 1)
      assert.equal(countOf(version, 'rpm.package'), 5)
      snapshots.push(await mirror.distribute(`apps/2026110${index + 1}T020000`, { content_guard: development.pulp_href }))
    }
    assert.equal(new Set(snapshots.map(({ publication }) => publication)).size, nights.length)
  })

  await t.test('what is not released is refused to a client with 403, and open to a tester', async () => {
    const path = `${snapshots[0]!.base_path}/repodata/repomd.xml`
    assert.equal((await getContent(server, path, { as: client })).status, 403)
    assert.equal((await getContent(server, path, { as: ['client', 'wrong'] })).status, 403)
    const { code, stderr } = await install(snapshots[0]!.base_path, client, true)
    assert.equal(code, 1)
    assert.match(stderr, /Status code: 403/)
    const seen = await getContent(server, path, { as: tester })
    assert.deepEqual(Buffer.from(await seen.arrayBuffer()), await readFile(join(nights[0]!, 'repodata/repomd.xml')))
  })

  await t.test('three nights later the three old paths still install the old versions', async () => {
    for (const [index, { base_path }] of snapshots.slice(0, 3).entries()) {
      const { root } = await install(base_path, tester)
      assert.equal(await installed(root), `app ${index + 1}.0-1`)
    }
  })

  await t.test('a promotion opens the snapshot to clients at the same path, and no other', async () => {
    const [first, ...others] = snapshots
    assert.deepEqual(await api.post('signalbox/promotions/', { distributions: [first!.pulp_href], guard: release.pulp_href }), {
      guard: release.pulp_href,
      promoted: 1,
      unchanged: 0,
      images: [],
      untagged: 0,
    })
    for (const { base_path } of others)
      assert.equal((await getContent(server, `${base_path}/repodata/repomd.xml`, { as: client })).status, 403)
    const { root } = await install(first!.base_path, client)
    assert.equal(await installed(root), 'app 1.0-1')
    assert.match((await install(others.at(-1)!.base_path, client, true)).stderr, /Status code: 403/)
  })

  await t.test('an upstream that did not change costs three requests at most and makes nothing', async () => {
    const [version, requests] = [await mirror.latest(), upstream.requests.length]
    const task = await mirror.sync()
    assert.deepEqual(task.created_resources, [])
    assert.equal((await mirror.latest()).pulp_href, version.pulp_href)
    assert.ok(upstream.requests.length - requests <= 3, upstream.requests.slice(requests).join(' '))
  })

  await t.test('a restart finds everything as it was', async () => {
    assert.equal(await server.stop(), 0)
    await server.start()
    assert.equal(await installed((await install(snapshots[0]!.base_path, client)).root), 'app 1.0-1')
  })
}
