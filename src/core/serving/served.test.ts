import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { forEachDatabase, type OpenTestDatabase } from '../../../tests/databases.ts'
import {
  addBlob,
  addDistribution,
  addFile,
  addMember,
  addPublication,
  addRepository,
  openTestCtx,
  sha256,
} from '../../../tests/serving.ts'
import { parseTime } from '../../lib/time.ts'
import { findBranches, findDistribution, openResolver, type Served } from './served.ts'

const origin = 'http://signalbox.example'

forEachDatabase((engine, open) => {
  test(`${engine}: the distribution with the longest base path answers`, async (t) => {
    const { ctx } = await start(t, open)
    for (const path of ['a', 'a/b/c', 'ab', 'x/y']) await addDistribution(ctx, path, {})
    const named = async (path: string) => (await findDistribution(ctx, path))?.base_path
    assert.equal(await named('a'), 'a')
    assert.equal(await named('a/'), 'a')
    assert.equal(await named('a/b/d'), 'a')
    assert.equal(await named('a/b/c/d/e'), 'a/b/c')
    assert.equal(await named('abc/d'), undefined)
    assert.equal(await named('x'), undefined)
    assert.equal(await named('x/'), undefined)
    assert.equal(await named(`a/${'x/'.repeat(5000)}`), 'a')
    assert.equal(await named(''), undefined)
  })

  test(`${engine}: base paths are listed segment by segment, without hidden ones`, async (t) => {
    const { ctx } = await start(t, open)
    for (const path of ['rhel/9/base', 'rhel/9/extra', 'rhel/10', 'rhelx/1', 'RHEL/9']) await addDistribution(ctx, path, {})
    await addDistribution(ctx, 'rhel/secret', { hidden: 1 })
    const names = async (prefix: string) => (await findBranches(ctx, prefix)).map(({ name }) => name)
    assert.deepEqual(await names(''), ['RHEL', 'rhel', 'rhelx'])
    assert.deepEqual(await names('rhel/'), ['10', '9'])
    assert.deepEqual(await names('rhel/9/'), ['base', 'extra'])
    assert.deepEqual(await names('rhel/secret/'), [])
  })

  test(`${engine}: metadata and content of a publication lie where its layout has them`, async (t) => {
    const { ctx, at } = await start(t, open)
    const { id, versions } = await addRepository(ctx, 'shelf', 2)
    const bear = await addFile(ctx, 'upstream/odd/bear.rpm', { blobId: await addBlob(ctx, 'bear') })
    await addMember(ctx, id, bear.contentId)
    const base = { repositoryId: id, versionId: versions[1]!, format: 'shelf' }
    const flat = await addPublication(ctx, { ...base, layout: 'flat', files: { 'index/top.xml': '<top/>' } })
    const nested = await addPublication(ctx, { ...base, layout: 'by-letter', files: { 'index/top.xml': '<top/>' } })
    const verbatim = await addPublication(ctx, { ...base, fileIds: { 'elsewhere/bear.rpm': bear.id } })
    for (const [name, publication_id] of Object.entries({ flat, nested, verbatim }))
      await addDistribution(ctx, name, { publication_id }, 'shelf')

    assert.equal(digest(await at('flat/index/top.xml')), sha256('<top/>'))
    assert.deepEqual(headers(await at('flat/index/top.xml')), { 'Cache-Control': 'no-cache' })
    assert.equal(digest(await at('flat/files/bear.rpm')), sha256('bear'))
    assert.equal((await at('flat/files/b/bear.rpm')).kind, 'missing')
    assert.equal((await at('flat/upstream/odd/bear.rpm')).kind, 'missing')
    assert.equal(digest(await at('nested/files/b/bear.rpm')), sha256('bear'))
    assert.equal((await at('nested/files/bear.rpm')).kind, 'missing')
    assert.equal(digest(await at('verbatim/upstream/odd/bear.rpm')), sha256('bear'))
    assert.equal(digest(await at('verbatim/elsewhere/bear.rpm')), sha256('bear'))
    assert.equal((await at('verbatim/index/top.xml')).kind, 'missing')
  })

  test(`${engine}: only the content of the published version is served`, async (t) => {
    const { ctx, at } = await start(t, open)
    const { id, versions } = await addRepository(ctx, 'file', 3)
    const other = await addRepository(ctx, 'file', 1)
    const add = async (path: string, addedIn: number, removedIn: number | null) => {
      const file = await addFile(ctx, path, { blobId: await addBlob(ctx, path) })
      await addMember(ctx, id, file.contentId, addedIn, removedIn)
    }
    await add('kept', 1, null)
    await add('removed', 1, 2)
    await add('added', 3, null)
    const foreign = await addFile(ctx, 'foreign', { blobId: await addBlob(ctx, 'foreign') })
    await addMember(ctx, other.id, foreign.contentId)
    await addDistribution(ctx, 'd', { publication_id: await addPublication(ctx, { repositoryId: id, versionId: versions[2]! }) })

    assert.equal((await at('d/kept')).kind, 'blob')
    for (const path of ['removed', 'added', 'foreign']) assert.equal((await at(`d/${path}`)).kind, 'missing', path)
  })

  test(`${engine}: a repository is served as of the newest publication of its newest published version`, async (t) => {
    const { ctx, at } = await start(t, open)
    const { id, versions } = await addRepository(ctx, 'shelf', 3)
    const publish = (number: number, body: string) =>
      addPublication(ctx, {
        repositoryId: id,
        versionId: versions[number]!,
        format: 'shelf',
        layout: 'flat',
        files: { top: body },
      })
    await addDistribution(ctx, 'd', { repository_id: id }, 'shelf')
    await addDistribution(ctx, 'v', { version_id: versions[1]! }, 'shelf')
    assert.equal((await at('d/top')).kind, 'missing')
    assert.equal((await at('d/')).kind, 'missing')

    const steps = [
      [2, 'two', 'two'],
      [2, 'two again', 'two again'],
      [1, 'one, later', 'two again'],
      [3, 'three', 'three'],
    ] as const
    for (const [number, body, served] of steps) {
      await publish(number, body)
      ctx.changes.bump()
      assert.equal(digest(await at('d/top')), sha256(served))
    }
    assert.equal(digest(await at('v/top')), sha256('one, later'))
  })

  test(`${engine}: without a publication the latest version is served, where the format does that`, async (t) => {
    const { ctx, at } = await start(t, open)
    for (const format of ['file', 'shelf']) {
      const { id, versions } = await addRepository(ctx, format, 2)
      const old = await addFile(ctx, `dir/${format}-old`, { blobId: await addBlob(ctx, 'old') })
      const fresh = await addFile(ctx, `dir/${format}-new`, { size: 5, checksum: 'sha256:00' })
      await addMember(ctx, id, old.contentId, 1, 2)
      await addMember(ctx, id, fresh.contentId, 2)
      await addDistribution(ctx, `${format}/latest`, { repository_id: id }, format)
      await addDistribution(ctx, `${format}/first`, { version_id: versions[1]! }, format)
    }
    assert.equal((await at('file/latest/dir/file-new')).kind, 'remote')
    assert.equal((await at('file/latest/dir/file-old')).kind, 'missing')
    assert.equal((await at('file/first/dir/file-old')).kind, 'blob')
    assert.equal((await at('shelf/latest/dir/shelf-new')).kind, 'missing')
  })

  test(`${engine}: of two contents at one path the later one is served`, async (t) => {
    const { ctx, at } = await start(t, open)
    const { id } = await addRepository(ctx)
    for (const body of ['first', 'second']) {
      const { contentId } = await addFile(ctx, 'same', { blobId: await addBlob(ctx, body) })
      await addMember(ctx, id, contentId)
    }
    await addDistribution(ctx, 'd', { repository_id: id })
    assert.equal(digest(await at('d/same')), sha256('second'))
  })

  test(`${engine}: directories are listed, redirect to their slash, and may have an index`, async (t) => {
    const { ctx, at, names } = await start(t, open)
    const { id, versions } = await addRepository(ctx)
    for (const path of ['a/b/one.rpm', 'a/two.rpm', 'z']) {
      const { contentId } = await addFile(ctx, path, { size: 7, checksum: null })
      await addMember(ctx, id, contentId)
    }
    const files = { PULP_MANIFEST: 'm', 'page/index.html': '<p>' }
    await addDistribution(ctx, 'd', {
      publication_id: await addPublication(ctx, { repositoryId: id, versionId: versions[1]!, files }),
    })

    assert.deepEqual(await names('d/'), ['PULP_MANIFEST', 'a/', 'page/', 'z'])
    assert.deepEqual(await names('d/a/'), ['b/', 'two.rpm'])
    assert.deepEqual(await names('d/a/b/'), ['one.rpm'])
    for (const path of ['d', 'd/a', 'd/a/b', 'd/page']) assert.equal((await at(path)).kind, 'redirect', path)
    for (const path of ['d/b/', 'd/a/two.rpm/', 'd/a/x', 'd/a/b/c/']) assert.equal((await at(path)).kind, 'missing', path)
    assert.equal(digest(await at('d/page/')), sha256('<p>'))
  })

  test(`${engine}: a directory of 2,500 entries is listed whole`, async (t) => {
    const { ctx, names } = await start(t, open)
    const { id } = await addRepository(ctx)
    const expected = Array.from({ length: 2500 }, (_, index) => `p${String(index).padStart(5, '0')}.rpm`)
    await ctx.db.transaction().execute(async (tx) => {
      for (const path of expected) {
        const { contentId } = await addFile({ ...ctx, db: tx }, path, { size: 1 })
        await addMember({ ...ctx, db: tx }, id, contentId)
      }
    })
    await addDistribution(ctx, 'd', { repository_id: id })
    assert.deepEqual(await names('d/'), expected)
  })

  test(`${engine}: files that a format makes up come first and are listed`, async (t) => {
    const { ctx, at, names } = await start(t, open)
    const { id, versions } = await addRepository(ctx, 'shelf')
    const publication_id = await addPublication(ctx, {
      repositoryId: id,
      versionId: versions[1]!,
      format: 'shelf',
      files: { top: 'x' },
    })
    await addDistribution(ctx, 'with', { publication_id, settings: '{"configured":true}' }, 'shelf')
    await addDistribution(ctx, 'without', { publication_id }, 'shelf')
    const text = await at('with/config.repo')
    assert.ok(text.kind === 'text' && text.body.includes(`baseurl=${origin}/pulp/content/with/\n`))
    assert.equal((await at('without/config.repo')).kind, 'missing')
    assert.deepEqual(await names('with/'), ['config.repo', 'top'])
    assert.deepEqual(await names('without/'), ['top'])
  })

  test(`${engine}: a checkpoint distribution serves each checkpoint of its repository below the second it was made`, async (t) => {
    const { ctx, at, names } = await start(t, open)
    const { id, versions } = await addRepository(ctx, 'shelf', 2)
    const second = (time: string) => parseTime(`2025-02-12T${time}Z`)!
    const add = (versionId: number, text: string, checkpoint?: number) =>
      addPublication(ctx, {
        repositoryId: id,
        versionId,
        format: 'shelf',
        files: { top: text },
        ...(checkpoint && { checkpoint }),
      })
    await add(versions[0]!, 'older', second('10:00:00.9'))
    await add(versions[1]!, 'newer', second('12:00:00'))
    await add(versions[1]!, 'no checkpoint')
    const settings = JSON.stringify({ checkpoint: true, configured: true })
    await addDistribution(ctx, 'd d', { repository_id: id, settings }, 'shelf')

    assert.deepEqual(await names('d d/'), ['20250212T100000Z/', '20250212T120000Z/'])
    assert.deepEqual(await names('d d/20250212T100000Z/'), ['config.repo', 'top'])
    assert.equal(digest(await at('d d/20250212T100000Z/top')), sha256('older'))
    assert.equal(digest(await at('d d/20250212T120000Z/top')), sha256('newer'))
    const config = await at('d d/20250212T120000Z/config.repo')
    assert.ok(config.kind === 'text' && config.body.includes(`baseurl=${origin}/pulp/content/d%20d/20250212T120000Z/\n`))
    assert.deepEqual(await at('d d/20250212T120000Z'), { kind: 'redirect' })
    const to = 'd d/20250212T100000Z/'
    assert.deepEqual(await at('d d/20250212T115959Z/top'), { kind: 'redirect', to: `${to}top` })
    assert.deepEqual(await at('d d/20250212T115959Z'), { kind: 'redirect', to })
    for (const path of ['20250212T095959Z/top', '29990101T000000Z/top', 'top', 'config.repo', '20250212T120000Z/nosuch'])
      assert.equal((await at(`d d/${path}`)).kind, 'missing', path)
  })

  test(`${engine}: a distribution that points nowhere says so`, async (t) => {
    const { ctx, at } = await start(t, open)
    await addDistribution(ctx, 'd', {})
    assert.match(((await at('d/x')) as { reason: string }).reason, /not pointing to a publication/)
    assert.equal((await at('d')).kind, 'redirect')
  })
})

async function start(t: TestContext, open: OpenTestDatabase) {
  const ctx = await openTestCtx(t, await open(t))
  const resolver = openResolver(ctx)
  async function at(path: string): Promise<Served> {
    const distribution = await findDistribution(ctx, path)
    assert.ok(distribution, path)
    const { length } = distribution.base_path
    return resolver.resolve(distribution, path.length === length ? undefined : path.slice(length + 1), origin)
  }
  async function names(path: string): Promise<string[]> {
    const served = await at(path)
    assert.ok(served.kind === 'directory', `${path} is ${served.kind}`)
    return served.directory.map(({ name }) => name)
  }
  return { ctx, at, names }
}

function digest(served: Served): string | undefined {
  return served.kind === 'blob' ? served.sha256 : undefined
}

function headers(served: Served): unknown {
  return 'headers' in served ? served.headers : undefined
}
