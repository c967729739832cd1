import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Distribution, Remote, Repository } from '../../src/api/resources.ts'
import { makeLayout } from './image-layout.ts'
import { registryUser, startOtherRegistry } from './other-registry.ts'
import { missing, run, temporaryDirectory } from './run.ts'
import { adminPassword, startServer, type TestServer } from './server.ts'

/* Images on their way through several servers: pushed to Debian's registry, synced by ours, from there by another of ours, pulled by skopeo. */

const skip = await missing('docker-registry', 'skopeo', 'openssl')
const hostOf = ({ url }: { url: string }) => new URL(url).host
const own = `admin:${adminPassword}`

async function skopeo(...args: string[]): Promise<string> {
  return (await run('skopeo', ['--insecure-policy', ...args])).stdout
}

async function digestAt(url: string, reference: string, credentials: string): Promise<string> {
  const raw = await skopeo(
    'inspect',
    '--raw',
    '--tls-verify=false',
    `--creds=${credentials}`,
    `docker://${hostOf({ url })}/${reference}`,
  )
  return `sha256:${createHash('sha256').update(raw).digest('hex')}`
}

/** A repository that is synced from an image, and the distribution that serves it under the same name. */
async function addSynced({ api }: TestServer, name: string, remote: Record<string, unknown>) {
  const made = await api.create<Remote>('remotes/container/container/', { name, upstream_name: name, ...remote })
  const repository = await api.create<Repository>('repositories/container/container/', { name })
  const { pulp_href } = repository
  await api.create<Distribution>('distributions/container/container/', {
    name,
    base_path: name,
    repository: pulp_href,
    private: true,
  })
  return {
    made,
    sync: async (settings: Record<string, unknown> = {}) =>
      (await api.act(`${pulp_href}sync/`, { remote: made.pulp_href, ...settings })).created_resources,
  }
}

test('images go from registry to registry and keep their digests; what is away is served from where it is', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const { username, password } = registryUser
  const other = await startOtherRegistry(t, 'docker-registry', 'token')
  const layout = await makeLayout(await temporaryDirectory(t))
  const single = await layout.addImage('1.0', 'one', { large: randomBytes(12_000_000) })
  const list = await layout.addList('multi', 'one', ['amd64', 'arm64'])
  for (const [tag, ...more] of [['1.0'], ['multi', '--all']] as const)
    await skopeo(
      'copy',
      '--quiet',
      ...more,
      '--dest-tls-verify=false',
      `--dest-creds=${username}:${password}`,
      layout.reference(tag),
      `docker://${other.host}/ns/app:${tag}`,
    )

  const first = await startServer(t)
  const synced = await addSynced(first, 'ns/app', { url: other.url, username, password, policy: 'on_demand' })
  assert.equal((await synced.sync()).length, 1)
  assert.deepEqual(await synced.sync({ mirror: true }), [])
  assert.equal(await digestAt(first.url, 'ns/app:multi', own), list.digest)
  await assert.rejects(digestAt(first.url, 'ns/app:multi', 'admin:wrong'))

  await t.test('another of ours syncs from it with its tokens, and skopeo pulls what neither had', async (t) => {
    const second = await startServer(t)
    const further = await addSynced(second, 'ns/app', {
      url: first.url,
      username: 'admin',
      password: adminPassword,
      policy: 'on_demand',
    })
    assert.equal((await further.sync({ mirror: true })).length, 1)
    assert.deepEqual(await further.sync({ mirror: true }), [])
    const directory = await temporaryDirectory(t)
    await skopeo(
      'copy',
      '--quiet',
      '--all',
      '--src-tls-verify=false',
      `--src-creds=${own}`,
      `docker://${hostOf(second)}/ns/app:multi`,
      `dir:${directory}`,
    )
    for (const tag of ['1.0', 'multi'])
      assert.equal(await digestAt(second.url, `ns/app:${tag}`, own), tag === 'multi' ? list.digest : single.digest)
    const target = await temporaryDirectory(t)
    await skopeo(
      'copy',
      '--quiet',
      '--src-tls-verify=false',
      `--src-creds=${own}`,
      `docker://${hostOf(second)}/ns/app:1.0`,
      `oci:${target}:1.0`,
    )
  })

  await t.test('another of ours pulls through it, and serves what it has when that is away', async (t) => {
    const third = await startServer(t)
    const remote = await third.api.create<Remote>('remotes/container/pull-through/', {
      name: 'first',
      url: first.url,
      username: 'admin',
      password: adminPassword,
    })
    const place = { name: 'hub', base_path: 'hub', remote: remote.pulp_href, private: true }
    const hub = await third.api.create<Distribution & { distributions: string[] }>('distributions/container/pull-through/', place)
    const pull = async (tag: string) => {
      const directory = await temporaryDirectory(t)
      await skopeo(
        'copy',
        '--quiet',
        '--src-tls-verify=false',
        `--src-creds=${own}`,
        `docker://${hostOf(third)}/hub/ns/app:${tag}`,
        `dir:${directory}`,
      )
    }
    await pull('1.0')
    await pull('multi')
    const { distributions } = await third.api.get<typeof hub>(hub.pulp_href)
    assert.equal(distributions.length, 1)
    await first.stop()
    await pull('1.0')
    assert.equal(await digestAt(third.url, 'hub/ns/app:multi', own), list.digest)
    await assert.rejects(pull('none'))
  })
})
