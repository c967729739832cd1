import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missing, run } from './e2e/run.ts'
import type { Scope } from './e2e/server.ts'

/** A key of its own, and scripts that sign with it as Pulp's documentation has them. */
export interface SigningKey {
  readonly fingerprint: string
  /** The GNUPGHOME. */
  readonly home: string
  /** Path of the ASCII-armored public key. */
  readonly publicKey: string
  /** Makes a script of these lines, and returns its path. */
  script(name: string, ...lines: string[]): Promise<string>
  /** Signs metadata. */
  detached(): Promise<string>
  /** Signs manifests, without any client of registries. */
  attached(): Promise<string>
}

export async function makeSigningKey(t: Scope): Promise<SigningKey> {
  const home = await mkdtemp(join(tmpdir(), 'signalbox-gpg-'))
  t.after(async () => {
    await run('gpgconf', ['--homedir', home, '--kill', 'all'], { mayFail: true })
    await rm(home, { recursive: true, force: true })
  })
  const gpg = (...words: string[]) =>
    run('gpg', ['--homedir', home, '--batch', '--pinentry-mode', 'loopback', '--passphrase', '', ...words])
  await gpg('--quick-gen-key', 'Signer <signer@localhost>', 'rsa2048', 'sign', 'never')
  const fingerprint = /^fpr:+([0-9A-F]+):/m.exec((await gpg('--list-secret-keys', '--with-colons')).stdout)![1]!
  const publicKey = join(home, 'public.asc')
  await writeFile(publicKey, (await gpg('--armor', '--export', fingerprint)).stdout)
  const script: SigningKey['script'] = async (name, ...lines) => {
    const path = join(home, name)
    await writeFile(path, ['#!/bin/sh', 'set -eu', ...lines, ''].join('\n'), { mode: 0o755 })
    return path
  }
  return {
    fingerprint,
    home,
    publicKey,
    script,
    detached: () =>
      script(
        'detached.sh',
        'gpg --quiet --batch --yes --detach-sign --armor --local-user "$PULP_SIGNING_KEY_FINGERPRINT" --output "$1.asc" "$1"',
        'echo "{\\"file\\": \\"$1\\", \\"signature\\": \\"$1.asc\\"}"',
      ),
    attached: () =>
      script(
        'attached.sh',
        'digest=$(sha256sum "$1" | cut -d " " -f 1)',
        `printf '{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"sha256:%s"},` +
          `"type":"atomic container signature"},"optional":{"creator":"a test","timestamp":%s}}' "$REFERENCE" "$digest" "$(date +%s)" |`,
        '  gpg --quiet --batch --sign --local-user "$PULP_SIGNING_KEY_FINGERPRINT" --output "$SIG_PATH"',
        'echo "{\\"signature_path\\": \\"$SIG_PATH\\"}"',
      ),
  }
}

/** Why nothing can be signed here. */
export const cannotSign = () => missing('gpg', 'gpgconf', 'sha256sum')
