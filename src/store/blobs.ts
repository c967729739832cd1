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

/** Bytes stored once, named by their SHA-256. tests/contract/blobs.ts states what every implementation must do. */
export interface BlobStore {
  /**
   * Takes bytes in while hashing them (sha256 always, and `also`).
   * Throws Failure integrity when they are not what was expected; nothing is left behind then.
   */
  stage(bytes: AsyncIterable<Uint8Array>, expected?: Expected, also?: readonly Algorithm[]): Promise<Staged>
  /** A stream over a stored blob. Throws Failure not_found when it is missing. */
  open(sha256: string, range?: Range): Promise<Readable>
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
