import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import { openDatabase } from '../src/store/database.ts'
import { checkData } from './check-data.ts'
import { digestOf, makeImage, makeIndex, openRegistry, pushBlob, pushImage } from './registry.ts'

/* The checker is only worth what it finds: a whole data directory is harmed in one way after another. */

const images = [makeImage(), makeImage({ algorithm: 'sha512' })] as const
const list = makeIndex(images)
const [first, second] = [...images[0].blobs.keys()] as [string, string]
const lonely = Buffer.from('pushed before its manifest')

type Harm = (place: { blob: (digest: string) => string; sql: (statement: string) => void }) => Promise<unknown> | void

const harms: readonly (readonly [name: string, found: RegExp, harm: Harm])[] = [
  ['a bit is turned', /^The blob \w+ has other bytes/, async ({ blob }) => turnBit(blob(first))],
  ['a byte is missing', /^The blob \w+ has other bytes: 299/, ({ blob }) => truncate(blob(second), 299)],
  ['bytes are zeros', /^The blob \w+ has other bytes/, ({ blob }) => writeFile(blob(second), Buffer.alloc(300))],
  ['a blob is empty', /^The blob \w+ has other bytes: 0/, ({ blob }) => truncate(blob(second), 0)],
  ['a blob is gone', /has a row and no bytes/, ({ blob }) => rm(blob(first))],
  ['a leased blob is gone', /has a row and no bytes/, ({ blob }) => rm(blob(digestOf(lonely)))],
  ['two blobs have changed places', /^The blob \w+ has other bytes/, ({ blob }) => swap(blob(first), blob(second))],
  ['a stray has other bytes', /^The blob \w+ has other bytes/, ({ blob }) => rename(blob(first), strayOf(blob(first)))],
  ['a size is wrong', /and its row says 7\./, ({ sql }) => sql(`update blob set size = 7 where sha256 = '${first.slice(7)}'`)],
  ['a checksum is wrong', /has a wrong sha512/, ({ sql }) => sql(`update blob set sha512 = 'abc' where sha512 is not null`)],
  [
    'a file names another blob',
    /^The file sha256:\w+ is/,
    ({ sql }) => sql(`update file set blob_id = (select max(id) from blob)`),
  ],
  ['a file has lost its bytes', /neither bytes nor a source/, ({ sql }) => sql('update file set blob_id = null where id = 1')],
  ['a row refers to none', /refers to no row of/, ({ sql }) => sql('delete from content where id = 1')],
  ['a pack is damaged', /entry of .* is not in its pack/, ({ sql }) => sql('update pack set bytes = zeroblob(20) where id = 1')],
  [
    'entries have changed places',
    /^The manifest \S+ has other bytes/,
    ({ sql }) =>
      sql(`update content set pack_id = (select max(id) from pack), entry_length = 20 where type = 'container.manifest'`),
  ],
  [
    'a manifest does not refer to a layer',
    /names sha256:\w+ and does not refer to it/,
    ({ sql }) => sql(`delete from reference where key = '${first}'`),
  ],
  [
    'a version lacks a layer',
    /has the container.manifest \S+ without its sha256/,
    ({ sql }) => sql(`delete from membership where content_id = (select id from content where key = '${first}')`),
  ],
  [
    'a version lacks what its tag names',
    /has the container.tag \S+ latest without its sha256/,
    ({ sql }) => sql(`delete from membership where content_id = (select id from content where key = '${images[0].digest}')`),
  ],
  ['a version has less than it counts', /is not what it counts/, ({ sql }) => sql(`delete from membership where name = 'list'`)],
  ['a version is missing', /numbers of the versions/, ({ sql }) => sql('update repository set next_version = 2')],
  [
    'a task that is over holds a lock',
    /still holds/,
    ({ sql }) => {
      sql(`insert into task (uuid, name, kind, args, state, logging_cid, token, resources, created, updated)
        values ('t', 'n', 'k', '{}', 'failed', '', 0, '[]', 0, 0)`)
      sql(`insert into task_lock (task_id, resource, shared) values ((select max(id) from task), 'prn:r', 0)`)
    },
  ],
  [
    'a listing says that there is more than was published',
    /^The listing of rpm.package in repository 1 is not what was published/,
    ({ sql }) => {
      sql(`insert into publication (uuid, type, repository_id, version_id, settings, layout, checkpoint, created, updated)
        values ('p', 'rpm.rpm', 1, 1, '{}', 'flat', 0, 0, 0)`)
      sql(
        `insert into published_file (publication_id, path, blob_id) values (1, 'primary', (select id from blob where sha256 = '${first.slice(7)}'))`,
      )
      sql(`insert into listing (repository_id, type, publication_id, form, files, pieces) values (1, 'rpm.package', 1, 'flat',
        '[{"sha256":"${first.slice(7)}","start":100}]', '[{"lengths":[[100, 500]]},{"lengths":[[101, 500]]}]')`)
    },
  ],
  [
    'a chunk of an upload is gone',
    /^The upload u has 0 bytes, and its chunks go to 12/,
    ({ sql }) => sql(`insert into upload (uuid, size, chunks, created, updated) values ('u', 20, '[[4, 8]]', 0, 0)`),
  ],
]

async function turnBit(path: string): Promise<void> {
  const bytes = await readFile(path)
  bytes[0]! ^= 1
  await writeFile(path, bytes)
}

const strayOf = (path: string) => path.replace(/.$/, (last) => (last === '0' ? '1' : '0'))

async function swap(one: string, other: string): Promise<void> {
  await rename(one, `${one}-`)
  await rename(other, one)
  await rename(`${one}-`, other)
}

/** The data and the database of a registry that was stopped: two images, a list, a tag that was moved, and a blob that waits for its manifest. */
async function makeWhole(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-whole-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const db = await openDatabase(join(directory, 'signalbox.db'))
  const registry = await openRegistry(t, db)
  await pushImage(registry, 'dev/app', images[1], 'latest')
  await pushImage(registry, 'dev/app', images[0], 'latest')
  await pushImage(registry, 'dev/app', list, 'list')
  await pushBlob(registry, 'dev/app', lonely)
  await db.destroy()
  await cp(registry.ctx.config.dataDirectory, directory, { recursive: true })
  return directory
}

test('a data directory that is whole is found so, and every harm to it is found', async (t) => {
  const whole = await makeWhole(t)
  // The tag of an image whose digest is a SHA-512 is put on its bytes under their SHA-256.
  assert.deepEqual(await checkData(whole), { blobs: 7, strays: 0, manifests: 4, versions: 1, faults: [] })
  for (const [name, found, harm] of harms)
    await t.test(name, async (t) => {
      const harmed = await mkdtemp(join(tmpdir(), 'signalbox-harmed-'))
      t.after(() => rm(harmed, { recursive: true, force: true }))
      await cp(whole, harmed, { recursive: true })
      await harm({
        blob: (digest) => join(harmed, 'blobs/sha256', digest.slice(7, 9), digest.slice(9)),
        sql: (statement) => {
          using db = new DatabaseSync(join(harmed, 'signalbox.db'), { enableForeignKeyConstraints: false })
          db.exec(statement)
        },
      })
      const { faults } = await checkData(harmed)
      assert.ok(
        faults.some((fault) => found.test(fault)),
        `${found} is not among ${JSON.stringify(faults)}`,
      )
    })
})

test('the checker imports nothing of the server', async () => {
  const text = await readFile(new URL('./check-data.ts', import.meta.url), 'utf8')
  const imported = [...text.matchAll(/from '([^']+)'/g)].map(([, from]) => from!)
  assert.ok(imported.length > 0)
  assert.deepEqual(
    imported.filter((from) => !from.startsWith('node:')),
    [],
  )
})
