import { Failure } from './failure.ts'

/* OpenPGP: https://www.rfc-editor.org/rfc/rfc9580. The library is large and needed by few: it is loaded at its first use. */

/** Checks that one of these keys (ASCII-armored, several may follow one another) signed the bytes. Throws Failure integrity; invalid for unusable keys. */
export async function verifySignature(
  bytes: Uint8Array,
  armoredSignature: string,
  armoredKeys: string,
  what: string,
): Promise<void> {
  const { createMessage, readSignature, verify } = await import('openpgp')
  const verificationKeys = await readArmoredKeys(armoredKeys)
  const signature = await readSignature({ armoredSignature }).catch((cause: unknown) => {
    throw new Failure('integrity', `The signature of ${what} is damaged.`, { cause })
  })
  const { signatures } = await verify({ message: await createMessage({ binary: bytes }), signature, verificationKeys })
  await requireOne(signatures, verificationKeys, what)
}

/** A message that carries its own signature, as `gpg --sign` makes it. Nothing of it is verified. */
export interface SignedMessage {
  readonly text: string
  /** 16 hexadecimal digits, in upper case. */
  readonly keyId: string
  /** When it was made, in seconds. */
  readonly created: number
}

/** Bytes of a message when it is unpacked: a few bytes may say that they are many. */
const largestMessage = 4 * 1024 * 1024

/** Reads a signed message; undefined when the bytes are none. */
export async function readSignedMessage(bytes: Uint8Array): Promise<SignedMessage | undefined> {
  const { enums } = await import('openpgp')
  const message = await parseMessage(bytes)
  const [keyId] = message?.getSigningKeyIDs() ?? []
  const literal = message?.unwrapCompressed().packets.findPacket(enums.packet.literalData) as { date?: Date } | undefined
  const data: unknown = message?.getLiteralData()
  if (!keyId || !literal || !(data instanceof Uint8Array)) return undefined
  const created = Math.floor((literal.date?.getTime() ?? 0) / 1000)
  return { text: Buffer.from(data).toString('utf8'), keyId: keyId.toHex().toUpperCase(), created }
}

/** As verifySignature, for a signed message. */
export async function verifySignedMessage(bytes: Uint8Array, armoredKeys: string, what: string): Promise<void> {
  const { verify } = await import('openpgp')
  const verificationKeys = await readArmoredKeys(armoredKeys)
  const message = await parseMessage(bytes)
  if (!message) throw new Failure('integrity', `The signature of ${what} is damaged.`)
  const { signatures } = await verify({ message, verificationKeys, format: 'binary' })
  await requireOne(signatures, verificationKeys, what)
}

/** The ids of these keys and of what they have for signing beside themselves, as SignedMessage has them. */
export async function keyIdsOf(armoredKeys: string): Promise<Set<string>> {
  const keys = await readArmoredKeys(armoredKeys)
  return new Set(keys.flatMap((key) => key.getKeyIDs().map((id) => id.toHex().toUpperCase())))
}

async function parseMessage(binaryMessage: Uint8Array) {
  const { readMessage } = await import('openpgp')
  return readMessage({ binaryMessage, config: { maxDecompressedMessageSize: largestMessage } }).catch(() => undefined)
}

interface Signed {
  keyID: { toHex(): string }
  verified: Promise<unknown>
}

async function requireOne(
  signatures: readonly Signed[],
  keys: readonly { getKeyID(): { toHex(): string } }[],
  what: string,
): Promise<void> {
  const results = await Promise.allSettled(signatures.map(({ verified }) => verified))
  if (results.some(({ status }) => status === 'fulfilled')) return
  const by = signatures.map(({ keyID }) => keyID.toHex().toUpperCase()).join(', ') || 'nobody'
  const trusted = keys.map((key) => key.getKeyID().toHex().toUpperCase()).join(', ')
  const reason = results[0]?.status === 'rejected' && results[0].reason instanceof Error ? ` (${results[0].reason.message})` : ''
  throw new Failure('integrity', `${what} is signed by ${by}, which does not verify with the trusted key ${trusted}${reason}.`)
}

/** Reads blocks of ASCII-armored public keys. Throws Failure invalid. */
async function readArmoredKeys(text: string) {
  const { readKeys } = await import('openpgp')
  try {
    const blocks = text.match(/-----BEGIN PGP PUBLIC KEY BLOCK-----[^]*?-----END PGP PUBLIC KEY BLOCK-----/g) ?? []
    const keys = await Promise.all(blocks.map((armoredKeys) => readKeys({ armoredKeys })))
    if (keys.length > 0) return keys.flat()
  } catch (cause) {
    throw new Failure('invalid', 'The trusted OpenPGP key cannot be read.', { cause })
  }
  throw new Failure('invalid', 'What is given as trusted OpenPGP key is none.')
}
