import { isUtf8 } from 'node:buffer'
import { Failure } from '../../lib/failure.ts'
import { checkPath } from '../../lib/safe-path.ts'
import { childOf, type Element, parseElements, textOf } from './element.ts'
import { matchUsual, parseFragment, renderElement } from './fragments.ts'

/** What a sync and lists need of a package, out of its element in primary.xml. */
export interface PrimaryPackage {
  name: string
  epoch: string
  version: string
  release: string
  arch: string
  checksumType: string
  checksum: string
  summary: string
  /** Seconds. */
  fileTime: number
  buildTime: number
  size: number
  sourceRpm: string
  /** Where it lies, as written: relative to `base` or, where that is undefined, to the repository. */
  href: string
  base: string | undefined
  /** The element, sound by itself, before and behind its `<location>`. */
  before: Buffer
  after: Buffer
}

/** Reads one `<package>` element of primary.xml. Throws Failure integrity. */
export function parsePrimary(fragment: Buffer): PrimaryPackage {
  const text = fragment.toString('latin1')
  const match = isUtf8(fragment) ? matchUsual('primary', text) : null
  const found = match ? fromMatch(match, text, fragment) : fromElement(parseFragment('primary', fragment))
  checkLengths(found)
  return found
}

/** What identifies a version of a package within a repository: `<name>-<epoch>:<version>-<release>.<arch>`. */
export function nevraOf({
  name,
  epoch,
  version,
  release,
  arch,
}: Pick<PrimaryPackage, 'name' | 'epoch' | 'version' | 'release' | 'arch'>): string {
  return `${name}-${epoch}:${version}-${release}.${arch}`
}

function fromMatch(match: RegExpExecArray, text: string, fragment: Buffer): PrimaryPackage {
  const from = text.indexOf('<location ')
  return {
    name: decode(match[1]),
    arch: decode(match[2]),
    epoch: decode(match[3]) || '0',
    version: decode(match[4]),
    release: decode(match[5]),
    checksumType: checksumTypeOf(decode(match[6])),
    checksum: decode(match[7]).toLowerCase(),
    summary: decode(match[8]),
    fileTime: Number(match[12]),
    buildTime: Number(match[13]),
    size: Number(match[14]),
    sourceRpm: decode(sourceRpm.exec(text)?.[1]),
    href: decode(match[15]),
    base: undefined,
    before: fragment.subarray(0, from),
    after: fragment.subarray(text.indexOf('/>', from) + 2),
  }
}

const sourceRpm = /<rpm:sourcerpm>([^<]*)</

/** A field out of text that holds one byte in each character. */
function decode(field = ''): string {
  // oxlint-disable-next-line no-control-regex -- This is the range of ASCII.
  if (/^[\x00-\x25\x27-\x7f]*$/.test(field)) return field
  const text = Buffer.from(field, 'latin1').toString('utf8')
  return text.includes('&') ? parseElements(`<text>${text}</text>`, 'The primary metadata').text : text
}

/** An element that is not as usual: another order, other attributes, comments, CDATA. */
function fromElement(element: Element): PrimaryPackage {
  const attribute = (name: string, key: string) => childOf(element, name)?.attributes[key]
  const whole = (name: string, key: string) => wholeNumber(attribute(name, key) ?? '0', `${name} ${key}`)
  const location = childOf(element, 'location')
  const checksum = childOf(element, 'checksum')
  const name = textOf(element, 'name') ?? missing('name')
  const others = element.children.filter((child) => child !== location)
  const written = Buffer.from(renderElement({ ...element, children: others }))
  const end = written.lastIndexOf('</package>')
  return {
    name,
    arch: textOf(element, 'arch') ?? missing('arch', name),
    epoch: attribute('version', 'epoch') || '0',
    version: attribute('version', 'ver') ?? missing('version', name),
    release: attribute('version', 'rel') ?? missing('release', name),
    checksumType: checksumTypeOf(checksum?.attributes['type'] ?? missing('checksum', name)),
    checksum: checksum!.text.trim().toLowerCase(),
    summary: textOf(element, 'summary') ?? '',
    fileTime: whole('time', 'file'),
    buildTime: whole('time', 'build'),
    size: whole('size', 'package'),
    sourceRpm: textOf(childOf(element, 'format') ?? element, 'rpm:sourcerpm') ?? '',
    href: location?.attributes['href'] ?? missing('location', name),
    base: location?.attributes['xml:base'],
    before: written.subarray(0, end),
    after: written.subarray(end),
  }
}

function missing(what: string, name = 'A package'): never {
  throw new Failure('integrity', `${name} has no ${what} in the primary metadata.`)
}

function wholeNumber(text: string, what: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number))
    throw new Failure('integrity', `A package has the ${what} ${text.slice(0, 30)}, which is no number.`)
  return number
}

const hexLengths: Readonly<Record<string, number>> = { md5: 32, sha1: 40, sha224: 56, sha256: 64, sha384: 96, sha512: 128 }

/** Old createrepo wrote `sha` for SHA-1. */
export function checksumTypeOf(type: string): string {
  return type.toLowerCase() === 'sha' ? 'sha1' : type.toLowerCase()
}

/** Throws Failure integrity unless this is what a checksum of this type looks like. */
export function checkChecksum(type: string, value: string, what: string): void {
  if (hexLengths[type] === undefined)
    throw new Failure('integrity', `The checksum of ${what} is of the unknown type ${type.slice(0, 30)}.`)
  if (value.length !== hexLengths[type] || !/^[0-9a-f]+$/.test(value))
    throw new Failure('integrity', `The checksum of ${what} is no ${type} checksum: ${value.slice(0, 150)}`)
}

/** Bounds what becomes keys and file names. */
function checkLengths(found: PrimaryPackage): void {
  for (const [field, most] of [
    ['name', 255],
    ['version', 255],
    ['release', 255],
    ['epoch', 10],
    ['arch', 20],
  ] as const) {
    const { length } = found[field]
    if (length === 0 || length > most)
      throw new Failure(
        'integrity',
        `A package in the primary metadata has ${length === 0 ? 'no' : 'an overlong'} ${field}: ${found.name.slice(0, 100)}`,
      )
  }
  if (!/^\d+$/.test(found.epoch))
    throw new Failure('integrity', `${found.name} has the epoch ${found.epoch}, which is no number.`)
  checkChecksum(found.checksumType, found.checksum, found.name)
  if (![found.size, found.fileTime, found.buildTime].every(Number.isSafeInteger))
    throw new Failure('integrity', `${found.name} has an impossible size or time.`)
}

/** The path that clients ask for when metadata says `href`. Throws Failure integrity when it leaves the repository. */
export function pathOf(href: string): string {
  // Clients leave out "this directory" before they ask (RFC 3986, 5.2.4).
  const path = checkPath(href.replace(/(^|\/)(?:\.\/)+/g, '$1'), 'integrity')
  return path.includes('%') ? checkPath(decodeHref(path), 'integrity') : path
}

/** Percent signs that encode nothing stand for themselves. */
function decodeHref(href: string): string {
  try {
    return decodeURIComponent(href)
  } catch {
    return href
  }
}

/** Where a path lies below a URL. The query of `base` (a token, say) is kept. */
export function urlOf(path: string, base: URL): URL {
  const url = new URL(path.split('/').map(encodeURIComponent).join('/'), base)
  if (base.search !== '') url.search = base.search
  return url
}
