import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, test, type TestContext } from 'node:test'
import { runFirstTrain } from './first-train.ts'
import { countOf, makeGuard, makeMirror, type Mirror } from './mirror.ts'
import { copyRepository, repack } from './repack.ts'
import { dnf, type Key, makeKey } from './rpms.ts'
import { cannotInstall, openFileScope, run, temporaryDirectory } from './run.ts'
import { contentUrl, getContent, startServer, type TestServer } from './server.ts'
import { filesIn, freePort, makeNights, serveFiles, type Served, startNginx } from './upstream.ts'

const skip = await cannotInstall()
const scope = openFileScope()
const complete = { sync_policy: 'mirror_complete' }
let server: TestServer
let upstream: Served
let nights: string[]
let key: Key

before(async () => {
  if (skip) return
  const directory = await temporaryDirectory(scope)
  key = await makeKey(directory)
  nights = await makeNights(directory, key)
  upstream = await serveFiles(scope, nights[0]!)
  server = await startServer(scope)
})

test('from an upstream repository to a client', { skip, timeout: 180_000 }, (t) =>
  runFirstTrain(t, { server, upstream, nights, key }),
)

/** Installs app from a repository that anyone may read, and returns what it brought. */
async function installApp(t: TestContext, path: string, from = server): Promise<string> {
  const root = await temporaryDirectory(t)
  await dnf(root, contentUrl(from, path), { gpgcheck: '1', gpgkey: `file://${key.publicKey}` })(['install', 'app'])
  return (await readFile(join(root, 'usr/share/app/version'), 'utf8')).trim()
}

const packagesIn = (requests: readonly string[]) => requests.filter((path) => path.endsWith('.rpm'))

for (const policy of ['on_demand', 'streamed'] as const)
  test(`with policy ${policy} packages are fetched when a client asks for them`, { skip, timeout: 60_000 }, async (t) => {
    const own = await serveFiles(t, nights[1]!)
    const mirror = await makeMirror(await ownServer(t), { name: policy, url: own.url, remote: { policy }, sync: complete })
    await mirror.sync()
    assert.deepEqual(packagesIn(own.requests), [])
    await mirror.distribute(policy)
    assert.equal(await installApp(t, policy, other), 'app 2.0-1')
    assert.equal(packagesIn(own.requests).length, 2)
    assert.equal(await installApp(t, policy, other), 'app 2.0-1')
    assert.equal(packagesIn(own.requests).length, policy === 'on_demand' ? 2 : 4, 'only streamed packages are not kept')
  })

test('when the upstream is gone, what was fetched is served and the rest is an error', { skip, timeout: 60_000 }, async (t) => {
  const own = await serveFiles(t, nights[1]!)
  const mirror = await makeMirror(await ownServer(t), {
    name: 'gone',
    url: own.url,
    remote: { policy: 'on_demand', max_retries: 0 },
    sync: complete,
  })
  await mirror.sync()
  await mirror.distribute('gone')
  const status = async (name: string) => (await getContent(other, `gone/Packages/${name}`)).status
  assert.equal(await status('lib-1.2-1.noarch.rpm'), 200)
  own.files = new Map()
  assert.equal(await status('lib-1.2-1.noarch.rpm'), 200)
  assert.equal(await status('app-2.0-1.noarch.rpm'), 502)
  own.intercept = (_, response) => !response.destroy().writable
  assert.ok((await status('docs-1.0-1.noarch.rpm')) >= 500)
  const root = await temporaryDirectory(t)
  const { code, stderr } = await dnf(root, contentUrl(other, 'gone'))(['install', 'app'], true)
  assert.deepEqual([code, /Status code: \d+|Cannot download/.test(stderr)], [1, true], stderr)
})

/* The server of the first tests has all packages by now: where bytes must come from upstream, another one is needed. */
let other: TestServer
async function ownServer(t: TestContext): Promise<TestServer> {
  other = await startServer(t)
  return other
}

test('dnf reposync brings the whole mirror, byte by byte', { skip, timeout: 60_000 }, async (t) => {
  const mirror = await makeMirror(server, { name: 'whole', url: (await serveFiles(t, nights[2]!)).url, sync: complete })
  await mirror.sync()
  await mirror.distribute('whole')
  const root = await temporaryDirectory(t)
  const target = join(root, 'mirror')
  await dnf(root, contentUrl(server, 'whole'))(['reposync', '--download-metadata', '--norepopath', '--download-path', target])
  const [upstreams, ours] = [await filesIn(nights[2]!), await filesIn(target)]
  const served = [...upstreams.keys()].filter((path) => !path.endsWith('repomd.xml.asc'))
  assert.deepEqual([...ours.keys()].toSorted(), served.toSorted())
  for (const [path, bytes] of ours) assert.equal(hashOf(bytes), hashOf(upstreams.get(path)!), path)
  assert.deepEqual(await bytesAt('whole/repodata/repomd.xml.asc'), upstreams.get('repodata/repomd.xml.asc'))
})

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const bytesAt = async (path: string) => Buffer.from(await (await getContent(server, path)).arrayBuffer())

test('an nginx that asks for a password is synced from with one, and not without', { skip, timeout: 60_000 }, async (t) => {
  const url = await startNginx(t, nights[1]!, await temporaryDirectory(t), ['reader', 'its-password'])
  const without = await makeMirror(server, { name: 'nginx-without', url })
  await assert.rejects(without.sync(), /401/)
  const mirror = await makeMirror(server, {
    name: 'nginx',
    url,
    remote: { username: 'reader', password: 'its-password' },
    sync: complete,
  })
  await mirror.sync()
  await mirror.distribute('nginx')
  assert.equal(await installApp(t, 'nginx'), 'app 2.0-1')
})

test('a list of mirrors leads to the first that answers', { skip, timeout: 60_000 }, async (t) => {
  const directory = await temporaryDirectory(t)
  const dead = `http://127.0.0.1:${await freePort()}/`
  const good = (await serveFiles(t, nights[1]!)).url
  const stale = (await serveFiles(t, nights[0]!)).url
  await writeFile(join(directory, 'mirrorlist'), `# mirrors\n${dead}\n${good}\n`)
  const repomd = await readFile(join(nights[1]!, 'repodata/repomd.xml'))
  const urls = [dead, stale, good].map(
    (url, index) => `<url protocol="http" preference="${100 - index}">${url}repodata/repomd.xml</url>`,
  )
  await writeFile(
    join(directory, 'metalink'),
    `<?xml version="1.0"?><metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="repomd.xml"><size>${repomd.length}</size>
<verification><hash type="sha256">${hashOf(repomd)}</hash></verification><resources>${urls.join('')}</resources></file></files></metalink>`,
  )
  const lists = await serveFiles(t, directory)
  for (const list of ['mirrorlist', 'metalink']) {
    const remote = { max_retries: 0 }
    const mirror = await makeMirror(server, { name: list, url: `${lists.url}${list}`, remote, sync: complete })
    await mirror.sync()
    await mirror.distribute(list)
    assert.deepEqual(await bytesAt(`${list}/repodata/repomd.xml`), repomd)
    assert.match((await bytesAt(`${list}/Packages/app-2.0-1.noarch.rpm`)).subarray(0, 4).toString('hex'), /^edabeedb$/)
  }
})

test('what one mirror lacks is taken from the next', { skip, timeout: 60_000 }, async (t) => {
  const [poor, good] = [await serveFiles(t, nights[1]!), await serveFiles(t, nights[1]!)]
  poor.intercept = (path, response) => {
    if (!path.endsWith('.rpm')) return false
    response.writeHead(path.includes('app') ? 404 : 500).end()
    return true
  }
  const list = await serveFiles(t, new Map([['mirrorlist', Buffer.from(`${poor.url}\n${good.url}\n`)]]))
  const site = await startServer(t)
  const mirror = await makeMirror(site, {
    name: 'poor',
    url: `${list.url}mirrorlist`,
    remote: { max_retries: 0 },
    sync: complete,
  })
  await mirror.sync()
  assert.equal(packagesIn(good.requests).length, 5)
})

test('metadata may be packed in any way', { skip, timeout: 90_000 }, async (t) => {
  const root = await temporaryDirectory(t)
  for (const packing of ['zst', 'xz', 'bz2', 'none'] as const) {
    const directory = join(root, packing)
    await copyRepository(nights[0]!, directory)
    await repack(directory, packing)
    const url = (await serveFiles(t, directory)).url
    const mirror = await makeMirror(server, { name: `packed-${packing}`, url, sync: { sync_policy: 'mirror_content_only' } })
    await mirror.sync()
    assert.deepEqual(await countsOf(mirror), { packages: 5, advisories: 2, groups: 2, modules: 1 }, packing)
    await mirror.publish()
    await mirror.distribute(`packed-${packing}`)
    if (packing === 'zst') assert.equal(await installApp(t, `packed-${packing}`), 'app 1.0-1')
  }
})

async function countsOf(mirror: Mirror) {
  const version = await mirror.latest()
  const count = (type: string) => countOf(version, `rpm.${type}`)
  return {
    packages: count('package'),
    advisories: count('advisory'),
    groups: count('packagegroup'),
    modules: count('modulemd'),
  }
}

test('a client site mirrors what is released to it, and nothing else', { skip, timeout: 90_000 }, async (t) => {
  const credentials = ['site', 'the-password-of-site'] as const
  const guard = await makeGuard(server, 'for-sites', credentials)
  const mirror = await makeMirror(server, { name: 'for-sites', url: (await serveFiles(t, nights[3]!)).url, sync: complete })
  await mirror.sync()
  await mirror.distribute('for-sites/released', { content_guard: guard.pulp_href })
  await mirror.distribute('for-sites/unreleased', {
    content_guard: (await makeGuard(server, 'nobody', ['nobody', 'at-all-1234'])).pulp_href,
  })

  const site = await startServer(t)
  const [username, password] = credentials
  const from = (path: string) => ({
    name: path,
    url: contentUrl(server, `for-sites/${path}`),
    remote: { username, password },
    sync: complete,
  })
  await assert.rejects((await makeMirror(site, from('unreleased'))).sync(), /403/)
  const released = await makeMirror(site, from('released'))
  await released.sync()
  await released.distribute('apps')
  const root = await temporaryDirectory(t)
  const checks = { gpgcheck: '1', repo_gpgcheck: '1', gpgkey: `file://${key.publicKey}` }
  await dnf(root, contentUrl(site, 'apps'), checks)(['install', 'app'])
  assert.equal((await readFile(join(root, 'usr/share/app/version'), 'utf8')).trim(), 'app 4.0-1')
})

test('dnf takes the config.repo that a distribution writes', { skip, timeout: 60_000 }, async (t) => {
  const upstream = await serveFiles(t, nights[1]!)
  const mirror = await makeMirror(server, { name: 'configured', url: upstream.url, sync: { sync_policy: 'mirror_content_only' } })
  await mirror.sync()
  const gpgkey = `file://${key.publicKey}`
  await mirror.publish({ repo_config: { gpgcheck: 1, gpgkey } })
  await mirror.distribute('configured', { generate_repo_config: true })
  const root = await temporaryDirectory(t)
  const config = await (await getContent(server, 'configured/config.repo')).text()
  assert.match(config, new RegExp(`^\\[configured\\]\nname=configured\nbaseurl=${contentUrl(server, 'configured')}\n`))
  await writeFile(join(root, 'configured.repo'), config)
  await run('dnf', [
    '-y',
    '--noplugins',
    `--installroot=${root}`,
    `--setopt=reposdir=${root}`,
    '--releasever=9',
    '--forcearch=x86_64',
    'install',
    'app',
  ])
  assert.equal((await readFile(join(root, 'usr/share/app/version'), 'utf8')).trim(), 'app 2.0-1')
})

test('an upstream whose repomd.xml somebody else signed, or nobody, is refused', { skip, timeout: 60_000 }, async (t) => {
  const directory = await temporaryDirectory(t)
  await copyRepository(nights[0]!, join(directory, 'repository'))
  const upstream = await serveFiles(t, join(directory, 'repository'))
  const gpgkey = await readFile(key.publicKey, 'utf8')
  const mirror = await makeMirror(server, { name: 'signed', url: upstream.url, remote: { gpgkey }, sync: complete })
  await (await makeKey(directory)).signRepomd(join(directory, 'repository'))
  await assert.rejects(mirror.sync(), /The repomd\.xml is signed by [0-9A-F]{16}, which does not verify with the trusted key/)
  await rm(join(directory, 'repository/repodata/repomd.xml.asc'))
  await assert.rejects(mirror.sync(), /no signature of its repomd\.xml/)
  await key.signRepomd(join(directory, 'repository'))
  await mirror.sync()
  assert.equal((await mirror.latest()).number, 1)
})
