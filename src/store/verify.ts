import { createHash, type Hash } from 'node:crypto'
import { Failure } from '../lib/failure.ts'
import { type Algorithm, algorithms, type Digests, type Expected } from './blobs.ts'

/** Counts and hashes bytes as they pass, and tells whether they are the expected ones. */
export interface Verifier {
  /** Throws Failure integrity as soon as there are too many. */
  update(chunk: Uint8Array): void
  /** Call it once, after the last byte. Throws Failure integrity when the bytes are not the expected ones. */
  finish(): { digests: Digests; size: number }
}

/** Hashes with sha256, the algorithm of the expected checksum, and `also`. */
export function openVerifier(expected: Expected = {}, also: readonly Algorithm[] = []): Verifier {
  const checksum = expected.checksum === undefined ? undefined : parseChecksum(expected.checksum)
  const hashes = new Map<Algorithm, Hash>()
  for (const algorithm of ['sha256', ...(checksum ? [checksum.algorithm] : []), ...also] as const)
    hashes.set(algorithm, createHash(algorithm))
  let size = 0

  function update(chunk: Uint8Array) {
    size += chunk.length
    if (expected.size !== undefined && size > expected.size)
      throw new Failure('integrity', `More than the expected ${expected.size} bytes came.`)
    if (expected.limit !== undefined && size > expected.limit)
      throw new Failure('integrity', `More than ${expected.limit} bytes came, which is the limit.`)
    for (const hash of hashes.values()) hash.update(chunk)
  }

  function finish() {
    const digests = Object.fromEntries([...hashes].map(([algorithm, hash]) => [algorithm, hash.digest('hex')])) as Digests
    checkExpected({ digests, size }, expected)
    return { digests, size }
  }
  return { update, finish }
}

/** Throws Failure integrity when bytes are not the expected ones. Their digests have the algorithm of the expected checksum. */
export function checkExpected({ digests, size }: { digests: Digests; size: number }, expected: Expected): void {
  if (expected.size !== undefined && size !== expected.size)
    throw new Failure('integrity', `${size} bytes came instead of the expected ${expected.size}.`)
  const checksum = expected.checksum === undefined ? undefined : parseChecksum(expected.checksum)
  const found = checksum && digests[checksum.algorithm]
  if (checksum && found !== checksum.hex)
    throw new Failure('integrity', `The ${checksum.algorithm} is ${found} instead of the expected ${checksum.hex}.`)
}

export function parseChecksum(checksum: string): { algorithm: Algorithm; hex: string } {
  const [name, hex = ''] = checksum.split(':')
  const algorithm = algorithms.find((each) => each === name)
  if (!algorithm) throw new Failure('invalid', `The checksum ${checksum} is of an unknown kind.`)
  return { algorithm, hex: hex.toLowerCase() }
}
