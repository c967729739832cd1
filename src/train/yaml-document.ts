import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type ParsedNode, parseDocument, type Document } from 'yaml'
import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'

/** A YAML file, read so that every complaint names its line. */
export interface YamlFile {
  /** As the user wrote it. */
  readonly path: string
  readonly text: string
  readonly document: Document.Parsed
  readonly lines: LineCounter
}

/** A value of the file and the words to name it by: `repositories.grafana.url`. */
export interface Place {
  readonly file: YamlFile
  readonly node: Node | null | undefined
  /** The key before it: where complaints point to, as the value may begin a line later. */
  readonly key?: Node
  readonly name: string
}

/** Reads one value, or throws Failure invalid with file and line. */
export type Reader<T> = (place: Place) => T

export function parseYaml(path: string, text: string): YamlFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const error = document.errors[0]
  if (error) {
    const said = error.code === 'DUPLICATE_KEY' ? twice(text.slice(error.pos[0])) : firstLine(error.message)
    throw new Failure('invalid', `${path}:${lines.linePos(error.pos[0]).line}: ${said}`)
  }
  return { path, text, document, lines }
}

/** Names the key that a text begins with. */
function twice(text: string): string {
  const key = /^(?:"[^"\n]*"|'[^'\n]*'|[^\s:,{}[\]]+)/.exec(text)?.[0] ?? 'a key'
  return `${key} is there twice.`
}

export function rootOf(file: YamlFile): Place {
  return { file, node: file.document.contents, name: '' }
}

/** What is wrong at a place, as a Failure that starts with `<file>:<line>:`. */
export function wrong({ file, node, key, name }: Place, sentence: string): Failure {
  const range = key?.range ?? node?.range
  const at = range ? `:${file.lines.linePos(range[0]).line}` : ''
  return new Failure('invalid', `${file.path}${at}: ${name ? `${name}: ` : ''}${sentence}`)
}

export const text: Reader<string> = (place) => {
  const value = scalar(place)
  if (typeof value !== 'string' || value === '') throw wrong(place, 'a text is expected.')
  return value
}

/** Names that look like numbers (`2024.1`) are still names. */
export const name: Reader<string> = (place) => {
  const { node } = resolved(place)
  if (isScalar(node) && typeof node.value === 'number' && node.source !== undefined) return node.source
  return text(place)
}

export const flag: Reader<boolean> = (place) => {
  const value = scalar(place)
  if (typeof value !== 'boolean') throw wrong(place, 'true or false is expected.')
  return value
}

export const wholeNumber: Reader<number> = (place) => {
  const value = scalar(place)
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) throw wrong(place, 'a whole number is expected.')
  return value
}

export function oneOf<const T extends string>(...words: readonly T[]): Reader<T> {
  return (place) => {
    const value = scalar(place)
    const word = words.find((each) => each === value)
    if (word === undefined) throw wrong(place, `"${String(value)}" is none of ${words.join(', ')}.${hint(String(value), words)}`)
    return word
  }
}

export function listOf<T>(item: Reader<T>): Reader<T[]> {
  return (place) => items(place).map((each) => item(each))
}

/** A list that may also be a single value. */
export function items(place: Place): Place[] {
  const { file, node } = resolved(place)
  if (!isSeq(node)) throw wrong(place, 'a list is expected.')
  return node.items.map((item, index) => ({ file, node: item as Node, name: `${place.name}[${index}]` }))
}

/** The members of a map, in the order of the file. An absent map has none. */
export function members(place: Place): [string, Place][] {
  const { file, node } = resolved(place)
  if (node === undefined || node === null || (isScalar(node) && node.value === null)) return []
  if (!isMap<ParsedNode, ParsedNode | null>(node)) throw wrong(place, 'a map is expected.')
  return node.items.map(({ key, value }) => {
    const word = isScalar(key) ? (key.source ?? String(key.value)) : String(key)
    return [word, { file, node: value, key, name: place.name ? `${place.name}.${word}` : word }]
  })
}

/** The members of a map whose keys are fixed. Any other key is an error, so nothing is ever silently dropped. */
export function fields(
  place: Place,
  known: readonly string[],
  notYet: Readonly<Record<string, string>> = {},
): Map<string, Place> {
  const found = new Map<string, Place>()
  for (const [key, value] of members(place)) {
    if (notYet[key] !== undefined) throw wrong(value, `${notYet[key]} are not supported yet.`)
    if (!known.includes(key)) throw wrong({ ...value, name: place.name }, `unknown field "${key}".${hint(key, known)}`)
    found.set(key, value)
  }
  return found
}

export function isList(place: Place): boolean {
  return isSeq(resolved(place).node)
}

export function isMapping(place: Place): boolean {
  return isMap(resolved(place).node)
}

function scalar(place: Place): unknown {
  const { node } = resolved(place)
  return isScalar(node) ? node.value : undefined
}

function resolved(place: Place): Place {
  return isAlias(place.node) ? { ...place, node: place.node.resolve(place.file.document) } : place
}

function firstLine(message: string): string {
  return message
    .split('\n')[0]!
    .replace(/ at line \d+.*$/, '')
    .replace(/[.:]*$/, '.')
}
