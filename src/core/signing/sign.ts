import { verifySignature, verifySignedMessage } from '../../lib/openpgp.ts'
import type { Row } from '../../store/schema.ts'
import { runScript, type Script, type Signing } from './run-script.ts'

/* What signing services make. A signature that does not verify is never used: clients would refuse it. */

/** What signs: a row of signing_service, or what is to become one. */
export type Signer = Pick<Row<'signing_service'>, 'script' | 'fingerprint' | 'public_key' | 'gnupg_home'>

type File = Pick<Signing, 'name' | 'bytes' | 'cid' | 'signal'>

/** An ASCII-armored signature of a file, to lie beside it. Throws Failure upstream when the script fails, integrity for a signature that is wrong. */
export async function signDetached(signer: Signer, file: File): Promise<string> {
  const signature = (await runScript(scriptOf(signer), { ...file, member: 'signature' })).toString('utf8')
  await verifySignature(file.bytes, signature, signer.public_key, file.name)
  return signature
}

/** A signed message that says what an image is by its reference (`host/path:tag`) and digest; `bytes` are its manifest's. Throws as signDetached. */
export async function signAttached(signer: Signer, file: File, reference: string): Promise<Buffer> {
  const variables = (directory: string) => ({ REFERENCE: reference, SIG_PATH: `${directory}/signature` })
  const signature = await runScript(scriptOf(signer), { ...file, variables, member: 'signature_path' })
  await verifySignedMessage(signature, signer.public_key, reference)
  return signature
}

function scriptOf({ script, fingerprint, gnupg_home: gnupgHome }: Signer): Script {
  return { script, fingerprint, gnupgHome }
}
