import Fastify from 'fastify'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { openDatabase } from '../src/store/database.ts'
import { openFsBlobs } from '../src/store/fs.ts'
import { openFetcher } from '../src/core/fetch.ts'
import { openLog } from '../src/lib/log.ts'
import { registerWorker } from '../src/core/workers.ts'
import { ensureRoles } from '../src/core/roles.ts'
import { ensureAdmin } from '../src/core/users.ts'
import { works } from '../src/core/work.ts'
import { claimTask, runTask } from '../src/core/run-tasks.ts'
import { registerPulp } from '../src/http/pulp/register.ts'
import { file } from '../src/formats/file/index.ts'
const extra = process.argv[3] === 'rpm' ? [(await import('../src/formats/rpm/index.ts' as string)).rpm] : []
const formats = [...extra, file]
const data = await mkdtemp('/tmp/w/dd/d-')
const db = await openDatabase(join(data, 'db'))
const blobs = await openFsBlobs(join(data, 'blobs'))
let change = 0
const ctx: any = {
  db,
  blobs,
  formats,
  fetch: openFetcher({ blobs }),
  log: openLog('info'),
  config: { dataDirectory: data, origin: undefined, allowedChecksums: ['sha256', 'sha512', 'sha1', 'sha224', 'sha384'] },
  changes: { current: () => change, bump: () => void change++ },
  tasks: { works, wake: () => setImmediate(pump) },
}
let busy = false
async function pump() {
  if (busy) return
  busy = true
  try {
    for (let c = await claimTask(db, worker.worker.id); c; c = await claimTask(db, worker.worker.id)) await runTask(ctx, c.task)
  } finally {
    busy = false
  }
}
await ensureRoles(db, formats)
await ensureAdmin(db, 'password')
const worker = await registerWorker(ctx)
const app = Fastify()
await registerPulp(app, ctx)
await app.listen({ port: Number(process.argv[2]), host: '127.0.0.1' })
setInterval(pump, 300)
