import assert from 'node:assert/strict'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { gunzipSync, gzipSync, zstdDecompressSync } from 'node:zlib'
import { pino } from 'pino'
import { forEachDatabase } from '../../../tests/databases.ts'
import { buildRpms } from '../../../tests/e2e/rpms.ts'
import { run } from '../../../tests/e2e/run.ts'
import { makeRepository, serve, temporaryDirectory } from '../../../tests/rpm-upstream.ts'
import { unitsOf } from '../../core/content.ts'
import { openCtx } from '../../core/open.ts'
import { publishVersion } from '../../core/publish.ts'
import { syncRepository } from '../../core/sync.ts'
import type { Job } from '../../core/tasks/tasks.ts'
import { contentOf, insertFirstVersion, latestVersion } from '../../core/versions.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Db } from '../../store/database.ts'
import { openDatabase } from '../../store/database.ts'
import { rpm } from './index.ts'
import { parseRepomd } from './repomd.ts'
import { parseAdvisory } from './updateinfo.ts'

const animals = Array.from({ length: 400 }, (_, index) => ({
  name: `animal${index}`,
  href: `rpms/animal${index}-1.0-1.noarch.rpm`,
}))

// Larger than what stays in memory while it is not kept.
const certificate = Buffer.alloc(300_000, 'certificate ')

test('a cache on the way may keep packages and files named by their digest, and has to ask about all others', () => {
  const digest = 'ab'.repeat(32)
  for (const path of ['Packages/b/bear-4.1-1.noarch.rpm', `repodata/${digest}-primary.xml.gz`])
    assert.equal(rpm.headers!(path), undefined, path)
  for (const path of ['repodata/repomd.xml', 'repodata/repomd.xml.asc', 'repodata/primary.xml.gz', '.treeinfo', 'config.repo'])
    assert.deepEqual(rpm.headers!(path), { 'Cache-Control': 'no-cache' }, path)
})

forEachDatabase((engine, open) => {
  test(`${engine}: a publication has the upstream's packages where its layout puts them`, async (t) => {
    const { upstream, sync, publish } = await setUp(t, open)
    upstream.files = makeRepository({ packages: animals.slice(0, 3), further: { productid: certificate } })
    await sync()
    const files = await publish()
    const repomd = parseRepomd(files['repodata/repomd.xml']!)
    assert.deepEqual(
      repomd.records.map(({ type }) => type),
      ['primary', 'filelists', 'other', 'productid'],
    )
    for (const { href, checksum, size, openSize } of repomd.records) {
      assert.match(href, new RegExp(`^repodata/${checksum.value}-`))
      assert.equal(files[href]?.length, size)
      if (openSize !== undefined) assert.equal(gunzipSync(files[href]!).length, openSize)
    }
    const primary = gunzipSync(files[repomd.records[0]!.href]!).toString()
    assert.match(primary, /packages="3"/)
    assert.deepEqual(
      primary.match(/(?<=<location href=")[^"]*/g),
      [0, 1, 2].map((index) => `Packages/a/animal${index}-1.0-1.noarch.rpm`),
    )
    assert.equal(String(files['Packages/a/animal1-1.0-1.noarch.rpm']), String(upstream.files['rpms/animal1-1.0-1.noarch.rpm']))
    assert.deepEqual(files[repomd.records[3]!.href], certificate)
  })

  test(`${engine}: settings choose layout, checksums and packing`, async (t) => {
    const { upstream, sync, publish } = await setUp(t, open)
    upstream.files = makeRepository({ packages: animals.slice(0, 3) })
    await sync()
    const files = await publish({ layout: 'flat', checksum_type: 'sha512', compression_type: 'zstd' })
    const { records } = parseRepomd(files['repodata/repomd.xml']!)
    assert.match(records[0]!.href, /^repodata\/[0-9a-f]{128}-primary\.xml\.zst$/)
    assert.equal(records[0]!.checksum.type, 'sha512')
    assert.match(zstdDecompressSync(files[records[0]!.href]!).toString(), /href="Packages\/animal0/)
    assert.ok(files['Packages/animal0-1.0-1.noarch.rpm'])
  })

  test(`${engine}: an empty repository has the revision 0`, async (t) => {
    const { publish } = await setUp(t, open)
    const files = await publish()
    assert.equal(parseRepomd(files['repodata/repomd.xml']!).revision, '0')
    assert.equal(Object.keys(files).length, 4)
  })

  test(`${engine}: few changes write few pieces, and what is not changed is the same to the byte`, async (t) => {
    const { upstream, sync, publish, pieces } = await setUp(t, open, 'on_demand')
    upstream.files = makeRepository({ packages: animals })
    await sync()
    const first = await publish()
    const before = await pieces()
    upstream.files = makeRepository({ packages: [...animals.slice(1), { name: 'animal1000' }] })
    await sync({ sync_policy: 'mirror_content_only' })
    const second = await publish()
    const kept = (await pieces()).filter((piece) => before.includes(piece))
    assert.ok(kept.length > before.length / 2, `${kept.length} of ${before.length} pieces were kept`)

    // Written at once, without anything to copy, it is the same.
    const other = await setUp(t, open, 'on_demand', upstream)
    await other.sync()
    const fresh = await other.publish()
    const lists = (files: Record<string, Buffer>) =>
      parseRepomd(files['repodata/repomd.xml']!).records.map(({ href }) => gunzipSync(files[href]!).toString())
    assert.deepEqual(lists(second), lists(fresh))
    assert.notDeepEqual(lists(first), lists(second))
  })

  test(`${engine}: of many packages those that stay are held, those that go are gone, and new ones come with all that is said of them`, async (t) => {
    const { upstream, sync, publish } = await setUp(t, open, 'on_demand')
    const settings = { sync_policy: 'mirror_content_only' }
    const flock = Array.from({ length: 2100 }, (_, index) => ({ name: `bird${index}` }))
    const names = async () => {
      const files = await publish()
      const [primary, filelists, other] = parseRepomd(files['repodata/repomd.xml']!).records.map(({ href }) =>
        gunzipSync(files[href]!).toString(),
      )
      const packages = primary!.match(/(?<=<name>)[^<]*/g)!
      assert.deepEqual(filelists!.match(/(?<=<file>\/usr\/bin\/)[^<]*/g), packages)
      assert.deepEqual(other!.match(/(?<=- made )[^<]*/g), packages)
      return packages.toSorted()
    }
    for (const packages of [flock, flock.slice(1), [...flock.slice(2), { name: 'fox' }]]) {
      upstream.files = makeRepository({ packages })
      await sync(settings)
      assert.deepEqual(await names(), packages.map(({ name }) => name).toSorted())
    }
  })

  test(`${engine}: a complete mirror is served as its upstream has it`, async (t) => {
    const { upstream, sync, published, job } = await setUp(t, open)
    const files = makeRepository({
      packages: [...animals.slice(0, 3), { ...animals[0]!, href: 'twice/animal0.rpm' }],
      further: { prestodelta: 'x' },
    })
    upstream.files = files
    await sync({ sync_policy: 'mirror_complete' })
    assert.deepEqual(await published(), files)
    assert.equal(job.made.length, 2)

    // The same packages at other places: content is the same, its paths are the upstream's.
    const moved = makeRepository({ packages: animals.slice(0, 3).map(({ name }) => ({ name, href: `new/${name}.rpm` })) })
    upstream.files = moved
    await sync({ sync_policy: 'mirror_complete' })
    const now = await published()
    for (const [path, bytes] of Object.entries(moved)) assert.deepEqual(now[path], bytes, path)
  })

  test(`${engine}: only the newest versions stay where a repository retains so many`, async (t) => {
    const { upstream, sync, published, publish } = await setUp(t, open, 'immediate', undefined, { retain_package_versions: 2 })
    const versions = ['1.9', '1.10', '1.2', '2.0~rc1']
    upstream.files = makeRepository({ packages: versions.map((version) => ({ name: 'bear', version })) })
    await sync()
    await publish()
    assert.deepEqual(
      Object.keys(await published())
        .filter((path) => path.endsWith('.rpm'))
        .toSorted(),
      ['Packages/b/bear-1.10-1.noarch.rpm', 'Packages/b/bear-2.0~rc1-1.noarch.rpm'],
    )
  })

  test(`${engine}: what one upstream says of another's packages is not believed`, async (t) => {
    const db = await open(t)
    const at = () => setUp(t, async () => db, 'on_demand')
    const [hostile, honest, third] = [await at(), await at(), await at()]
    const packages = animals.slice(0, 3)
    const truth = makeRepository({ packages })
    hostile.upstream.files = makeRepository({
      packages,
      edit: {
        primary: (xml) => xml.replace('<rpm:entry name="libc"', '<rpm:entry name="evil"'),
        filelists: (xml) => xml.replace('/usr/bin/animal2', '/usr/bin/evil'),
      },
    })
    await hostile.sync()
    honest.upstream.files = truth
    await honest.sync()
    const files = await honest.publish()
    const { records } = parseRepomd(files['repodata/repomd.xml']!)
    const texts = records.map(({ href }) => gunzipSync(files[href]!).toString())
    assert.ok(texts.every((text) => !text.includes('evil')))
    // The one that nothing false is said of is shared; so are all that are found again.
    assert.equal((await db.selectFrom('content').select('id').execute()).length, 5)
    third.upstream.files = { ...truth, 'repodata/x': Buffer.from('') }
    await third.sync()
    assert.equal((await db.selectFrom('content').select('id').execute()).length, 5)

    // A description that its own upstream corrects is taken, without being asked for all the others again.
    honest.upstream.files = makeRepository({ packages: [{ ...packages[0]!, summary: 'Better' }, ...packages.slice(1)] })
    await honest.sync()
    const summaries = await contentOf(db, await latestVersion(db, honest.repositoryId))
      .select('content.meta')
      .execute()
    assert.deepEqual(summaries.map(({ meta }) => JSON.parse(meta).summary).toSorted(), [
      'Better',
      'Summary of animal1',
      'Summary of animal2',
    ])
  })

  test(`${engine}: advisories of one id are resolved, but for a complete mirror`, async (t) => {
    const { upstream, sync, db, repositoryId } = await setUp(t, open, 'on_demand')
    const advisory = (name: string, day = '01') =>
      `<update version="1"><id>A-1</id><title>${name}</title><issued date="2026-01-${day}"/><updated date="2026-01-${day}"/>
      <pkglist><collection><name>c</name><package name="${name}" version="1" release="1" arch="noarch"/></collection></pkglist></update>`
    const offer = (...advisories: string[]) => {
      upstream.files = makeRepository({ packages: [], further: { updateinfo: `<updates>${advisories.join('')}</updates>` } })
    }
    const held = async () => {
      const version = await latestVersion(db, repositoryId)
      const rows = await contentOf(db, version).selectAll('content').orderBy('content.id').execute()
      const units = await unitsOf(db, rows)
      const texts = await Promise.all(units.map(async ({ entry }) => parseAdvisory(String(await entry()))))
      return texts.map(({ pkglist }) => pkglist.flatMap(({ packages }) => packages.map(({ name }) => name)).join())
    }
    offer(advisory('bear'))
    await sync()
    offer(advisory('bear-debuginfo'))
    await sync()
    assert.deepEqual(await held(), ['bear,bear-debuginfo'])
    const { number } = await latestVersion(db, repositoryId)
    offer(advisory('bear'), advisory('bear-debuginfo'))
    await sync()
    assert.equal((await latestVersion(db, repositoryId)).number, number)
    await sync({ sync_policy: 'mirror_complete' })
    assert.deepEqual(await held(), ['bear', 'bear-debuginfo'])
    await sync({ sync_policy: 'mirror_content_only' })
    assert.deepEqual(await held(), ['bear,bear-debuginfo'])
    offer(advisory('wolf', '02'))
    await assert.rejects(sync(), { code: 'conflict', message: /^Advisory A-1 / })
    assert.deepEqual(await held(), ['bear,bear-debuginfo'])
  })
})

test('packages known by weak checksums are published with SHA-256, once their bytes are here', async (t) => {
  const { upstream, sync, publish, db } = await setUp(t, () => openDatabase(':memory:'), 'on_demand')
  const bear = { name: 'bear', checksumType: 'sha1' } as const
  const textOf = async () => {
    const files = await publish()
    return Object.fromEntries(
      parseRepomd(files['repodata/repomd.xml']!).records.map(({ type, href }) => [type, gunzipSync(files[href]!).toString()]),
    )
  }
  upstream.files = makeRepository({ packages: [bear] })
  await sync()
  const without = await textOf()
  assert.match(without['primary']!, /<checksum type="sha1?" pkgid="YES">\w{40}</)
  // The bytes come, and the piece that this package is in is of the same units as before.
  await db.updateTable('remote').set({ policy: 'immediate' }).execute()
  upstream.files = makeRepository({ packages: [bear], further: { productid: gzipSync('x') } })
  await sync()
  const text = await textOf()
  const pkgid = /<checksum type="sha256" pkgid="YES">(\w{64})</.exec(text['primary']!)?.[1]
  assert.ok(pkgid)
  for (const list of ['filelists', 'other']) assert.ok(text[list]!.includes(`<package pkgid="${pkgid}"`))
})

const tools = await Promise.all(
  ['createrepo_c', 'dnf', 'rpmbuild'].map((tool) => run(tool, ['--version'], { mayFail: true }).catch(() => ({ code: 1 }))),
)
const missing = tools.some(({ code }) => code !== 0) && !process.env['CI'] ? 'createrepo_c, dnf or rpmbuild is missing' : false

test('dnf and createrepo_c see in a publication what they see in the upstream', {
  skip: missing,
  timeout: 120_000,
}, async (t) => {
  const original = await temporaryDirectory(t)
  await buildRpms(original, [
    { name: 'bear', version: '4.1', lines: ['Requires: (honey or fish)', 'Recommends: cave', 'Obsoletes: cub < 2'] },
    {
      name: 'bear',
      version: '4.2',
      epoch: 1,
      sections: '%changelog\n* Mon Nov 23 2026 A B <a@example.org> - 4.2-1\n- grew & "slept" <deep>\n',
    },
    { name: 'libstdc++-zoo', arch: 'x86_64' },
  ])
  for (const compress of ['gz', 'zstd']) {
    await run('createrepo_c', ['--general-compress-type', 'gz', original])
    const { upstream, sync, publish } = await setUp(t, () => openDatabase(':memory:'))
    upstream.files = await readTree(original)
    await sync()
    const ours = await temporaryDirectory(t)
    await writeTree(ours, await publish({ compression_type: compress }))
    if (compress === 'gz' || (await run('createrepo_c', ['--version'])).stdout.includes('Zstd')) {
      assert.equal(await describeWith(ours), await describeWith(original))
      const copy = await temporaryDirectory(t)
      await writeTree(copy, await readTree(ours))
      const { stdout, stderr } = await run('createrepo_c', ['--update', '--verbose', copy])
      assert.match(`${stdout}${stderr}`, /Using old metadata|CACHE HIT|Loaded information about 3 packages/)
    }
  }
})

/** What dnf reads of a repository, but for where packages lie. */
async function describeWith(directory: string): Promise<string> {
  const fields =
    'buildtime size installsize sourcerpm license summary description requires provides recommends obsoletes conflicts'
  const format = `%{name}-%{epoch}:%{version}-%{release}.%{arch} ${fields.replace(/\w+/g, '%{$&}')}`
  const repository = [
    `--repofrompath=it,file://${directory}`,
    '--repo=it',
    '--setopt=reposdir=/nonexistent',
    `--setopt=cachedir=${directory}.cache`,
  ]
  const about = async (...args: string[]) =>
    (await run('dnf', ['repoquery', '-q', '--releasever=9', ...repository, ...args, '*'])).stdout
  const told = [await about('--qf', format), await about('--list'), await about('--changelog')]
  await rm(`${directory}.cache`, { recursive: true, force: true })
  assert.match(told[0]!, /bear-1:4\.2/)
  assert.match(told[2]!, /grew & "slept" <deep>/)
  return told.join('\n')
}

async function readTree(directory: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return Object.fromEntries(
    await Promise.all(files.map(async (path) => [path.slice(directory.length + 1), await readFile(path)])),
  )
}

async function writeTree(directory: string, files: Record<string, Buffer>): Promise<void> {
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), bytes)
  }
}

async function setUp(
  t: TestContext,
  open: (t: TestContext) => Promise<Db>,
  policy = 'immediate',
  from?: Awaited<ReturnType<typeof serve>>,
  settings: Record<string, unknown> = {},
) {
  const upstream = from ?? (await serve(t))
  const db = await open(t)
  const opened = await openCtx({
    data: await temporaryDirectory(t),
    database: ':memory:',
    formats: [rpm],
    log: pino({ level: 'silent' }),
  })
  t.after(() => opened[Symbol.asyncDispose]())
  const ctx = { ...opened, db }
  const common = { uuid: newUuid(), type: 'rpm.rpm', name: newUuid(), labels: '{}', created: 1, updated: 1 }
  const remote = await db
    .insertInto('remote')
    .values({ ...common, url: upstream.url, policy, secrets: '{}', settings: '{"max_retries":0}' })
    .returning('id')
    .executeTakeFirstOrThrow()
  const repository = await db
    .insertInto('repository')
    .values({ ...common, settings: JSON.stringify(settings), autopublish: 0, next_version: 1 })
    .returning('id')
    .executeTakeFirstOrThrow()
  await db.transaction().execute((tx) => insertFirstVersion(tx, repository.id))
  const made: string[] = []
  const job = {
    ctx,
    made,
    task: { id: 1, uuid: newUuid(), userId: null, cid: '' },
    progress: { report: () => {} },
    signal: new AbortController().signal,
    created: async (prn: string) => void made.push(prn),
    hold: async () => {},
  } satisfies Job & { made: string[] }

  const latestPublication = () =>
    db
      .selectFrom('publication')
      .selectAll()
      .where('repository_id', '=', repository.id)
      .orderBy('id', 'desc')
      .limit(1)
      .executeTakeFirstOrThrow()
  const bytesOf = async (sha256: string) => Buffer.concat(await (await ctx.blobs.open(sha256)).toArray())

  /** Every file that the latest publication serves, by path. */
  async function published(): Promise<Record<string, Buffer>> {
    const { id, layout } = await latestPublication()
    const files: Record<string, Buffer> = {}
    const content = await contentOf(db, await latestVersion(db, repository.id))
      .innerJoin('file', 'file.content_id', 'content.id')
      .innerJoin('blob', 'blob.id', 'file.blob_id')
      .select(['content.type', 'file.path', 'file.name', 'blob.sha256'])
      .execute()
    for (const file of content)
      if (file.type === 'rpm.package' || layout === 'verbatim')
        files[layout === 'verbatim' ? file.path : rpm.publications!.placed!(file, layout)] = await bytesOf(file.sha256)
    const rows = await db
      .selectFrom('published_file')
      .leftJoin('file', 'file.id', 'published_file.file_id')
      .innerJoin('blob', (join) => join.on('blob.id', '=', ({ fn }) => fn.coalesce('published_file.blob_id', 'file.blob_id')))
      .select(['published_file.path', 'blob.sha256'])
      .where('publication_id', '=', id)
      .execute()
    for (const { path, sha256 } of rows) files[path] = await bytesOf(sha256)
    return files
  }

  return {
    upstream,
    job,
    db,
    repositoryId: repository.id,
    published,
    sync: (asked: Record<string, unknown> = {}) =>
      syncRepository(job, { repositoryId: repository.id, remoteId: remote.id, settings: asked }),
    async publish(asked: Record<string, unknown> = {}) {
      await publishVersion(job, { versionId: (await latestVersion(db, repository.id)).id, asked })
      return published()
    },
    /** The units of each piece of the latest publication, and where it lies in which blob. */
    async pieces(): Promise<string[]> {
      const { pieces } = await db
        .selectFrom('listing')
        .select('pieces')
        .where('repository_id', '=', repository.id)
        .executeTakeFirstOrThrow()
      return (JSON.parse(pieces) as { ids: number[] }[]).map(({ ids }) => ids.join())
    },
  }
}
