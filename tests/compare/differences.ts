import { normalize } from './normalize.ts'
import { inOrder } from './order.ts'
import type { Answer, Played, Scene } from './play.ts'
import type { Step } from './step.ts'

/** Headers that clients rely on, compared as they are. */
const exact = [
  'accept-ranges',
  'access-control-expose-headers',
  'allow',
  'cache-control',
  'content-disposition',
  'content-range',
  'content-type',
  'cross-origin-opener-policy',
  'location',
  'referrer-policy',
  'www-authenticate',
  'x-content-type-options',
  'x-frame-options',
  'x-pulp-artifact-size',
]
/** Headers of which it counts that they are there. */
const present = ['correlation-id', 'etag', 'last-modified']

/** What one step's answers differ in, one line each. */
export function differences(step: Step, ours: Played, theirs: Played, ourScene: Scene, theirScene: Scene): string[] {
  // A Pulp that breaks has said nothing.
  if (theirs.answer.status >= 500) return compareValues('status', ours.answer.status, theirs.answer.status)
  const body = (answer: Answer) => pick(step, inOrder(step, answer.body))
  return [
    ...compareValues('status', ours.answer.status, theirs.answer.status),
    ...compareHeaders(step, ours.answer, theirs.answer, ourScene, theirScene),
    ...compareValues('body', shaped(ourScene, body(ours.answer)), shaped(theirScene, body(theirs.answer))),
    ...(ours.task || theirs.task ? compareTasks(ours.task, theirs.task, ourScene, theirScene) : []),
  ]
}

function compareHeaders(step: Step, ours: Answer, theirs: Answer, ourScene: Scene, theirScene: Scene): string[] {
  const value = (scene: Scene, { headers }: Answer, name: string) =>
    headers[name] === undefined ? undefined : normalize(scene, headers[name])
  const basic = step.as !== undefined && !step.ask.includes('/pulp/content/')
  // The administrator has a session on the Pulp, which changes what an answer varies by.
  return [
    ...[...exact, ...(basic ? ['vary'] : [])].flatMap((name) =>
      compareValues(name, value(ourScene, ours, name), value(theirScene, theirs, name)),
    ),
    ...present.flatMap((name) => compareValues(`${name} is there`, name in ours.headers, name in theirs.headers)),
  ]
}

/** Members of a task that tell of the run and not of what was asked. */
const ofTheRun = new Set(['traceback', 'worker'])

function compareTasks(ours: unknown, theirs: unknown, ourScene: Scene, theirScene: Scene): string[] {
  const strip = (scene: Scene, task: unknown) =>
    task &&
    Object.fromEntries(
      Object.entries(task)
        .filter(([name]) => !ofTheRun.has(name))
        .map(([name, value]) => [name, normalizeMember(scene, name, value)]),
    )
  return compareValues('task', strip(ourScene, ours), strip(theirScene, theirs))
}

/** Reports come in no order, and a traceback is of one program. */
function normalizeMember(scene: Scene, name: string, value: any): unknown {
  if (name === 'progress_reports') return Object.fromEntries(value.map(({ code, ...report }: { code: string }) => [code, report]))
  return normalize(scene, name === 'error' && value ? { ...value, traceback: '' } : value)
}

function pick({ only }: Step, body: unknown): unknown {
  if (!only || typeof body !== 'object' || body === null) return body
  return Object.fromEntries(Object.entries(body).filter(([name]) => only.includes(name)))
}

function shaped(scene: Scene, body: unknown): unknown {
  const value = normalize(scene, body)
  return isObject(value) && Array.isArray(value['permissions'])
    ? { ...value, permissions: value['permissions'].toSorted() }
    : value
}

/** `body.results.0.name: "a" where Pulp has "b"`. */
function compareValues(path: string, ours: unknown, theirs: unknown): string[] {
  if (ours === theirs) return []
  if (Array.isArray(ours) && Array.isArray(theirs) && ours.length === theirs.length)
    return ours.flatMap((each, index) => compareValues(`${path}.${index}`, each, theirs[index]))
  if (isObject(ours) && isObject(theirs))
    return [...new Set([...Object.keys(theirs), ...Object.keys(ours)])].flatMap((name) =>
      compareValues(`${path}.${name}`, ours[name], theirs[name]),
    )
  return [`${path}: ${show(ours)} where Pulp has ${show(theirs)}`]
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 400 ? `${text.slice(0, 400)}...` : text
}
