import { inOrder } from './order.ts'
import { password, type Part, type Step } from './step.ts'

/** A server that is compared. */
export interface Server {
  readonly url: string
  /** Headers that make a request the administrator's. */
  readonly admin: (method: string) => Record<string, string>
  readonly credentials: readonly [username: string, password: string]
}

export interface Answer {
  status: number
  headers: Record<string, string>
  /** Parsed, where it is JSON. */
  body: unknown
}

/** What one step was answered, and the task it started when that had ended. */
export interface Played {
  answer: Answer
  task?: unknown
}

/** What a group saved and made on one server. */
export interface Scene {
  readonly server: Server
  readonly variables: Map<string, string>
  /** Hrefs, oldest first. */
  readonly made: string[]
}

const root = '/pulp/api/v3/'
/** Milliseconds that a task may take. */
const patience = 60_000

export async function play(scene: Scene, step: Step): Promise<Played> {
  if (step.pause) await new Promise((resume) => setTimeout(resume, step.pause))
  const answer = await send(scene, step)
  if (isCreation(step, answer)) note(scene, valueAt(answer.body, 'pulp_href'))
  if (answer.status === 202) note(scene, valueAt(answer.body, 'task'))
  if (!step.task) {
    save(scene, step, { ...(inOrder(step, answer.body) as object), headers: answer.headers })
    return { answer }
  }
  const task = answer.status === 202 ? await finished(scene, valueAt(answer.body, 'task')) : undefined
  // Noted at once: a later step may delete the task.
  for (const made of listAt(task, 'created_resources')) note(scene, made)
  save(scene, step, task)
  return { answer, task }
}

async function send(scene: Scene, step: Step): Promise<Answer> {
  const [method = '', ...rest] = fill(scene, step.ask).split(' ')
  const path = rest.join(' ')
  const { headers, body } = bodyOf(scene, step)
  const given = Object.entries(step.headers ?? {}).map(([name, value]) => [name, fill(scene, value)])
  const response = await fetch(`${scene.server.url}${path.startsWith('/') ? '' : root}${path}`, {
    method,
    redirect: 'manual',
    headers: { ...credentials(scene, method, step.as && fill(scene, step.as)), ...headers, ...Object.fromEntries(given) },
    ...(body !== undefined && { body }),
    signal: AbortSignal.timeout(patience),
  })
  for (const cookie of response.headers.getSetCookie()) keepCookie(scene, cookie)
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.startsWith('application/json') && text !== ''
  return { status: response.status, headers: Object.fromEntries(response.headers), body: isJson ? JSON.parse(text) : text }
}

/** Cookies of the last login can be named like everything that was saved. */
function keepCookie({ variables }: Scene, cookie: string): void {
  const [, name = '', value = ''] = /^(\w+)="?([^;"]*)/.exec(cookie) ?? []
  if (value !== '') variables.set(name, value)
}

function credentials({ server }: Scene, method: string, as: string | undefined): Record<string, string> {
  if (as === undefined) return server.admin(method)
  if (as === 'nobody') return {}
  if (as === 'basic') return basic(...server.credentials)
  if (as === 'wrong') return basic(server.credentials[0], 'not the password')
  return basic(as, password)
}

export function basic(username: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
}

function bodyOf(
  scene: Scene,
  step: Step,
): { headers?: Record<string, string>; body?: Exclude<RequestInit['body'], null | undefined> } {
  if (step.json !== undefined)
    return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(fillAll(scene, step.json)) }
  if (step.raw)
    return {
      ...(step.raw.type && { headers: { 'content-type': step.raw.type } }),
      body: Buffer.from(fill(scene, step.raw.bytes)),
    }
  if (step.form) {
    const filled = Object.entries(step.form).map(([name, value]): [string, string] => [name, fill(scene, value)])
    return { body: new URLSearchParams(filled) }
  }
  if (!step.parts) return {}
  const form = new FormData()
  for (const [name, part] of Object.entries(step.parts)) appendPart(scene, form, name, part)
  return { body: form }
}

function appendPart(scene: Scene, form: FormData, name: string, part: string | Part): void {
  if (typeof part === 'string') form.append(name, fill(scene, part))
  else
    form.append(
      name,
      new Blob([typeof part.bytes === 'string' ? fill(scene, part.bytes) : new Uint8Array(part.bytes)]),
      part.name,
    )
}

function fill({ variables }: Scene, text: string): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name === 'second' ? second() : (variables.get(name) ?? whole)))
}

const second = () => new Date().toISOString().replace(/[-:]|\.\d+/g, '')

function fillAll(scene: Scene, value: unknown): unknown {
  if (typeof value === 'string') return fill(scene, value)
  if (Array.isArray(value)) return value.map((each) => fillAll(scene, each))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [fill(scene, name), fillAll(scene, each)]))
}

async function finished(scene: Scene, href: unknown): Promise<unknown> {
  const deadline = Date.now() + patience
  for (;;) {
    const { body } = await send(scene, { ask: `GET ${String(href)}` })
    if (!['waiting', 'running', 'canceling'].includes(String(valueAt(body, 'state')))) return body
    if (Date.now() > deadline) throw new Error(`${String(href)} of ${scene.server.url} does not end.`)
    await new Promise((resume) => setTimeout(resume, 200))
  }
}

/** Whether this call made what it answers. A login answers 201 too, with whoever logged in: nothing that may go away. */
function isCreation({ ask }: Step, { status }: Answer): boolean {
  return status === 201 && ask.startsWith('POST ') && !ask.startsWith('POST login/')
}

/** Remembers what was made, for it goes away afterwards. */
function note(scene: Scene, href: unknown): void {
  if (typeof href === 'string' && !scene.made.includes(href)) scene.made.push(href)
}

function save(scene: Scene, { save = {} }: Step, from: unknown): void {
  for (const [name, path] of Object.entries(save)) {
    const value = valueAt(from, path)
    if (value !== undefined) scene.variables.set(name, String(value))
  }
}

/** `results.0.name`; a segment `~versions` is the first text of a list that holds this word. */
export function valueAt(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((at, segment) => {
    if (segment.startsWith('~') && Array.isArray(at)) return at.find((each) => String(each).includes(segment.slice(1)))
    return typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[segment] : undefined
  }, value)
}

function listAt(value: unknown, path: string): string[] {
  const list = valueAt(value, path)
  return Array.isArray(list) ? list.filter((each) => typeof each === 'string') : []
}

/** Deletes what was made, newest first; what is gone already is nobody's loss. Returns the content that is left alone then. */
export async function clean(scene: Scene): Promise<string[]> {
  const tasks = scene.made.filter((href) => href.startsWith(`${root}tasks/`))
  for (const href of tasks) for (const made of listAt(await finished(scene, href), 'created_resources')) note(scene, made)
  const content = scene.made.filter((href) => href.startsWith(`${root}content/`))
  for (const href of scene.made) if (/versions\/\d+\/$/.test(href)) content.push(...(await contentOf(scene, href)))
  const others = scene.made.filter((href) => !/\/(content|tasks|task-groups|versions)\//.test(href))
  for (const href of others.reverse()) {
    const { body } = await send(scene, { ask: `DELETE ${href}` })
    if (valueAt(body, 'task')) await finished(scene, valueAt(body, 'task'))
  }
  return content
}

async function contentOf(scene: Scene, version: string): Promise<string[]> {
  const { body } = await send(scene, { ask: `GET content/?repository_version=${version}&fields=pulp_href&limit=1000` })
  const results = valueAt(body, 'results')
  return Array.isArray(results) ? results.map(({ pulp_href }) => pulp_href) : []
}

/** Deletes content that is in no repository any more, and with it every artifact that nothing holds. */
export async function cleanContent(scene: Scene, hrefs: readonly string[]): Promise<void> {
  const json = { content_hrefs: [...new Set(hrefs)], orphan_protection_time: 0 }
  const { body } = await send(scene, { ask: 'POST orphans/cleanup/', json })
  if (valueAt(body, 'task')) await finished(scene, valueAt(body, 'task'))
}
