import bitReader from 'unbzip2-stream/lib/bit_iterator.js'
import bzip2 from 'unbzip2-stream/lib/bzip2.js'

const pieceSize = 1 << 20
// A compressed block is hardly ever larger than what it holds; this is room for the worst one.
const slack = 25_000

/**
 * Unpacks bzip2, also several streams after each other. The library's decoder of one block is driven from here, because its
 * stream collects a block (46 MB at worst) in an array of numbers. Throws whatever the decoder throws when the data is damaged.
 */
export async function* unbzip2(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const input = openInput(bytes[Symbol.asyncIterator]())
  try {
    while (await input.fill(4)) {
      const blockSize = 100_000 * bzip2.header(input.bits)
      const block = new Int32Array(blockSize)
      for (let checksum: number | null = 0; ; ) {
        await input.fill(blockSize + slack)
        const output = openOutput()
        checksum = bzip2.decompress(input.bits, output.write, block, blockSize, checksum)
        if (checksum === null) break
        yield* output.pieces()
      }
    }
  } finally {
    await input.close()
  }
}

/** The decoder pulls bytes without waiting, so everything that it may ask for is fetched before. */
function openInput(iterator: AsyncIterator<Uint8Array>) {
  // The reader takes its first buffer at once, before there is one.
  const queue: Uint8Array[] = [new Uint8Array()]
  let received = 0
  const bits = bitReader(() => queue.shift() ?? cutShort())

  /** Tries to have `size` bytes ready; whether there is any byte at all. */
  async function fill(size: number): Promise<boolean> {
    while (received - bits.bytesRead < size) {
      const { done, value } = await iterator.next()
      if (done) break
      if (value.length > 0) queue.push(value)
      received += value.length
    }
    return received > bits.bytesRead
  }
  return { bits, fill, close: () => iterator.return?.() }
}

function cutShort(): never {
  throw Object.assign(new Error('bzip2 data ends early'), { code: 'ERR_CUT_SHORT' })
}

function openOutput() {
  const full: Buffer[] = []
  let piece = Buffer.allocUnsafe(pieceSize)
  let length = 0
  function write(byte: number) {
    if (length === pieceSize) {
      full.push(piece)
      piece = Buffer.allocUnsafe(pieceSize)
      length = 0
    }
    piece[length++] = byte
  }
  return { write, pieces: () => [...full, piece.subarray(0, length)] }
}
