import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Ctx, TaskEnd } from '../core/ctx.ts'

/** Counts what the server does, for Prometheus. */
export interface Metrics {
  taskEnded(end: TaskEnd): void
  /** Counts an answer that is given before Fastify is asked, under a name for its paths; `began` is of performance.now(). */
  watch(request: IncomingMessage, response: ServerResponse, route: string, began: number): void
  /** Adds `GET /metrics` and counts every answer of this app. */
  register(app: FastifyInstance): void
}

const seconds = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60]

export function openMetrics(ctx: Pick<Ctx, 'db' | 'blobs'>): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const requests = new Histogram({
    name: 'signalbox_http_request_seconds',
    help: 'Time from a request to the end of its answer.',
    labelNames: ['route', 'method', 'status'],
    buckets: seconds,
    registers,
  })
  const ended = new Counter({
    name: 'signalbox_tasks_ended_total',
    help: 'Tasks that ended since the server started.',
    labelNames: ['name', 'state'],
    registers,
  })
  const took = new Histogram({
    name: 'signalbox_task_seconds',
    help: 'Time that tasks ran.',
    labelNames: ['name'],
    buckets: [0.01, 0.1, 1, 10, 60, 600, 3600],
    registers,
  })
  gaugeTasks(ctx, registry)
  gaugeBlobs(ctx, registry)

  return {
    taskEnded({ name, state, seconds }) {
      ended.inc({ name, state })
      took.observe({ name }, seconds)
    },
    watch(request, response, route, began) {
      const count = () =>
        requests.observe({ route, method: request.method!, status: response.statusCode }, (performance.now() - began) / 1000)
      if (response.writableEnded) count()
      else response.once('close', count)
    },
    register(app) {
      app.addHook('onResponse', async ({ method, routeOptions: { url: route = 'none' } }, { statusCode: status, elapsedTime }) =>
        requests.observe({ route, method, status }, elapsedTime / 1000),
      )
      app.get('/metrics', async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()))
    },
  }
}

/** Unfinished tasks are few and found by an index; finished ones are counted as they end. */
function gaugeTasks({ db }: Pick<Ctx, 'db'>, registry: Registry): void {
  const gauge = new Gauge({
    name: 'signalbox_tasks',
    help: 'Tasks that have not ended.',
    labelNames: ['state', 'name'],
    registers: [registry],
    async collect() {
      const rows = await db
        .selectFrom('task')
        .select(['state', 'name', ({ fn }) => fn.countAll<number>().as('count')])
        .where('state', 'in', ['waiting', 'running', 'canceling'])
        .groupBy(['state', 'name'])
        .execute()
      gauge.reset()
      for (const { state, name, count } of rows) gauge.set({ state, name }, Number(count))
    },
  })
}

const step = 5_000
const recountEvery = 10 * 60_000

/** Adds up only what is new since the last scrape, and everything anew from time to time because blobs are deleted as well. */
function gaugeBlobs({ db, blobs }: Pick<Ctx, 'db' | 'blobs'>, registry: Registry): void {
  const registers = [registry]
  const collect = async () => {
    busy ??= addUp().finally(() => (busy = undefined))
    await busy
  }
  const count = new Gauge({ name: 'signalbox_blobs', help: 'Stored blobs.', registers, collect })
  const bytes = new Gauge({ name: 'signalbox_blob_bytes', help: 'Bytes of stored blobs.', registers, collect })
  let sum = { last: 0, count: 0, bytes: 0, at: performance.now() }
  let busy: Promise<void> | undefined

  async function addUp(): Promise<void> {
    const next = performance.now() - sum.at > recountEvery ? { last: 0, count: 0, bytes: 0, at: performance.now() } : { ...sum }
    for (;;) {
      // In steps, so that nothing else waits for long.
      const page = db.selectFrom('blob').select(['id', 'size']).where('id', '>', next.last).orderBy('id').limit(step).as('page')
      const row = await db
        .selectFrom(page)
        .select(({ fn }) => [fn.max('id').as('last'), fn.countAll<number>().as('count'), fn.sum<number>('size').as('bytes')])
        .executeTakeFirstOrThrow()
      next.last = Number(row.last ?? next.last)
      next.count += Number(row.count)
      next.bytes += Number(row.bytes ?? 0)
      if (Number(row.count) < step) break
      await new Promise(setImmediate)
    }
    sum = next
    count.set(sum.count)
    bytes.set(sum.bytes)
  }
  const disk = new Gauge({
    name: 'signalbox_store_bytes',
    help: 'Bytes where blobs are stored.',
    labelNames: ['kind'],
    registers,
    async collect() {
      for (const [kind, value] of Object.entries(await blobs.space())) disk.set({ kind }, value)
    },
  })
}
