import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { forEachDatabase, type OpenTestDatabase } from '../../tests/databases.ts'
import { addDistribution, addPublication, addRepository, openTestCtx } from '../../tests/serving.ts'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Ctx } from './ctx.ts'
import { getDistributions, promoteDistributions } from './promotions.ts'

async function addGuard({ db }: Ctx, name: string): Promise<number> {
  const at = now()
  const row = {
    uuid: newUuid(),
    type: 'core.rbac',
    name,
    labels: '{}',
    settings: '{}',
    description: null,
    created: at,
    updated: at,
  }
  return (await db.insertInto('guard').values(row).returning('id').executeTakeFirstOrThrow()).id
}

/** A repository with an empty and a filled version, two guards, and a distribution of the filled one behind the first. */
async function openTrain(t: TestContext, open: OpenTestDatabase) {
  const ctx = await openTestCtx(t, await open(t))
  const { id: repositoryId, versions } = await addRepository(ctx)
  await ctx.db
    .updateTable('version')
    .set({ counts: JSON.stringify({ 'file.file': { present: 3, added: 3, removed: 0 } }) })
    .where('id', '=', versions[1]!)
    .execute()
  const [development, release] = [await addGuard(ctx, 'development'), await addGuard(ctx, 'release')]
  const publication_id = await addPublication(ctx, { repositoryId, versionId: versions[1]! })
  const served = await addDistribution(ctx, 'served', { publication_id, guard_id: development })
  return { ctx, repositoryId, versions, development, release, served, publication_id }
}

const noNames = { copied: [], removed: 0 }

async function guardsOf({ db }: Ctx): Promise<Record<string, number | null>> {
  const rows = await db.selectFrom('distribution').select(['base_path', 'guard_id']).execute()
  return Object.fromEntries(rows.map(({ base_path, guard_id }) => [base_path, guard_id]))
}

forEachDatabase((engine, open) => {
  test(`${engine}: all distributions get the guard, once, and those who remember answers hear of it`, async (t) => {
    const { ctx, repositoryId, versions, release, served } = await openTrain(t, open)
    const more = [
      await addDistribution(ctx, 'version', { version_id: versions[1]! }),
      await addDistribution(ctx, 'latest', { repository_id: repositoryId }),
    ]
    const before = ctx.changes.current()
    assert.deepEqual(await promoteDistributions(ctx, [served, ...more], release), { promoted: 3, unchanged: 0, ...noNames })
    assert.deepEqual(await guardsOf(ctx), { served: release, version: release, latest: release })
    assert.equal(ctx.changes.current(), before + 1)

    assert.deepEqual(await promoteDistributions(ctx, [served, ...more], release), { promoted: 0, unchanged: 3, ...noNames })
    assert.equal(ctx.changes.current(), before + 1)
  })

  test(`${engine}: one that serves nothing, or nothing but emptiness, keeps all from being promoted`, async (t) => {
    const { ctx, repositoryId, versions, development, release, served } = await openTrain(t, open)
    const emptyPublication = await addPublication(ctx, { repositoryId, versionId: versions[0]! })
    const wrong = {
      nowhere: await addDistribution(ctx, 'nowhere', {}),
      empty: await addDistribution(ctx, 'empty', { version_id: versions[0]! }),
      hollow: await addDistribution(ctx, 'hollow', { publication_id: emptyPublication }),
    }
    await assert.rejects(promoteDistributions(ctx, [served, wrong.nowhere], release), {
      code: 'invalid',
      message: /^Nothing is served by /,
    })
    await assert.rejects(promoteDistributions(ctx, [served, wrong.empty, wrong.hollow], release), {
      code: 'invalid',
      message: /^There is no content in .+, .+\.$/,
    })
    assert.deepEqual(await guardsOf(ctx), { served: development, nowhere: null, empty: null, hollow: null })
  })

  test(`${engine}: a distribution or guard that is gone keeps all from being promoted`, async (t) => {
    const { ctx, development, release, served } = await openTrain(t, open)
    await assert.rejects(promoteDistributions(ctx, [served, 999_999], release), { code: 'invalid', field: 'distributions' })
    await assert.rejects(promoteDistributions(ctx, [served], 999_999), { code: 'invalid', field: 'guard' })
    assert.deepEqual(await guardsOf(ctx), { served: development })
  })

  test(`${engine}: distributions are found by uuid or name, in the order asked for; the missing ones are named`, async (t) => {
    const { ctx, publication_id } = await openTrain(t, open)
    await addDistribution(ctx, 'second', { publication_id })
    const [first, second] = await ctx.db.selectFrom('distribution').selectAll().orderBy('id').execute()
    const found = await getDistributions(ctx.db, [second!.uuid, first!.name])
    assert.deepEqual(
      found.map(({ id }) => id),
      [second!.id, first!.id],
    )
    await assert.rejects(getDistributions(ctx.db, [first!.name, 'x', 'y']), {
      code: 'invalid',
      message: 'There is no distribution x, y.',
    })
  })

  test(`${engine}: two hundred of ten thousand are promoted in one act`, async (t) => {
    const { ctx, development, release, publication_id } = await openTrain(t, open)
    const at = now()
    const same = {
      type: 'file.file',
      labels: '{}',
      settings: '{}',
      guard_id: development,
      publication_id,
      version_id: null,
      repository_id: null,
    }
    const rows = Array.from({ length: 10_000 }, (_, index) => ({
      ...same,
      uuid: newUuid(),
      name: `many ${index}`,
      base_path: `many/${index}`,
      hidden: 0 as const,
      content_changed: null,
      created: at,
      updated: at,
    }))
    for (let from = 0; from < rows.length; from += 1000)
      await ctx.db
        .insertInto('distribution')
        .values(rows.slice(from, from + 1000))
        .execute()
    const ids = (await ctx.db.selectFrom('distribution').select('id').orderBy('id', 'desc').limit(200).execute()).map(
      ({ id }) => id,
    )
    const started = performance.now()
    assert.deepEqual(await promoteDistributions(ctx, ids, release), { promoted: 200, unchanged: 0, ...noNames })
    t.diagnostic(`${(performance.now() - started).toFixed(1)} ms`)
  })
})
