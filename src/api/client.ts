import { setTimeout as sleep } from 'node:timers/promises'
import { Failure, type FailureCode } from '../lib/failure.ts'
import type { Task } from './resources.ts'

/** The server did not answer at all: the CLI exits with 4. */
export class Unreachable extends Failure {
  constructor(message: string, options?: ErrorOptions) {
    super('upstream', message, options)
  }
}

/** A server that speaks the Pulp REST API. Paths are hrefs (`/pulp/api/v3/...`) or relative to `/pulp/api/v3/`. */
export interface Api {
  readonly url: string
  /** Every item of a list, page by page, in a stable order. */
  list<T>(path: string, query?: Query): AsyncGenerator<T>
  /** The only item of a list; undefined when there is none. Throws Failure conflict when there are several. */
  find<T>(path: string, query: Query): Promise<T | undefined>
  get<T>(path: string, query?: Query): Promise<T>
  /** Creates, waits for the task where there is one, and returns what was made. */
  create<T>(path: string, body: Body): Promise<T>
  /** Changes these fields, waits, and returns the whole. */
  update<T>(path: string, changes: Body): Promise<T>
  remove(path: string): Promise<void>
  /** POSTs an action and waits for its task. Returns the finished task; throws when it did not complete. */
  act(path: string, body?: Body, watch?: Watch): Promise<Task>
  /** POSTs and returns the body of the answer as it is. */
  post<T>(path: string, body: Body): Promise<T>
}

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>
export type Body = Readonly<Record<string, unknown>>

export interface Watch {
  /** Called at each look at the task. */
  progress?: (task: Task) => void
  signal?: AbortSignal
}

export interface Server {
  url: string
  username: string
  password: string
  /** Seconds one request may take; 120 when absent. */
  timeout?: number
}

const root = '/pulp/api/v3/'
const pageSize = 1000
const firstLook = 50
const lastLook = 1000
/** How long a server may be away while it does a task of ours: it may be restarted. */
const patience = 15_000

/** Opens a client. Nothing is asked of the server yet. */
export function connect(server: Server): Api {
  const url = server.url.replace(/\/+$/, '')
  const ask = asker({ ...server, url })

  const api: Api = {
    url,
    async *list<T>(path: string, query: Query = {}) {
      const limit = Number(query['limit'] ?? pageSize)
      for (let offset = 0; ; offset += limit) {
        const page = await ask<Page<T>>('GET', path, { ordering: oldestFirst(path), ...query, limit, offset })
        yield* page.results
        if (!page.next) return
      }
    },
    async find<T>(path: string, query: Query) {
      const { results, count } = await ask<Page<T>>('GET', path, { ...query, limit: 2, offset: 0 })
      if (count > 1)
        throw new Failure('conflict', `${url} has ${count} of ${path} for ${JSON.stringify(query)}; one was expected.`)
      return results[0]
    },
    get: (path, query) => ask('GET', path, query),
    async create<T>(path: string, body: Body) {
      const made = await ask<T | Dispatched>('POST', path, {}, body)
      if (!isDispatched(made)) return made
      const task = await finished(ask, made.task)
      const href = task.created_resources[0]
      if (href === undefined) throw new Failure('conflict', `${url} made nothing for ${path} (task ${task.pulp_href}).`)
      return ask<T>('GET', href)
    },
    async update<T>(path: string, changes: Body) {
      const changed = await ask<T | Dispatched>('PATCH', path, {}, changes)
      if (!isDispatched(changed)) return changed
      await finished(ask, changed.task)
      return ask<T>('GET', path)
    },
    async remove(path) {
      const removed = await ask<Dispatched | undefined>('DELETE', path)
      if (isDispatched(removed)) await finished(ask, removed.task)
    },
    async act(path, body = {}, watch = {}) {
      const started = await ask<unknown>('POST', path, {}, body)
      if (!isDispatched(started)) throw new Failure('conflict', `${url} started no task for ${path}.`)
      return finished(ask, started.task, watch)
    },
    post: (path, body) => ask('POST', path, {}, body),
  }
  return api
}

/** New items come last, so that none is missed or seen twice while others are made. Users and groups have no time, but rising ids. */
function oldestFirst(path: string): string {
  return path === 'users/' || path === 'groups/' ? 'id' : 'pulp_created'
}

interface Page<T> {
  count: number
  next: string | null
  results: T[]
}

interface Dispatched {
  task: string
}

/** A task is answered as `{"task": href}` and nothing else; a resource always names itself. */
function isDispatched(body: unknown): body is Dispatched {
  return typeof body === 'object' && body !== null && 'task' in body && !('pulp_href' in body)
}

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'
type Ask = <T>(method: Method, path: string, query?: Query, body?: Body) => Promise<T>

function asker({ url, username, password, timeout = 120 }: Server): Ask {
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

  return async <T>(method: Method, path: string, query: Query = {}, body?: Body) => {
    const target = new URL(path.startsWith('/') ? path : `${root}${path}`, url)
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) target.searchParams.append(key, Array.isArray(value) ? value.join(',') : String(value))
    }
    const headers: Record<string, string> = { authorization, accept: 'application/json' }
    if (body) headers['content-type'] = 'application/json'
    let response: Response
    let text: string
    try {
      const init = { method, headers, redirect: 'error', signal: AbortSignal.timeout(timeout * 1000) } as const
      response = await fetch(target, body ? { ...init, body: JSON.stringify(body) } : init)
      text = await response.text()
    } catch (cause) {
      throw new Unreachable(`${url} cannot be reached (${reasonOf(cause)}). Is the server running, and is this its address?`, {
        cause,
      })
    }
    if (!response.ok) throw refusal(response.status, text, `${method} ${target.pathname}`, { url, username })
    return parse(text, `${method} ${target.pathname}`, url) as T
  }
}

function parse(text: string, what: string, url: string): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Failure('upstream', `${url} does not speak the Pulp API: its answer to ${what} is not JSON.`, { cause })
  }
}

/** fetch hides the reason (ECONNREFUSED, ENOTFOUND, ...) one or two causes deep. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return 'no answer in time'
  if (error.cause instanceof AggregateError) return reasonOf(error.cause.errors[0])
  if (error.cause !== undefined) return reasonOf(error.cause)
  return 'code' in error ? String(error.code) : error.message
}

const codes: Readonly<Record<number, FailureCode>> = {
  400: 'invalid',
  401: 'denied',
  403: 'denied',
  404: 'not_found',
  409: 'conflict',
}

function refusal(status: number, text: string, what: string, { url, username }: Pick<Server, 'url' | 'username'>): Failure {
  const code = codes[status] ?? 'upstream'
  if (status === 401) return new Failure(code, `${url} does not know user ${username} with this password.`)
  const said = saying(text)
  if (status >= 500) return new Failure(code, `${url} failed with ${status} at ${what}${said ? `: ${said}` : '.'}`)
  return new Failure(code, said || `${url} answered ${status} to ${what}.`)
}

/** The sentence in an error body: `{"detail": ...}`, `{"<field>": [...]}`, `{"errors": [...]}`, or a list. */
export function saying(text: string): string {
  try {
    return flatten(JSON.parse(text)).join(' ')
  } catch {
    return ''
  }
}

function flatten(body: unknown): string[] {
  if (typeof body === 'string') return [body]
  if (Array.isArray(body)) return body.flatMap(flatten)
  if (typeof body !== 'object' || body === null) return []
  return Object.entries(body).flatMap(([field, value]) => {
    const said = flatten(value).join(' ')
    return field === 'detail' || field === 'errors' || field === 'non_field_errors' ? said : `${field}: ${said}`
  })
}

/** Looks at a task until it is done: soon at first, for short tasks, then once a second. */
async function finished(ask: Ask, href: string, { progress, signal }: Watch = {}): Promise<Task> {
  let since: number | undefined
  for (let wait = firstLook; ; wait = Math.min(wait * 1.5, lastLook)) {
    try {
      const task = await ask<Task>('GET', href)
      since = undefined
      progress?.(task)
      if (task.state === 'completed') return task
      if (task.state === 'failed') throw new Failure('conflict', failureOf(task))
      if (task.state === 'canceled' || task.state === 'skipped') throw new Failure('conflict', `The task was ${task.state}.`)
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      since ??= Date.now()
      if (Date.now() - since > patience) throw error
    }
    await sleep(wait, undefined, { signal })
  }
}

function failureOf(task: Task): string {
  return task.error?.description || task.error?.reason || `The task ${task.pulp_href} failed without a reason.`
}
