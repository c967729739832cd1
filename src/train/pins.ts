import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isMap, isScalar, type Pair, parseDocument, type Scalar, type YAMLMap } from 'yaml'
import { hasCode } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { defaultKey, type KollaTags } from './kolla.ts'
import { isStamp } from './stamp.ts'
import { isTagPin, tagPattern } from './tags.ts'
import type { Line, Train } from './train.ts'
import { fields, members, name, parseYaml, type Place, rootOf, wrong } from './yaml-document.ts'

/** What a line is at. */
export interface Pins {
  /** The stamp of a snapshot, by repository. */
  readonly repositories: ReadonlyMap<string, string>
  /** A tag, or `<tag>@<digest>`, by image. */
  readonly images: ReadonlyMap<string, string>
  /** Tags by Kolla's keys, then base distributions. */
  readonly kolla: KollaTags
}

/** One pin: where in the file it stands, and what it says. */
export interface PinEntry {
  /** As in `['repositories', 'grafana']` or `['kolla_image_tags', 'nova', 'rocky-9']`. */
  readonly path: readonly [string, ...string[]]
  readonly value: string
}

/** Sections of a pins file. */
export const sections = { repositories: 'repositories', images: 'images', kolla: 'kolla_image_tags' } as const

/** `pins/<line>.yaml` beside train.yaml. */
export function pinsFile(train: Pick<Train, 'file'>, line: string): string {
  return join(dirname(train.file), 'pins', `${line}.yaml`)
}

/** The pins of a line; none when it has no file yet. Throws Failure invalid for a pin of what the line does not have. */
export async function loadPins(train: Pick<Train, 'file'>, line: Line): Promise<Pins> {
  const file = pinsFile(train, line.name)
  return parsePins(file, await readIfThere(file), line)
}

export function parsePins(file: string, source: string, line: Line): Pins {
  const found = fields(rootOf(parseYaml(file, source)), Object.values(sections), { files: 'Pinned host images' })
  const section = (key: string) => (found.has(key) ? members(found.get(key)!) : [])
  return {
    repositories: new Map(section(sections.repositories).map(([key, at]) => [key, readStamp(key, at, line)])),
    images: new Map(section(sections.images).map(([key, at]) => [key, readTag(key, at, line)])),
    kolla: readKolla(found.get(sections.kolla), line),
  }
}

function readStamp(repository: string, at: Place, line: Line): string {
  if (!line.repositories.includes(repository))
    throw wrong(at, `line ${line.name} has no such repository.${hint(repository, line.repositories)}`)
  const stamp = name(at)
  if (!isStamp(stamp)) throw wrong(at, `"${stamp}" is not a stamp, as in 20261123T020000.`)
  return stamp
}

function readTag(image: string, at: Place, line: Line): string {
  if (!line.images.includes(image)) throw wrong(at, `line ${line.name} has no such image.${hint(image, line.images)}`)
  const tag = name(at)
  if (!isTagPin(tag)) throw wrong(at, `"${tag}" is neither a tag nor <tag>@sha256:<digest>.`)
  return tag
}

/** Tags are checked as the original does: what is mistyped here would be found only on the night of an upgrade. */
function readKolla(place: Place | undefined, line: Line): KollaTags {
  const tags = new Map<string, ReadonlyMap<string, string>>()
  if (!place) return tags
  for (const [key, at] of members(place)) {
    if (!/^[a-z0-9_]+$/.test(key)) throw wrong(at, `"${key}" is no key of Kolla's tags: small letters, digits and "_".`)
    const byDistribution = members(at).map(([distribution, value]) => {
      if (!line.distributions.includes(distribution))
        throw wrong(value, `line ${line.name} has no images of ${distribution}.${hint(distribution, line.distributions)}`)
      const tag = name(value)
      const expected = tagPattern(line.name, distribution)
      if (!expected.test(tag)) throw wrong(value, `"${tag}" is not like ${line.name}-${distribution}-20261123T020000.`)
      return [distribution, tag] as const
    })
    tags.set(key, new Map(byDistribution))
  }
  if (tags.size > 0 && !tags.has(defaultKey)) throw wrong(place, `"${defaultKey}" is missing: the tags of all that has no other.`)
  return tags
}

/** Writes these pins into the line's file. Everything else in it stays as it is to the byte: comments, order, other pins. */
export async function writePins(train: Pick<Train, 'file'>, line: string, pins: readonly PinEntry[]): Promise<void> {
  if (pins.length === 0) return
  const file = pinsFile(train, line)
  const before = await readIfThere(file)
  const after = renderPins(before || `# What line "${line}" is at. Written by "signalbox pin".\n`, pins)
  if (after === before) return
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, after)
}

/** The text of a pins file with these pins in it. */
export function renderPins(text: string, pins: readonly PinEntry[]): string {
  let result = text
  for (const { path, value } of pins) result = withPin(result, path, value)
  return result
}

type Block = YAMLMap<Scalar, Scalar | YAMLMap> & { flow?: boolean }

function withPin(text: string, path: PinEntry['path'], value: string): string {
  const document = parseDocument(text)
  const root: unknown = document.contents
  if (root === null || (isScalar(root) && root.value === null)) return `${endWithNewline(text)}${renderNested(path, value)}`
  let map: unknown = root
  let indent = ''
  for (const [depth, key] of path.entries()) {
    if (!isMap(map) || map.flow) break
    const block = map as Block
    const pair = block.items.find((each) => String(each.key.source ?? each.key.value) === key)
    if (!pair) {
      const last = block.items.at(-1)
      return last ? afterPair(text, last, renderNested(path.slice(depth), value, indentOf(text, last))) : reprint()
    }
    if (depth === path.length - 1 && isScalar(pair.value) && pair.value.range) return withValue(text, pair.value.range, value)
    if (isScalar(pair.value) && pair.value.value === null) {
      // A section that is there and empty (`images:`) gets its first member.
      indent = `${indentOf(text, pair)}  `
      return afterPair(text, pair, renderNested(path.slice(depth + 1), value, indent))
    }
    map = pair.value
  }
  return reprint()

  function reprint(): string {
    document.setIn(path, value)
    return document.toString({ lineWidth: 0 })
  }
}

function withValue(text: string, [start, end]: readonly number[], value: string): string {
  // An empty value (`bells:`) ends at its colon.
  return `${text.slice(0, start)}${/[:]$/.test(text.slice(0, start)) ? ' ' : ''}${value}${text.slice(end)}`
}

/** `nova:\n  rocky-9: <tag>`, each line after `indent`. */
function renderNested(path: readonly string[], value: string, indent = ''): string {
  return path
    .map((key, depth) => `${indent}${'  '.repeat(depth)}${key}:${depth === path.length - 1 ? ` ${value}` : ''}\n`)
    .join('')
}

function indentOf(text: string, { key }: Pair<Scalar>): string {
  const start = key.range![0]
  return text.slice(text.lastIndexOf('\n', start - 1) + 1, start)
}

/** Puts lines below those of `pair` and all that is in it. */
function afterPair(text: string, pair: Pair<Scalar, Scalar | YAMLMap>, lines: string): string {
  const end = text.indexOf('\n', lastOffset(pair))
  return end < 0 ? `${text}\n${lines}` : `${text.slice(0, end + 1)}${lines}${text.slice(end + 1)}`
}

/** Where the last value in a pair ends: the range of a map goes on to the comments below it. */
function lastOffset({ key, value }: Pair<Scalar, Scalar | YAMLMap>): number {
  if (isMap<Scalar, Scalar | YAMLMap>(value) && !value.flow && value.items.length > 0) return lastOffset(value.items.at(-1)!)
  return value?.range?.[1] ?? key.range![1]
}

function endWithNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`
}

async function readIfThere(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return ''
    throw error
  }
}
