import { createHash } from 'node:crypto'
import type { Described } from '../../core/format.ts'
import { membersOf, parseMembers } from '../../lib/json.ts'
import { readSignedMessage } from '../../lib/openpgp.ts'
import { manifestType, signatureType } from './describe.ts'
import { isDigest } from './digest.ts'

/*
 * A signature beside an image is a signed message that names the image by reference and digest. What is stored of it follows from its bytes
 * alone; whether it is good, and whose key is trusted, is for clients to decide.
 * https://github.com/containers/image/blob/main/docs/containers-signature.5.md
 */

/** Bytes. Real ones have some hundreds; clients read 4 MB of them together. */
export const largestSignature = 64 * 1024

/** Reads a signature; undefined when the bytes are none. */
export async function describeSignature(bytes: Uint8Array): Promise<Described | undefined> {
  const message = bytes.length > largestSignature ? undefined : await readSignedMessage(bytes)
  const payload = message && parsePayload(message.text)
  if (!payload) return undefined
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return {
    type: signatureType,
    key: `sha256:${sha256}`,
    refers: [{ type: manifestType, key: payload.digest, about: true }],
    meta: {
      name: `${payload.digest}@${sha256.slice(0, 32)}`,
      digest: `sha256:${sha256}`,
      type: 'atomic',
      key_id: message.keyId,
      timestamp: message.created,
      creator: payload.creator,
      signed_digest: payload.digest,
      reference: payload.reference,
    },
    entry: bytes,
    files: [],
  }
}

interface Payload {
  digest: string
  reference: string
  creator: string
}

function parsePayload(text: string): Payload | undefined {
  const { critical, optional } = parseMembers(text)
  const { type, image, identity } = membersOf(critical)
  const digest = membersOf(image)['docker-manifest-digest']
  const reference = membersOf(identity)['docker-reference']
  const { creator } = membersOf(optional)
  if (type !== 'atomic container signature' || typeof digest !== 'string' || !isDigest(digest)) return undefined
  if (typeof reference !== 'string') return undefined
  return { digest, reference, creator: typeof creator === 'string' ? creator : '' }
}
