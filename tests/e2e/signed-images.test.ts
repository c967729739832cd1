import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ContainerDistribution, Remote, Repository } from '../../src/api/resources.ts'
import { makeSigningKey } from '../signing.ts'
import { makeLayout } from './image-layout.ts'
import { startOtherRegistry } from './other-registry.ts'
import { missing, run, temporaryDirectory } from './run.ts'
import { adminPassword, program, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

/* Signatures of images that skopeo and podman of Debian make, send and insist on. */

const reason =
  process.getuid?.() === 0
    ? await missing('skopeo', 'podman', 'gpg', 'gpgconf', 'docker-registry')
    : 'podman keeps images only for root'
const creds = `admin:${adminPassword}`

interface Trust {
  key: string
  /** Where an image was signed, if that is not where it is pulled from. */
  signedAs?: string
}

test('skopeo and podman take what the server signed, or what they signed themselves, and nothing else', {
  skip: reason,
  timeout: 600_000,
}, async (t) => {
  const server = await startServer(t, { env: { SIGNALBOX_UPSTREAM_ADDRESSES: 'private,127.0.0.0/8' } })
  const host = new URL(server.url).host
  const [key, other] = [await makeSigningKey(t), await makeSigningKey(t)]
  const directory = await temporaryDirectory(t)
  const layout = await makeLayout(join(directory, 'app'))
  await layout.addList('1.0', 'an app', ['amd64', 'arm64'])
  await layout.addImage('2.0', 'another app')
  let pulls = 0

  const skopeo = (words: readonly string[], env: Record<string, string> = {}) =>
    run('skopeo', words, { cwd: directory, env: { REGISTRY_AUTH_FILE: join(directory, 'none.json'), ...env }, mayFail: true })
  const push = async (tag: string, to: string, ...more: string[]) => {
    const words = ['copy', '--all', '--dest-tls-verify=false', ...more, layout.reference(tag), `docker://${to}`]
    const { code, stderr } = await skopeo(words, { GNUPGHOME: key.home })
    assert.equal(code, 0, stderr)
  }
  const writePolicy = async ({ key: keyPath, signedAs }: Trust) => {
    const signedIdentity = signedAs ? { type: 'exactRepository', dockerRepository: signedAs } : { type: 'matchRepoDigestOrExact' }
    const requirement = { type: 'signedBy', keyType: 'GPGKeys', keyPath, signedIdentity }
    const policy = { default: [{ type: 'reject' }], transports: { docker: { [host]: [requirement] } } }
    const path = join(directory, `policy-${++pulls}.json`)
    await writeFile(path, JSON.stringify(policy))
    return path
  }
  /** What skopeo says to a pull under a policy; '' when it takes the image. */
  const pull = async (from: string, trust: Trust, ...more: string[]) => {
    const policy = await writePolicy(trust)
    const words = ['--policy', policy, 'copy', ...more, '--src-tls-verify=false', '--src-creds', creds]
    const { code, stderr } = await skopeo([...words, `docker://${from}`, `dir:${join(directory, `pulled-${pulls}`)}`])
    return code === 0 ? '' : stderr
  }
  const trusted = { key: key.publicKey }
  const unsigned = /A signature was required, but no signature exists/
  const arm = ['--override-arch', 'arm64']

  const script = await key.script(
    'sign-image.sh',
    'skopeo standalone-sign "$1" "$REFERENCE" "$PULP_SIGNING_KEY_FINGERPRINT" --output "$SIG_PATH"',
    'echo "{\\"signature_path\\": \\"$SIG_PATH\\"}"',
  )
  const words = ['--class', 'container:ManifestSigningService', '--gnupghome', key.home, '--data', server.data]
  await run(program, ['signing-service', 'add', 'images', script, key.fingerprint, ...words])
  const { results } = await server.api.get<{ results: { pulp_href: string }[] }>('signing-services/')
  const service = { manifest_signing_service: results[0]!.pulp_href }

  await t.test('an image that the server signed, and each of its platforms', async () => {
    await push('1.0', `${host}/team/app:1.0`, '--dest-creds', creds)
    assert.match(await pull(`${host}/team/app:1.0`, trusted), unsigned)
    const pushed = await server.api.find<Repository>('repositories/container/container-push/', { name: 'team/app' })
    await server.api.act(`${pushed!.pulp_href}sign/`, service)
    assert.equal(await pull(`${host}/team/app:1.0`, trusted), '')
    assert.equal(await pull(`${host}/team/app:1.0`, trusted, '--all'), '')
    assert.equal(await pull(`${host}/team/app:1.0`, trusted, ...arm), '')
    assert.match(await pull(`${host}/team/app:1.0`, { key: other.publicKey }), /rejected/)
    assert.match(
      await pull(`${host}/team/app:1.0`, { ...trusted, signedAs: `${host}/team/else` }),
      /not match|not accepted|rejected/,
    )
    await push('2.0', `${host}/team/app:2.0`, '--dest-creds', creds)
    assert.match(await pull(`${host}/team/app:2.0`, trusted), unsigned)
  })

  await t.test('podman pulls what is signed, and refuses what is not', async () => {
    const storage = ['--root', join(directory, 'storage'), '--runroot', join(directory, 'run'), '--storage-driver', 'vfs']
    const podman = async (tag: string) => {
      const options = ['--tls-verify=false', '--creds', creds, '--signature-policy', await writePolicy(trusted)]
      return run('podman', [...storage, 'pull', ...options, `${host}/team/app:${tag}`], { cwd: directory, mayFail: true })
    }
    const good = await podman('1.0')
    assert.equal(good.code, 0, good.stderr)
    const bad = await podman('2.0')
    assert.notEqual(bad.code, 0)
    assert.match(bad.stderr, unsigned)
  })

  await t.test('an image that is pushed with a signature', async () => {
    await push('2.0', `${host}/team/signed:2.0`, '--dest-creds', creds, '--sign-by', key.fingerprint)
    assert.equal(await pull(`${host}/team/signed:2.0`, trusted), '')
    assert.match(await pull(`${host}/team/signed:2.0`, { key: other.publicKey }), /rejected/)
  })

  await t.test('a mirror of it, with the signatures of its upstream', async () => {
    await mirror('mirror/app', 'team/app', { url: server.url, username: 'admin', password: adminPassword }, { signed_only: true })
    const signedAs = `${host}/team/app`
    assert.equal(await pull(`${host}/mirror/app:1.0`, { ...trusted, signedAs }), '')
    assert.equal(await pull(`${host}/mirror/app:1.0`, { ...trusted, signedAs }, ...arm), '')
    assert.match(await pull(`${host}/mirror/app:2.0`, { ...trusted, signedAs }), /manifest unknown|no manifest/i)
  })

  await t.test('a mirror whose upstream has its signatures in a sigstore', async () => {
    const upstream = await startOtherRegistry(t, 'docker-registry')
    const [store, registries] = [join(directory, 'sigstore'), join(directory, 'registries.d')]
    for (const each of [store, registries]) await mkdir(each)
    const staging = `docker:\n  ${upstream.host}:\n    sigstore-staging: file://${store}\n`
    await writeFile(join(registries, 'upstream.yaml'), staging)
    const run = ['--registries.d', registries, 'copy', '--dest-tls-verify=false', '--sign-by', key.fingerprint]
    const { code, stderr } = await skopeo([...run, layout.reference('2.0'), `docker://${upstream.host}/ns/app:2.0`], {
      GNUPGHOME: key.home,
    })
    assert.equal(code, 0, stderr)
    await push('1.0', `${upstream.host}/ns/app:1.0`)
    const { url: sigstore } = await serveFiles(t, store)
    await mirror('mirror/beside', 'ns/app', { url: upstream.url, sigstore }, { signed_only: true })
    assert.equal(await pull(`${host}/mirror/beside:2.0`, { ...trusted, signedAs: `${upstream.host}/ns/app` }), '')
    assert.match(await pull(`${host}/mirror/beside:1.0`, trusted), /manifest unknown|no manifest/i)
  })

  async function mirror(path: string, upstream: string, from: Record<string, unknown>, settings: Record<string, unknown>) {
    const remote = await server.api.create<Remote>('remotes/container/container/', {
      name: path,
      upstream_name: upstream,
      ...from,
    })
    const named = { name: path, remote: remote.pulp_href }
    const repository = await server.api.create<Repository>('repositories/container/container/', named)
    await server.api.act(`${repository.pulp_href}sync/`, settings)
    const served = { name: path, base_path: path, repository: repository.pulp_href }
    await server.api.create<ContainerDistribution>('distributions/container/container/', served)
  }
})
