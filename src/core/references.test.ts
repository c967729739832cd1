import assert from 'node:assert/strict'
import { test } from 'node:test'
import { now } from '../lib/time.ts'
import { newUuid } from '../lib/uuid.ts'
import type { Db } from '../store/database.ts'
import { forEachDatabase } from '../../tests/databases.ts'
import { putContent } from './content.ts'
import type { Described } from './format.ts'
import { endLeases, leaseContent, tidyLeases } from './leases.ts'
import { findHeld, findNamed, listNames } from './named-content.ts'
import { leavingReferences, withReferences } from './references.ts'
import { commitVersion, insertFirstVersion, latestVersion, removeVersion } from './versions.ts'

/*
 *   tag a ── list ── image 1 ── layer base, layer one          signature (about image 1) ── layer sig
 *               └── image 2 ── layer base, layer two
 *   tag b ── image 2
 */
const tree: Described[] = [
  ...['base', 'one', 'two', 'sig'].map((key) => unit('layer', key)),
  unit('image', 'image 1', ['layer base', 'layer one']),
  unit('image', 'image 2', ['layer base', 'layer two']),
  unit('image', 'list', ['image image 1', 'image image 2']),
  { ...unit('image', 'signature', ['layer sig']), refers: [of('layer sig'), { ...of('image image 1'), about: true }] },
  { ...unit('tag', 'list a', ['image list']), name: 'a' },
  { ...unit('tag', 'image 2 b', ['image image 2']), name: 'b' },
]

function unit(type: string, key: string, parts: readonly string[] = []): Described {
  return { type: `t.${type}`, key, refers: parts.map(of), meta: {}, files: [] }
}

function of(part: string) {
  const [type = '', ...key] = part.split(' ')
  return { type: `t.${type}`, key: key.join(' ') }
}

forEachDatabase((engine, open) => {
  test(`${engine}: a unit brings along what it is made of, and what says something about that`, async (t) => {
    const { db, ids, place, keysOf } = await filled(await open(t))
    const along = await withReferences(db, [ids.get('list a')!], await place())
    assert.deepEqual(await keysOf(along), ['base', 'image 1', 'image 2', 'list', 'list a', 'one', 'sig', 'signature', 'two'])
    assert.deepEqual(await keysOf(await withReferences(db, [ids.get('image 2 b')!], await place())), [
      'base',
      'image 2',
      'image 2 b',
      'two',
    ])
  })

  test(`${engine}: only what the version has comes along`, async (t) => {
    const { db, ids, place, keysOf, commit } = await filled(await open(t))
    await commit([], [ids.get('signature')!, ids.get('one')!])
    const along = await withReferences(db, [ids.get('image 1')!], await place())
    assert.deepEqual(await keysOf(along), ['base', 'image 1'])
  })

  test(`${engine}: what a unit was made of leaves with it, unless something else needs it`, async (t) => {
    const { db, ids, place, keysOf } = await filled(await open(t))
    const gone = await leavingReferences(db, [ids.get('list a')!], await place())
    assert.deepEqual(await keysOf(gone), ['image 1', 'list', 'one'])
    const all = await leavingReferences(db, [ids.get('list a')!, ids.get('image 2 b')!], await place())
    assert.deepEqual(await keysOf(all), ['base', 'image 1', 'image 2', 'list', 'one', 'two'])
  })

  test(`${engine}: a name is held by one unit of a version, and older versions keep theirs`, async (t) => {
    const { db, repositoryId, ids, place, commit } = await filled(await open(t))
    const before = await place()
    const [moved] = await db.transaction().execute((tx) => putContent(tx, [{ ...unit('tag', 'image 1 a'), name: 'a' }]))
    const version = await commit([moved!], [])
    assert.deepEqual(JSON.parse(version!.counts)['t.tag'], { present: 2, added: 1, removed: 1 })
    assert.equal((await findNamed(db, await place(), 'a'))?.key, 'image 1 a')
    assert.equal((await findNamed(db, before, 'a'))?.id, ids.get('list a'))
    assert.equal(await findNamed(db, await place(), 'c'), undefined)

    await db.transaction().execute((tx) => removeVersion(tx, version!))
    assert.equal((await findNamed(db, await place(), 'a'))?.key, 'list a')
    assert.equal((await latestVersion(db, repositoryId)).number, before.number)
  })

  test(`${engine}: names are listed in the order of their bytes, page by page`, async (t) => {
    const { db, place, commit } = await filled(await open(t))
    const names = ['B', '_', '10', '9', 'ä'.normalize()]
    const made = await db.transaction().execute((tx) =>
      putContent(
        tx,
        names.map((name) => ({ ...unit('tag', `x ${name}`), name })),
      ),
    )
    await commit(made, [])
    const all = ['10', '9', 'B', '_', 'a', 'b', 'ä']
    assert.deepEqual(await listNames(db, await place()), all)
    assert.deepEqual(await listNames(db, await place(), { after: '9', limit: 2 }), ['B', '_'])
    assert.deepEqual(await listNames(db, { ...(await place()), number: 0 }), [])
  })

  test(`${engine}: what is leased is held until the lease ends`, async (t) => {
    const { db, repositoryId, place } = await filled(await open(t))
    const [id] = await db.transaction().execute((tx) => putContent(tx, [unit('layer', 'pending')]))
    const held = async (leased: boolean) =>
      (await findHeld(db, await place(), 't.layer', ['pending', 'base', 'nothing'], { leased })).map(({ key }) => key).sort()
    assert.deepEqual(await held(true), ['base'])
    await leaseContent(db, repositoryId, [id!])
    assert.deepEqual([await held(false), await held(true)], [['base'], ['base', 'pending']])
    await assert.rejects(db.deleteFrom('content').where('id', '=', id!).execute())

    await db
      .updateTable('lease')
      .set({ until: now() - 1 })
      .execute()
    assert.deepEqual(await held(true), ['base'])
    await leaseContent(db, repositoryId, [id!])
    assert.deepEqual(await held(true), ['base', 'pending'])
    await endLeases(db, repositoryId, [id!])
    await tidyLeases(db)
    assert.deepEqual(await held(true), ['base'])
  })
})

/** A repository that holds all of the tree. */
async function filled(db: Db) {
  const common = { labels: '{}', settings: '{}', created: 1, updated: 1 }
  const { id: repositoryId } = await db
    .insertInto('repository')
    .values({ ...common, uuid: newUuid(), type: 't.t', name: 'r', autopublish: 0, next_version: 1 })
    .returning('id')
    .executeTakeFirstOrThrow()
  await db.transaction().execute((tx) => insertFirstVersion(tx, repositoryId))
  const stored = await db.transaction().execute((tx) => putContent(tx, tree))
  const ids = new Map(tree.map(({ key }, index) => [key, stored[index]!]))
  const commit = (add: readonly number[], remove: readonly number[]) =>
    db.transaction().execute((tx) => commitVersion(tx, { repositoryId, add, remove }))
  await commit(stored, [])
  const place = () => latestVersion(db, repositoryId)
  async function keysOf(some: readonly number[]): Promise<string[]> {
    const rows = await db
      .selectFrom('content')
      .select('key')
      .where('id', 'in', [...some])
      .execute()
    return rows.map(({ key }) => key).sort()
  }
  return { db, repositoryId, ids, commit, place, keysOf }
}
