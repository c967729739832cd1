import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newUuid } from '../lib/uuid.ts'
import type { Db } from '../store/database.ts'
import { forEachDatabase } from '../../tests/databases.ts'
import { commitVersion, contentIds, diffVersions, insertFirstVersion, latestVersion, removeVersion } from './versions.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: versions share what did not change, and any two can be compared`, async (t) => {
    const { db, repositoryId, commit, at } = await repositoryWith(await open(t), 6)
    await commit([1, 2, 3], [])
    await commit([4], [1])
    await commit([1, 5], [2, 4])

    assert.deepEqual(await at(1), [1, 2, 3])
    assert.deepEqual(await at(2), [2, 3, 4])
    assert.deepEqual(await at(3), [1, 3, 5])
    assert.deepEqual(sorted(await diffVersions(db, repositoryId, 1, 3)), { added: [5], removed: [2] })
    assert.deepEqual(sorted(await diffVersions(db, repositoryId, 3, 1)), { added: [2], removed: [5] })
    assert.deepEqual(sorted(await diffVersions(db, repositoryId, 0, 2)), { added: [2, 3, 4], removed: [] })
    assert.deepEqual(JSON.parse((await latestVersion(db, repositoryId)).counts), {
      'file.file': { present: 3, added: 2, removed: 2 },
    })
  })

  test(`${engine}: the same content makes no version, and a number is never used twice`, async (t) => {
    const { db, repositoryId, commit } = await repositoryWith(await open(t), 3)
    await commit([1], [])
    assert.equal(await commit([1], [2]), undefined)
    assert.equal(await commit([1], [1]), undefined)
    const second = await commit([2], [])
    await db.transaction().execute((tx) => removeVersion(tx, second!))
    assert.equal((await commit([3], []))?.number, 3)
    assert.deepEqual([...(await contentIds(db, { repository_id: repositoryId, number: 3 }))].sort(), [1, 3])
  })

  test(`${engine}: what a deleted version changed becomes part of the next one`, async (t) => {
    const { db, commit, at } = await repositoryWith(await open(t), 5)
    await commit([1, 2], [])
    const middle = await commit([3, 4], [1])
    const last = await commit([5], [3])
    await db.transaction().execute((tx) => removeVersion(tx, middle!))

    assert.deepEqual(await at(1), [1, 2])
    assert.deepEqual(await at(3), [2, 4, 5])
    const { counts } = await db.selectFrom('version').select('counts').where('id', '=', last!.id).executeTakeFirstOrThrow()
    assert.deepEqual(JSON.parse(counts), { 'file.file': { present: 3, added: 2, removed: 1 } })
  })

  test(`${engine}: when the first versions are gone, the next one has brought all that it has`, async (t) => {
    const { db, repositoryId, commit, at } = await repositoryWith(await open(t), 5)
    const [first, second] = [await commit([1, 2, 3], []), await commit([4], [1])]
    const third = await commit([5], [2])
    const drop = async (number: number) => {
      const version = await db.selectFrom('version').selectAll().where('number', '=', number).executeTakeFirstOrThrow()
      await db.transaction().execute((tx) => removeVersion(tx, version))
    }
    for (const number of [0, first!.number, second!.number]) await drop(number)
    assert.deepEqual(await at(third!.number), [3, 4, 5])
    const { counts } = await latestVersion(db, repositoryId)
    assert.deepEqual(JSON.parse(counts), { 'file.file': { present: 3, added: 3, removed: 0 } })
    // What no version has any more is no member: it can be collected.
    const members = await db.selectFrom('membership').select('content_id').execute()
    assert.deepEqual(
      members.map(({ content_id }) => content_id).sort((a, b) => a - b),
      [3, 4, 5],
    )
  })

  test(`${engine}: what went in a version that is gone comes back with the one before it`, async (t) => {
    const { db, commit, at } = await repositoryWith(await open(t), 3)
    const first = await commit([1, 2], [])
    const middle = await commit([], [1])
    const last = await commit([3], [2])
    for (const version of [middle, last]) await db.transaction().execute((tx) => removeVersion(tx, version!))
    assert.deepEqual(await at(first!.number), [1, 2])
    const [kept] = [await commit([3], [])]
    assert.deepEqual(await at(kept!.number), [1, 2, 3])
  })

  test(`${engine}: deleting the latest version brings back the one before, and the only one stays`, async (t) => {
    const { db, repositoryId, commit, at } = await repositoryWith(await open(t), 3)
    await commit([1, 2], [])
    const last = await commit([3], [1])
    await db.transaction().execute((tx) => removeVersion(tx, last!))
    assert.deepEqual(await at(1), [1, 2])
    const first = await db
      .selectFrom('version')
      .selectAll()
      .where('repository_id', '=', repositoryId)
      .where('number', '=', 0)
      .executeTakeFirstOrThrow()
    await db.transaction().execute((tx) => removeVersion(tx, first))
    assert.deepEqual(await at(1), [1, 2])
    const only = await latestVersion(db, repositoryId)
    await assert.rejects(
      db.transaction().execute((tx) => removeVersion(tx, only)),
      /at least one repository version/,
    )
  })

  test(`${engine}: a repository that retains two versions drops the oldest, but not a distributed one`, async (t) => {
    const { db, repositoryId, commit } = await repositoryWith(await open(t), 5)
    const first = await commit([1], [])
    const common = { labels: '{}', settings: '{}', created: 1, updated: 1, hidden: 0 } as const
    await db
      .insertInto('distribution')
      .values({ ...common, uuid: newUuid(), type: 'file.file', name: 'd', base_path: 'd', version_id: first!.id })
      .execute()
    await db.updateTable('repository').set({ retain_versions: 2 }).where('id', '=', repositoryId).execute()
    for (const id of [2, 3, 4]) await commit([id], [])
    const rows = await db
      .selectFrom('version')
      .select('number')
      .where('repository_id', '=', repositoryId)
      .orderBy('number')
      .execute()
    assert.deepEqual(
      rows.map(({ number }) => number),
      [1, 3, 4],
    )
  })

  test(`${engine}: checkpoints that are distributed are retained`, async (t) => {
    const { db, repositoryId, commit } = await repositoryWith(await open(t), 5)
    const common = { created: 1, updated: 1, settings: '{}', type: 'file.file' }
    for (const [unit, checkpoint] of [
      [1, 1],
      [2, 0],
    ] as const) {
      const version = await commit([unit], [])
      const of = { repository_id: repositoryId, version_id: version!.id, layout: 'verbatim' }
      await db
        .insertInto('publication')
        .values({ ...common, ...of, uuid: newUuid(), checkpoint })
        .execute()
    }
    const place = { name: 'd', base_path: 'd', repository_id: repositoryId, labels: '{}', hidden: 0 as const }
    await db
      .insertInto('distribution')
      .values({ ...common, ...place, uuid: newUuid(), settings: '{"checkpoint":true}' })
      .execute()
    await db.updateTable('repository').set({ retain_versions: 1 }).where('id', '=', repositoryId).execute()
    await commit([3], [])
    const rows = await db.selectFrom('version').select('number').where('repository_id', '=', repositoryId).execute()
    assert.deepEqual(rows.map(({ number }) => number).sort(), [1, 3])
  })
})

async function repositoryWith(db: Db, units: number) {
  const common = { labels: '{}', created: 1, updated: 1 }
  const { id: repositoryId } = await db
    .insertInto('repository')
    .values({ ...common, uuid: newUuid(), type: 'file.file', name: 'r', settings: '{}', autopublish: 0, next_version: 1 })
    .returning('id')
    .executeTakeFirstOrThrow()
  await db.transaction().execute((tx) => insertFirstVersion(tx, repositoryId))
  for (let unit = 1; unit <= units; unit++)
    await db
      .insertInto('content')
      .values({
        ...common,
        uuid: newUuid(),
        type: 'file.file',
        key: `k${unit}`,
        variant: '',
        slot: `s${unit}`,
        meta: '{}',
        entry_at: 0,
        entry_length: 0,
        touched: 1,
      })
      .execute()
  return {
    db,
    repositoryId,
    commit: (add: number[], remove: number[]) =>
      db.transaction().execute((tx) => commitVersion(tx, { repositoryId, add, remove })),
    at: async (number: number) => [...(await contentIds(db, { repository_id: repositoryId, number }))].sort(),
  }
}

function sorted({ added, removed }: { added: number[]; removed: number[] }) {
  return { added: added.toSorted(), removed: removed.toSorted() }
}
