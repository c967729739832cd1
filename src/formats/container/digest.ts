import { createHash } from 'node:crypto'

const pattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

export type Algorithm = 'sha256' | 'sha512'

/** Whether a text is a digest of a kind that is taken. Nothing else may be used to look for anything. */
export function isDigest(text: unknown): text is string {
  return typeof text === 'string' && pattern.test(text)
}

export function algorithmOf(digest: string): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}
