import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { forEachDatabase } from '../../tests/databases.ts'
import { runCli } from '../../tests/command-line.ts'
import { run, temporaryDirectory } from '../../tests/e2e/run.ts'
import { cannotSign, makeSigningKey } from '../../tests/signing.ts'
import { openPulp } from '../../tests/pulp.ts'
import { openDatabase } from '../store/database.ts'

const reason = await cannotSign()

forEachDatabase((engine, _, make) => {
  test(`${engine}: a signing service is added by a command, shown by the API, and removed when nothing signs with it`, {
    skip: reason,
  }, async (t) => {
    const key = await makeSigningKey(t)
    const place = await make(t)
    const db = await openDatabase(place)
    t.after(() => db.destroy())
    const { call, task, ctx } = await openPulp(t, db)
    const cli = (...words: string[]) => runCli(['signing-service', ...words], { SIGNALBOX_DATABASE: place, GNUPGHOME: key.home })
    const [detached, attached] = [await key.detached(), await key.attached()]

    const added = await cli('add', 'metadata', detached, 'signer@localhost')
    assert.deepEqual(
      [added.code, added.out],
      [0, `Added the signing service metadata for the key ${key.fingerprint}.\n`],
      added.err,
    )
    const again = await cli('add', 'metadata', detached, key.fingerprint)
    assert.match(again.err, /There is a signing service metadata already/)
    const images = await cli('add', 'images', attached, key.fingerprint, '--class', 'container:ManifestSigningService')
    assert.equal(images.code, 0, images.err)
    assert.equal(
      (await cli('list')).out,
      `images     container   ${key.fingerprint}   ${attached}\nmetadata   asc         ${key.fingerprint}   ${detached}\n`,
    )

    const listed = await call('GET', 'signing-services/?name=metadata')
    const [service] = listed.body.results
    assert.deepEqual([listed.body.count, service.name, service.script], [1, 'metadata', detached])
    assert.equal(service.pubkey_fingerprint, key.fingerprint)
    assert.match(service.public_key, /^-----BEGIN PGP PUBLIC KEY BLOCK-----/)
    assert.equal(service.prn, `prn:core.signingservice:${service.pulp_href.split('/').at(-2)}`)
    assert.deepEqual((await call('GET', service.pulp_href)).body, service)
    assert.equal((await call('POST', 'signing-services/', {})).status, 405)
    const [other] = (await call('GET', 'signing-services/?name=images')).body.results

    const refused = await call('POST', 'repositories/rpm/rpm/', { name: 'r', metadata_signing_service: other.pulp_href })
    assert.deepEqual(refused.body, { metadata_signing_service: ['Invalid hyperlink - Object does not exist.'] })
    const made = await call('POST', 'repositories/rpm/rpm/', { name: 'r', metadata_signing_service: service.prn })
    assert.equal(made.body.metadata_signing_service, service.pulp_href)
    assert.equal((await call('GET', made.body.pulp_href)).body.metadata_signing_service, service.pulp_href)

    const kept = await cli('remove', 'metadata')
    assert.deepEqual([kept.code, /signs for r:/.test(kept.err)], [1, true])
    await task('PATCH', made.body.pulp_href, { metadata_signing_service: null })
    assert.equal((await call('GET', made.body.pulp_href)).body.metadata_signing_service, null)
    assert.equal((await cli('remove', 'metadata')).out, 'Removed the signing service metadata.\n')
    assert.equal((await cli('remove', 'metadata')).code, 1)
    assert.equal((await ctx.db.selectFrom('signing_service').select('id').execute()).length, 1)
  })
})

test('a signing service is refused with what is wrong with it', { skip: reason }, async (t) => {
  const key = await makeSigningKey(t)
  const other = await makeSigningKey(t)
  const data = await temporaryDirectory(t)
  await (await openDatabase(join(data, 'signalbox.db'))).destroy()
  const attempt = async (words: readonly string[], env: Record<string, string> = {}) =>
    (await runCli(['signing-service', ...words, '--data', data], { GNUPGHOME: key.home, ...env })).err
  const add = async (script: string, ...more: string[]) => attempt(['add', 's', script, key.fingerprint, ...more])
  const good = await key.detached()

  assert.match(await attempt([]), /Say "add NAME SCRIPT KEY"/)
  assert.match(await attempt(['add', 's', good, 'nobody@localhost']), /gpg has no public key nobody@localhost/)
  assert.match(await add('/nonexistent'), /no script that can be executed/)
  assert.match(await add(key.publicKey), /no script that can be executed/)
  assert.match(await add(good, '--class', 'deb'), /--class takes asc.*container/)
  assert.match(await add(await key.script('fails.sh', 'echo no such token >&2', 'exit 3')), /failed with code 3: no such token/)
  assert.match(await add(await key.script('silent.sh', 'exit 0')), /printed nothing; it must print \{"signature"/)
  assert.match(await add(await key.script('vague.sh', 'echo "{}"')), /did not say where the signature is/)
  assert.match(await add(await key.script('gone.sh', `echo '{"signature": "gone"}'`)), /which cannot be read/)
  assert.match(await add(await key.attached()), /failed with code/)
  assert.match(await add(good, '--class', 'container'), /did not say where the signature is.*signature_path/)
  const foreign = await key.script(
    'foreign.sh',
    `export GNUPGHOME=${other.home} PULP_SIGNING_KEY_FINGERPRINT=`,
    `exec ${await other.detached()} "$1"`,
  )
  await other.script('detached.sh', 'gpg --batch --detach-sign --armor "$1"', 'echo "{\\"signature\\": \\"$1.asc\\"}"')
  assert.match(await add(foreign), new RegExp(`signed by ${other.fingerprint.slice(-16)}, which does not verify`))
  const elsewhere = await runCli(['signing-service', 'list', '--data', join(data, 'elsewhere')])
  assert.match(elsewhere.err, /No server has its database at .*elsewhere/)
  assert.equal((await runCli(['signing-service', 'list', '--data', data])).out, '')
})

test('a script gets the key, the file and nothing that is secret', { skip: reason }, async (t) => {
  const key = await makeSigningKey(t)
  const data = await temporaryDirectory(t)
  await (await openDatabase(join(data, 'signalbox.db'))).destroy()
  process.env['SIGNALBOX_ADMIN_PASSWORD'] = 'secret'
  t.after(() => delete process.env['SIGNALBOX_ADMIN_PASSWORD'])
  const good = await key.detached()
  const curious = await key.script(
    'curious.sh',
    `env > ${data}/env`,
    `pwd > ${data}/pwd`,
    `echo "$#" >> ${data}/pwd`,
    `exec ${good} "$1"`,
  )
  const added = await runCli(['signing-service', 'add', 's', curious, key.fingerprint, '--gnupghome', key.home, '--data', data])
  assert.equal(added.code, 0, added.err)
  const seen = new Map(
    (await run('cat', [join(data, 'env')])).stdout.split('\n').map((line) => line.split('=', 2) as [string, string]),
  )
  assert.equal(seen.get('PULP_SIGNING_KEY_FINGERPRINT'), key.fingerprint)
  assert.equal(seen.get('GNUPGHOME'), key.home)
  assert.equal(seen.get('CORRELATION_ID'), '')
  assert.deepEqual(
    [...seen.keys()].filter((name) => /SIGNALBOX|PASSWORD|DATABASE/.test(name)),
    [],
  )
  const [directory, words] = (await run('cat', [join(data, 'pwd')])).stdout.split('\n')
  assert.equal(words, '1')
  assert.notEqual((await run('ls', [directory!], { mayFail: true })).code, 0)
})
