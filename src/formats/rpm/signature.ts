import { Failure } from '../../lib/failure.ts'

/** Checks that one of these keys (ASCII-armored, several may follow one another) signed the bytes. Throws Failure integrity; invalid for unusable keys. */
export async function verifySignature(
  bytes: Uint8Array,
  armoredSignature: string,
  armoredKeys: string,
  what: string,
): Promise<void> {
  // Large, and needed by few: loaded when the first signature is checked.
  const { createMessage, readSignature, verify } = await import('openpgp')
  const verificationKeys = await readArmoredKeys(armoredKeys)
  const signature = await readSignature({ armoredSignature }).catch((cause: unknown) => {
    throw new Failure('integrity', `The signature of ${what} is damaged.`, { cause })
  })
  const { signatures } = await verify({ message: await createMessage({ binary: bytes }), signature, verificationKeys })
  const results = await Promise.allSettled(signatures.map(({ verified }) => verified))
  if (results.some(({ status }) => status === 'fulfilled')) return
  const by = signatures.map(({ keyID }) => keyID.toHex().toUpperCase()).join(', ') || 'nobody'
  const trusted = verificationKeys.map((key) => key.getKeyID().toHex().toUpperCase()).join(', ')
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
    throw new Failure('invalid', 'The remote has an OpenPGP key that cannot be read.', { cause })
  }
  throw new Failure('invalid', 'The remote has something as OpenPGP key that is none.')
}
