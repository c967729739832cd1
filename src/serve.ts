import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { type FastifyBaseLogger, fastify, LogController } from 'fastify'
import { tidyBlobUploads } from './core/blob-uploads.ts'
import type { Ctx, TaskRunner } from './core/ctx.ts'
import type { Format } from './core/format.ts'
import { followChanges, newChangeCounter, openCtx } from './core/open.ts'
import { ensureRoles } from './core/access/roles.ts'
import { tidyUploads } from './core/uploads.ts'
import { ensureAdmin } from './core/access/users.ts'
import { works } from './core/work.ts'
import { failInterrupted, registerWorker } from './core/tasks/workers.ts'
import { formats } from './formats/index.ts'
import { type ContentHandler, openContentHandler } from './http/content/handler.ts'
import { refuse, serverLimits, watchSpeed } from './http/limits.ts'
import { type Metrics, openMetrics } from './http/metrics.ts'
import { registerPulp } from './http/pulp/register.ts'
import { openRegistryHandler, type RegistryHandler, type RegistryOptions } from './http/registry/handler.ts'
import { Failure, hasCode } from './lib/failure.ts'
import { openLog, pathOf } from './lib/log.ts'
import { holdTick } from './lib/quick-ticks.ts'
import { ensureColumnIndexes } from './store/column-indexes.ts'
import { writeDurably } from './store/disk.ts'
import { lockDirectory, makeDirectory } from './store/lock.ts'
import { openPool, type Pool } from './worker-pool.ts'

export interface ServeOptions {
  /** The data directory; made when it is not there. */
  data: string
  host: string
  /** 0 takes a free one. */
  port: number
  /** Origin of content URLs, where it is not that of the request. */
  origin?: string | undefined
  /** Path of a SQLite file or a `postgres://` URL; a file in the data directory by default. */
  database?: string | undefined
  /** The administrator's password at the first start; made up by default. */
  adminPassword?: string | undefined
  allowedChecksums?: readonly string[] | undefined
  /** Where upstreams may be, as parseAddressRule reads it. */
  upstreamAddresses?: string | undefined
  /** How much of the disk stays free, as parseReserve reads it. */
  reserve?: string | undefined
  /** How clients of the registry log in: with tokens (`token`, the default), or with passwords only. */
  registryAuth?: RegistryOptions['auth']
  /** Origins that may be sent the credentials of upstreams to give tokens for them. */
  tokenRealms?: readonly string[] | undefined
  /** Tasks at once; 2 by default. */
  workers?: number | undefined
  logLevel?: string | undefined
  /** What tasks do and with which formats, and the module in which worker threads find the same: tests have their own. */
  program?: { works: TaskRunner['works']; formats: readonly Format[]; worker: URL }
}

export interface Serving {
  /** Where it listens: `http://127.0.0.1:8080`. */
  readonly url: string
  readonly ctx: Ctx
  /** The administrator's password, if it was made up by this start. It is also in the file `admin-password` of the data directory. */
  readonly madePassword: string | undefined
  /** Stops: no new connections, running requests and tasks get a few seconds, what does not end by then fails. */
  close(): Promise<void>
}

const ownProgram = { works, formats, worker: new URL('./worker.ts', import.meta.url) }
/** Milliseconds that running requests and tasks get to end. */
const grace = 5_000

/** Starts a server. Throws Failure conflict when another one has the data directory or the port. */
export async function serve(options: ServeOptions): Promise<Serving> {
  // Disposed from the last to the first when the start fails; moved out and kept when it does not.
  await using stack = new AsyncDisposableStack()
  stack.use(await holdTick())
  const data = resolve(options.data)
  await makeDirectory(data)
  const { works, formats, worker } = options.program ?? ownProgram
  const logLevel = options.logLevel ?? 'info'
  const log = openLog(logLevel)
  const changes = newChangeCounter()
  const { database, origin, allowedChecksums, upstreamAddresses, tokenRealms, reserve } = options
  const own = { host: options.host, port: new SharedArrayBuffer(4) }
  const opening = { data, database, origin, allowedChecksums, upstreamAddresses, tokenRealms, reserve, own }

  stack.use(lockDirectory(data))
  const later: { pool?: Pool; metrics?: Metrics } = {}
  const tasks: TaskRunner = { works, wake: () => later.pool?.wake(), ended: (end) => later.metrics?.taskEnded(end) }
  const ctx = stack.use(await openCtx({ ...opening, formats, log, changes, runner: () => tasks }))
  stack.defer(followChanges(ctx.db, changes))

  await ensureColumnIndexes(ctx.db, formats.flatMap(indexedMembers))
  await failInterrupted(ctx.db, await readLastWorker(data))
  await ctx.blobs.tidy()
  await tidyUploads(ctx)
  await tidyBlobUploads(ctx)
  if (await ensureRoles(ctx.db, formats)) ctx.changes.bump()
  const madePassword = await ensureAdministrator(ctx, data, options.adminPassword)

  const registration = stack.use(await registerWorker(ctx))
  await writeFile(join(data, 'worker'), registration.worker.uuid)
  const metrics = openMetrics(ctx)
  const pool = openPool({
    db: ctx.db,
    log,
    entry: worker,
    size: options.workers ?? 2,
    works,
    thread: { ...opening, changes, logLevel, workerId: registration.worker.id },
    onCrash: () => ctx.changes.bump(),
    onEnd: metrics.taskEnded,
  })
  Object.assign(later, { pool, metrics })
  stack.defer(() => pool.stop(grace))
  const content = stack.use(openContentHandler(ctx))
  const registry = stack.use(openRegistryHandler(ctx, { auth: options.registryAuth }))
  const { server, url, close } = await openServer(ctx, { content, registry, metrics }, options)
  Atomics.store(new Int32Array(own.port), 0, (server.address() as AddressInfo).port)
  stack.defer(close)
  stack.defer(watchSpeed(server))
  log.info({ url, data }, 'serving')
  const running = stack.move()
  return { url, ctx, madePassword, close: () => running.disposeAsync() }
}

/** Members of content's meta that the format wants to be found by. */
function indexedMembers({ contentTypes }: Format): string[] {
  return contentTypes.flatMap(({ filters }) =>
    Object.entries(filters).flatMap(([name, filter]) => (filter.index ? [filter.as ?? name] : [])),
  )
}

/** Who answers requests without a framework, and who counts them. */
interface Handlers {
  content: ContentHandler
  registry: RegistryHandler
  metrics: Metrics
}

async function openServer(ctx: Ctx, handlers: Handlers, { host, port }: ServeOptions) {
  let server: Server | undefined
  const loggerInstance: FastifyBaseLogger = ctx.log
  const app = fastify({
    serverFactory: (handler) => {
      server = createServer(serverLimits, listener(handlers, handler))
      return server
    },
    genReqId: correlationId,
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 32 * 1024 * 1024,
    routerOptions: { ignoreDuplicateSlashes: false },
  })
  app.addHook('onResponse', async (request, reply) => {
    const { method, url, id } = request
    ctx.log.info(
      { cid: id, method, path: pathOf(url), status: reply.statusCode, ms: Math.round(reply.elapsedTime * 10) / 10 },
      'request',
    )
  })
  app.get('/', async () => whatIsWhere)
  app.setNotFoundHandler((_, reply) => reply.code(404).type('text/plain').send('404: Not Found. What is where is told at /\n'))
  app.get('/livez', async () => 'ok\n')
  handlers.metrics.register(app)
  await registerPulp(app, ctx)
  await app.ready()
  await listen(server!, host, port)
  const { address, port: chosen } = server!.address() as AddressInfo
  return {
    server: server!,
    url: `http://${address.includes(':') ? `[${address}]` : address}:${chosen}`,
    async close() {
      const closed = new Promise<void>((done) => server!.close(() => done()))
      server!.closeIdleConnections()
      const late = setTimeout(() => server!.closeAllConnections(), grace)
      await closed
      clearTimeout(late)
      await app.close()
    },
  }
}

/** What a person reads who comes with a browser. */
const whatIsWhere = `This is a Signalbox.

  /pulp/content/   packages and files, by their paths
  /v2/             the container registry
  /pulp/api/v3/    the REST API, as Pulp has it
  /metrics         for Prometheus
  /livez           answers while it runs
`

/** Content and the registry first, without a framework; everything else is Fastify's. */
function listener({ content, registry, metrics }: Handlers, handler: RequestListener): RequestListener {
  return (request: IncomingMessage, response: ServerResponse) => {
    const began = performance.now()
    const status = refuse(request)
    if (status !== undefined) {
      response.writeHead(status, { connection: 'close' }).end()
      return
    }
    if (content.handle(request, response)) metrics.watch(request, response, '/pulp/content/*', began)
    else if (registry.handle(request, response)) metrics.watch(request, response, '/v2/*', began)
    else handler(request, response)
  }
}

/** The client's own, or a new one: 32 hexadecimal digits, as in Pulp. It is the request's id in answers, tasks and logs. */
function correlationId({ headers }: { headers: IncomingMessage['headers'] }): string {
  const given = headers['correlation-id']
  return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : randomBytes(16).toString('hex')
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  server.listen({ host, port, backlog: 1024 })
  try {
    await once(server, 'listening')
  } catch (error) {
    if (hasCode(error, 'EADDRINUSE'))
      throw new Failure('conflict', `Port ${port} of ${host} is in use. Choose another with --listen.`, { cause: error })
    if (hasCode(error, 'EACCES', 'EADDRNOTAVAIL', 'ENOTFOUND'))
      throw new Failure('invalid', `${host}:${port} cannot be listened on. Choose another address with --listen.`, {
        cause: error,
      })
    throw error
  }
}

async function readLastWorker(data: string): Promise<string | undefined> {
  try {
    return await readFile(join(data, 'worker'), 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Makes the administrator at the first start. Returns the password if it had to be made up. */
async function ensureAdministrator(ctx: Ctx, data: string, given: string | undefined): Promise<string | undefined> {
  const known = await ctx.db.selectFrom('user').select('id').where('is_superuser', '=', 1).executeTakeFirst()
  if (known) return undefined
  if (given) {
    await ensureAdmin(ctx.db, given)
    return undefined
  }
  const password = randomBytes(15).toString('base64url')
  // First the file: a password that nobody can read would lock everybody out.
  await writeDurably(join(data, 'admin-password'), `${password}\n`, 0o600)
  await ensureAdmin(ctx.db, password)
  return password
}
