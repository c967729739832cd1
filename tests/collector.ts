import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { sql } from 'kysely'
import { cleanOrphans } from '../src/core/gc.ts'
import { openCtx } from '../src/core/open.ts'
import type { Job } from '../src/core/tasks/tasks.ts'
import { formats } from '../src/formats/index.ts'
import { openLog } from '../src/lib/log.ts'
import { type Db, engineOf } from '../src/store/database.ts'

/*
 * A thread that collects orphans again and again, several collections at once, until it is told to stop: what tests/soak.ts pushes against.
 * Each spares nothing that was touched before it began, where a real one spares a day.
 */

export interface Collecting {
  data: string
  database: string
  /** Collections at once. */
  atOnce: number
  /** A collector that knows of no leases, for comparison. */
  isBlind: boolean
}

export interface Collected {
  cycles: number
  content: number
  blobs: number
}

const { data, database, atOnce, isBlind } = workerData as Collecting
const done: Collected = { cycles: 0, content: 0, blobs: 0 }
/** Milliseconds. Collections that never rest leave the machine to nobody else. */
const pause = 200
const stop = new AbortController()
parentPort!.on('message', () => stop.abort())

await using ctx = await openCtx({ data, database: isBlind ? withoutLeases(database) : database, formats, log: openLog('silent') })
if (isBlind) await hideLeases(ctx.db)

// It is no task of the server's: those that are under way hold collections back.
const job: Job = {
  ctx,
  task: { id: -1, uuid: '', userId: null, cid: '' },
  signal: new AbortController().signal,
  created: async () => {},
  hold: async () => {},
  progress: {
    report(code, _, { add = 0 }) {
      if (code === 'clean-up.content') done.content += add
      if (code === 'clean-up.artifacts') done.blobs += add
    },
  },
}

async function collect(): Promise<void> {
  while (!stop.signal.aborted) {
    await cleanOrphans(job, { protectionTime: 0 })
    done.cycles++
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    parentPort!.postMessage(done)
    await sleep(pause)
  }
}

/** On the connections of this thread alone, the table of leases is another one, which stays empty. */
async function hideLeases(db: Db): Promise<void> {
  if (engineOf(db) === 'sqlite') await sql`create temp table lease (repository_id, content_id, until)`.execute(db)
}

function withoutLeases(where: string): string {
  if (!where.startsWith('postgres')) return where
  const url = new URL(where)
  url.searchParams.set('options', '-c search_path=blind,public')
  return url.href
}

await Promise.all(Array.from({ length: atOnce }, collect))
parentPort!.close()
