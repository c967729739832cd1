import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, PostgresDialect, type RawBuilder, sql, type Transaction } from 'kysely'
import { Migrator } from 'kysely/migration'
import type { CustomTypesConfig } from 'pg'
import { hasCode } from '../lib/failure.ts'
import { migrations } from './migrations/index.ts'
import type { Schema } from './schema.ts'
import { sqliteCode, sqliteDialect } from './sqlite.ts'

/** A database or a transaction on it: what a query needs. */
export type Db = Kysely<Schema>
export type Tx = Transaction<Schema>
export type Engine = 'sqlite' | 'postgres'

/**
 * Opens a database and applies what migrations it lacks.
 * `where` is the path of a SQLite file, `:memory:`, or a `postgres://` URL.
 */
export async function openDatabase(where: string): Promise<Db> {
  const db = new Kysely<Schema>({ dialect: where.startsWith('postgres') ? await postgresDialect(where) : sqliteDialect(where) })
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } })
  const { error } = await migrator.migrateToLatest()
  if (error) {
    await db.destroy()
    throw error
  }
  return db
}

export function engineOf(db: Db): Engine {
  return db.getExecutor().adapter.supportsTransactionalDdl ? 'postgres' : 'sqlite'
}

/** Two that fell over one another rarely do so twice: this many times is a database that is in trouble. */
const mostTries = 8

/**
 * Runs a change of several statements as one transaction. When PostgreSQL ended it because it and others waited for one another, or did not
 * fit one after the other, nothing of it happened and it is run again. So `act` does nothing but ask `tx`: whatever else a change has to do
 * comes before it or after it.
 */
export async function transact<T>(db: Db, act: (tx: Tx) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++)
    try {
      return await db.transaction().execute(act)
    } catch (error) {
      // deadlock_detected, serialization_failure.
      if (!hasCode(error, '40P01', '40001') || tries === mostTries) throw error
      // At random, so that the same ones do not meet again.
      await sleep(Math.random() * 10 * 2 ** tries)
    }
}

/**
 * Does what must survive the end of this process, but not a power cut: it does not wait for the disk. A later change that does wait takes
 * it along.
 */
export async function changeLightly<T>(db: Db, act: (db: Db) => Promise<T>): Promise<T> {
  if (engineOf(db) === 'postgres')
    return transact(db, async (tx) => {
      await sql`set local synchronous_commit = off`.execute(tx)
      return act(tx)
    })
  return db.connection().execute(async (one) => {
    await sql`pragma synchronous = normal`.execute(one)
    try {
      return await act(one)
    } finally {
      await sql`pragma synchronous = full`.execute(one)
    }
  })
}

/** A string member of a JSON column, the same expression that the indexes of declared columns use. Null when it is absent. */
export function jsonText(db: Db, column: string, key: string): RawBuilder<string | null> {
  return engineOf(db) === 'postgres'
    ? sql`${sql.ref(column)} ->> ${sql.lit(key)}`
    : sql`json_extract(${sql.ref(column)}, ${sql.lit(`$."${key}"`)})`
}

/** Whether a row could not be deleted because another one refers to it. */
export function isReferenced(error: unknown): boolean {
  return hasCode(error, '23503', '23001') || sqliteCode(error) === 787 // SQLITE_CONSTRAINT_FOREIGNKEY
}

/** Whether a change could not be stored because the database's disk is full. */
export function isFull(error: unknown): boolean {
  return hasCode(error, '53100') || sqliteCode(error) === 13 // SQLITE_FULL
}

async function postgresDialect(url: string): Promise<PostgresDialect> {
  // Loaded only where it is used: the embedded default has no need of it.
  const { default: pg } = await import('pg')
  // Numbers fit a double (ids, sizes, microseconds) and JSON stays text, so rows look the same on both engines.
  const int8: number = pg.types.builtins.INT8
  const jsonb: number = pg.types.builtins.JSONB
  const types: CustomTypesConfig = {
    getTypeParser: ((oid: number, format: 'text') =>
      oid === int8 ? Number : oid === jsonb ? String : pg.types.getTypeParser(oid, format)) as CustomTypesConfig['getTypeParser'],
  }
  const pool = new pg.Pool({ connectionString: url, max: 8, types })
  // An idle connection that breaks is replaced when the next one is needed: no reason to end the process.
  pool.on('error', () => {})
  return new PostgresDialect({ pool })
}
