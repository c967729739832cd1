import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeLayout } from './image-layout.ts'
import { missing, run, temporaryDirectory } from './run.ts'
import { adminPassword, startServer } from './server.ts'

/* What docs/registry.md tells people to type. */

test('the commands of docs/registry.md do what the page says', { timeout: 240_000 }, async (t) => {
  const reason = await missing('skopeo', 'pulp', 'jq', 'curl')
  if (reason) return t.skip(reason)
  const page = await readFile(new URL('../../docs/registry.md', import.meta.url), 'utf8')
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```/gms)].map(([, commands]) => commands!)
  assert.equal(blocks.length, 6)

  // Passwords and a loopback server are all that the page leaves to the reader.
  const server = await startServer(t, { env: { SIGNALBOX_UPSTREAM_ADDRESSES: 'public,private,127.0.0.0/8' } })
  const directory = await temporaryDirectory(t)
  const layout = await makeLayout(join(directory, 'app'))
  await layout.addImage('1.0', 'an app')
  const script = ['set -eu', ...blocks].join('\n').replaceAll('127.0.0.1:8080', new URL(server.url).host)
  await writeFile(join(directory, 'page.sh'), `shopt -s expand_aliases\n${script}`)
  const env = { PASSWORD: adminPassword, BUILDER_PASSWORD: 'a-builder-of-images', XDG_CONFIG_HOME: directory, HOME: directory }
  const { stdout } = await run('bash', ['page.sh'], { cwd: directory, env, timeout: 200_000 })
  assert.match(stdout, /"Tags": \[\s+"1\.0"\s+\]/)

  const skopeo = (...words: string[]) => run('skopeo', words, { cwd: directory, env, mayFail: true })
  const at = `docker://${new URL(server.url).host}`
  const creds = `admin:${adminPassword}`
  const moved = await skopeo(
    'copy',
    '--dest-tls-verify=false',
    '--dest-creds',
    creds,
    layout.reference('1.0'),
    `${at}/example-dev/app:1.1`,
  )
  assert.equal(moved.code, 0, moved.stderr)
  await layout.addImage('2.0', 'another app')
  const refused = await skopeo(
    'copy',
    '--dest-tls-verify=false',
    '--dest-creds',
    creds,
    layout.reference('2.0'),
    `${at}/example-dev/app:1.0`,
  )
  assert.match(refused.stderr, /immutable/)
  const gone = await skopeo('inspect', '--tls-verify=false', `${at}/example-dev/other:1.0`)
  assert.notEqual(gone.code, 0)
  const digest = async (where: string) =>
    (await skopeo('inspect', '--tls-verify=false', '--creds', creds, '--format', '{{.Digest}}', where)).stdout
  assert.equal(await digest(`${at}/mirror/app:1.0`), await digest(`${at}/example-dev/app:1.0`))
})
