import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { openDatabase } from '../../src/store/database.ts'
import { addSynced, openImageCtx } from '../syncing-images.ts'
import { makeLayout } from './image-layout.ts'
import { type OtherRegistry, registryUser, startOtherRegistry } from './other-registry.ts'
import { missing, run, temporaryDirectory } from './run.ts'

/* Images pushed by skopeo to registries that others run, and synced from there. */

const { username, password } = registryUser
const credentials = `${username}:${password}`

async function push({ host }: OtherRegistry, from: string, to: string, ...more: string[]): Promise<void> {
  const insecure = ['--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false', `--dest-creds=${credentials}`]
  await run('skopeo', [...insecure, ...more, from, `docker://${host}/${to}`])
}

/** The manifest that a registry has, as a client sees it. */
async function digestAt({ host }: OtherRegistry, reference: string): Promise<string> {
  const { stdout } = await run('skopeo', [
    'inspect',
    '--raw',
    '--tls-verify=false',
    `--creds=${credentials}`,
    `docker://${host}/${reference}`,
  ])
  return `sha256:${createHash('sha256').update(stdout).digest('hex')}`
}

for (const [program, auth] of [
  ['docker-registry', 'basic'],
  ['docker-registry', 'token'],
  ['registry', 'token'],
  ['registry', 'none'],
] as const) {
  // Only Debian's is among what bin/setup installs.
  const reason = program === 'registry' ? await absent(program) : await missing(program, 'skopeo', 'openssl')
  test(`images in ${program} (${auth}) are synced as they are, and what is the same is not read again`, {
    skip: reason,
    timeout: 240_000,
  }, async (t) => {
    const registry = await startOtherRegistry(t, program, auth)
    const layout = await makeLayout(await temporaryDirectory(t))
    const large = await layout.addImage('large', 'large', { large: randomBytes(3_000_000) })
    const list = await layout.addList('multi', 'one', ['amd64', 'arm64', 's390x'])
    await push(registry, layout.reference('large'), 'ns/app:large')
    await push(registry, layout.reference('large'), 'ns/app:docker', '--format=v2s2')
    await push(registry, layout.reference('multi'), 'ns/app:multi', '--all')
    const expected: Record<string, string> = { large: large.digest, multi: list.digest }
    expected['docker'] = await digestAt(registry, 'ns/app:docker')
    if (program === 'docker-registry') {
      await push(registry, layout.reference('large'), 'ns/app:first', '--format=v2s1')
      const answer = await fetch(`${registry.url}/v2/ns/app/manifests/first`, { method: 'HEAD' })
      if (answer.ok) expected['first'] = answer.headers.get('docker-content-digest')!
    }

    const db = await openDatabase(':memory:')
    t.after(() => db.destroy())
    const ctx = await openImageCtx(t, db)
    const synced = await addSynced(ctx, registry, 'ns/app', { username, password })
    await synced.sync()
    const { first, ...tags } = await synced.tags()
    const { first: _, ...rest } = expected
    assert.deepEqual(tags, rest)
    assert.equal(first !== undefined, program === 'docker-registry')
    assert.equal((await synced.storedBlobs()).length, (await synced.keysOf('blob')).length)
    assert.ok((await synced.keysOf('manifest')).length >= 6)

    registry.requests.length = synced.made.length = 0
    await synced.sync({ mirror: true })
    await synced.sync({ mirror: true })
    assert.deepEqual(synced.made, [])
    assert.deepEqual(
      registry.requests.filter((request) => /^GET \/v2\/.*\/(manifests|blobs)\//.test(request)),
      [],
    )
    await layout.addImage('large', 'another')
    await push(registry, layout.reference('large'), 'ns/app:large')
    registry.requests.length = 0
    await synced.sync({ mirror: true })
    assert.equal((await synced.tags())['large'], await digestAt(registry, 'ns/app:large'))
    assert.equal(registry.requests.filter((request) => /^GET \/v2\/.*\/manifests\/sha256/.test(request)).length, 1)
  })
}

async function absent(program: string): Promise<string | false> {
  const found = await run('sh', ['-c', `command -v ${program}`], { mayFail: true })
  return found.code === 0 ? false : `${program} (distribution 3) is not on the path`
}
