import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Repository } from '../../src/api/resources.ts'
import { makeSigningKey } from '../signing.ts'
import { makeMirror } from './mirror.ts'
import { buildRpms, createRepository, dnf } from './rpms.ts'
import { cannotInstall, run, temporaryDirectory } from './run.ts'
import { contentUrl, getContent, program, type Scope, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

/* Metadata that the server signs, and dnf checks. */

const skip = await cannotInstall()

test('dnf installs from a repository whose metadata is signed, and refuses it when somebody changed it', {
  skip,
  timeout: 240_000,
}, async (t) => {
  const server = await startServer(t)
  const key = await makeSigningKey(t)
  const directory = await temporaryDirectory(t)
  await buildRpms(directory, [{ name: 'app' }])
  await createRepository(directory)
  const upstream = await serveFiles(t, directory)

  const words = ['metadata', await key.detached(), key.fingerprint, '--gnupghome', key.home, '--data', server.data]
  await run(program, ['signing-service', 'add', ...words])
  const pulp = await server.api.get<{ results: { pulp_href: string }[] }>('signing-services/?name=metadata')
  const mirror = await makeMirror(server, {
    name: 'signed',
    url: upstream.url,
    repository: {
      metadata_signing_service: pulp.results[0]!.pulp_href,
      repo_config: { repo_gpgcheck: 1 },
    },
  })
  await mirror.sync()
  const published = await mirror.publish()
  await mirror.distribute('signed', { generate_repo_config: true })
  assert.equal((await mirror.publish()).pulp_href, published.pulp_href)

  const bytesOf = async (path: string) => (await getContent(server, `signed/${path}`)).text()
  assert.equal(await bytesOf('repodata/repomd.xml.key'), await readFile(key.publicKey, 'utf8'))
  assert.equal((await getContent(server, 'signed/repodata/repomd.xml.asc')).headers.get('cache-control'), 'no-cache')
  const config = await bytesOf('config.repo')
  assert.match(config, /^repo_gpgcheck=1$/m)

  const install = async (text: string) => {
    const root = await temporaryDirectory(t)
    await writeFile(join(root, 'signed.repo'), text)
    const options = [`--installroot=${root}`, `--setopt=reposdir=${root}`, `--setopt=cachedir=${root}/cache`]
    const settings = ['--noplugins', '--releasever=9', '--forcearch=x86_64', '--setopt=module_platform_id=platform:el9']
    return {
      root,
      ...(await run('dnf', ['-y', ...options, ...settings, 'install', 'app'], { mayFail: true, env: { HOME: root } })),
    }
  }
  const good = await install(config)
  assert.equal(good.code, 0, good.stderr)
  assert.equal((await readFile(join(good.root, 'usr/share/app/version'), 'utf8')).trim(), 'app 1.0-1')

  const between = await tamper(t, contentUrl(server, 'signed'))
  const bad = await install(config.replace(/^baseurl=.*$/m, `baseurl=${between}`))
  assert.notEqual(bad.code, 0)
  assert.match(bad.stderr, /(repomd\.xml )?GPG signature verification error|Bad GPG signature|signature/i)

  // What was published before it was signed stays as it was, and is told from what is.
  await server.api.update(mirror.repository.pulp_href, { metadata_signing_service: null })
  const plain = await mirror.publish()
  assert.notEqual(plain.pulp_href, published.pulp_href)
  const { metadata_signing_service } = await server.api.get<Repository & Record<string, unknown>>(mirror.repository.pulp_href)
  assert.equal(metadata_signing_service, null)
  await mirror.distribute('plain', { publication: plain.pulp_href, generate_repo_config: true })
  assert.doesNotMatch(await (await getContent(server, 'plain/config.repo')).text(), /gpgkey/)
  assert.equal((await getContent(server, 'plain/repodata/repomd.xml.asc')).status, 404)
  const unsigned = await dnf(await temporaryDirectory(t), contentUrl(server, 'plain'), {
    repo_gpgcheck: '1',
    gpgkey: `file://${key.publicKey}`,
  })(['install', 'app'], true)
  assert.notEqual(unsigned.code, 0)
})

test('a publication fails, and says why, when its metadata cannot be signed', { skip, timeout: 120_000 }, async (t) => {
  const server = await startServer(t)
  const key = await makeSigningKey(t)
  const directory = await temporaryDirectory(t)
  await createRepository(directory)
  const upstream = await serveFiles(t, directory)
  const script = await key.detached()
  await run(program, ['signing-service', 'add', 's', script, key.fingerprint, '--gnupghome', key.home, '--data', server.data])
  const { results } = await server.api.get<{ results: { pulp_href: string }[] }>('signing-services/')
  const mirror = await makeMirror(server, {
    name: 'r',
    url: upstream.url,
    repository: { metadata_signing_service: results[0]!.pulp_href },
  })
  await mirror.sync()
  await key.script('detached.sh', 'echo the token is locked >&2', 'exit 2')
  await assert.rejects(mirror.publish(), /The signing script .*detached\.sh failed with code 2: the token is locked/)
  assert.equal(await mirror.findPublication(), undefined)
})

/** A mirror that changes what the metadata says. */
async function tamper(t: Scope, base: string): Promise<string> {
  const server = createServer((req, res) => {
    void (async () => {
      const response = await fetch(`${base}${req.url!.slice(1)}`)
      const bytes = Buffer.from(await response.arrayBuffer())
      const changed = req.url!.endsWith('repomd.xml') ? Buffer.from(bytes.toString().replace('<revision>', '<revision>1')) : bytes
      res.writeHead(response.status).end(changed)
    })()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}
