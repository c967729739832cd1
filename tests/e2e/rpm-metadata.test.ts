import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, test, type TestContext } from 'node:test'
import { gunzipSync } from 'node:zlib'
import type { Distribution, Publication, Repository } from '../../src/api/resources.ts'
import { type Element, parseElements } from '../../src/formats/rpm/element.ts'
import { comps, modules, updateinfo } from './around-packages.ts'
import { makeMirror } from './mirror.ts'
import { addMetadata, buildRpms, createRepository, dnf } from './rpms.ts'
import { cannotInstall, openFileScope, run, temporaryDirectory } from './run.ts'
import { contentUrl, getContent, startServer, type TestServer } from './server.ts'
import { serveFiles } from './upstream.ts'

const skip = await cannotInstall()
const scope = openFileScope()
let server: TestServer
let directory: string
let names: string[]
let upstream: string

/* Packages with everything that metadata can tell of one. */
before(async () => {
  if (skip) return
  directory = await temporaryDirectory(scope)
  await mkdir(join(directory, 'Packages'))
  names = await buildRpms(join(directory, 'Packages'), [
    {
      name: 'app',
      version: '4.0',
      epoch: 3,
      lines: [
        'URL: https://example.org/?a=1&b=<2>',
        'Group: Applications/Internet',
        'Vendor: Räder & Söhne "GmbH"',
        'Packager: A Person <person@example.org>',
        'Requires: lib >= 1.0, lib < 9',
        'Requires: (docs or (tool and lib))',
        'Requires(post): /usr/share/lib/version',
        'Requires(pre): lib = 0:1.2-1',
        'Provides: virtual(app) = 4:5.6-7',
        'Conflicts: rival <= 2',
        'Obsoletes: former < 1:2.0',
        'Recommends: (docs if lib)',
        'Suggests: tool',
        'Supplements: (lib and docs)',
        'Enhances: lib > 1~rc1',
      ],
      sections: `mkdir -p "%{buildroot}/opt/a & b" %{buildroot}/usr/bin %{buildroot}/var/log
touch "%{buildroot}/opt/a & b/<ü>" %{buildroot}/usr/bin/app %{buildroot}/var/log/app.log
ln -s app %{buildroot}/usr/bin/app-link`,
      files: `"/opt/a & b"
/usr/bin/app*
%ghost /var/log/app.log`,
      changelog: `* Mon Nov 23 2026 A Person <person@example.org> - 3:4.0-1
- Fix <b>bold</b> & "quoted" things
- Zweite Zeile: äöü

* Sun Nov 01 2026 Another - 3:3.0-1
- Before`,
    },
    { name: 'lib', version: '1.2', arch: 'x86_64' },
    { name: 'lib', version: '1.2~rc1^git5', release: '0.1' },
    { name: 'tool', arch: 'x86_64', lines: ['Requires: app'] },
    { name: 'docs', lines: ['BuildRequires: nothing-at-all'], source: true },
    { name: 'choir', version: '4.0', lines: ['ModularityLabel: choir:4:20261101:be11be11'] },
  ])
  await writeFile(join(directory, 'comps.xml'), comps)
  await createRepository(directory, '--groupfile', join(directory, 'comps.xml'), '--changelog-limit', '20')
  await addMetadata(directory, 'updateinfo', 'updateinfo.xml', updateinfo)
  await addMetadata(directory, 'modules', 'modules.yaml', modules)
  upstream = (await serveFiles(scope, directory)).url
  server = await startServer(scope)
})

const tags =
  'name arch epoch version release repoid evr debug_name source_name source_debug_name buildtime size downloadsize installsize provides ' +
  'requires obsoletes conflicts sourcerpm description summary license url vendor packager group hdr_end medianr chksum ' +
  'recommends suggests supplements enhances requires_pre files'

const questions: readonly (readonly string[])[] = [
  ['repoquery', '--queryformat', tags.replace(/\w+/g, '$&=%{$&}')],
  ['repoquery', '--list', '*'],
  ['repoquery', '--changelogs', '*'],
  ['group', 'list', '--hidden'],
  ['group', 'info', 'cloud', 'hidden', 'minimal'],
  ['updateinfo', 'list', '--all'],
  ['updateinfo', 'info', '--all'],
  ['module', 'list'],
  ['module', 'info', 'choir'],
]

/** What dnf says to every question about a repository. */
async function interrogate(t: TestContext, url: string): Promise<Map<string, string>> {
  const ask = dnf(await temporaryDirectory(t), url, { metadata_expire: '-1' })
  // Advisories are told of only where they are about something that is installed.
  await ask(['install', 'tool'])
  const answers = new Map<string, string>()
  for (const question of questions) {
    const { stdout } = await ask(['-q', '--noplugins', ...question])
    answers.set(question.filter((word) => !word.includes('=')).join(' '), stdout)
  }
  return answers
}

test('dnf hears of our metadata exactly what it hears of the upstream’s', { skip, timeout: 120_000 }, async (t) => {
  const mirror = await makeMirror(server, { name: 'apps', url: upstream, sync: { sync_policy: 'mirror_content_only' } })
  await mirror.sync()
  const publications: Record<string, Record<string, string>> = {
    gz: { compression_type: 'gz', checksum_type: 'sha256' },
    zstd: { compression_type: 'zstd', checksum_type: 'sha512' },
    plain: { compression_type: 'none', checksum_type: 'sha384', layout: 'flat' },
  }
  for (const [name, settings] of Object.entries(publications)) {
    const { pulp_href } = await mirror.publish(settings)
    await server.api.create<Distribution>('distributions/rpm/rpm/', { name, base_path: name, publication: pulp_href })
  }
  const paths = Object.keys(publications)
  const [expected, ...heard] = await Promise.all(
    [upstream, ...paths.map((path) => contentUrl(server, path))].map((url) => interrogate(t, url)),
  )
  for (const [question, answer] of expected!) {
    assert.ok(answer.trim() !== '', `${question} is answered`)
    for (const [index, path] of paths.entries()) assert.equal(heard[index]!.get(question), answer, `${path}: ${question}`)
  }
})

test('packages are served where each layout has them', { skip }, async () => {
  const bytes = await readFile(join(directory, 'Packages/lib-1.2-1.x86_64.rpm'))
  for (const place of ['gz/Packages/l', 'zstd/Packages/l', 'plain/Packages'])
    assert.deepEqual(await fetchBytes(contentUrl(server, `${place}/lib-1.2-1.x86_64.rpm`).slice(0, -1)), bytes)
})

test('publishing the same again gives the same publication, and the same bytes in another repository', { skip }, async () => {
  const mirror = await makeMirror(server, { name: 'again', url: upstream, sync: { sync_policy: 'mirror_content_only' } })
  await mirror.sync()
  const first = await mirror.publish({ checksum_type: 'sha512' })
  assert.equal((await mirror.publish({ checksum_type: 'sha512' })).pulp_href, first.pulp_href)
  await server.api.create<Distribution>('distributions/rpm/rpm/', {
    name: 'again',
    base_path: 'again',
    publication: first.pulp_href,
  })
  const [ours, theirs] = [await primaryOf('again'), await primaryOf('zstd')]
  assert.deepEqual(ours, theirs)
})

test('createrepo_c reads what we write', { skip }, async (t) => {
  const root = await temporaryDirectory(t)
  const target = join(root, 'mirror')
  await dnf(root, contentUrl(server, 'gz'))(['reposync', '--download-metadata', '--norepopath', '--download-path', target])
  const { stderr } = await run('createrepo_c', ['--update', '--skip-stat', '--verbose', target])
  assert.equal(stderr.match(/CACHE HIT/g)?.length, names.length, stderr)
})

test('a package that is uploaded is described as createrepo_c describes it', { skip, timeout: 60_000 }, async (t) => {
  const repository = await server.api.create<Repository>('repositories/rpm/rpm/', { name: 'uploads' })
  for (const name of names) await upload(join(directory, 'Packages', name), repository.pulp_href)
  const { latest_version_href } = await server.api.get<Repository>(repository.pulp_href)
  const { pulp_href } = await server.api.create<Publication>('publications/rpm/rpm/', {
    repository_version: latest_version_href,
    layout: 'flat',
  })
  await server.api.create<Distribution>('distributions/rpm/rpm/', {
    name: 'uploads',
    base_path: 'uploads',
    publication: pulp_href,
  })

  const theirs = await temporaryDirectory(t)
  await mkdir(join(theirs, 'Packages'))
  for (const name of names) await copyFile(join(directory, 'Packages', name), join(theirs, 'Packages', name))
  await createRepository(theirs, '--changelog-limit', '10000')
  const theirUrl = (await serveFiles(t, theirs)).url
  for (const type of ['primary', 'filelists', 'other']) {
    const [ours, expected] = [await listOf(contentUrl(server, 'uploads'), type), await listOf(theirUrl, type)]
    assert.equal(expected.size, names.length)
    for (const [name, package_] of expected) assert.deepEqual(ours.get(name), package_, `${type} of ${name}`)
    assert.equal(ours.size, expected.size)
  }
})

async function upload(path: string, repository: string): Promise<void> {
  const form = new FormData()
  form.set('file', new Blob([await readFile(path)]), path.slice(path.lastIndexOf('/') + 1))
  form.set('repository', repository)
  const answer = await fetch(`${server.url}/pulp/api/v3/content/rpm/packages/`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from('admin:a-password-for-tests').toString('base64')}` },
    body: form,
  })
  assert.equal(answer.status, 202, await answer.clone().text())
  const { task } = (await answer.json()) as { task: string }
  await untilDone(task)
}

async function untilDone(task: string): Promise<void> {
  for (;;) {
    const { state, error } = await server.api.get<{ state: string; error: unknown }>(task)
    if (state === 'completed') return
    assert.notEqual(state, 'failed', JSON.stringify(error))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function fetchBytes(url: string): Promise<Buffer> {
  const answer = await fetch(url)
  assert.equal(answer.status, 200, url)
  return Buffer.from(await answer.arrayBuffer())
}

async function primaryOf(path: string): Promise<string> {
  const repomd = await (await getContent(server, `${path}/repodata/repomd.xml`)).text()
  const open = /<data type="primary">.*?<\/data>/s.exec(repomd)![0]
  return /<open-size>(\d+)/.exec(open)?.[1] ?? open
}

/** One of the package lists, by file name, without what belongs to the place and time where a package lies. */
async function listOf(url: string, type: string): Promise<Map<string, unknown>> {
  const repomd = (await fetchBytes(`${url}repodata/repomd.xml`)).toString()
  const href = new RegExp(`<data type="${type}">.*?href="([^"]+)"`, 's').exec(repomd)![1]!
  const xml = gunzipSync(await fetchBytes(`${url}${href}`)).toString()
  const packages = parseElements(xml, type).children.filter(({ name }) => name === 'package')
  return new Map(packages.map((element) => [identityOf(element), tidy(element)]))
}

function identityOf({ attributes, children }: Element): string {
  return attributes['pkgid'] ?? children.find(({ name }) => name === 'checksum')!.text
}

/** The text between elements is layout; the file's time and place are not the package's. */
function tidy({ name, attributes, children, text }: Element): unknown {
  const own = { ...attributes }
  if (name === 'time') delete own['file']
  if (name === 'location') delete own['href']
  return { name, attributes: own, text: children.length > 0 ? '' : text, children: children.map(tidy) }
}
