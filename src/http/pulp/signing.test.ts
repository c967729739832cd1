import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { addPushed, makeImage, makeIndex, putImages, repositoryId } from '../../../tests/images.ts'
import { openPulp } from '../../../tests/pulp.ts'
import { cannotSign, makeSigningKey } from '../../../tests/signing.ts'
import { readFile } from 'node:fs/promises'
import { addSigningService } from '../../core/signing/services.ts'

const skip = await cannotSign()

forEachDatabase((engine, open) => {
  test(`${engine}: images are signed under their tags, each once, and their signatures go along and away with them`, {
    skip,
  }, async (t) => {
    const key = await makeSigningKey(t)
    const { ctx, call, task } = await openPulp(t, await open(t))
    await addSigningService(ctx.db, {
      name: 'images',
      type: 'core.attached',
      script: await key.attached(),
      public_key: await readFile(key.publicKey, 'utf8'),
      fingerprint: key.fingerprint,
      gnupg_home: key.home,
    })
    const service = (await call('GET', 'signing-services/')).body.results[0].pulp_href
    const [one, two] = [await makeImage(ctx, ['one']), await makeImage(ctx, ['two'])]
    const list = makeIndex([one, two])
    const made = (await call('POST', 'repositories/container/container/', { name: 'app' })).body
    const href: string = made.pulp_href
    await putImages(ctx, await repositoryId(ctx.db, href), {
      '1.0': list,
      '2.0': two,
      [`${one.digest.replace(':', '-')}.sig`]: one,
    })
    const signatures = async (query = '', repository = href) => {
      const version = (await call('GET', repository)).body.latest_version_href
      return (await call('GET', `content/container/signatures/?repository_version=${version}${query}`)).body
    }

    const refused = async (body: object, problems: object) => {
      const answer = await call('POST', `${href}sign/`, body)
      assert.deepEqual([answer.status, answer.body], [400, problems])
    }
    await refused({}, { manifest_signing_service: ['This field is required since a signing_service is not set on the repo.'] })
    const named = { manifest_signing_service: service }
    await refused(named, { future_base_path: ['This field is required since this is a sync repo type.'] })
    const whole = { ...named, future_base_path: 'example/app' }
    await refused(
      { ...whole, future_base_path: 'Exa mple' },
      { future_base_path: ['The provided base path contains forbidden characters.'] },
    )
    const title = '<Repository: app; Version: 1>'
    await refused(
      { ...whole, tags_list: ['3.0'] },
      {
        tags_list: [`The tag '3.0' does not exist in the latest repository version '${title}'`],
      },
    )

    const first = await task('POST', `${href}sign/`, { ...whole, tags_list: ['2.0'] })
    assert.deepEqual(
      [first.state, first.name, first.created_resources],
      ['completed', 'pulp_container.app.tasks.sign.sign', [`${href}versions/2/`]],
    )
    const [signature] = (await signatures()).results
    assert.equal(signature.key_id, key.fingerprint.slice(-16))
    assert.ok(signature.name.startsWith(`${two.digest}@`))
    assert.equal((await call('GET', signature.signed_manifest)).body.digest, two.digest)
    assert.equal(signature.type, 'atomic')
    assert.ok(Math.abs(Date.now() / 1000 - signature.timestamp) < 600)

    // The repository's own service; what says something about an image is not signed by its tag, nor anything twice.
    await task('PATCH', href, named)
    await task('POST', `${href}sign/`, { future_base_path: 'example/app' })
    assert.equal((await signatures()).count, 4)
    assert.equal((await signatures(`&manifest=${two.digest}`)).count, 2)
    assert.equal((await signatures(`&manifest=${list.digest},${one.digest}`)).count, 2)
    assert.equal((await signatures(`&key_id=${signature.key_id}`)).count, 4)
    assert.equal((await signatures('&key_id=0')).count, 0)
    const again = await task('POST', `${href}sign/`, { future_base_path: 'example/app' })
    assert.deepEqual([again.state, again.created_resources], ['completed', []])

    // They are copied with a tag, and leave with it.
    const copy = (await call('POST', 'repositories/container/container/', { name: 'copy' })).body.pulp_href
    await task('POST', `${copy}copy_tags/`, { source_repository: href, names: ['2.0'] })
    assert.equal((await signatures('', copy)).count, 2)
    const tag = (await call('GET', `content/container/tags/?name=2.0&repository_version=${copy}versions/1/`)).body.results[0]
    await task('POST', `${copy}remove/`, { content_units: [tag.pulp_href] })
    assert.equal((await signatures('', copy)).count, 0)
  })

  test(`${engine}: a repository of pushes is signed for its own path, and its signatures are removed by key`, {
    skip,
  }, async (t) => {
    const key = await makeSigningKey(t)
    const { ctx, call, task } = await openPulp(t, await open(t))
    const image = await makeImage(ctx, ['pushed'])
    await addPushed(ctx, 'team/app', { latest: image })
    await addSigningService(ctx.db, {
      name: 'images',
      type: 'core.attached',
      script: await key.attached(),
      public_key: await readFile(key.publicKey, 'utf8'),
      fingerprint: key.fingerprint,
      gnupg_home: key.home,
    })
    const service = (await call('GET', 'signing-services/')).body.results[0].pulp_href
    const href: string = (await call('GET', 'repositories/container/container-push/')).body.results[0].pulp_href
    const path = await call('POST', `${href}sign/`, { manifest_signing_service: service, future_base_path: 'team/app' })
    assert.deepEqual(path.body, { future_base_path: ['This field cannot be set since this is a push repo type.'] })
    await task('POST', `${href}sign/`, { manifest_signing_service: service })
    const rows = await ctx.db.selectFrom('content').select('meta').where('type', '=', 'container.signature').execute()
    assert.deepEqual(
      rows.map(({ meta }) => JSON.parse(meta).reference),
      ['localhost/team/app:latest'],
    )
    const keyId = key.fingerprint.slice(-16)
    await task('POST', `${href}remove_signatures/`, { signed_with_key_id: keyId })
    const summary = (await call('GET', (await call('GET', href)).body.latest_version_href)).body.content_summary
    assert.equal(summary.present['container.signature'], undefined)
    const none = await call('POST', `${href}remove_signatures/`, { signed_with_key_id: keyId })
    assert.match(none.body.non_field_errors[0], /There are no signatures/)
    await key.script('attached.sh', 'exit 7')
    const failed = await task('POST', `${href}sign/`, { manifest_signing_service: service })
    assert.match(failed.error.description, /attached\.sh failed with code 7/)
  })
})
