import { PassThrough, pipeline, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { unbzip2 } from './bzip2.ts'
import { Failure, hasCode } from './failure.ts'
import { unxz } from './xz.ts'

export type Compression = 'gz' | 'zstd' | 'none'

const mebibyte = 1 << 20

// On primary and filelists level 4 takes 0.65 of the time of level 6 for 1 to 7 % more bytes; level 3 would add 11 to 17 %.
const gzipOptions = { level: 4, memLevel: 9 }
const zstdOptions = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 3 } }

// Large outputs, because every one costs a round through the thread pool; some read ahead, so that unpacking and parsing overlap.
const unpackOptions = { chunkSize: mebibyte, highWaterMark: 2 * mebibyte }

type Unpack = (bytes: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>

interface Packing {
  name: string
  magic: Buffer
  unpack: Unpack
}

const packings: readonly Packing[] = [
  { name: 'gzip', magic: Buffer.from('1f8b', 'hex'), unpack: (bytes) => through(bytes, zlib.createGunzip(unpackOptions)) },
  { name: 'zstd', magic: Buffer.from('28b52ffd', 'hex'), unpack: (bytes) => through(bytes, createUnzstd()) },
  { name: 'xz', magic: Buffer.from('fd377a585a00', 'hex'), unpack: unxz },
  { name: 'bzip2', magic: Buffer.from('BZh'), unpack: unbzip2 },
]

/**
 * Unpacks gzip, zstd, xz or bzip2, told apart by their first bytes; anything else passes as it is.
 * Throws Failure integrity when the data is damaged, cut short, needs too much memory or is more than `limit` bytes when unpacked.
 */
export async function* decompress(stream: AsyncIterable<Uint8Array>, { limit }: { limit: number }): AsyncGenerator<Buffer> {
  const source = watched(stream)
  const { head, bytes } = await peek(source.bytes, 6)
  const packing = packings.find(({ magic }) => head.subarray(0, magic.length).equals(magic))
  let size = 0
  try {
    for await (const chunk of packing ? packing.unpack(bytes) : bytes) {
      size += chunk.length
      if (size > limit) throw new Failure('integrity', `The data is more than ${limit} bytes when unpacked, which is the limit.`)
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    }
  } catch (error) {
    // What went wrong before the bytes came here (a broken download) is not the packing's fault.
    throw !packing || source.failed() || error instanceof Failure ? error : damaged(packing.name, error)
  }
}

function damaged(name: string, error: unknown): Failure {
  const reason = hasCode(error, 'Z_BUF_ERROR', 'ERR_CUT_SHORT')
    ? 'is cut short'
    : hasCode(error, 'ZSTD_error_frameParameter_windowTooLarge', 'ERR_DICTIONARY_TOO_LARGE')
      ? 'needs too much memory to be unpacked'
      : 'is damaged'
  return new Failure('integrity', `The ${name} data ${reason}.`, { cause: error })
}

function createUnzstd(): Transform {
  return zlib.createZstdDecompress({ ...unpackOptions, params: { [zlib.constants.ZSTD_d_windowLogMax]: 27 } })
}

async function* through(bytes: AsyncIterable<Uint8Array>, decoder: Transform): AsyncGenerator<Buffer> {
  // Errors of either side destroy the decoder and surface in the loop below.
  pipeline(gathered(bytes, 1 << 18), decoder, () => {})
  yield* decoder
}

/** The same bytes in pieces of at least `size`, for each piece has its price. */
async function* gathered(bytes: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = []
  let length = 0
  for await (const chunk of bytes) {
    waiting.push(chunk)
    length += chunk.length
    if (length < size) continue
    yield waiting.length === 1 ? chunk : Buffer.concat(waiting)
    waiting = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(waiting)
}

function watched(stream: AsyncIterable<Uint8Array>) {
  let failed = false
  async function* bytes() {
    try {
      yield* stream
    } catch (error) {
      failed = true
      throw error
    }
  }
  return { bytes: bytes(), failed: () => failed }
}

/** Reads the first `length` bytes (fewer when there are no more) without taking them away from `bytes`. */
async function peek(stream: AsyncGenerator<Uint8Array>, length: number) {
  const first: Uint8Array[] = []
  let size = 0
  while (size < length) {
    const { done, value } = await stream.next()
    if (done) break
    first.push(value)
    size += value.length
  }
  async function* bytes() {
    try {
      yield* first
      yield* stream
    } finally {
      // A reader may leave before `stream` had its turn.
      await stream.return(undefined)
    }
  }
  return { head: Buffer.concat(first).subarray(0, length), bytes: bytes() }
}

/** Packs bytes in one go. Equal bytes give equal results. The results of gz and zstd may be concatenated. */
export function compress(bytes: Uint8Array, compression: Compression): Buffer {
  if (compression === 'none') return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  // The result keeps its whole output buffer alive, so that one is made no larger than it has to be.
  const chunkSize = Math.min(mebibyte, 1024 + (bytes.length >> 2))
  return compression === 'gz'
    ? zlib.gzipSync(bytes, { ...gzipOptions, chunkSize })
    : zlib.zstdCompressSync(bytes, { ...zstdOptions, chunkSize })
}

/** The same for a stream. */
export function openCompressor(compression: Compression): Transform {
  if (compression === 'none') return new PassThrough()
  const sizes = { chunkSize: mebibyte / 4, highWaterMark: mebibyte }
  return compression === 'gz'
    ? zlib.createGzip({ ...gzipOptions, ...sizes })
    : zlib.createZstdCompress({ ...zstdOptions, ...sizes })
}
