import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { linearRegExp } from '../lib/linear-regexp.ts'

const busy = 5 // SQLITE_BUSY: another connection is writing.
const patience = 60_000

/** Kysely on node:sqlite: one connection, WAL, durable commits. Waiting for another writer never blocks the thread. */
export function sqliteDialect(path: string): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new SqliteDriver(path),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  }
}

class SqliteDriver implements Driver {
  readonly #path: string
  #connection!: SqliteConnection
  #queue: Promise<void> = Promise.resolve()
  #release = new WeakMap<DatabaseConnection, () => void>()

  constructor(path: string) {
    this.#path = path
  }

  async init(): Promise<void> {
    const database = new DatabaseSync(this.#path, { timeout: 0 })
    // PostgreSQL's `~` and `~*`: SQLite has no engine of its own.
    database.function('regexp', { deterministic: true }, openMatcher(false))
    database.function('iregexp', { deterministic: true }, openMatcher(true))
    await retryWhileBusy(() => database.exec('pragma journal_mode = wal'))
    // FULL, because WAL with NORMAL may lose acknowledged commits when the power goes.
    database.exec('pragma synchronous = full; pragma foreign_keys = on; pragma temp_store = memory; pragma cache_size = -32768')
    // 64 MB of log before it is folded in: pages that a large sync touches again and again are then written once.
    database.exec('pragma wal_autocheckpoint = 16384')
    this.#connection = new SqliteConnection(database)
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const before = this.#queue
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#queue = promise
    await before
    const connection: DatabaseConnection = {
      executeQuery: (query) => this.#connection.executeQuery(query),
      streamQuery: (query) => this.#connection.streamQuery(query),
    }
    this.#release.set(connection, resolve)
    return connection
  }

  async beginTransaction(): Promise<void> {
    await retryWhileBusy(() => this.#connection.database.exec('begin immediate'))
  }

  async commitTransaction(): Promise<void> {
    await retryWhileBusy(() => this.#connection.database.exec('commit'))
  }

  async rollbackTransaction(): Promise<void> {
    if (this.#connection.database.isTransaction) this.#connection.database.exec('rollback')
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#release.get(connection)?.()
  }

  async destroy(): Promise<void> {
    this.#connection?.database.close()
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(database: DatabaseSync) {
    this.database = database
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const statement = this.#prepare(sql)
    const values = parameters as SQLInputValue[]
    if (statement.columns().length > 0) return { rows: (await retryWhileBusy(() => statement.all(...values))) as R[] }
    const { changes, lastInsertRowid } = await retryWhileBusy(() => statement.run(...values))
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) }
  }

  async *streamQuery<R>({ sql, parameters }: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    // A statement of its own: a cached one may be started again before this one is done.
    for (const row of this.database.prepare(sql).iterate(...(parameters as SQLInputValue[]))) yield { rows: [row as R] }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.database.prepare(sql)
      if (this.#statements.size >= 500) this.#statements.delete(this.#statements.keys().next().value!)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}

/** SQLite's extended result code of an error: https://sqlite.org/rescode.html. Undefined for an error of somebody else's. */
export function sqliteCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error ? Number(error.errcode) : undefined
}

async function retryWhileBusy<T>(act: () => T): Promise<T> {
  const deadline = performance.now() + patience
  for (let wait = 1; ; wait = Math.min(wait * 2, 25)) {
    try {
      return act()
    } catch (error) {
      if (((sqliteCode(error) ?? 0) & 0xff) !== busy || performance.now() > deadline) throw error
    }
    await sleep(wait)
  }
}

/** A query asks with one pattern for row after row. */
function openMatcher(ignoreCase: boolean) {
  let last: { pattern: string; expression: ReturnType<typeof linearRegExp> } | undefined
  return (pattern: unknown, text: unknown): number => {
    if (typeof pattern !== 'string' || typeof text !== 'string') return 0
    if (last?.pattern !== pattern) last = { pattern, expression: linearRegExp(pattern, { ignoreCase }) }
    return last.expression.test(text) ? 1 : 0
  }
}
