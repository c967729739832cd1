import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeSigningKey } from '../signing.ts'
import { makeLayout } from './image-layout.ts'
import { missing, run, temporaryDirectory } from './run.ts'
import { adminPassword, program, startServer } from './server.ts'

/* What docs/signing.md tells people to type. */

test('the commands of docs/signing.md do what the page says', { timeout: 480_000 }, async (t) => {
  const reason = await missing('gpg', 'pulp', 'jq', 'curl', 'skopeo')
  if (reason) return t.skip(reason)
  const page = await readFile(new URL('../../docs/signing.md', import.meta.url), 'utf8')
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```/gms)].map(([, commands]) => commands!)
  assert.equal(blocks.length, 5)

  const server = await startServer(t)
  const key = await makeSigningKey(t)
  const directory = await temporaryDirectory(t)
  await (await makeLayout(join(directory, 'app'))).addImage('1.0', 'an app')
  const setting = [`alias signalbox=${program}`, `ln -s ${key.home} gnupg`, `ln -s ${server.data} var`]
  const script = ['set -eu', 'shopt -s expand_aliases', ...setting, ...blocks]
    .join('\n')
    .replaceAll('127.0.0.1:8080', new URL(server.url).host)
    .replaceAll('signer@example.org', 'signer@localhost')
  await writeFile(join(directory, 'page.sh'), script)
  const env = { PASSWORD: adminPassword, XDG_CONFIG_HOME: directory, HOME: directory }
  const { stdout } = await run('bash', ['page.sh'], { cwd: directory, env, timeout: 420_000 })
  assert.match(stdout, new RegExp(`Added the signing service metadata for the key ${key.fingerprint}`))
  assert.match(stdout, /^repo_gpgcheck=1$/m)
  assert.match(stdout, /Storing signatures/)
  assert.match(await readFile(join(directory, 'verified/signature-1'), 'latin1'), /./)
  assert.match(stdout, new RegExp(`^gpgkey=${server.url}/pulp/content/apps/repodata/repomd.xml.key$`, 'm'))
})
