import { createMessage, generateKey, readPrivateKey, sign } from 'openpgp'

/* Signatures of images, made without a program. */

export interface ImageSigner {
  readonly keyId: string
  /** ASCII-armored. */
  readonly publicKey: string
  /** A signature of a manifest under a reference; `changes` of what it says make it a wrong one. */
  sign(digest: string, reference: string, changes?: Record<string, unknown>): Promise<Buffer>
}

export async function makeImageSigner(): Promise<ImageSigner> {
  const { publicKey, privateKey } = await generateKey({
    userIDs: [{ name: 'Images', email: 'images@localhost' }],
    type: 'curve25519',
    format: 'armored',
  })
  const signingKeys = await readPrivateKey({ armoredKey: privateKey })
  return {
    keyId: signingKeys.getKeyID().toHex().toUpperCase(),
    publicKey,
    async sign(digest, reference, changes = {}) {
      const payload = {
        critical: {
          type: 'atomic container signature',
          image: { 'docker-manifest-digest': digest },
          identity: { 'docker-reference': reference },
        },
        optional: { creator: 'a test', timestamp: 1_790_000_000 },
        ...changes,
      }
      const message = await createMessage({ binary: Buffer.from(JSON.stringify(payload)) })
      return Buffer.from((await sign({ message, signingKeys, format: 'binary' })) as Uint8Array)
    },
  }
}

/** As clients send it. */
export const signatureBody = (digest: string, signature: Buffer) =>
  JSON.stringify({
    schemaVersion: 2,
    type: 'atomic',
    name: `${digest}@${'0'.repeat(32)}`,
    content: signature.toString('base64'),
  })
