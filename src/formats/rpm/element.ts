import { Failure } from '../../lib/failure.ts'

/** An XML element of a small document, in memory: comps, one advisory. What is large is read as a stream by lib/xml.ts. */
export interface Element {
  /** As written, with its prefix. */
  name: string
  attributes: Readonly<Record<string, string>>
  children: readonly Element[]
  /** The text directly in it, without that of its children. */
  text: string
  /** Where it begins and ends in the document. */
  start: number
  end: number
}

/** Parses a document. Knows no entities but the five of XML itself: declarations of others are refused. Throws Failure integrity, naming `what`. */
export function parseElements(xml: string, what: string): Element {
  const wrong = (why: string, at: number): never => {
    throw new Failure('integrity', `${what} is not well-formed XML: ${why} at character ${at}.`)
  }
  const root = { name: '', attributes: {}, children: [] as Element[], text: '', start: 0, end: 0 }
  const open = [root]
  markup.lastIndex = 0
  let at = 0
  while (at < xml.length) {
    const next = xml.indexOf('<', at)
    const inside = open.at(-1)!
    const text = xml.slice(at, next < 0 ? undefined : next)
    if (open.length > 1) inside.text += decodeEntities(text, (why) => wrong(why, at))
    else if (text.replace('\ufeff', '').trim() !== '') wrong('text outside of an element', at)
    if (next < 0) break

    markup.lastIndex = next
    const found = markup.exec(xml)?.groups ?? wrong('unfinished markup', next)
    at = markup.lastIndex
    if (found['cdata'] !== undefined) inside.text += found['cdata']
    else if (found['declaration'] !== undefined) {
      if (found['declaration'].includes('[')) wrong('a document type with declarations', next)
    } else if (found['closed'] !== undefined) {
      if (open.length === 1 || inside.name !== found['closed']) wrong(`</${found['closed']}> closes nothing`, next)
      inside.end = at
      open.pop()
    } else if (found['name'] !== undefined) {
      const attributes = parseAttributes(found['attributes'] ?? '', (why) => wrong(why, next))
      const element = { name: found['name'], attributes, children: [], text: '', start: next, end: at }
      inside.children.push(element)
      if (!found['empty']) open.push(element)
      if (open.length > mostDepth) wrong('elements nested too deeply', next)
    }
  }
  if (open.length > 1) wrong(`<${open.at(-1)!.name}> is not closed`, xml.length)
  return root.children.length === 1 ? root.children[0]! : wrong('not one root element', xml.length)
}

const mostDepth = 100

const markup =
  /<(?:!--[^]*?-->|!\[CDATA\[(?<cdata>[^]*?)\]\]>|\?[^]*?\?>|!DOCTYPE(?<declaration>[^>]*)>|\/(?<closed>[^\s<>/]+)\s*>|(?<name>[^\s<>/!?]+)(?<attributes>(?:[^<>"'/]|"[^"<]*"|'[^'<]*')*)(?<empty>\/?)>)/y

const attribute = /\s+([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/y

function parseAttributes(text: string, wrong: (why: string) => never): Record<string, string> {
  const attributes: Record<string, string> = {}
  const trimmed = text.trimEnd()
  for (attribute.lastIndex = 0; attribute.lastIndex < trimmed.length; ) {
    const found = attribute.exec(trimmed)
    if (!found) return wrong('a broken attribute')
    const [, name = '', double, single] = found
    if (name in attributes) wrong(`the attribute ${name} twice`)
    // A line break or tab that is not written as a character reference is a space.
    attributes[name] = decodeEntities((double ?? single ?? '').replace(/[\r\n\t]/g, ' '), wrong)
  }
  return attributes
}

const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function decodeEntities(text: string, wrong: (why: string) => never): string {
  if (!text.includes('&')) return text
  return text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));|&/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return named[name] ?? wrong(`the unknown entity ${whole}`)
    const code = decimal !== undefined ? Number(decimal) : hex !== undefined ? Number.parseInt(hex, 16) : -1
    if (code < 0 || code > 0x10ffff) return wrong('a broken character reference')
    return String.fromCodePoint(code)
  })
}

/** The first child of that name. */
export function childOf(element: Element, name: string): Element | undefined {
  return element.children.find((child) => child.name === name)
}

/** The text of the first child of that name. */
export function textOf(element: Element, name: string): string | undefined {
  return childOf(element, name)?.text
}

/** The children of that name. */
export function childrenOf(element: Element, name: string): Element[] {
  return element.children.filter((child) => child.name === name)
}

/** Writes text to stand between tags. Characters that XML cannot hold are left out. */
export function escapeXml(text: string): string {
  return text.replace(unwritable, '').replace(/[&<>\r]/g, (found) => escapes[found]!)
}

/** Writes an attribute's value, with its quotes. */
export function quoteXml(text: string): string {
  return `"${text.replace(unwritable, '').replace(/[&<>"\r\n\t]/g, (found) => escapes[found]!)}"`
}

// oxlint-disable-next-line no-control-regex -- These are what is looked for.
const unwritable = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\r': '&#13;',
  '\n': '&#10;',
  '\t': '&#9;',
}
