import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
  const url = process.env['DATABASE_URL']
  run(
    'SQLite',
    opener(makeFile, () => ':memory:'),
    makeFile,
  )
  if (url) {
    const make: MakeTestDatabase = (t) => makeSchema(t, url)
    run('PostgreSQL', opener(make), make)
  }
}

function opener(make: MakeTestDatabase, simpler?: () => string): OpenTestDatabase {
  return async (t) => {
    const where = simpler?.() ?? (await make(t))
    const db = await openDatabase(where)
    // Hooks run in the order of their registration: a database that is still open cannot be dropped, so that is forced.
    t.after(() => db.destroy())
    return db
  }
}

async function makeFile(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-db-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return join(directory, 'test.db')
}

async function makeSchema(t: Test, url: string): Promise<string> {
  const name = `signalbox_${randomBytes(6).toString('hex')}`
  await administer(url, `create database ${name}`)
  t.after(() => administer(url, `drop database if exists ${name} with (force)`))
  const made = new URL(url)
  made.pathname = `/${name}`
  return made.href
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
