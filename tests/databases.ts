import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import pg from 'pg'
import { type Db, openDatabase } from '../src/store/database.ts'

/** What tests need of `node:test`'s context. */
interface Test {
  after(clean: () => Promise<void> | void): void
}

/** Opens a new, empty database, closed and removed when the test ends. */
export type OpenTestDatabase = (t: Test) => Promise<Db>
/** Makes a place for a new database: a path or URL for openDatabase, for tests that open it several times or in other processes. */
export type MakeTestDatabase = (t: Test) => Promise<string>

/** Runs tests on every engine: on SQLite always, on PostgreSQL when DATABASE_URL names a server where databases may be created. */
export function forEachDatabase(run: (name: string, open: OpenTestDatabase, make: MakeTestDatabase) => void): void {
  run('SQLite', async (t) => openUntilEnd(t, ':memory:'), makeFile)
  const url = process.env['DATABASE_URL']
  if (!url) return
  const made: string[] = []
  const make: MakeTestDatabase = async () => {
    const name = `signalbox_${randomBytes(6).toString('hex')}`
    await administer(url, `create database ${name}`)
    made.push(name)
    const place = new URL(url)
    place.pathname = `/${name}`
    return place.href
  }
  // At the end of the file, when all tests have closed theirs: hooks of one test run in the order of their registration.
  after(async () => {
    for (const name of made) await administer(url, `drop database if exists ${name} with (force)`)
  })
  run('PostgreSQL', async (t) => openUntilEnd(t, await make(t)), make)
}

async function openUntilEnd(t: Test, where: string): Promise<Db> {
  const db = await openDatabase(where)
  t.after(() => db.destroy())
  return db
}

async function makeFile(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-db-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return join(directory, 'test.db')
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
