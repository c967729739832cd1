import { BrokenBody } from './invalid.ts'

/** One part of a multipart body. The next part begins when the body of this one was read. */
export interface Part {
  readonly name: string
  readonly isFile: boolean
  readonly body: AsyncIterable<Uint8Array>
}

const headLimit = 16 * 1024
const blankLine = Buffer.from('\r\n\r\n')

/**
 * The parts of a multipart/form-data body (RFC 7578) as they arrive. Clients to be nice to: pulp.squeezer 0.0.13 says
 * `Content-Disposition: file; name=...` and ends without a line break; any disposition with a name is taken.
 */
export async function* multipartParts(stream: AsyncIterable<Uint8Array>, contentType: string): AsyncGenerator<Part> {
  const match = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType)
  if (!match) throw broken('Invalid boundary in multipart: None')
  const source = openSource(stream)
  const boundary = Buffer.from(`--${match[1] ?? match[2]}`)
  // What stands before the first boundary means nothing.
  for await (const _ of readUntil(source, boundary));
  const delimiter = Buffer.concat([Buffer.from('\r\n'), boundary])
  while (!(await source.startsWith('--'))) {
    const head = await readHead(source)
    const body = readUntil(source, delimiter)
    yield { ...parseHead(head), body }
    // Whoever skips a part has not moved on to the next one.
    for await (const _ of body);
  }
  for await (const _ of source.rest());
}

const broken = (message: string) => new BrokenBody(`Multipart form parse error - ${message}`)

/** Bytes that were read from a stream but not used yet. */
interface Source {
  pending: Buffer
  /** Reads on; false at the end. */
  more(): Promise<boolean>
  startsWith(text: string): Promise<boolean>
  rest(): AsyncGenerator<Uint8Array>
}

function openSource(stream: AsyncIterable<Uint8Array>): Source {
  const iterator = stream[Symbol.asyncIterator]()
  const source: Source = {
    pending: Buffer.alloc(0),
    async more() {
      const { done, value } = await iterator.next()
      if (!done) source.pending = source.pending.length === 0 ? Buffer.from(value) : Buffer.concat([source.pending, value])
      return !done
    },
    async startsWith(text) {
      while (source.pending.length < text.length) if (!(await source.more())) break
      return source.pending.subarray(0, text.length).toString('latin1') === text
    },
    async *rest() {
      for (let more = true; more; more = await source.more()) {
        yield source.pending
        source.pending = Buffer.alloc(0)
      }
    },
  }
  return source
}

/** Yields bytes up to a mark and takes the mark away. What may be the beginning of the mark is kept back until more has come. */
async function* readUntil(source: Source, mark: Buffer): AsyncGenerator<Uint8Array> {
  for (;;) {
    const at = source.pending.indexOf(mark)
    if (at >= 0) {
      const before = source.pending.subarray(0, at)
      source.pending = source.pending.subarray(at + mark.length)
      if (before.length > 0) yield before
      return
    }
    const safe = source.pending.length - mark.length + 1
    if (safe > 0) {
      const before = source.pending.subarray(0, safe)
      source.pending = source.pending.subarray(safe)
      yield before
    }
    if (!(await source.more())) throw broken('the body ends within a part')
  }
}

async function readHead(source: Source): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of readUntil(source, blankLine)) {
    size += piece.length
    if (size > headLimit) throw broken('the headers of a part are too long')
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

function parseHead(head: string): { name: string; isFile: boolean } {
  const disposition = /^content-disposition:(.*)$/im.exec(head)?.[1] ?? ''
  const name = parameter(disposition, 'name')
  if (name === undefined) throw broken('a part has no name')
  return { name, isFile: parameter(disposition, 'filename') !== undefined || /filename\*=/i.test(disposition) }
}

function parameter(header: string, name: string): string | undefined {
  const match = new RegExp(`(?:^|[;\\s])${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^;\\s]+))`, 'i').exec(header)
  return match ? (match[1]?.replace(/\\(.)/g, '$1') ?? match[2]) : undefined
}
