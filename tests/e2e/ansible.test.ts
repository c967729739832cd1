import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { forEachDatabase } from '../databases.ts'
import { openPulp } from '../pulp.ts'
import { makeImages, serveImages } from '../image-upstream.ts'
import { makeRepository, serve } from '../rpm-upstream.ts'
import { missing, run, temporaryDirectory } from './run.ts'
import { adminPassword, startServer, type TestServer } from './server.ts'
import { openSqueezer, type Squeezer } from './squeezer.ts'

/*
 * The collections stackhpc.pulp 0.5 (roles) and pulp.squeezer 0.0.13 (modules) run release trains over Pulp servers. They are in no
 * registry that tests may ask, so what they send is told here, and where ANSIBLE_COLLECTIONS_PATH has them they run themselves.
 */

const downloader = 'core.rbaccontentguard_downloader'
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** The role pulp_content_guard: plain requests, form-encoded. Returns how many changed something. */
async function makeGuard({ send }: Squeezer, name: string, groups: readonly string[]): Promise<number> {
  const guards = '/pulp/api/v3/contentguards/core/rbac/'
  let changes = 0
  const known = (await send('GET', guards)).body.results.find((guard: any) => guard.name === name)
  if (known) assert.equal((await send('PATCH', known.pulp_href, { name, description: '' })).status, 200)
  else {
    assert.equal((await send('POST', guards, { name, description: '' })).status, 201)
    changes++
  }
  const [guard] = (await send('GET', `${guards}?name=${name}`)).body.results
  const { roles } = (await send('GET', `${guard.pulp_href}list_roles/`)).body
  const holders = roles.find(({ role }: any) => role === downloader)?.groups ?? []
  for (const group of groups.filter((each) => !holders.includes(each))) {
    const added = await send('POST', `${guard.pulp_href}add_role/`, { role: downloader, groups: group })
    assert.equal(added.status, 201)
    changes++
  }
  return changes
}

interface Night {
  url: string
  stamp: string
  credentials?: { username: string; password: string }
}

/** The roles pulp_repository, pulp_publication and pulp_distribution over one repository, as the train's nightly playbooks run them. */
async function runNight(squeezer: Squeezer, { url, stamp, credentials = {} as never }: Night): Promise<void> {
  await squeezer.checkVersions()
  const repository = await squeezer.present('repositories_rpm_rpm', { name: 'apps' })
  const wanted = { url, policy: 'immediate', ...credentials }
  const remote = await squeezer.present('remotes_rpm_rpm', { name: 'apps-remote' }, wanted)
  await squeezer.sync('repositories_rpm_rpm', repository, { remote: remote.pulp_href, sync_policy: 'mirror_complete' })

  const { latest_version_href: version } = await squeezer.get('repositories_rpm_rpm', { name: 'apps' })
  const publication = await squeezer.present('publications_rpm_rpm', { repository_version: version })

  const newest = (await squeezer.list('publications_rpm_rpm')).find((each) => each.repository === repository.pulp_href)
  assert.equal(newest.pulp_href, publication.pulp_href, 'lists begin with the newest')
  const distributions = await squeezer.list('distributions_rpm_rpm')
  if (distributions.some((each) => each.publication === newest.pulp_href)) return
  const guard = await squeezer.get('contentguards', { name: 'development' })
  const fields = { base_path: `apps/${stamp}`, publication: newest.pulp_href, content_guard: guard.pulp_href }
  await squeezer.present('distributions_rpm_rpm', { name: `apps-${stamp}` }, fields)
}

/** The promotion: the same distribution behind another guard. */
async function promote(squeezer: Squeezer, stamp: string): Promise<void> {
  const guard = await squeezer.get('contentguards', { name: 'release' })
  const fields = { base_path: `apps/${stamp}`, content_guard: guard.pulp_href }
  await squeezer.present('distributions_rpm_rpm', { name: `apps-${stamp}` }, fields)
}

forEachDatabase((engine, open) => {
  test(`${engine}: the requests of the roles make a train, and change nothing when sent again`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const squeezer = await openSqueezer(pulp)
    const upstream = await serve(t, makeRepository({ packages: [{ name: 'one' }] }))
    for (const name of ['stackhpc', 'stackhpc-dev']) await squeezer.send('POST', '/pulp/api/v3/groups/', { name })
    const guards = async () =>
      (await makeGuard(squeezer, 'release', ['stackhpc', 'stackhpc-dev'])) +
      (await makeGuard(squeezer, 'development', ['stackhpc-dev']))
    assert.deepEqual([await guards(), await guards()], [5, 0])

    const first = { url: upstream.url, stamp: '20261101T200000' }
    await runNight(squeezer, first)
    assert.deepEqual(squeezer.changes(), ['create repository', 'create remote', 'sync', 'create distribution'])
    await runNight(squeezer, { ...first, stamp: '20261102T200000' })
    assert.deepEqual(squeezer.changes(), [], 'an upstream that did not change is no news')
    await promote(squeezer, first.stamp)
    assert.deepEqual(squeezer.changes(), ['update distribution'])
    await promote(squeezer, first.stamp)
    assert.deepEqual(squeezer.changes(), [])

    upstream.files = makeRepository({ packages: [{ name: 'one' }, { name: 'two' }] })
    const third = { url: upstream.url, stamp: '20261103T200000', credentials: { username: 'me', password: 'secret' } }
    await runNight(squeezer, third)
    assert.deepEqual(squeezer.changes(), ['update remote', 'sync', 'create distribution'])
    await runNight(squeezer, third)
    assert.deepEqual(squeezer.changes(), ['update remote'], 'what is never shown again is sent every night')
    const shown = await squeezer.list('distributions_rpm_rpm')
    assert.deepEqual(
      shown.map(({ base_path }) => base_path),
      ['apps/20261103T200000', 'apps/20261101T200000'],
    )
    const [development, release] = shown.map(({ content_guard: href }) => href)
    assert.notEqual(development, release)
    assert.equal((await squeezer.get('contentguards', { name: 'release' })).pulp_href, release)
  })

  test(`${engine}: the requests of the modules for files: uploads in broken multipart, content by form, modifications`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const squeezer = await openSqueezer(pulp)
    const [small, large] = [randomBytes(1000), randomBytes(1_200_000)]
    const host = [
      { relative_path: 'host/small.raw', bytes: small },
      { relative_path: 'host/large.raw', bytes: large },
    ]
    const night = async () => {
      for (const { bytes } of host) await squeezer.artifact(bytes)
      for (const { relative_path, bytes } of host) await squeezer.fileContent(relative_path, sha256(bytes))
      const repository = await squeezer.present('repositories_file_file', { name: 'host images' })
      const present = host.map(({ relative_path, bytes }) => ({ relative_path, sha256: sha256(bytes) }))
      await squeezer.repositoryContent(repository, present)
      const { latest_version_href: version } = await squeezer.get('repositories_file_file', { name: 'host images' })
      const publication = await squeezer.present('publications_file_file', { repository_version: version })
      for (const path of ['latest', '2026-11-01']) {
        const fields = { base_path: `host/${path}`, publication: publication.pulp_href }
        await squeezer.present('distributions_file_file', { name: `host_${path}` }, fields)
      }
    }
    await night()
    assert.deepEqual(squeezer.changes(), [
      'create artifact',
      'upload artifact',
      'create content',
      'create content',
      'create repository',
      'modify',
      'create publication',
      'create distribution',
      'create distribution',
    ])
    await night()
    assert.deepEqual(squeezer.changes(), [])

    // The module delete_orphans: an operation that Pulp calls deprecated, and the last words of its reports.
    const { progress_reports } = await squeezer.task(await squeezer.call('orphans_delete'))
    const counts = progress_reports.map(({ message, total }: any) => [message.split(' ').at(-1).toLowerCase(), total])
    assert.deepEqual(Object.fromEntries(counts), { artifacts: 0, content: 0 })
    await squeezer.absent('distributions_file_file', { name: 'host_latest' })
    await squeezer.absent('publications_file_file', {
      repository_version: (await squeezer.get('repositories_file_file', { name: 'host images' })).latest_version_href,
    })
    await squeezer.absent('repositories_file_file', { name: 'host images' })
    assert.deepEqual(squeezer.changes(), ['delete distribution', 'delete publication', 'delete repository'])
  })

  test(`${engine}: pages of twenty are read to the end, and names may have anything in them`, async (t) => {
    const squeezer = await openSqueezer(await openPulp(t, await open(t)))
    const names = Array.from({ length: 41 }, (_, index) => `Ceph (Reef) – el9/x86_64 & more + ${index}`)
    for (const name of names) await squeezer.present('repositories_rpm_rpm', { name })
    assert.equal(squeezer.changes().length, 41)
    for (const name of names.slice(0, 3)) assert.equal((await squeezer.present('repositories_rpm_rpm', { name })).name, name)
    assert.deepEqual(squeezer.changes(), [])
    const all: string[] = (await squeezer.list('repositories_rpm_rpm')).map(({ name }) => name)
    assert.deepEqual(all.toSorted(), names.toSorted())
  })
})

/** Runs playbooks against a server. Returns how many of their tasks changed something; none may fail. */
async function openAnsible(t: TestContext, server: TestServer, variables: object = {}) {
  const home = await temporaryDirectory(t)
  const env = { HOME: home, XDG_CACHE_HOME: home, ANSIBLE_HOME: home, ANSIBLE_NOCOLOR: '1', ANSIBLE_PIPELINING: '1' }
  return async (name: string, more: object = {}): Promise<number> => {
    const access = { pulp_url: server.url, pulp_username: 'admin', pulp_password: adminPassword }
    const extra = JSON.stringify({ ...access, ...variables, ...more })
    const playbook = fileURLToPath(new URL(`playbooks/${name}.yml`, import.meta.url))
    const words = ['-i', 'localhost,', '-c', 'local', '-e', extra, playbook]
    const { stdout } = await run('ansible-playbook', words, { cwd: home, env, timeout: 400_000 })
    const [, changed, failed] = /changed=(\d+) +unreachable=0 +failed=(\d+)/.exec(stdout) ?? []
    assert.equal(failed, '0', stdout)
    return Number(changed)
  }
}

test('Ansible sends forms and credentials', { skip: await missing('ansible-playbook'), timeout: 120_000 }, async (t) => {
  const play = await openAnsible(t, await startServer(t))
  assert.deepEqual([await play('requests'), await play('requests')], [3, 0])
})

/** Why the collections cannot run here. In continuous integration they are never there. */
async function withoutCollections(): Promise<string | false> {
  const places = (process.env['ANSIBLE_COLLECTIONS_PATH'] ?? '').split(delimiter).filter((place) => place !== '')
  for (const name of ['stackhpc/pulp', 'pulp/squeezer'])
    if (!places.some((place) => existsSync(join(place, 'ansible_collections', name))))
      return `ANSIBLE_COLLECTIONS_PATH has no collection ${name.replace('/', '.')}`
  return (await missing('ansible-playbook')) || ((await hasJmespath()) ? false : 'the Python of ansible-playbook has no jmespath')
}

/** A filter of the roles needs it; Debian's ansible only suggests it. */
async function hasJmespath(): Promise<boolean> {
  return (await run('/usr/bin/python3', ['-c', 'import jmespath'], { mayFail: true })).code === 0
}

test('the collections themselves run a train', { skip: await withoutCollections(), timeout: 1_200_000 }, async (t) => {
  const upstream = await serve(t, makeRepository({ packages: [{ name: 'one' }] }))
  const image = join(await temporaryDirectory(t), 'image.raw')
  await writeFile(image, randomBytes(1_200_000))
  const variables = { reader_password: 'the-readers-password', upstream: upstream.url, stamp: '20261101T200000', image }
  const play = await openAnsible(t, await startServer(t), variables)
  assert.ok((await play('access')) > 2)
  assert.equal(await play('access'), 2, 'users (whose passwords nobody tells) and guards are written each time, and nothing else')
  assert.deepEqual([await play('night'), await play('night')], [4, 0])
  assert.equal(await play('night', { promote: true }), 1)
  assert.deepEqual([await play('files'), await play('files')], [6, 0])
})

test('the collections themselves mirror and promote images', {
  skip: await withoutCollections(),
  timeout: 600_000,
}, async (t) => {
  const upstream = await serveImages(t, makeImages('library/things', 'ansible'))
  const play = await openAnsible(t, await startServer(t), { upstream })
  assert.equal(await play('images'), 5)
  const both = { promote: ['one', 'two'] }
  assert.deepEqual([await play('images', both), await play('images', both)], [1, 0])
  const less = { withdraw: true, expected: ['one'] }
  assert.deepEqual([await play('images', less), await play('images', less)], [1, 0])
})
