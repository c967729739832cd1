import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { missing, openFileScope, run, temporaryDirectory } from './run.ts'
import { adminPassword, startServer } from './server.ts'

/* The registry, driven by the clients that people have: skopeo, umoci, podman and buildah of Debian; others where they are on the PATH. */

const reason =
  process.getuid?.() === 0
    ? await missing('skopeo', 'umoci', 'podman', 'buildah')
    : 'podman and buildah keep images only for root'
const scope = openFileScope()
const server = reason ? undefined : await startServer(scope)
const work = await temporaryDirectory(scope)
const host = server ? new URL(server.url).host : ''
const password = 'a-password-of-theirs'
const creds = { admin: `admin:${adminPassword}`, other: `other:${password}` }
const plain = ['--src-tls-verify=false', '--dest-tls-verify=false']

const digestOf = (bytes: Uint8Array | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const skopeo = (...args: string[]) => run('skopeo', args, { cwd: work })
/** What podman and buildah need to keep images without a kernel's help, apart from those of others. */
const storage = ['--root', join(work, 'storage'), '--runroot', join(work, 'run'), '--storage-driver', 'vfs']
const podman = (...args: string[]) =>
  run('podman', [...storage, ...args], { cwd: work, env: { REGISTRY_AUTH_FILE: join(work, 'auth.json') } })
const buildah = (...args: string[]) =>
  run('buildah', [...storage, ...args], { cwd: work, env: { REGISTRY_AUTH_FILE: join(work, 'auth.json') } })

interface Layout {
  /** By reference name. */
  digests: Record<string, string>
  blobs: ReadonlySet<string>
}

async function readLayout(directory: string): Promise<Layout> {
  const { manifests } = JSON.parse(await readFile(join(directory, 'index.json'), 'utf8'))
  const digests = manifests.map((each: any) => [each.annotations?.['org.opencontainers.image.ref.name'] ?? '', each.digest])
  return { digests: Object.fromEntries(digests), blobs: new Set(await readdir(join(directory, 'blobs/sha256'))) }
}

/** Every blob of a layout is what its name says. */
async function verifyLayout(directory: string): Promise<void> {
  for (const name of await readdir(join(directory, 'blobs/sha256')))
    assert.equal(digestOf(await readFile(join(directory, 'blobs/sha256', name))), `sha256:${name}`)
}

/** Two images of umoci's making in one layout: `two` has all layers of `one` and one more. */
async function makeLayout(): Promise<Layout> {
  const umoci = (...args: string[]) => run('umoci', args, { cwd: work })
  await umoci('init', '--layout', 'img')
  await umoci('new', '--image', 'img:one')
  await umoci('unpack', '--image', 'img:one', 'bundle')
  for (const tag of ['one', 'two']) {
    await writeFile(join(work, 'bundle/rootfs', tag), `the file of ${tag}\n`.repeat(5_000))
    await umoci('repack', '--image', `img:${tag}`, '--refresh-bundle', 'bundle')
  }
  await umoci('gc', '--layout', 'img')
  return readLayout(join(work, 'img'))
}

const made = reason ? undefined : await makeLayout()

async function get(path: string, as?: string): Promise<{ status: number; bytes: Buffer; body: unknown }> {
  const authorization = as && { authorization: `Basic ${Buffer.from(as).toString('base64')}` }
  const answer = await fetch(new URL(path, server!.url), { headers: { ...authorization } })
  const bytes = Buffer.from(await answer.arrayBuffer())
  return {
    status: answer.status,
    bytes,
    body: /json/.test(answer.headers.get('content-type') ?? '') ? JSON.parse(bytes.toString()) : undefined,
  }
}

test('skopeo pushes an image that umoci made, and pulls the same bytes', { skip: reason, timeout: 120_000 }, async () => {
  for (const tag of ['one', 'two'])
    await skopeo('copy', ...plain, '--dest-creds', creds.admin, `oci:img:${tag}`, `docker://${host}/dev/app:${tag}`)
  const { stdout } = await skopeo('list-tags', '--tls-verify=false', '--creds', creds.admin, `docker://${host}/dev/app`)
  assert.deepEqual(JSON.parse(stdout).Tags, ['one', 'two'])
  for (const tag of ['one', 'two']) {
    const { bytes } = await get(`/v2/dev/app/manifests/${tag}`, creds.admin)
    assert.equal(digestOf(bytes), made!.digests[tag])
    await skopeo(
      'copy',
      ...plain,
      '--src-creds',
      creds.admin,
      `docker://${host}/dev/app@${made!.digests[tag]}`,
      `oci:pulled:${tag}`,
    )
  }
  await verifyLayout(join(work, 'pulled'))
  assert.deepEqual(await readLayout(join(work, 'pulled')), made)
})

test('what was pushed first is private, and absent to everybody else', { skip: reason, timeout: 120_000 }, async () => {
  await server!.api.post('users/', { username: 'other', password })
  for (const as of [creds.other, undefined])
    for (const reference of ['one', made!.digests['one']!]) {
      const hidden = await get(`/v2/dev/app/manifests/${reference}`, as)
      const absent = await get(`/v2/dev/abs/manifests/${reference}`, as)
      assert.equal(hidden.status, as ? 404 : 401)
      assert.deepEqual(
        [hidden.status, hidden.bytes.toString().replaceAll('dev/app', 'dev/abs')],
        [absent.status, absent.bytes.toString()],
      )
    }
  for (const blob of made!.blobs) assert.equal((await get(`/v2/dev/app/blobs/sha256:${blob}`, creds.other)).status, 404)
  const refused = await run('skopeo', ['inspect', '--tls-verify=false', '--creds', creds.other, `docker://${host}/dev/app:one`], {
    mayFail: true,
  })
  assert.notEqual(refused.code, 0)
  const pushed = await run(
    'skopeo',
    ['copy', ...plain, '--dest-creds', creds.other, 'oci:img:one', `docker://${host}/dev/app:one`],
    { mayFail: true, cwd: work },
  )
  assert.notEqual(pushed.code, 0)
})

test('a copy to another repository mounts its layers, and keeps its digest', { skip: reason, timeout: 120_000 }, async () => {
  const both = ['--src-creds', creds.admin, '--dest-creds', creds.admin]
  await skopeo('copy', ...plain, ...both, `docker://${host}/dev/app:two`, `docker://${host}/dev/copy:two`)
  const { bytes } = await get('/v2/dev/copy/manifests/two', creds.admin)
  assert.equal(digestOf(bytes), made!.digests['two'])
})

test('skopeo sync mirrors a repository into a directory and into another namespace', {
  skip: reason,
  timeout: 120_000,
}, async () => {
  await writeFile(
    join(work, 'sync.yaml'),
    JSON.stringify({
      [host]: {
        images: { 'dev/app': [], 'dev/copy': ['two'] },
        credentials: { username: 'admin', password: adminPassword },
        'tls-verify': false,
      },
    }),
  )
  await mkdir(join(work, 'mirror'))
  await skopeo('sync', '--src', 'yaml', '--dest', 'dir', 'sync.yaml', 'mirror')
  assert.deepEqual(
    (await readdir(join(work, 'mirror'), { recursive: true })).filter((path) => path.endsWith('manifest.json')).length,
    3,
  )
  await skopeo(
    'sync',
    ...plain,
    '--dest-creds',
    creds.admin,

    '--src',
    'yaml',
    '--dest',
    'docker',
    'sync.yaml',
    `${host}/mirror`,
  )
  const catalog = await get('/v2/_catalog', creds.admin)
  const mirrored = (catalog.body as { repositories: string[] }).repositories.filter((name) => name.startsWith('mirror/'))
  assert.equal(mirrored.length, 2)
  for (const name of mirrored)
    assert.equal(digestOf((await get(`/v2/${name}/manifests/two`, creds.admin)).bytes), made!.digests['two'])
})

test('podman logs in, pulls by tag and by digest, and pushes', { skip: reason, timeout: 180_000 }, async () => {
  await podman('login', '--tls-verify=false', '-u', 'admin', '-p', adminPassword, host)
  await podman('pull', '--tls-verify=false', `${host}/dev/app:two`)
  const { stdout: digest } = await podman('image', 'inspect', '--format', '{{.Digest}}', `${host}/dev/app:two`)
  assert.equal(digest.trim(), made!.digests['two'])
  await podman('pull', '--tls-verify=false', `${host}/dev/app@${made!.digests['one']}`)
  await podman('tag', `${host}/dev/app:two`, `${host}/dev/podman:1`)
  await podman('push', '--tls-verify=false', `${host}/dev/podman:1`)
  const { status, body } = await get('/v2/dev/podman/manifests/1', creds.admin)
  assert.equal(status, 200)
  const { layers } = body as { layers: { digest: string }[] }
  for (const layer of layers) assert.equal((await get(`/v2/dev/podman/blobs/${layer.digest}`, creds.admin)).status, 200)
  await podman('logout', host)
  await assert.rejects(
    podman('pull', '--tls-verify=false', `${host}/dev/app:one`),
    /unauthorized|authentication required|denied/i,
  )
})

test('buildah pushes an image that it built from nothing, and a list of images', { skip: reason, timeout: 180_000 }, async () => {
  const login = ['--creds', creds.admin, '--tls-verify=false']
  const { stdout } = await buildah('from', 'scratch')
  const container = stdout.trim()
  await writeFile(join(work, 'payload'), 'built\n')
  await buildah('add', container, join(work, 'payload'), '/payload')
  await buildah('config', '--label', 'built=here', container)
  await buildah('commit', container, 'built')
  await buildah('push', ...login, 'built', `docker://${host}/dev/built:1`)
  const { status, body } = await get('/v2/dev/built/manifests/1', creds.admin)
  assert.equal(status, 200)
  const config = await get(`/v2/dev/built/blobs/${(body as { config: { digest: string } }).config.digest}`, creds.admin)
  assert.equal(JSON.parse(config.bytes.toString()).config.Labels.built, 'here')
  await buildah('manifest', 'create', 'several')
  await buildah('manifest', 'add', 'several', 'built')
  await buildah('manifest', 'push', '--all', ...login, 'several', `docker://${host}/dev/built:list`)
  const list = await get('/v2/dev/built/manifests/list', creds.admin)
  for (const { digest } of (list.body as { manifests: { digest: string }[] }).manifests)
    assert.equal(digestOf((await get(`/v2/dev/built/manifests/${digest}`, creds.admin)).bytes), digest)
})

test('skopeo deletes an image', { skip: reason, timeout: 60_000 }, async () => {
  await skopeo('delete', '--tls-verify=false', '--creds', creds.admin, `docker://${host}/dev/copy:two`)
  assert.equal((await get('/v2/dev/copy/manifests/two', creds.admin)).status, 404)
  assert.equal((await get('/v2/dev/app/manifests/two', creds.admin)).status, 200)
})

// ---- What Debian 12 does not have. No test depends on it: these say that they were skipped.

const lacks = async (...programs: string[]) => {
  if (reason) return reason
  for (const program of programs)
    if ((await run('sh', ['-c', `command -v ${program}`], { mayFail: true })).code !== 0) return `${program} is not on the PATH`
  return false
}

test('crane pushes, copies, tags, lists and pulls', { skip: await lacks('crane'), timeout: 120_000 }, async () => {
  const env = { DOCKER_CONFIG: join(work, 'docker') }
  const crane = (...args: string[]) => run('crane', [...args, '--insecure'], { cwd: work, env })
  await crane('auth', 'login', host, '-u', 'admin', '-p', adminPassword)
  await crane('copy', `${host}/dev/app:two`, `${host}/dev/crane:1`)
  await crane('tag', `${host}/dev/crane:1`, '2')
  assert.equal((await crane('digest', `${host}/dev/crane:2`)).stdout.trim(), made!.digests['two'])
  assert.deepEqual((await crane('ls', `${host}/dev/crane`)).stdout.trim().split('\n'), ['1', '2'])
  await crane('pull', '--format', 'oci', `${host}/dev/crane:1`, 'crane-pulled')
  await verifyLayout(join(work, 'crane-pulled'))
  await crane('push', 'crane-pulled', `${host}/dev/crane:3`)
  assert.equal((await crane('digest', `${host}/dev/crane:3`)).stdout.trim(), made!.digests['two'])
  await crane('validate', '--remote', `${host}/dev/crane:3`)
  assert.match((await crane('catalog', host)).stdout, /dev\/crane/)
  await crane('delete', `${host}/dev/crane@${made!.digests['two']}`)
  assert.equal((await crane('ls', `${host}/dev/crane`)).stdout.trim(), '')
})

test('oras attaches to an image, discovers it, and copies it along', {
  skip: await lacks('oras'),
  timeout: 120_000,
}, async () => {
  const login = ['--plain-http', '-u', 'admin', '-p', adminPassword]
  const oras = (...args: string[]) => run('oras', args, { cwd: work })
  await writeFile(join(work, 'sbom.json'), '{"sbom":true}')
  await oras(
    'attach',
    ...login,
    '--artifact-type',
    'application/vnd.example.sbom',
    `${host}/dev/app:one`,
    'sbom.json:application/json',
  )
  const { stdout } = await oras('discover', ...login, '--format', 'json', `${host}/dev/app:one`)
  assert.match(stdout, /application\/vnd\.example\.sbom/)
  const both = [
    '--from-plain-http',
    '--to-plain-http',
    '--from-username',
    'admin',
    '--from-password',
    adminPassword,
    '--to-username',
    'admin',
    '--to-password',
    adminPassword,
  ]
  await oras('cp', '-r', ...both, `${host}/dev/app:one`, `${host}/dev/oras:one`)
  assert.match(
    (await oras('discover', ...login, '--format', 'json', `${host}/dev/oras:one`)).stdout,
    /application\/vnd\.example\.sbom/,
  )
  await oras('push', ...login, `${host}/dev/artifact:1`, 'sbom.json:application/json')
  await mkdir(join(work, 'oras-pulled'))
  await oras('pull', ...login, '-o', 'oras-pulled', `${host}/dev/artifact:1`)
  assert.equal(await readFile(join(work, 'oras-pulled/sbom.json'), 'utf8'), '{"sbom":true}')
})

test('regctl copies an image with what refers to it', { skip: await lacks('regctl', 'oras'), timeout: 120_000 }, async () => {
  const env = { REGCTL_CONFIG: join(work, 'regctl.json') }
  const regctl = (...args: string[]) => run('regctl', args, { cwd: work, env })
  await regctl('registry', 'set', '--tls', 'disabled', host)
  await regctl('registry', 'login', '-u', 'admin', '-p', adminPassword, '--skip-check', host)
  await regctl('image', 'copy', '--referrers', `${host}/dev/app:one`, `${host}/dev/regctl:one`)
  assert.equal((await regctl('image', 'digest', `${host}/dev/regctl:one`)).stdout.trim(), made!.digests['one'])
  assert.match((await regctl('artifact', 'list', `${host}/dev/regctl:one`)).stdout, /application\/vnd\.example\.sbom/)
  assert.match((await regctl('tag', 'ls', `${host}/dev/regctl`)).stdout, /^one$/m)
  await regctl('tag', 'delete', `${host}/dev/regctl:one`)
  assert.equal((await get('/v2/dev/regctl/manifests/one', creds.admin)).status, 404)
})

test('cosign signs with a key, by tag and as a referrer, and verifies', {
  skip: await lacks('cosign'),
  timeout: 180_000,
}, async () => {
  const env = { COSIGN_PASSWORD: '', DOCKER_CONFIG: join(work, 'docker-cosign'), COSIGN_EXPERIMENTAL: '1', COSIGN_YES: '1' }
  const cosign = (...args: string[]) => run('cosign', args, { cwd: work, env })
  await mkdir(env.DOCKER_CONFIG)
  await writeFile(
    join(env.DOCKER_CONFIG, 'config.json'),
    JSON.stringify({ auths: { [host]: { auth: Buffer.from(creds.admin).toString('base64') } } }),
  )
  await cosign('generate-key-pair')
  const image = `${host}/dev/app@${made!.digests['two']}`
  const offline = ['--allow-insecure-registry', '--allow-http-registry', '--key']
  for (const mode of ['legacy', 'oci-1-1']) {
    await cosign(
      'sign',
      ...offline,
      'cosign.key',
      '--tlog-upload=false',
      '--use-signing-config=false',
      '--new-bundle-format=false',
      '--registry-referrers-mode',
      mode,
      image,
    )
    const verified = await cosign(
      'verify',
      ...offline,
      'cosign.pub',
      '--insecure-ignore-tlog=true',
      '--new-bundle-format=false',
      ...(mode === 'oci-1-1' ? ['--experimental-oci11'] : []),
      image,
    )
    assert.match(verified.stdout, new RegExp(made!.digests['two']!))
  }
  const tags = (await get('/v2/dev/app/tags/list', creds.admin)).body as { tags: string[] }
  assert.ok(tags.tags.includes(`${made!.digests['two']!.replace(':', '-')}.sig`))
})
