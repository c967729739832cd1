import { isDeepStrictEqual } from 'node:util'
import { algorithmOf, digestOf } from './digest.ts'

/*
 * Docker's first manifests carry their signatures inside; their digest is that of the bytes without them.
 * https://distribution.github.io/distribution/spec/deprecated-schema-v1/#signed-manifests
 */

/** Whether a manifest has a digest. */
export function hasDigest(bytes: Uint8Array, digest: string): boolean {
  const algorithm = algorithmOf(digest)
  if (digestOf(bytes, algorithm) === digest) return true
  const payload = payloadOf(bytes)
  return payload !== undefined && digestOf(payload, algorithm) === digest
}

/** The bytes that the digest of a signed manifest is of; undefined when these are not a manifest with signatures and nothing else in it. */
function payloadOf(bytes: Uint8Array): Buffer | undefined {
  try {
    const { signatures, ...rest } = JSON.parse(Buffer.from(bytes).toString('utf8'))
    const { formatLength, formatTail } = JSON.parse(decode(signatures[0].protected).toString('utf8'))
    if (!Number.isSafeInteger(formatLength) || formatLength < 0 || formatLength > bytes.length) return undefined
    const payload = Buffer.concat([bytes.subarray(0, formatLength), decode(formatTail)])
    // Otherwise two readers could see two things: one what was signed, the other what stands behind it.
    return rest.schemaVersion === 1 && isDeepStrictEqual(JSON.parse(payload.toString('utf8')), rest) ? payload : undefined
  } catch {
    return undefined
  }
}

function decode(text: string): Buffer {
  return Buffer.from(text, 'base64url')
}
