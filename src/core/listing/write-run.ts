import { compress, type Compression } from '../../lib/compression.ts'
import { unpack } from '../../lib/packing.ts'
import type { Facts, WriteUnits } from '../format.ts'

/** Units to be written as one piece, with all that is needed for it: it can be sent to another thread. */
export interface Run {
  units: readonly { facts: Facts; pack: number | undefined; at: number; length: number }[]
  /** The packs that their entries lie in, compressed as they are, one after another; and where each ends. */
  packs: Uint8Array<ArrayBuffer>
  ends: readonly number[]
}

/** What a piece is in one of the files. */
export interface Part {
  bytes: Uint8Array<ArrayBuffer>
  openLength: number
}

const nothing = Buffer.alloc(0)

/** Writes and compresses a piece of each file. */
export function writeRun({ units, packs, ends }: Run, write: WriteUnits, compressions: readonly Compression[]): Part[] {
  const unpacked = ends.map((end, index) => unpack(packs.subarray(ends[index - 1] ?? 0, end)))
  const texts = write(
    units.map(({ facts, pack, at, length }) => ({
      facts,
      entry: pack === undefined ? nothing : unpacked[pack]!.subarray(at, at + length),
    })),
  )
  // In memory of its own, which can be handed over: what compression gives is a part of a larger buffer.
  return texts.map((text, index) => ({
    bytes: Uint8Array.from(compress(text, compressions[index]!)),
    openLength: text.length,
  }))
}
