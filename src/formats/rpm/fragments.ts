import { isUtf8 } from 'node:buffer'
import { Failure } from '../../lib/failure.ts'
import { hasSoundReferences } from '../../lib/xml.ts'
import { type Element, escapeXml, parseElements, quoteXml } from './element.ts'

/*
 * What primary.xml, filelists.xml and other.xml say of one package: its `<package>` elements, kept as the bytes that the upstream wrote
 * and put back as they are when publishing. So they must be sound by themselves. Nearly all look just as createrepo_c writes them, which
 * a regular expression tells at some 1.5 GB/s; the others are parsed and written anew without what could do harm elsewhere
 * (comments, CDATA, prefixes that only their document declared).
 */

export type FragmentKind = 'primary' | 'filelists' | 'other'

/** Parsing needs many times the memory of the text. */
const mostUnusualBytes = 16 << 20

const control = '\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f'
const text = `[^<>${control}]*`
const value = `[^"<>${control}]*`
const attributes = `(?: [a-zA-Z]+="${value}")*`
const version = `<version${attributes}/>\\s*`

/** An element with text and no attributes, captured. */
const textElement = (name: string) => `<${name}(?:>(${text})</${name}>|/>)\\s*`
const attribute = (name: string) => `${name}="(${value})"`

/** Captures: name, arch, epoch, version, release, checksum type, checksum, summary, file time, build time, package size, location. */
const usualPrimary = new RegExp(
  `^<package type="rpm">\\s*${textElement('name')}${textElement('arch')}` +
    `<version ${attribute('epoch')} ${attribute('ver')} ${attribute('rel')}/>\\s*` +
    `<checksum ${attribute('type')} pkgid="YES">(${text})</checksum>\\s*` +
    `${textElement('summary')}${textElement('description')}${textElement('packager')}${textElement('url')}` +
    `<time file="(\\d+)" build="(\\d+)"/>\\s*<size package="(\\d+)"${attributes}/>\\s*<location ${attribute('href')}/>\\s*` +
    `<format>\\s*(?:<rpm:header-range${attributes}/>\\s*|<file${attributes}>${text}</file>\\s*|` +
    `<(rpm:[a-z]+)(?:/>|>(?:${text}|\\s*(?:<rpm:entry${attributes}/>\\s*)*)</\\16>)\\s*)*</format>\\s*</package>$`,
)
const usualList = (name: string, childAttributes: string) =>
  new RegExp(
    `^<package pkgid="(${value})"${attributes}>\\s*${version}(?:<${name}${childAttributes}>${text}</${name}>\\s*)*</package>$`,
  )

const usual: Record<FragmentKind, RegExp> = {
  primary: usualPrimary,
  filelists: usualList('file', '(?: type="(?:dir|ghost)")?'),
  other: usualList('changelog', ` author="${value}" date="\\d+"`),
}

/** Finds elements that look as they usually do, for cutElements. */
export function usualIn(kind: FragmentKind): RegExp {
  return new RegExp(usual[kind].source.slice(1, -1), 'y')
}

/** Whether a fragment looks as they usually do. `text` holds one byte in each character (latin1). */
export function matchUsual(kind: FragmentKind, text: string): RegExpExecArray | null {
  try {
    const match = usual[kind].exec(text)
    return match && hasSoundReferences(text) ? match : null
  } catch {
    // A list so long that the expression ran out of stack.
    return null
  }
}

/** Returns a fragment that can stand in any document of its kind: itself, or written anew. Throws Failure integrity. */
export function soundFragment(kind: FragmentKind, fragment: Buffer): Buffer {
  if (isUtf8(fragment) && matchUsual(kind, fragment.toString('latin1'))) return fragment
  return Buffer.from(renderElement(parseFragment(kind, fragment)))
}

/** The element as a tree. Throws Failure integrity. */
export function parseFragment(kind: FragmentKind, fragment: Buffer): Element {
  if (!isUtf8(fragment)) throw new Failure('integrity', `A package in the ${kind} metadata is not written in UTF-8.`)
  if (fragment.length > mostUnusualBytes)
    throw new Failure('integrity', `A package in the ${kind} metadata is unusual and very large.`)
  return parseElements(fragment.toString('utf8'), `A package in the ${kind} metadata`)
}

/** Writes an element with what is in it, except for prefixes that only its document may have declared. */
export function renderElement({ name, attributes, children, text }: Element): string {
  const start = `<${name}${Object.entries(attributes)
    .filter(([key]) => isKnownName(key))
    .map(([key, each]) => ` ${key}=${quoteXml(each)}`)
    .join('')}`
  const known = children.filter((child) => isKnownName(child.name))
  if (known.length > 0) return `${start}>\n${known.map((child) => `${renderElement(child)}\n`).join('')}</${name}>`
  return text === '' || children.length > 0 ? `${start}/>` : `${start}>${escapeXml(text)}</${name}>`
}

function isKnownName(name: string): boolean {
  return /^(rpm:|xml:)?[\w.-]+$/.test(name) && name !== 'xmlns'
}
