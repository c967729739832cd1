import { modelIn } from '../../../core/names.ts'
import { Failure, type Problems } from '../../../lib/failure.ts'
import { parseTime } from '../../../lib/time.ts'
import { baseFields } from './filters.ts'
import { findTarget, resolveTarget } from './hrefs.ts'
import { invalid } from './invalid.ts'
import { showRow } from './list.ts'
import type { BodySchema, Call, Field, Fields } from './resource.ts'

/*
 * A request body against its fields, with the words of Django REST framework, which clients show to people. Everything that is wrong with
 * the fields is said at once; unknown fields only when nothing else is wrong, as Pulp does.
 */

/** A body as it came: JSON values, or texts and lists of texts from a form. */
export interface RawBody {
  readonly values: Readonly<Record<string, unknown>>
  /** Forms cannot say null or absent: an empty text may mean either. */
  readonly form: boolean
}

/** Checks and converts a body. What is not given is filled in with defaults unless it is a partial update. Throws Failure invalid. */
export async function checkBody(
  call: Call,
  { fields, partial, lenient }: BodySchema,
  raw: RawBody,
): Promise<Record<string, any>> {
  const values: Record<string, any> = {}
  const problems: Record<string, Problems> = {}
  for (const [name, field] of Object.entries(fields)) {
    if (field.readOnly) continue
    const given = raw.form ? formValue(raw.values, name, field) : raw.values[name]
    try {
      const value = await checkGiven(call, name, field, given, partial === true)
      if (value !== undefined) values[name] = value
    } catch (error) {
      if (!(error instanceof Failure) || !error.problems) throw error
      problems[name] = error.problems
    }
  }
  if (Object.keys(problems).length > 0) throw invalid(problems)
  const unknown = lenient ? [] : Object.keys(raw.values).filter((name) => !isKnown(fields, name.replace(/[.[].*$/s, '')))
  if (unknown.length > 0) throw invalid(Object.fromEntries(unknown.map((name) => [name, ['Unexpected field']])))
  return values
}

/** Clients send a whole object back, with what only the server sets. */
function isKnown(fields: Fields, name: string): boolean {
  return Object.hasOwn(fields, name) || Object.hasOwn(baseFields, name) || name === 'csrfmiddlewaretoken'
}

async function checkGiven(call: Call, name: string, field: Field, given: unknown, partial: boolean): Promise<unknown> {
  if (given !== undefined) return checkValue(call, name, field, given)
  if (partial) return undefined
  if (field.required) throw problem(field.format === 'binary' ? 'No file was submitted.' : 'This field is required.')
  return field.default
}

const problem = (message: string) => invalid([message])

/** One value of a body or of an array in it; `name` is that of the body's field. */
async function checkValue(call: Call, name: string, field: Field, value: unknown): Promise<unknown> {
  if (value === null || (value === '' && field.type === 'href')) {
    if (field.nullable || (field.type === 'any' && !field.required)) return null
    throw problem('This field may not be null.')
  }
  switch (field.type) {
    case 'string':
      return checkString(field, value)
    case 'integer':
    case 'number':
      return checkNumber(field, value)
    case 'boolean':
      return checkBoolean(value)
    case 'array':
      return checkArray(call, name, field, value)
    case 'object':
      return checkObject(call, name, field, value)
    case 'href':
      return checkHref(call, name, field, value)
    case 'any':
      return value
  }
}

function checkString(field: Field, value: unknown): unknown {
  if (field.format === 'binary') {
    if (typeof value !== 'object') throw problem('The submitted data was not a file. Check the encoding type on the form.')
    return value
  }
  if (field.enum) {
    if (value === '' && field.allowBlank) return ''
    if (field.enum.includes(String(value))) return String(value)
    throw problem(`"${pythonText(value)}" is not a valid choice.`)
  }
  if (typeof value !== 'string' && typeof value !== 'number') throw problem('Not a valid string.')
  // Secrets keep their blanks at the ends.
  const text = field.secret ? String(value) : String(value).trim()
  if (text === '' && !field.allowBlank) throw problem('This field may not be blank.')
  if (text.includes('\0')) throw problem('Null characters are not allowed.')
  if (field.format === 'date-time') return checkTime(text)
  if (field.format === 'email' && text !== '' && !/^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/.test(text))
    throw problem('Enter a valid email address.')
  // Only short texts are taken apart to count their characters.
  if (field.maxLength !== undefined && (text.length > 2 * field.maxLength || [...text].length > field.maxLength))
    throw problem(`Ensure this field has no more than ${field.maxLength} characters.`)
  if (field.minLength !== undefined && text.length < 2 * field.minLength && [...text].length < field.minLength)
    throw problem(`Ensure this field has at least ${field.minLength} characters.`)
  if (field.pattern && !new RegExp(field.pattern).test(text))
    throw problem(field.patternProblem ?? 'Enter a valid "slug" consisting of letters, numbers, underscores or hyphens.')
  return text
}

function checkTime(text: string): number {
  const time = parseTime(text)
  if (time !== undefined) return time
  throw problem('Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].')
}

function checkNumber(field: Field, value: unknown): number {
  const whole = field.type === 'integer'
  const text = typeof value === 'number' ? String(value) : typeof value === 'string' ? value.trim() : ''
  const number = text === '' ? Number.NaN : Number(text)
  if (whole ? !Number.isSafeInteger(number) : !Number.isFinite(number))
    throw problem(whole ? 'A valid integer is required.' : 'A valid number is required.')
  const shown = (limit: number) => (whole ? String(limit) : pythonFloat(limit))
  if (field.minimum !== undefined && number < field.minimum)
    throw problem(`Ensure this value is greater than or equal to ${shown(field.minimum)}.`)
  if (field.maximum !== undefined && number > field.maximum)
    throw problem(`Ensure this value is less than or equal to ${shown(field.maximum)}.`)
  return number
}

function checkBoolean(value: unknown): boolean {
  const text = String(value).toLowerCase()
  if (['t', 'y', 'yes', 'true', 'on', '1'].includes(text)) return true
  if (['f', 'n', 'no', 'false', 'off', '0'].includes(text)) return false
  throw problem('Must be a valid boolean.')
}

async function checkArray(call: Call, name: string, field: Field, value: unknown): Promise<unknown[]> {
  if (!Array.isArray(value)) throw problem(`Expected a list of items but got type "${pythonType(value)}".`)
  const problems: Record<string, Problems> = {}
  const items: unknown[] = []
  for (const [index, item] of value.entries())
    try {
      items.push(field.items ? await checkValue(call, name, field.items, item) : item)
    } catch (error) {
      if (!(error instanceof Failure) || !error.problems) throw error
      problems[index] = error.problems
    }
  // Related fields and choices say it for the whole list, other lists by index.
  const first = Object.values(problems)[0]
  if (first) throw invalid(field.items?.type === 'href' || field.items?.enum ? first : problems)
  return items
}

async function checkObject(call: Call, name: string, field: Field, value: unknown): Promise<unknown> {
  if (typeof value !== 'object' || Array.isArray(value))
    throw problem(`Expected a dictionary of items but got type "${pythonType(value)}".`)
  const members = value as Record<string, unknown>
  if (!field.items) return members
  const problems: Record<string, Problems> = {}
  const checked: Record<string, unknown> = {}
  for (const [key, member] of Object.entries(members))
    try {
      checked[key] = await checkValue(call, name, field.items, member)
    } catch (error) {
      if (!(error instanceof Failure) || !error.problems) throw error
      problems[key] = error.problems
    }
  if (Object.keys(problems).length > 0) throw invalid(problems)
  return checked
}

async function checkHref(call: Call, name: string, field: Field, value: unknown): Promise<unknown> {
  if (typeof value !== 'string') throw problem(`Incorrect type. Expected URL string, received ${pythonType(value)}.`)
  if (value.startsWith('prn:') && value.split(':').length !== 3)
    throw problem(`PRN must be of the form 'prn:app_label.model_label:pk': ${value}`)
  const kinds = (field.to ?? '').split(',')
  const found = await findTarget(call, value, kinds)
  if (typeof found !== 'string') return found
  const kept = found === 'absent' && (await isShown(call, name, value)) ? await resolveTarget(call, value, kinds) : found
  if (typeof kept !== 'string') return kept
  if (found === 'unknown' && value.startsWith('prn:')) throw problem(`Model ${modelIn(value)} does not exist`)
  throw problem(
    `Invalid hyperlink - ${{ unknown: 'No URL match.', other: 'Incorrect URL match.', absent: 'Object does not exist.' }[found]}`,
  )
}

/** Whether the item names this already: clients send back what they were shown, and may not see all that it names. */
async function isShown(call: Call, name: string, value: string): Promise<boolean> {
  if (!call.row || !call.resource) return false
  const shown = await showRow({ ...call, query: new URLSearchParams() }, call.resource, call.row)
  return [shown[name]].flat().includes(value)
}

/** A field's value out of a form, where lists are repeated or JSON, objects are JSON, and nothing is an empty text. */
function formValue(values: Readonly<Record<string, unknown>>, name: string, field: Field): unknown {
  const given = values[name]
  if (field.type === 'array') return formArray(values, name, given)
  if (field.type === 'object') return formObject(values, name, given)
  if (field.format === 'binary' && given !== '') return given
  const last = Array.isArray(given) ? given.at(-1) : given
  if (last === '') return field.allowBlank ? '' : field.nullable ? null : field.required ? '' : undefined
  if (field.type === 'any' && typeof last === 'string') return parsed(last) ?? last
  return last
}

function formArray(values: Readonly<Record<string, unknown>>, name: string, given: unknown): unknown {
  if (given === undefined) {
    const indexed = Object.keys(values).filter((key) => key.startsWith(`${name}[`))
    return indexed.length === 0 ? undefined : indexed.sort().flatMap((key) => values[key])
  }
  const items = [given].flat()
  if (items.length !== 1 || typeof items[0] !== 'string') return items
  const whole = parsed(items[0])
  return Array.isArray(whole) ? whole : items[0] === '' ? [] : items
}

function formObject(values: Readonly<Record<string, unknown>>, name: string, given: unknown): unknown {
  if (given !== undefined) {
    const text = [given].flat().at(-1)
    return typeof text === 'string' ? (text === '' ? undefined : (parsed(text) ?? text)) : text
  }
  const members = Object.keys(values).filter((key) => key.startsWith(`${name}.`))
  if (members.length === 0) return undefined
  return Object.fromEntries(members.map((key) => [key.slice(name.length + 1), [values[key]].flat().at(-1)]))
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What Python calls the type of a JSON value: the messages name it. */
function pythonType(value: unknown): string {
  if (value === null) return 'NoneType'
  if (Array.isArray(value)) return 'list'
  if (typeof value === 'object') return 'dict'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'number') return Number.isInteger(value) ? 'int' : 'float'
  return 'str'
}

const pythonFloat = (value: number) => (Number.isInteger(value) ? `${value}.0` : String(value))

function pythonText(value: unknown): string {
  if (value === true) return 'True'
  if (value === false) return 'False'
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** Fields of a response: what is not write-only or secret. */
export function readable(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, field]) => !field.writeOnly && !field.secret))
}
