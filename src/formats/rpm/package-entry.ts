import { childOf, childrenOf, type Element, parseElements, textOf } from './element.ts'

/*
 * The entry of a package: its elements in the three metadata files, cut out of the upstream's own bytes. `<location>` is left out of
 * the primary one, because every publication has its own.
 *
 *   0        4       8           12      16
 *   | before | after | filelists | other | primary before and after <location> | filelists | other |
 *     lengths in bytes, little-endian
 */

const headerLength = 16

/** The three elements of a package. */
export interface PackageEntry {
  /** The one of primary.xml, before and behind its `<location>`. */
  before: Buffer
  after: Buffer
  filelists: Buffer
  other: Buffer
}

export type Allocate = (size: number) => Buffer

/** Writes an entry into fresh memory. */
export function packEntry(
  { before, after, filelists, other }: PackageEntry,
  allocate: Allocate = Buffer.allocUnsafeSlow,
): Buffer {
  const parts = [before, after, filelists, other]
  const entry = allocate(parts.reduce((size, { length }) => size + length, headerLength))
  let at = headerLength
  for (const [index, part] of parts.entries()) {
    entry.writeUInt32LE(part.length, index * 4)
    at += part.copy(entry, at)
  }
  return entry
}

const slabSize = 1 << 20

/** Cuts memory for many entries out of large buffers: as many small ones would keep the collector busy. */
export function openSlabs(): Allocate {
  let slab = Buffer.alloc(0)
  return (size) => {
    if (size > slabSize / 4) return Buffer.allocUnsafeSlow(size)
    if (size > slab.length) slab = Buffer.allocUnsafeSlow(slabSize)
    const part = slab.subarray(0, size)
    slab = slab.subarray(size)
    return part
  }
}

/** The inverse of packEntry; the parts share the entry's memory. */
export function unpackEntry(entry: Buffer): PackageEntry {
  let at = headerLength
  const [before, after, filelists, other] = [0, 4, 8, 12].map((field) => {
    const start = at
    at += entry.readUInt32LE(field)
    return entry.subarray(start, at)
  }) as [Buffer, Buffer, Buffer, Buffer]
  if (at !== entry.length) throw new Error('a package entry of another length than its header says')
  return { before, after, filelists, other }
}

/** How many of a package's changelogs are shown, the latest. */
const mostChangelogs = 10

/** The details of a package as Pulp's API shows them. */
export function parseEntry(bytes: Buffer): Record<string, unknown> {
  const entry = unpackEntry(bytes)
  const primary = parse(Buffer.concat([entry.before, entry.after]))
  const format = childOf(primary, 'format') ?? { ...primary, children: [] }
  const text = (from: Element, name: string) => textOf(from, name) ?? ''
  const whole = (from: Element, child: string, name: string) => Number(childOf(from, child)?.attributes[name] ?? 0)
  return {
    summary: text(primary, 'summary'),
    description: text(primary, 'description'),
    url: text(primary, 'url'),
    changelogs: readChangelogs(parse(entry.other)),
    files: readFiles(parse(entry.filelists)),
    ...Object.fromEntries(dependencyKinds.map((kind) => [kind, readDependencies(format, kind)])),
    rpm_buildhost: text(format, 'rpm:buildhost'),
    rpm_group: text(format, 'rpm:group'),
    rpm_license: text(format, 'rpm:license'),
    rpm_packager: text(primary, 'packager'),
    rpm_sourcerpm: text(format, 'rpm:sourcerpm'),
    rpm_vendor: text(format, 'rpm:vendor'),
    rpm_header_start: whole(format, 'rpm:header-range', 'start'),
    rpm_header_end: whole(format, 'rpm:header-range', 'end'),
    size_archive: whole(primary, 'size', 'archive'),
    size_installed: whole(primary, 'size', 'installed'),
  }
}

function parse(element: Buffer): Element {
  return parseElements(element.toString('utf8'), 'The stored metadata of a package')
}

export const dependencyKinds = [
  'requires',
  'provides',
  'conflicts',
  'obsoletes',
  'suggests',
  'enhances',
  'recommends',
  'supplements',
] as const

type Dependency = [
  name: string,
  flags: string | null,
  epoch: string | null,
  version: string | null,
  release: string | null,
  pre: boolean,
]

function readDependencies(format: Element, kind: string): Dependency[] {
  const list = childOf(format, `rpm:${kind}`)
  return (list ? childrenOf(list, 'rpm:entry') : []).map(({ attributes }) => [
    attributes['name'] ?? '',
    attributes['flags'] ?? null,
    attributes['epoch'] ?? null,
    attributes['ver'] ?? null,
    attributes['rel'] ?? null,
    ['1', 'TRUE', 'true'].includes(attributes['pre'] ?? ''),
  ])
}

/** Each once: some packages list a file twice. */
function readFiles(filelists: Element): [type: string | null, directory: string, name: string][] {
  const seen = new Set<string>()
  return childrenOf(filelists, 'file').flatMap(({ attributes: { type = null }, text }) => {
    const key = `${type}\n${text}`
    if (seen.has(key)) return []
    seen.add(key)
    const slash = text.lastIndexOf('/') + 1
    return [[type, text.slice(0, slash), text.slice(slash)]]
  })
}

function readChangelogs(other: Element): [author: string, time: number, text: string][] {
  return childrenOf(other, 'changelog')
    .map(({ attributes, text }): [string, number, string] => [attributes['author'] ?? '', Number(attributes['date'] ?? 0), text])
    .sort((a, b) => a[1] - b[1])
    .slice(-mostChangelogs)
}
