import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { sql } from 'kysely'
import { forEachDatabase, type OpenTestDatabase } from '../../tests/databases.ts'
import { addBlob, addDistribution, addPublication, addRepository, openTestCtx, sha256, shelf } from '../../tests/serving.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import { putContent } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { Described, Format } from './format.ts'
import { findNamed, listNames } from './named-content.ts'
import { findServedNames, type NamedKind, type NamedPromotion } from './promote-named.ts'
import { promoteDistributions } from './promotions.ts'
import { insertResource } from './resources.ts'
import { commitVersion, contentIds, latestVersion } from './versions.ts'

/** A format whose paths lie in namespaces. */
const stall: Format = {
  ...shelf,
  repositories: shelf.repositories.map((each) => ({ ...each, type: 'shelf' })),
  distributions: shelf.distributions.map((each) => ({ ...each, type: 'shelf' })),
  namespaces: { path: 'stalls', model: 'Stall', owner: [], roles: {} },
}
const kind: NamedKind = {
  type: 'shelf.shelf',
  keyOf: (meta) => String(meta['digest']),
  companions: ({ type, key }) => (type === 'shelf.image' ? [`${key}.sig`] : []),
}

/** Units of an image: a tag of a list of two platforms that share their first layer. */
function image(name: string, tag: string, layers = 1): Described[] {
  const layer = (key: string) => ({ type: 'shelf.layer', key })
  const unit = (type: string, key: string, refers: Described['refers']): Described => ({
    type: `shelf.${type}`,
    key,
    meta: {},
    files: [],
    entry: Buffer.from(key),
    ...(refers && { refers }),
  })
  const platforms = ['amd64', 'arm64'].map((platform) => {
    const own = [`${name} base`, ...Array.from({ length: layers }, (_, index) => `${name} ${tag} ${platform} ${index}`)]
    return { key: `${name} ${tag} ${platform}`, own }
  })
  return [
    ...[...new Set(platforms.flatMap(({ own }) => own))].map((key) => ({
      ...layer(key),
      meta: {},
      files: [{ path: key, size: 1, sha256: sha256(bytes) }],
    })),
    ...platforms.map(({ key, own }) => unit('image', key, own.map(layer))),
    unit(
      'image',
      `${name} ${tag}`,
      platforms.map(({ key }) => ({ type: 'shelf.image', key })),
    ),
    tagOf(tag, `${name} ${tag}`),
  ]
}

function tagOf(tag: string, digest: string): Described {
  const refers = [{ type: 'shelf.image', key: digest }]
  return { type: 'shelf.tag', key: `${digest} ${tag}`, name: tag, refers, meta: { digest }, files: [] }
}

const bytes = 'a layer'

async function open(t: TestContext, openDatabase: OpenTestDatabase) {
  const ctx: Ctx = { ...(await openTestCtx(t, await openDatabase(t))), formats: [stall] }
  await addBlob(ctx, bytes)
  const at = now()
  const named = { labels: '{}', settings: '{}', description: null, created: at, updated: at }
  const { id: guard } = await ctx.db
    .insertInto('guard')
    .values({ ...named, uuid: newUuid(), type: 'core.rbac', name: 'release' })
    .returning('id')
    .executeTakeFirstOrThrow()
  const promote = (copies: NamedPromotion['copies'], more: Partial<NamedPromotion> & { ids?: number[]; guard?: number } = {}) => {
    const { ids = [], guard: wanted = guard, ...rest } = more
    const usual = { kind, copies, removals: [], private: true, userId: null }
    const mayMake = new Set(copies.map(({ to }) => to))
    return promoteDistributions(ctx, ids, wanted, { ...usual, mayMake, ...rest })
  }
  return { ctx, guard, promote }
}

/** Puts units into the repository at a path, which is made when it is not there. */
async function push(
  { db, formats }: Ctx,
  path: string,
  units: readonly Described[],
  settings = { private: true },
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const known = (await findServedNames(tx, kind, [path])).get(path)?.repository.id
    const repositoryId = known ?? (await insertResource(tx, formats, 'repository', 'shelf.shelf', { name: path }, null)).id
    if (known === undefined)
      await insertResource(
        tx,
        formats,
        'distribution',
        'shelf.shelf',
        { name: path, base_path: path, repository_id: repositoryId, settings },
        null,
      )
    await commitVersion(tx, { repositoryId, add: await putContent(tx, units), remove: [] })
  })
}

/** What a path has: keys of its content, sorted; undefined where nothing is served. */
async function keysAt({ db }: Ctx, path: string): Promise<string[] | undefined> {
  const served = (await findServedNames(db, kind, [path])).get(path)
  if (!served) return undefined
  const ids = await contentIds(db, await latestVersion(db, served.repository.id))
  if (ids.size === 0) return []
  const rows = await db
    .selectFrom('content')
    .select('key')
    .where('id', 'in', [...ids])
    .execute()
  return rows.map(({ key }) => key).sort()
}

async function countsOf({ db }: Ctx) {
  const count = async (table: 'version' | 'membership' | 'repository' | 'distribution' | 'namespace' | 'role_assignment') =>
    Number(
      (
        await db
          .selectFrom(table)
          .select(({ fn }) => fn.countAll().as('count'))
          .executeTakeFirstOrThrow()
      ).count,
    )
  return {
    versions: await count('version'),
    members: await count('membership'),
    repositories: await count('repository'),
    distributions: await count('distribution'),
    namespaces: await count('namespace'),
    roles: await count('role_assignment'),
  }
}

const whole = ['a 1', 'a 1 1', 'a 1 amd64', 'a 1 amd64 0', 'a 1 arm64', 'a 1 arm64 0', 'a base']

forEachDatabase((engine, openDatabase) => {
  test(`${engine}: a tag comes with all that it is made of, and no other; where it goes is made, private`, async (t) => {
    const { ctx, promote } = await open(t, openDatabase)
    await push(ctx, 'dev/a', image('a', '1'))
    await push(ctx, 'dev/a', image('a', '2'))
    const before = ctx.changes.current()
    const { copied } = await promote([{ from: 'dev/a', to: 'rel/a', name: '1' }])
    assert.deepEqual(copied, [{ to: 'rel/a', name: '1', key: 'a 1', changed: true }])
    assert.deepEqual(await keysAt(ctx, 'rel/a'), whole)
    assert.ok(ctx.changes.current() > before)
    const made = (await findServedNames(ctx.db, kind, ['rel/a'])).get('rel/a')!
    assert.equal(made.private, true)
    assert.ok(await ctx.db.selectFrom('namespace').select('id').where('name', '=', 'rel').executeTakeFirst())

    const again = await promote([{ from: 'dev/a', to: 'rel/a', name: '1' }])
    assert.deepEqual(again.copied, [{ to: 'rel/a', name: '1', key: 'a 1', changed: false }])
    assert.equal((await latestVersion(ctx.db, made.repository.id)).number, 1)
  })

  test(`${engine}: what is said of an image comes along, by reference and by the name of old signatures`, async (t) => {
    const { ctx, promote } = await open(t, openDatabase)
    const about = { type: 'shelf.image', key: 'a 1 amd64', about: true }
    const signature = { type: 'shelf.image', key: 'signature', refers: [about], meta: {}, files: [] }
    const old = { type: 'shelf.image', key: 'old signature', meta: {}, files: [] }
    await push(ctx, 'dev/a', [...image('a', '1'), signature, old, tagOf('a 1.sig', 'old signature'), tagOf('x.sig', 'a 1')])
    await promote([{ from: 'dev/a', to: 'rel/a', name: '1' }])
    assert.deepEqual(await keysAt(ctx, 'rel/a'), [...whole, 'old signature', 'old signature a 1.sig', 'signature'])

    // A signature that is made later follows with the next promotion.
    const later = { ...signature, key: 'zz later' }
    await push(ctx, 'dev/a', [later])
    await promote([{ from: 'dev/a', to: 'rel/a', name: '1' }])
    assert.ok((await keysAt(ctx, 'rel/a'))!.includes('zz later'))
  })

  test(`${engine}: a tag that is missing, is another image, or is not complete keeps everything as it was`, async (t) => {
    const { ctx, promote, guard } = await open(t, openDatabase)
    const { id: repositoryId, versions } = await addRepository(ctx)
    await ctx.db
      .updateTable('version')
      .set({ counts: JSON.stringify({ 'file.file': { present: 3, added: 3, removed: 0 } }) })
      .where('id', '=', versions[1]!)
      .execute()
    const publication_id = await addPublication(ctx, { repositoryId, versionId: versions[1]! })
    const ids = [await addDistribution(ctx, 'packages', { publication_id })]
    await push(ctx, 'dev/a', image('a', '1'))
    await push(
      ctx,
      'dev/part',
      image('part', '1').filter(({ key }) => key !== 'part 1 arm64'),
    )
    const bare = image('bare', '1').map((unit) => ({ ...unit, files: unit.files.map(({ path, size = 1 }) => ({ path, size })) }))
    await push(ctx, 'dev/bare', bare)
    await push(ctx, 'dev/open', image('open', '1'))
    await push(ctx, 'rel/open', [], { private: false })
    await addDistribution(ctx, 'rel/fixed', { version_id: versions[0]! }, 'shelf')
    const before = await countsOf(ctx)
    const good = { from: 'dev/a', to: 'rel/a', name: '1' }
    const wrong: readonly (readonly [NamedPromotion['copies'][number], RegExp])[] = [
      [{ from: 'dev/a', to: 'rel/a', name: '3' }, /^There is no tag 3 in dev\/a\.$/],
      [{ from: 'dev/b', to: 'rel/b', name: '1' }, /^There is no dev\/b, so no dev\/b:1\.$/],
      [{ ...good, key: 'a 2' }, /^dev\/a:1 is a 1, not a 2\.$/],
      [{ from: 'dev/part', to: 'rel/part', name: '1' }, /^dev\/part:1 is not complete: part 1 arm64 is missing\.$/],
      [{ from: 'dev/bare', to: 'rel/bare', name: '1' }, /^dev\/bare:1 is not complete: the bytes of bare .+ are not here\./],
      [{ from: 'dev/open', to: 'rel/open', name: '1' }, /^rel\/open can be pulled by anyone: make it private first\.$/],
    ]
    for (const [copy, message] of wrong)
      await assert.rejects(promote([good, copy], { ids }), { code: 'invalid', field: 'images', message }, String(message))
    await assert.rejects(promote([good], { ids, mayMake: new Set() }), { code: 'conflict' })
    // The last act of the transaction fails: all before it is undone.
    const removals = [{ path: 'rel/fixed', name: '1' }]
    await assert.rejects(promote([good], { ids, removals }), { message: 'rel/fixed serves a fixed version.' })
    assert.deepEqual(await countsOf(ctx), before)
    const { guard_id } = await ctx.db
      .selectFrom('distribution')
      .select('guard_id')
      .where('id', '=', ids[0]!)
      .executeTakeFirstOrThrow()
    assert.equal(guard_id, null)

    const done = await promote([good], { ids })
    assert.deepEqual([done.promoted, done.copied.length], [1, 1])
    const now_ = await ctx.db.selectFrom('distribution').select('guard_id').where('id', '=', ids[0]!).executeTakeFirstOrThrow()
    assert.equal(now_.guard_id, guard)
  })

  test(`${engine}: what is filled by pushes is never promoted to`, async (t) => {
    const { ctx, promote } = await open(t, openDatabase)
    await push(ctx, 'dev/a', image('a', '1'))
    await push(ctx, 'rel/a', [])
    await ctx.db.updateTable('repository').set({ type: 'shelf.shelf-push' }).where('name', '=', 'rel/a').execute()
    await assert.rejects(promote([{ from: 'dev/a', to: 'rel/a', name: '1' }]), { message: /^rel\/a is filled by pushes/ })
  })

  test(`${engine}: a tag that moved takes its name along; one that is taken back goes with what only it needed`, async (t) => {
    const { ctx, promote } = await open(t, openDatabase)
    await push(ctx, 'dev/a', [...image('a', '1'), tagOf('latest', 'a 1')])
    await promote([{ from: 'dev/a', to: 'rel/a', name: 'latest' }])
    await push(ctx, 'dev/a', [...image('a', '2'), tagOf('latest', 'a 2')])
    const { copied } = await promote([
      { from: 'dev/a', to: 'rel/a', name: 'latest' },
      { from: 'dev/a', to: 'rel/a', name: '2' },
    ])
    assert.deepEqual(
      copied.map(({ name, key, changed }) => [name, key, changed]),
      [
        ['latest', 'a 2', true],
        ['2', 'a 2', true],
      ],
    )
    const served = (await findServedNames(ctx.db, kind, ['rel/a'])).get('rel/a')!
    const place = { repository_id: served.repository.id, number: served.number }
    assert.deepEqual(await listNames(ctx.db, place), ['2', 'latest'])
    assert.equal(JSON.parse((await findNamed(ctx.db, place, 'latest'))!.meta).digest, 'a 2')

    const removals = ['2', 'latest', 'never'].map((name) => ({ path: 'rel/a', name }))
    assert.equal((await promote([], { removals })).removed, 2)
    const left = (await keysAt(ctx, 'rel/a'))!
    assert.ok(!left.some((key) => key.startsWith('a 2')), left.join())
    assert.ok(left.includes('a base'), 'what the older image needs stays')
    assert.equal((await promote([], { removals })).removed, 0)
  })

  test(`${engine}: a hundred and fifty images and two hundred repositories are promoted in one act`, async (t) => {
    const { ctx, promote } = await open(t, openDatabase)
    const { id: repositoryId, versions } = await addRepository(ctx)
    await ctx.db
      .updateTable('version')
      .set({ counts: JSON.stringify({ 'file.file': { present: 3, added: 3, removed: 0 } }) })
      .where('id', '=', versions[1]!)
      .execute()
    const publication_id = await addPublication(ctx, { repositoryId, versionId: versions[1]! })
    const ids: number[] = []
    for (let index = 0; index < 200; index++) ids.push(await addDistribution(ctx, `packages/${index}`, { publication_id }))
    const copies: { from: string; to: string; name: string }[] = []
    for (let index = 0; index < 150; index++) {
      await push(ctx, `dev/${index}`, image(`i${index}`, '3', 12))
      copies.push({ from: `dev/${index}`, to: `rel/${index}`, name: '3' })
    }
    if (engine !== 'SQLite') await sql`analyze`.execute(ctx.db)
    const timed = async () => {
      const [cpu, wall] = [process.cpuUsage(), performance.now()]
      const done = await promote(copies, { ids })
      const { user, system } = process.cpuUsage(cpu)
      return { done, cpu: Math.round((user + system) / 1000), wall: Math.round(performance.now() - wall) }
    }
    const first = await timed()
    assert.deepEqual([first.done.promoted, first.done.copied.filter(({ changed }) => changed).length], [200, 150])
    for (let index = 0; index < 150; index++) await push(ctx, `dev/${index}`, image(`i${index}`, '4', 12))
    for (const copy of copies) copy.name = '4'
    const second = await timed()
    assert.equal(second.done.copied.filter(({ changed }) => changed).length, 150)
    const third = await timed()
    assert.equal(third.done.copied.filter(({ changed }) => changed).length, 0)
    for (const [what, { cpu, wall }] of Object.entries({ first, second, third }))
      t.diagnostic(`${what}: ${wall} ms, ${cpu} ms of CPU`)
    assert.ok(second.cpu < 2000, `${second.cpu} ms of CPU`)
  })
})
