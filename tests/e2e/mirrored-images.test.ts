import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { connect } from '../../src/api/client.ts'
import { connectRegistry } from '../../src/api/registry.ts'
import type { ContainerDistribution } from '../../src/api/resources.ts'
import { makeDemoImage } from '../../src/cli/demo-image.ts'
import { serve } from '../../src/serve.ts'
import { runCli } from '../command-line.ts'
import { forEachDatabase } from '../databases.ts'
import { temporaryDirectory } from './run.ts'

const password = 'a password for tests'

async function openServer(t: TestContext, directory: string, database?: string) {
  const options = { data: directory, host: '127.0.0.1', port: 0, adminPassword: password, logLevel: 'silent', database }
  const server = await serve(options)
  t.after(() => server.close())
  const api = connect({ url: server.url, username: 'admin', password })
  return { url: server.url, api, registry: connectRegistry({ url: server.url, username: 'admin', password }) }
}

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: an image of another registry is mirrored, pinned by digest and promoted`, { timeout: 240_000 }, async (t) => {
    const directory = await temporaryDirectory(t)
    const upstream = await openServer(t, join(directory, 'upstream'))
    const { url, api, registry } = await openServer(t, join(directory, 'var'), await makeDatabase(t))
    const config = join(directory, 'train.yaml')
    await writeFile(
      config,
      `train: tower
server: ${url}
repositories:
images:
  mirrored:
    ceph:
      upstream: "${upstream.url}/quay/ceph/ceph"
      tags: [v18, "v17.*"]
      username: admin
      password: { env: UPSTREAM_PASSWORD }
  development: x-dev
  release: x
lines:
  demo: { repositories: [], images: [ceph] }
`,
    )
    const env = { SIGNALBOX_PASSWORD: password, UPSTREAM_PASSWORD: password }
    const cli = (...words: string[]) => runCli([...words, '--config', config], env)
    const json = async (...words: string[]) => JSON.parse((await cli(...words, '--json')).out)
    const push = (tag: string, line: string) =>
      upstream.registry.push('quay/ceph/ceph', tag, makeDemoImage(line, '2026-11-01T02:00:00Z'))

    const first = await push('v18', 'eighteen')
    await push('v17.2', 'seventeen')
    await push('v16', 'sixteen')
    assert.equal((await cli('apply')).code, 0)
    assert.equal((await cli('apply', '--check')).code, 3)
    const served = await api.find<ContainerDistribution>('distributions/container/container/', { name: 'x-dev/ceph' })
    assert.equal(served!.private, true)

    await t.test('before a sync there is nothing to pin; a sync brings the tags that are asked for', async () => {
      assert.match((await cli('pin')).err, /ceph: no tag v18 in x-dev\/ceph yet\. Run "signalbox sync ceph"\./)
      const synced = await cli('sync', 'ceph')
      assert.match(synced.out, /x-dev\/ceph +✓ 2 synced +→ \d{8}T\d{6}\n/, synced.err)
      assert.match((await cli('sync')).out, /x-dev\/ceph +✓ unchanged/)
      assert.equal(await registry.pull('x-dev/ceph', 'v18'), first)
      await assert.rejects(registry.pull('x-dev/ceph', 'v16'), { code: 'not_found' })
    })

    await t.test('a pin has the digest, and a tag that moved upstream is not what was pinned', async () => {
      const { changes } = await json('pin')
      assert.deepEqual(changes, [{ image: 'ceph', to: `v18@${first}` }])
      assert.equal((await json('promote')).promoted.length, 1)
      assert.equal(await registry.pull('x/ceph', 'v18'), first)

      const second = await push('v18', 'another eighteen')
      await cli('sync')
      assert.equal(await registry.pull('x-dev/ceph', 'v18'), second)
      assert.equal(await registry.pull('x/ceph', 'v18'), first)
      const { code, err } = await cli('promote')
      assert.equal(code, 1)
      assert.match(err, new RegExp(`x-dev/ceph:v18 is ${second}, not ${first}\\.`))
      assert.equal(await registry.pull('x/ceph', 'v18'), first)

      await cli('pin')
      assert.match(await readFile(join(directory, 'pins/demo.yaml'), 'utf8'), new RegExp(`ceph: v18@${second}\n`))
      assert.equal((await cli('promote')).code, 0)
      assert.equal(await registry.pull('x/ceph', 'v18'), second)
    })

    await t.test('a failing upstream is told in status, and what is there stays', async () => {
      await writeFile(config, (await readFile(config, 'utf8')).replace('quay/ceph/ceph"', 'quay/nothing"'))
      assert.equal((await cli('apply')).code, 0)
      const { code, out } = await cli('sync', '--retries', '0')
      assert.equal(code, 1)
      assert.match(out, /x-dev\/ceph +✗ .+; kept \d{8}T\d{6}\n/)
      assert.match((await cli('status')).out, /failing\n +✗ x-dev\/ceph .+\nTry again: signalbox sync x-dev\/ceph\n/)
      assert.equal((await cli('sync', 'x-dev/ceph', '--dry-run')).code, 0)
      await registry.pull('x-dev/ceph', 'v18')
    })
  })
})
