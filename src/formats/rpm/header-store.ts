import { isUtf8 } from 'node:buffer'

/*
 * One header structure of a package. Signature header and main header have the same form:
 *
 *   8e ad e8 01  00 00 00 00 | count | length | count × (tag, type, offset, items) | length bytes of data
 *
 * https://rpm-software-management.github.io/rpm/manual/format_header.html
 */

/** What lies before index and data of a header. */
export const introLength = 16

// As much as rpm itself takes.
const mostEntries = 0xffff
const mostData = 64 * 1024 * 1024
/** Of lists. The largest packages have some hundred thousand files. */
const mostItems = 4 * 1024 * 1024

interface Entry {
  type: number
  offset: number
  items: number
}

/** A header, read: values by tag. Absent tags give undefined or empty lists. */
export interface HeaderStore {
  number(tag: number): number | undefined
  numbers(tag: number): number[]
  text(tag: number): string | undefined
  texts(tag: number): string[]
}

/** The length of index and data, from the 16 bytes before them. `wrong` throws. */
export function parseIntro(intro: Buffer, wrong: (why: string) => never): { entries: number; length: number } {
  if (intro.readUInt32BE(0) !== 0x8eade801) wrong('a header does not start with its magic number')
  const entries = intro.readUInt32BE(8)
  const data = intro.readUInt32BE(12)
  if (entries > mostEntries) wrong(`a header claims ${entries} entries`)
  if (data > mostData) wrong(`a header claims ${data} bytes of data`)
  return { entries, length: entries * 16 + data }
}

/** Reads index and data of a header. Values are cut out only when asked for; `wrong` throws, then or now. */
export function parseStore(body: Buffer, entries: number, wrong: (why: string) => never): HeaderStore {
  const data = body.subarray(entries * 16)
  const index = new Map<number, Entry>()
  for (let at = 0; at < entries * 16; at += 16) {
    const tag = body.readInt32BE(at)
    const entry = { type: body.readUInt32BE(at + 4), offset: body.readInt32BE(at + 8), items: body.readUInt32BE(at + 12) }
    const width = widths[entry.type] ?? wrong(`tag ${tag} has the unknown type ${entry.type}`)
    if (entry.offset < 0 || entry.offset + entry.items * Math.max(width, 1) > data.length)
      wrong(`tag ${tag} lies outside its header`)
    if (entry.type !== binaryType && entry.items > mostItems) wrong(`tag ${tag} claims ${entry.items} items`)
    if (!index.has(tag)) index.set(tag, entry)
  }

  function numbers(tag: number): number[] {
    const entry = index.get(tag)
    const read = entry && readers[entry.type]
    if (!entry || !read) return []
    const width = widths[entry.type]!
    return Array.from({ length: entry.items }, (_, i) => read(data, entry.offset + i * width))
  }

  function texts(tag: number): string[] {
    const entry = index.get(tag)
    if (!entry || entry.type < stringType || entry.type === binaryType) return []
    const found: string[] = []
    let at = entry.offset
    while (found.length < (entry.type === stringType ? 1 : entry.items)) {
      const end = data.indexOf(0, at)
      if (end < 0) wrong(`the text of tag ${tag} does not end`)
      found.push(decodeText(data.subarray(at, end)))
      at = end + 1
    }
    return found
  }

  // The first of a translated text's languages is the untranslated one.
  return { numbers, texts, number: (tag) => numbers(tag)[0], text: (tag) => texts(tag)[0] }
}

const stringType = 6
const binaryType = 7

/** Bytes that one item takes at least, by type: null, char, int8, int16, int32, int64, string, binary, strings, translated strings. */
const widths: readonly (number | undefined)[] = [0, 1, 1, 2, 4, 8, 1, 1, 1, 1]

const readers: readonly (((data: Buffer, at: number) => number) | undefined)[] = [
  undefined,
  (data, at) => data.readUInt8(at),
  (data, at) => data.readUInt8(at),
  (data, at) => data.readUInt16BE(at),
  (data, at) => data.readUInt32BE(at),
  (data, at) => Number(data.readBigUInt64BE(at)),
]

// Packages from before UTF-8 are read as Latin-1; what Latin-1 leaves undefined was no text and is dropped, as createrepo_c does.
function decodeText(bytes: Buffer): string {
  return isUtf8(bytes) ? bytes.toString('utf8') : bytes.toString('latin1').replace(/[\u0080-\u00bf]/g, '')
}
