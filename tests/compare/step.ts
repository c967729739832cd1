/** One call, made the same way to both servers. Texts may hold `{name}`: what an earlier step saved, `run` and `upstream`, or `second`: now. */
export interface Step {
  /** Method and path, below the API's root unless it starts with a slash. */
  ask: string
  json?: unknown
  form?: Record<string, string>
  parts?: Record<string, string | Part>
  raw?: { type?: string; bytes: string }
  headers?: Record<string, string>
  /** Who asks: the administrator by default. Others are users that the group made, with `password` below. */
  as?: string
  /** Names for what the answer holds, by their path in it (`results.0.pulp_href`); of a task, in the finished task. */
  save?: Record<string, string>
  /** The answer names a task: it is waited for, and compared too. */
  task?: boolean
  /** Milliseconds to wait before it is made. */
  pause?: number
  /** The list comes in no order. */
  sorted?: boolean
  /** Members of the answer that are compared: all by default. */
  only?: readonly string[]
}

export interface Part {
  bytes: Buffer | string
  name: string
}

/** Steps that belong together and see what the others saved. Groups run beside each other. */
export interface Group {
  name: string
  steps: readonly Step[]
}

type More = Omit<Step, 'ask' | 'json'>

export const get = (path: string, more: More = {}): Step => ({ ask: `GET ${path}`, ...more })
export const head = (path: string, more: More = {}): Step => ({ ask: `HEAD ${path}`, ...more })
export const post = (path: string, json?: unknown, more: More = {}): Step => ask('POST', path, json, more)
export const patch = (path: string, json: unknown, more: More = {}): Step => ask('PATCH', path, json, more)
export const put = (path: string, json?: unknown, more: More = {}): Step => ask('PUT', path, json, more)
export const remove = (path: string, more: More = {}): Step => ({ ask: `DELETE ${path}`, ...more })
/** The same, and then the task that it starts. */
export const done = (step: Step, save?: Step['save']): Step => ({ ...step, task: true, ...(save && { save }) })

function ask(method: string, path: string, json: unknown, more: More): Step {
  return { ask: `${method} ${path}`, ...(json !== undefined && { json }), ...more }
}

/** One step for each of these bodies. A name or base path `x` is another one in each, or one that is taken by mistake would hide what is wrong. */
export function each(bodies: readonly object[], step: (body: object) => Step): Step[] {
  return bodies.map((body) =>
    step(
      Object.fromEntries(Object.entries(body).map(([name, value]) => [name, value === 'x' && isName(name) ? fresh() : value])),
    ),
  )
}

let serial = 0
const fresh = () => `{run}-x${++serial}`
const isName = (field: string) => field === 'name' || field === 'base_path'

/** A list asked with each of these filters; `{name: [values]}` asks with every value. `scope` keeps what others made out of the answer. */
export function filtered(
  path: string,
  scope: string,
  filters: Record<string, string | number | boolean | readonly (string | number | boolean)[]>,
  more: More = {},
): Step[] {
  return Object.entries(filters).flatMap(([name, values]) =>
    [values].flat().map((value) => get(`${path}?${scope}&${name}=${String(value)}`, more)),
  )
}

/** Of users that groups make. */
export const password = 'a-long-password-for-comparing'
