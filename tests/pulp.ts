import type { TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import type { Ctx } from '../src/core/ctx.ts'
import { ensureRoles } from '../src/core/access/roles.ts'
import { createUser, ensureAdmin } from '../src/core/access/users.ts'
import { claimTask, runTask } from '../src/core/tasks/run-tasks.ts'
import { works } from '../src/core/work.ts'
import { formats } from '../src/formats/index.ts'
import { registerPulp } from '../src/http/pulp/register.ts'
import type { Db } from '../src/store/database.ts'
import { openTestCtx } from './serving.ts'

/** The REST API over an open database, with an administrator. Tasks are done when `work` is called, immediate ones at once. */
export interface Pulp {
  readonly ctx: Ctx
  readonly app: FastifyInstance
  /** Sends a request as `as` (the administrator by default; null: nobody) and parses the answer. */
  call(method: string, path: string, body?: unknown, options?: Options): Promise<Answered>
  /** As call, then does what waits, and returns the finished task. */
  task(method: string, path: string, body?: unknown): Promise<any>
}

interface Options {
  as?: string | null
  headers?: Record<string, string>
}

interface Answered {
  status: number
  body: any
  headers: Record<string, any>
  text: string
}

export const api = '/pulp/api/v3/'
const password = 'a-long-test-password'

export async function openPulp(t: TestContext, db: Db, config: Partial<Ctx['config']> = {}): Promise<Pulp> {
  const bare = await openTestCtx(t, db, config)
  const ctx: Ctx = { ...bare, formats, tasks: { works, wake() {} } }
  await ensureRoles(db, formats)
  await ensureAdmin(db, password)
  const app = Fastify()
  await registerPulp(app, ctx)
  t.after(() => app.close())
  const call: Pulp['call'] = async (method, path, body, { as = 'admin', headers = {} } = {}) => {
    const answer = await app.inject({
      method: method as 'GET',
      url: path.startsWith('/') ? path : `${api}${path}`,
      headers: {
        ...(as === null ? {} : { authorization: `Basic ${Buffer.from(`${as}:${password}`).toString('base64')}` }),
        ...(body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body)
          ? { 'content-type': 'application/json' }
          : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { payload: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) }),
    } as InjectOptions)
    const isJson = String(answer.headers['content-type']).startsWith('application/json')
    return {
      status: answer.statusCode,
      headers: answer.headers,
      text: answer.body,
      body: isJson && answer.body ? JSON.parse(answer.body) : undefined,
    }
  }
  return {
    ctx,
    app,
    call,
    async task(method, path, body) {
      const { status, body: answer, text } = await call(method, path, body)
      if (status !== 202) throw new Error(`${method} ${path} answered ${status}: ${text}`)
      await work(ctx)
      return (await call('GET', answer.task)).body
    },
  }
}

/** Does all tasks that wait. */
export async function work(ctx: Ctx): Promise<void> {
  for (let claimed = await claimTask(ctx.db, null); claimed; claimed = await claimTask(ctx.db, null))
    await runTask(ctx, claimed.task)
}

/** Somebody with the given roles on everything. */
export async function addUser(ctx: Ctx, username: string): Promise<void> {
  await createUser(ctx, { username, password })
}
