declare module 'unbzip2-stream/lib/bit_iterator.js' {
  /** Reads so many bits; null goes to the next whole byte. */
  export interface Bits {
    (count: number | null): number
    bytesRead: number
  }
  export default function bitReader(nextBuffer: () => Uint8Array): Bits
}

declare module 'unbzip2-stream/lib/bzip2.js' {
  import type { Bits } from 'unbzip2-stream/lib/bit_iterator.js'
  const bzip2: {
    /** Reads a stream's header: its block size in units of 100,000 bytes. */
    header(bits: Bits): number
    /** Unpacks one block and returns the checksum so far; null at the end of the stream. */
    decompress(bits: Bits, write: (byte: number) => void, block: Int32Array, blockSize: number, checksum: number): number | null
  }
  export default bzip2
}
