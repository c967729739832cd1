import { isUtf8 } from 'node:buffer'
import { Failure } from './failure.ts'

const mebibyte = 1 << 20
const mostElementBytes = 32 * mebibyte
const deepest = 32
/** How much of a chunk is copied behind what the chunk before it left over. */
const bridge = 64 * 1024

/**
 * Cuts a large document into the raw bytes of each `<name>` element directly below its root, in batches as they stream past.
 * Most are cut with no more than a search for their end; only what holds comments, CDATA or instructions is read markup by markup.
 * Elements of other names are skipped. Throws Failure integrity, naming `what`, when the document is cut short, is no XML of this
 * kind (of another root than `rootName`, where that is given), declares entities, or has an element of more than 32 MiB. What lies
 * within an element is not checked.
 */
export async function* splitElements(
  bytes: AsyncIterable<Buffer>,
  name: string,
  what: string,
  rootName?: string,
): AsyncGenerator<Buffer[]> {
  for await (const { elements } of cutElements(bytes, { name, what, rootName })) yield elements
}

interface Cutting {
  name: string
  what: string
  rootName: string | undefined
  /** What elements usually look like, one byte in each character: a sticky expression. It matches only what is sound but for references. */
  usual?: RegExp
}

export interface Cut {
  elements: Buffer[]
  /** Whether all of them match `usual`, are UTF-8 and have no references but those of XML itself. */
  areUsual: boolean
}

/** As splitElements, but finds elements by what they usually look like, where that is given, and tells when all did. */
export async function* cutElements(bytes: AsyncIterable<Buffer>, { name, what, rootName, usual }: Cutting): AsyncGenerator<Cut> {
  const splitter = openSplitter(name, what, rootName, usual)
  let rest: Buffer = Buffer.alloc(0)
  let waiting: Buffer[] = []
  let waitingBytes = 0

  function cut(chunk: Buffer): Cut {
    const elements: Buffer[] = []
    let areUsual = true
    let buffer = chunk
    let from = 0
    if (rest.length > 0 && chunk.length > bridge) {
      // Finish what the chunk before began with the first bytes of this one: the rest of this one need not be copied.
      const at = splitter.take(Buffer.concat([rest, chunk.subarray(0, bridge)]), 0, rest.length, elements)
      areUsual = splitter.tookUsual()
      if (at >= rest.length) from = at - rest.length
      else buffer = Buffer.concat([rest.subarray(at), chunk])
    } else if (rest.length > 0) buffer = Buffer.concat([rest, chunk])
    rest = buffer.subarray(splitter.take(buffer, from, buffer.length, elements))
    return { elements, areUsual: areUsual && splitter.tookUsual() }
  }

  for await (const chunk of bytes) {
    waiting.push(chunk)
    waitingBytes += chunk.length
    // While one element spans many chunks, gather as much as there is already, so that little is copied twice.
    if (rest.length > bridge && waitingBytes < rest.length) continue
    const found = cut(waiting.length === 1 ? chunk : Buffer.concat(waiting))
    waiting = []
    waitingBytes = 0
    if (found.elements.length > 0) yield found
  }
  if (waiting.length > 0) {
    const found = cut(Buffer.concat(waiting))
    if (found.elements.length > 0) yield found
  }
  if (rest.length > 0 || !splitter.complete()) throw new Failure('integrity', `${what} is cut short.`)
}

const [tab, newline, carriageReturn, space] = [9, 10, 13, 32]
const [bang, quote, apostrophe, slash, less, greater, question] = [33, 34, 39, 47, 60, 62, 63]

interface Markup {
  kind: 'start' | 'empty' | 'end' | 'text' | 'skipped' | 'doctype'
  name: string
  /** Of the first byte behind it. */
  end: number
}

function openSplitter(name: string, what: string, rootName: string | undefined, usual: RegExp | undefined) {
  const opening = Buffer.from(`<${name}`)
  const closing = Buffer.from(`</${name}`)
  let place: 'before' | 'inside' | 'after' = 'before'
  let root = ''
  // The next comment, CDATA or instruction in `odd.buffer`: an element that ends before it needs no closer look.
  let odd: { buffer: Buffer | undefined; at: number } = { buffer: undefined, at: -1 }
  let tookUsual = false

  function wrong(why: string): never {
    throw new Failure('integrity', `${what} is not well-formed XML: ${why}.`)
  }

  /** Consumes whole markup from `from` until `until` is reached or the next one is not complete. Returns where it stopped. */
  function take(buffer: Buffer, from: number, until: number, elements: Buffer[]): number {
    let at = from
    // Up to here elements may end; what is behind is not looked at before there is more.
    const whole = usual && place === 'inside' ? buffer.lastIndexOf(closing) : -1
    const text = whole < 0 ? undefined : buffer.toString('latin1', 0, Math.min(buffer.length, whole + closing.length + 1))
    tookUsual = usual !== undefined && place === 'inside'
    for (;;) {
      at = skipSpace(buffer, at)
      const ended = at >= until
      const end = ended ? -1 : takeNext(buffer, at, elements, text)
      if (end < 0) {
        if (buffer.length - at > mostElementBytes) wrong(`an element of more than ${mostElementBytes / mebibyte} MiB`)
        tookUsual &&= text === undefined || isSound(buffer, text, from, at)
        return Math.min(at, buffer.length)
      }
      at = end
    }
  }

  function takeNext(buffer: Buffer, at: number, elements: Buffer[], text: string | undefined): number {
    if (place !== 'inside' || !startsElement(buffer, at)) return takeOther(buffer, at)
    const end = text === undefined || at >= text.length ? -1 : endOfUsual(text, at)
    if (end < 0 || end - at > mostElementBytes) {
      const end = takeElement(buffer, at, elements)
      if (end >= 0) tookUsual = false
      return end
    }
    elements.push(buffer.subarray(at, end))
    return end
  }

  function endOfUsual(text: string, at: number): number {
    usual!.lastIndex = at
    try {
      return usual!.test(text) ? usual!.lastIndex : -1
    } catch {
      // A list so long that the expression ran out of stack.
      return -1
    }
  }

  function startsElement(buffer: Buffer, at: number): boolean {
    const after = at + opening.length
    return after < buffer.length && isNameEnd(buffer[after]!) && buffer.compare(opening, 0, opening.length, at, after) === 0
  }

  function takeElement(buffer: Buffer, at: number, elements: Buffer[]): number {
    const tagEnd = endOfTag(buffer, at)
    if (tagEnd < 0) return -1
    let end = buffer[tagEnd - 2] === slash ? tagEnd : endOfElement(buffer, tagEnd)
    if (end > nextOdd(buffer, at) || (end < 0 && nextOdd(buffer, at) < buffer.length)) end = walkElement(buffer, at)
    if (end < 0) return -1
    if (end - at > mostElementBytes) wrong(`an element of more than ${mostElementBytes / mebibyte} MiB`)
    elements.push(buffer.subarray(at, end))
    return end
  }

  /** The end of an element without comments and the like, whose own name does not occur within it. */
  function endOfElement(buffer: Buffer, from: number): number {
    for (let at = buffer.indexOf(closing, from); at >= 0; at = buffer.indexOf(closing, at + closing.length)) {
      const end = skipSpace(buffer, at + closing.length)
      if (end >= buffer.length) return -1
      if (buffer[end] === greater) return end + 1
    }
    return -1
  }

  function nextOdd(buffer: Buffer, from: number): number {
    if (odd.buffer !== buffer || odd.at < from)
      odd = { buffer, at: Math.min(findAfterLess(buffer, bang, from), findAfterLess(buffer, question, from)) }
    return odd.at
  }

  /** The end of any element, found by reading all markup in it. */
  function walkElement(buffer: Buffer, from: number): number {
    const open: string[] = []
    for (let at = from; ; ) {
      const markup = readMarkup(buffer, at)
      if (!markup) return -1
      at = markup.end
      if (markup.kind === 'start') open.push(markup.name)
      else if (markup.kind === 'end' && open.pop() !== markup.name) wrong(`</${markup.name}> closes nothing`)
      else if (markup.kind === 'doctype') wrong('a document type within the document')
      if (open.length === 0) return at
      if (open.length > deepest) wrong('elements nested too deeply')
    }
  }

  /** What may stand outside of the wanted elements: the prolog, the root's tags, elements of other names, comments. */
  function takeOther(buffer: Buffer, at: number): number {
    if (buffer[at] !== less) wrong('text where none may be')
    const markup = readMarkup(buffer, at)
    if (!markup) return -1
    if (markup.kind === 'doctype' && place !== 'before') wrong('a document type within the document')
    if (markup.kind === 'text') wrong('text where none may be')
    if (markup.kind === 'end') {
      if (place !== 'inside' || markup.name !== root) wrong(`</${markup.name}> closes nothing`)
      place = 'after'
    } else if (markup.kind === 'start' || markup.kind === 'empty') {
      if (place === 'inside') return walkElement(buffer, at)
      if (place === 'after') wrong('more than one root element')
      if (markup.name.includes(':')) wrong(`the root element ${markup.name} has a prefix, which is not supported`)
      if (rootName !== undefined && markup.name !== rootName)
        throw new Failure('integrity', `${what} is something else: its root element is ${markup.name.slice(0, 40)}.`)
      root = markup.name
      place = markup.kind === 'start' ? 'inside' : 'after'
    }
    return markup.end
  }

  /** The next markup at or after `from`; undefined when it is not complete. */
  function readMarkup(buffer: Buffer, from: number): Markup | undefined {
    const at = buffer.indexOf(less, from)
    if (at < 0 || at + 1 >= buffer.length) return undefined
    const next = buffer[at + 1]!
    if (next === question) return skipped(buffer, at, '?>', 'skipped')
    if (next === bang) return readDeclaration(buffer, at)
    const end = endOfTag(buffer, at)
    if (end < 0) return undefined
    const closes = next === slash
    const start = at + (closes ? 2 : 1)
    let stop = start
    while (stop < end && !isNameEnd(buffer[stop]!)) stop++
    if (stop === start) wrong('a tag without a name')
    const kind = closes ? 'end' : buffer[end - 2] === slash ? 'empty' : 'start'
    return { kind, name: buffer.toString('latin1', start, stop), end }
  }

  function readDeclaration(buffer: Buffer, at: number): Markup | undefined {
    const start = buffer.toString('latin1', at, at + 9)
    if (start.startsWith('<!--')) return skipped(buffer, at + 4, '-->', 'skipped')
    if (start.startsWith('<![CDATA[')) return skipped(buffer, at + 9, ']]>', 'text')
    const known = ['<!DOCTYPE', '<!--', '<![CDATA['].some((each) => each.startsWith(start))
    if (!known) wrong('a declaration other than the document type')
    const doctype = start === '<!DOCTYPE' ? skipped(buffer, at, '>', 'doctype') : undefined
    const inner = doctype && buffer.indexOf('[', at)
    if (inner !== undefined && inner >= 0 && inner < doctype!.end) wrong('a document type with declarations of its own')
    return doctype
  }

  return { take, tookUsual: () => tookUsual, complete: () => place === 'after' }
}

const reference = /&(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});/y

/** Whether what is between these is UTF-8 and refers to nothing but what XML itself knows. `text` is all of it, one byte in each character. */
function isSound(buffer: Buffer, text: string, from: number, until: number): boolean {
  return isUtf8(buffer.subarray(from, until)) && hasSoundReferences(text, from, until)
}

export function hasSoundReferences(text: string, from = 0, until = text.length): boolean {
  for (let at = text.indexOf('&', from); at >= 0 && at < until; at = text.indexOf('&', at + 1)) {
    reference.lastIndex = at
    if (!reference.test(text)) return false
  }
  return true
}

function skipped(buffer: Buffer, from: number, closing: string, kind: Markup['kind']): Markup | undefined {
  const at = buffer.indexOf(closing, from, 'latin1')
  return at < 0 ? undefined : { kind, name: '', end: at + closing.length }
}

/** Behind the `>` of a tag; a `>` within quotes is text. */
function endOfTag(buffer: Buffer, from: number): number {
  let inside = 0
  for (let at = from; at < buffer.length; at++) {
    const byte = buffer[at]!
    if (inside !== 0) {
      if (byte === inside) inside = 0
    } else if (byte === greater) return at + 1
    else if (byte === quote || byte === apostrophe) inside = byte
  }
  return -1
}

function findAfterLess(buffer: Buffer, byte: number, from: number): number {
  for (let at = buffer.indexOf(byte, from); at >= 0; at = buffer.indexOf(byte, at + 1))
    if (at > 0 && buffer[at - 1] === less) return at - 1
  return buffer.length
}

function skipSpace(buffer: Buffer, from: number): number {
  let at = from
  while (at < buffer.length && isSpace(buffer[at]!)) at++
  return at
}

function isSpace(byte: number): boolean {
  return byte === newline || byte === space || byte === tab || byte === carriageReturn
}

function isNameEnd(byte: number): boolean {
  return byte === greater || byte === slash || isSpace(byte)
}
