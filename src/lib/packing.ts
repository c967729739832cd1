import { constants, type ZstdOptions, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

/*
 * Many small texts compressed together, because alone they would hardly shrink: some dozen kilobytes of them, one after the other. Larger
 * packs cost more to read one text, smaller ones more to write and keep them all.
 */

export const packSize = 128 * 1024

/** Level 2 is quicker than the usual 3 and, for as much text as a pack holds, makes it no larger. */
const options: ZstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: 2 }, chunkSize: packSize / 4 }

/** Texts that are compressed together. */
export interface Pack {
  bytes: Uint8Array
}

/** One of them: `length` bytes at `at` of what the pack is when unpacked. */
export interface PackedText {
  pack: Pack
  at: number
  length: number
}

/** Compresses texts in as many packs as they need. Returns where each is, in their order. */
export function packTexts(texts: readonly Uint8Array[]): PackedText[] {
  const packed: PackedText[] = []
  for (let next = 0; next < texts.length; ) {
    const first = next
    let size = 0
    while (next < texts.length && (next === first || size + texts[next]!.length <= packSize)) size += texts[next++]!.length
    const together = texts.slice(first, next)
    // In memory of its own size: the result is a part of a larger buffer.
    const pack = { bytes: Uint8Array.from(zstdCompressSync(joined(together, size), options)) }
    let at = 0
    for (const { length } of together) {
      packed.push({ pack, at, length })
      at += length
    }
  }
  return packed
}

/** The texts of a pack, one after the other. Takes a tenth of a millisecond: handing it to another thread alone would take longer. */
export function unpack(bytes: Uint8Array): Buffer {
  return zstdDecompressSync(bytes, { chunkSize: packSize + 1024 })
}

/** Texts as one run of bytes: they often lie side by side in memory already, and copying hundreds of megabytes has its price. */
function joined(texts: readonly Uint8Array[], size: number): Uint8Array {
  const { buffer, byteOffset } = texts[0]!
  let end = byteOffset
  for (const text of texts) {
    if (text.buffer !== buffer || text.byteOffset !== end) return Buffer.concat(texts, size)
    end += text.length
  }
  return Buffer.from(buffer, byteOffset, size)
}
