import { chmod, open } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import type { Logger } from 'pino'
import { type Db, engineOf, openDatabase } from '../store/database.ts'
import { makeTree } from '../store/disk.ts'
import { openFsBlobs } from '../store/fs.ts'
import { parseReserve, usualReserve } from '../store/room.ts'
import type { Changes, Ctx, TaskRunner } from './ctx.ts'
import { openFetcher } from './fetch/fetch.ts'
import { type OwnListener, parseAddressRule, usualAddresses } from './fetch/addresses.ts'
import type { Format } from './format.ts'

export interface Opening {
  /** The data directory; made when it is not there. */
  data: string
  /** Path of a SQLite file, `:memory:`, or a `postgres://` URL; a file in the data directory by default. */
  database?: string | undefined
  formats: readonly Format[]
  log: Logger
  origin?: string | undefined
  allowedChecksums?: readonly string[] | undefined
  /** Where upstreams may be, as parseAddressRule reads it. */
  upstreamAddresses?: string | undefined
  /** See FetcherOptions. */
  tokenRealms?: readonly string[] | undefined
  /** How much of the disk stays free, as parseReserve reads it. */
  reserve?: string | undefined
  /** Where this process serves: no upstream. */
  own?: OwnListener | undefined
  /** The counter of changes, where several threads share it. */
  changes?: SharedArrayBuffer | undefined
  /** Who does tasks; see Ctx.tasks. */
  runner?: ((ctx: Ctx) => TaskRunner) | undefined
}

/** md5 proves nothing; sha1 little, but old repositories have nothing better. */
const defaultChecksums = ['sha1', 'sha224', 'sha256', 'sha384', 'sha512']

/** Opens all that the verbs need. Disposing it closes the database. */
export async function openCtx(opening: Opening): Promise<Ctx & AsyncDisposable> {
  await makeTree(opening.data)
  const where = opening.database ?? join(opening.data, 'signalbox.db')
  await makePrivate(where)
  const db = await openDatabase(where)
  const blobs = await openFsBlobs(
    join(opening.data, 'blobs'),
    opening.reserve === undefined ? usualReserve : parseReserve(opening.reserve),
  )
  const ctx: Ctx & AsyncDisposable = {
    db,
    blobs,
    formats: opening.formats,
    fetch: openFetcher({
      blobs,
      log: opening.log,
      addresses: parseAddressRule(opening.upstreamAddresses ?? usualAddresses, opening.own),
      tokenRealms: opening.tokenRealms,
    }),
    log: opening.log,
    config: {
      dataDirectory: opening.data,
      origin: opening.origin,
      allowedChecksums: opening.allowedChecksums ?? defaultChecksums,
    },
    changes: openChanges(db, opening.log, opening.changes ?? newChangeCounter()),
    [Symbol.asyncDispose]: () => db.destroy(),
  }
  return opening.runner ? Object.assign(ctx, { tasks: opening.runner(ctx) }) : ctx
}

/** A database file holds credentials of upstreams and the keys of tokens. SQLite gives the files beside it the same mode. */
async function makePrivate(where: string): Promise<void> {
  if (where === ':memory:' || where.startsWith('postgres')) return
  const file = await open(where, 'a', 0o600)
  await file.close()
  await chmod(where, 0o600)
}

export function newChangeCounter(): SharedArrayBuffer {
  return new SharedArrayBuffer(4)
}

/** One counter for all threads of this process; on PostgreSQL a row tells other processes of each change. */
function openChanges(db: Db, log: Logger, counter: SharedArrayBuffer): Changes {
  const count = new Int32Array(counter)
  const told = engineOf(db) === 'postgres'
  return {
    current: () => Atomics.load(count, 0),
    bump() {
      Atomics.add(count, 0, 1)
      if (told) tellOthers(db).catch((err: unknown) => log.error({ err }, 'other processes could not be told of a change'))
    },
  }
}

async function tellOthers(db: Db): Promise<void> {
  await db
    .updateTable('setting')
    .set({ value: sql`cast(cast(value as bigint) + 1 as text)` })
    .where('key', '=', 'change')
    .execute()
}

/** Learns of the changes of other processes: only PostgreSQL has some. Returns what ends it. */
export function followChanges(db: Db, counter: SharedArrayBuffer): () => void {
  if (engineOf(db) === 'sqlite') return () => {}
  const count = new Int32Array(counter)
  let seen: string | undefined
  async function look(): Promise<void> {
    const row = await db.selectFrom('setting').select('value').where('key', '=', 'change').executeTakeFirst()
    if (seen !== undefined && row?.value !== seen) Atomics.add(count, 0, 1)
    seen = row?.value
  }
  let busy = false
  const timer = setInterval(() => {
    if (busy) return
    busy = true
    // While the database cannot be asked, whatever changed is not known: forget what was remembered.
    look().then(
      () => (busy = false),
      () => {
        busy = false
        Atomics.add(count, 0, 1)
      },
    )
  }, 500)
  timer.unref()
  return () => clearInterval(timer)
}
