import type { Readable } from 'node:stream'

export const algorithms = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'] as const
export type Algorithm = (typeof algorithms)[number]

/** Hexadecimal digests by algorithm; sha256 is always there. */
export type Digests = Partial<Record<Algorithm, string>> & { sha256: string }

/** What bytes must turn out to be. `limit` is the most bytes to take when the size is not known. */
export interface Expected {
  size?: number | undefined
  /** `<algorithm>:<hex>`. */
  checksum?: string | undefined
  limit?: number | undefined
}

/** First and last byte, both included, as in HTTP. */
export interface Range {
  start: number
  end: number
}

/** Bytes that arrived and were verified but are not yet part of the store. Disposing removes them unless they were kept. */
export interface Staged extends AsyncDisposable {
  readonly digests: Digests
  readonly size: number
  /** A stream over the bytes; may be opened any number of times until disposed. */
  open(): Readable
  /** Makes the bytes a durable part of the store: they survive a power cut once this resolves. */
  keep(): Promise<void>
}

/** Bytes that arrive over many calls, and over restarts, under a name of their own: a UUID. */
export interface GrowingBlobs {
  /** How many there are; none under a name that nobody used. */
  size(name: string): Promise<number>
  /**
   * Adds bytes after the first `from`, which must be all there are, and resolves to how many there are then. What had arrived when a source
   * breaks stays, and so do the bytes when memory is lost. With `size`, exactly so many are added, or none.
   * `also` is a further algorithm than sha256 that they will be known by. Throws Failure conflict when `from` is not where they end or others
   * are being added, integrity when they are not `size`.
   */
  append(
    name: string,
    bytes: AsyncIterable<Uint8Array>,
    place: {
      from: number
      size?: number | undefined
      also?: Algorithm | undefined
      /** Told of each chunk when it is written and not needed any more. */
      release?: ((chunk: Uint8Array) => void) | undefined
    },
  ): Promise<number>
  /**
   * Ends the growing: the bytes are hashed (sha256 and the algorithm of the checksum) and compared. Keeping what this returns makes them a
   * part of the store; they stay under their name, too, until they are removed. Until it is disposed nothing can be added. Throws Failure integrity when they are not the expected ones.
   */
  finish(name: string, expected?: Expected): Promise<Staged>
  /** Forgets the bytes under a name, if there are any. */
  remove(name: string): Promise<void>
  /** Every name that has bytes, and when some were last added, in no order. */
  list(): AsyncIterable<{ name: string; written: Date }>
}

/** Bytes stored once, named by their SHA-256. tests/contract/blobs.ts states what every implementation must do. */
export interface BlobStore {
  /**
   * Takes bytes in while hashing them (sha256 always, and `also`).
   * Throws Failure integrity when they are not what was expected; nothing is left behind then.
   */
  stage(bytes: AsyncIterable<Uint8Array>, expected?: Expected, also?: readonly Algorithm[]): Promise<Staged>
  /** Bytes that grow from call to call until they are whole. */
  readonly growing: GrowingBlobs
  /** A stream over a stored blob. Throws Failure not_found when it is missing. */
  open(sha256: string, range?: Range): Promise<Readable>
  /** Throws Failure conflict when so many more bytes would take the room that is kept free. */
  makeRoom(bytes: number): Promise<void>
  /** The size in bytes; undefined when it is missing. */
  size(sha256: string): Promise<number | undefined>
  /**
   * Deletes a blob, if it is there. With `unlessUsedSince`, one that was kept again at that time or later stays: `keep` marks bytes that
   * are there already as used, so that a collector never takes what is about to be referred to.
   */
  delete(sha256: string, options?: { unlessUsedSince?: Date }): Promise<void>
  /** Every stored digest, in no order. */
  list(): AsyncIterable<string>
  /** Removes what interrupted writes left behind. Call it only when nothing is being staged. */
  tidy(): Promise<void>
  /** Bytes total, used and free where it stores, as far as it can tell. */
  space(): Promise<{ total: number; used: number; free: number }>
}
