import { Failure } from '../../lib/failure.ts'
import { childOf, childrenOf, type Element, escapeXml, parseElements, quoteXml, textOf } from './element.ts'
import { checkChecksum, checksumTypeOf } from './primary.ts'

/** What repomd.xml lists: one metadata file. */
export interface MetadataRecord {
  /** `primary`, `updateinfo`, ... */
  type: string
  /** Relative to `base` or, where that is undefined, to the repository. */
  href: string
  base?: string | undefined
  checksum: Checksum
  /** Of the bytes when unpacked. */
  openChecksum?: Checksum | undefined
  size?: number | undefined
  openSize?: number | undefined
  /** Seconds. */
  timestamp?: number | undefined
}

export interface Checksum {
  type: string
  value: string
}

/** What an upstream's repomd.xml says. */
export interface Repomd {
  revision: string
  records: MetadataRecord[]
}

/** Reads a repomd.xml. Throws Failure integrity. */
export function parseRepomd(bytes: Buffer): Repomd {
  const root = parseElements(bytes.toString('utf8'), 'The repomd.xml')
  if (root.name !== 'repomd')
    throw new Failure('integrity', `The repomd.xml is something else: its root element is ${root.name.slice(0, 50)}.`)
  const records = childrenOf(root, 'data').map(parseRecord)
  const twice = records.find(({ type }, index) => records.findIndex((other) => other.type === type) !== index)
  if (twice) throw new Failure('integrity', `The repomd.xml lists ${twice.type} twice.`)
  return { revision: textOf(root, 'revision')?.trim() ?? '', records }
}

function parseRecord(data: Element): MetadataRecord {
  const type = data.attributes['type'] ?? ''
  const location = childOf(data, 'location')
  const checksum = childOf(data, 'checksum')
  if (!type || !location?.attributes['href'] || !checksum)
    throw new Failure(
      'integrity',
      `The repomd.xml lists ${type.slice(0, 50) || 'a file without type'} without its location and checksum.`,
    )
  return {
    type,
    href: location.attributes['href'],
    base: location.attributes['xml:base'],
    checksum: parseChecksum(checksum, type),
    openChecksum: parseOpenChecksum(childOf(data, 'open-checksum')),
    size: parseNumber(data, 'size'),
    openSize: parseNumber(data, 'open-size'),
    timestamp: parseNumber(data, 'timestamp'),
  }
}

function parseChecksum({ attributes, text }: Element, what: string): Checksum {
  const checksum = { type: checksumTypeOf(attributes['type'] ?? ''), value: text.trim().toLowerCase() }
  checkChecksum(checksum.type, checksum.value, `the ${what} metadata`)
  return checksum
}

/** Nothing depends on it, so that an odd one does no harm. */
function parseOpenChecksum(element: Element | undefined): Checksum | undefined {
  return element && { type: checksumTypeOf(element.attributes['type'] ?? ''), value: element.text.trim().toLowerCase() }
}

/** Undefined when it is absent or unreadable: some tools write fractions of seconds, or nothing. */
function parseNumber(data: Element, name: string): number | undefined {
  const text = textOf(data, name)?.trim() ?? ''
  return /^\d{1,15}(\.\d*)?$/.test(text) ? Math.floor(Number(text)) : undefined
}

/** The inverse of parseRepomd. */
export function renderRepomd({ revision, records }: Repomd): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>${escapeXml(revision)}</revision>
${records.map(renderRecord).join('')}</repomd>
`
}

function renderRecord({ type, href, base, checksum, openChecksum, size, openSize, timestamp }: MetadataRecord): string {
  const line = (name: string, value: string | number | undefined, attributes = '') =>
    value === undefined ? '' : `    <${name}${attributes}>${escapeXml(String(value))}</${name}>\n`
  return `  <data type=${quoteXml(type)}>
${line('checksum', checksum.value, ` type=${quoteXml(checksum.type)}`)}${
  openChecksum ? line('open-checksum', openChecksum.value, ` type=${quoteXml(openChecksum.type)}`) : ''
}    <location ${base === undefined ? '' : `xml:base=${quoteXml(base)} `}href=${quoteXml(href)}/>
${line('timestamp', timestamp)}${line('size', size)}${line('open-size', openSize)}  </data>
`
}
