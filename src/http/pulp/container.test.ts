import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { addPushed, makeImage, makeIndex, putImages, repositoryId } from '../../../tests/images.ts'
import { addUser, openPulp, work } from '../../../tests/pulp.ts'
import { claimTask, runTask } from '../../core/tasks/run-tasks.ts'
import { cancelTask } from '../../core/tasks/tasks.ts'
import type { Db } from '../../store/database.ts'

const repositories = 'repositories/container/container/'
const pushed = 'repositories/container/container-push/'
const distributions = 'distributions/container/container/'

/** A server with a pushed repository `dev/app` of two images that share a layer, and a list of both. */
async function openWithImages(t: TestContext, db: Db) {
  const pulp = await openPulp(t, db, { origin: 'https://registry.example' })
  const one = await makeImage(pulp.ctx, ['base', 'one'])
  const two = await makeImage(pulp.ctx, ['base', 'two'])
  const both = makeIndex([one, two])
  await addPushed(pulp.ctx, 'dev/app', { one, two, both })
  const source = (await pulp.call('GET', `${pushed}?name=dev/app`)).body.results[0]
  const target = (await pulp.call('POST', repositories, { name: 'release/app' })).body
  const tags = async (href: string) =>
    (await pulp.call('GET', `content/container/tags/?repository_version=${href}&ordering=name`)).body.results as any[]
  const present = async (href: string) => {
    const { latest_version_href } = (await pulp.call('GET', href)).body
    const { content_summary } = (await pulp.call('GET', latest_version_href)).body
    return Object.fromEntries(Object.entries(content_summary.present).map(([type, { count }]: [string, any]) => [type, count]))
  }
  return { ...pulp, images: { one, two, both }, source, target, tags, present }
}

forEachDatabase((engine, open) => {
  test(`${engine}: what pushes made is a repository of its own type, which is neither made nor deleted by itself`, async (t) => {
    const { call, task, source } = await openWithImages(t, await open(t))
    assert.deepEqual(Object.keys(source).sort(), [
      'description',
      'immutable_tags',
      'latest_version_href',
      'manifest_signing_service',
      'name',
      'prn',
      'pulp_created',
      'pulp_href',
      'pulp_labels',
      'pulp_last_updated',
      'retain_repo_versions',
      'versions_href',
    ])
    assert.match(source.prn, /^prn:container\.containerpushrepository:/)
    assert.equal((await call('POST', pushed, { name: 'x' })).status, 405)
    assert.equal((await call('DELETE', source.pulp_href)).status, 405)
    assert.equal((await task('PATCH', source.pulp_href, { description: 'ours' })).state, 'completed')
    assert.equal((await call('GET', source.pulp_href)).body.description, 'ours')
    assert.equal((await call('GET', `repositories/?pulp_type=container.container-push`)).body.count, 1)

    const [distribution] = (await call('GET', `${distributions}?namespace__name=dev`)).body.results
    assert.equal(distribution.repository, source.pulp_href)
    assert.equal(distribution.registry_path, 'registry.example/dev/app')
    assert.ok(!('base_url' in distribution) && !('publication' in distribution))
    assert.match(distribution.content_guard, /contentguards\/core\/content_redirect/)
    const pinned = await call('PATCH', distribution.pulp_href, {
      repository: null,
      repository_version: source.latest_version_href,
    })
    assert.deepEqual(pinned.body, {
      non_field_errors: ['A container push repository cannot be distributed by specifying a repository version.'],
    })
    assert.equal((await task('DELETE', distribution.pulp_href)).name, 'pulpcore.app.tasks.base.general_multi_delete')
    assert.equal((await call('GET', source.pulp_href)).status, 404)
    assert.equal((await call('GET', 'pulp_container/namespaces/?name=dev')).body.count, 1)
  })

  test(`${engine}: content names what it is made of, and is found by its digests and media types`, async (t) => {
    const { call, images, source, tags } = await openWithImages(t, await open(t))
    const found = await tags(source.latest_version_href)
    assert.deepEqual(
      found.map(({ name }) => name),
      ['both', 'one', 'two'],
    )
    const one = (await call('GET', found[1].tagged_manifest)).body
    assert.deepEqual(
      [one.digest, one.type, one.architecture, one.os, one.labels, one.blobs.length, one.listed_manifests.length],
      [images.one.digest, 'image', 'amd64', 'linux', { layers: 'base,one' }, 2, 0],
    )
    const config = (await call('GET', one.config_blob)).body
    assert.deepEqual(Object.keys(config).sort(), [
      'artifact',
      'digest',
      'prn',
      'pulp_created',
      'pulp_href',
      'pulp_labels',
      'pulp_last_updated',
    ])
    assert.ok(config.artifact)
    const both = (await call('GET', found[0].tagged_manifest)).body
    assert.deepEqual([both.type, both.config_blob, both.listed_manifests.length], ['index', null, 2])
    const count = async (query: string) => (await call('GET', `content/container/${query}`)).body.count
    assert.equal(await count(`tags/?digest=${images.one.digest},${images.two.digest}`), 2)
    assert.equal(await count('tags/?name__in=one,two,three'), 2)
    const index = encodeURIComponent('application/vnd.oci.image.index.v1+json')
    const manifest = encodeURIComponent('application/vnd.oci.image.manifest.v1+json')
    assert.equal(await count(`tags/?media_type=${index}`), 1)
    assert.equal(await count(`tags/?media_type=${index}&media_type=${manifest}`), 3)
    assert.equal(await count(`manifests/?media_type=${manifest}&repository_version=${source.latest_version_href}`), 2)
    assert.equal(await count('manifests/?is_bootable=true'), 0)
    assert.equal(await count('manifests/?is_bootable=false'), 3)
    assert.equal(await count(`blobs/?digest__in=${config.digest}`), 1)
    assert.equal(await count('signatures/?manifest=sha256:0'), 0)
    assert.deepEqual((await call('GET', 'content/container/tags/?media_type=nope')).body, {
      media_type: ['Select a valid choice. nope is not one of the available choices.'],
    })
  })

  test(`${engine}: tags are added with all that they name, once, and removed with what nothing else needs`, async (t) => {
    const { call, task, source, target, tags, present } = await openWithImages(t, await open(t))
    const [both, one, two] = (await tags(source.latest_version_href)).map(({ pulp_href }) => pulp_href)
    const href = target.pulp_href
    const added = await task('POST', `${href}add/`, { content_units: [one] })
    assert.equal(added.name, 'pulp_container.app.tasks.recursive_add.recursive_add_content')
    assert.deepEqual(added.created_resources, [`${href}versions/1/`])
    assert.deepEqual(await present(href), { 'container.blob': 3, 'container.manifest': 1, 'container.tag': 1 })
    assert.deepEqual((await task('POST', `${href}add/`, { content_units: [one] })).created_resources, [])
    await task('POST', `${href}add/`, { content_units: [both, two] })
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3, 'container.tag': 3 })

    // The list still needs the image, and so does the tag of the list.
    await task('POST', `${href}remove/`, { content_units: [one] })
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3, 'container.tag': 2 })
    await task('POST', `${href}remove/`, { content_units: [both] })
    assert.deepEqual(await present(href), { 'container.blob': 3, 'container.manifest': 1, 'container.tag': 1 })
    // A manifest that a tag names stays.
    const manifest = (await call('GET', two)).body.tagged_manifest
    assert.deepEqual((await task('POST', `${href}remove/`, { content_units: [manifest] })).created_resources, [])
    await task('POST', `${href}remove/`, { content_units: ['*'] })
    assert.deepEqual(await present(href), {})

    assert.deepEqual((await call('POST', `${href}add/`, { content_units: ['*', one] })).body, {
      non_field_errors: [`'*' should be the only item present in the ['*', '${one}']`],
    })
    const gone = one.replace(/[0-9a-f]{12}\/$/, '000000000000/')
    assert.deepEqual((await call('POST', `${href}add/`, { content_units: [gone] })).body, [
      `Could not find the following content units: ['${gone}']`,
    ])
  })

  test(`${engine}: tags and manifests are copied from a repository or a version of it`, async (t) => {
    const { call, task, images, source, target, present } = await openWithImages(t, await open(t))
    const href = target.pulp_href
    const copied = await task('POST', `${href}copy_tags/`, { source_repository: source.pulp_href, names: ['both', 'nope'] })
    assert.deepEqual(copied.created_resources, [`${href}versions/1/`])
    assert.deepEqual(copied.reserved_resources_record.slice(0, 2), [target.prn, `shared:${source.prn}`])
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3, 'container.tag': 1 })
    await task('POST', `${href}remove/`, { content_units: ['*'] })
    await task('POST', `${href}copy_manifests/`, {
      source_repository_version: source.latest_version_href,
      digests: [images.one.digest],
    })
    assert.deepEqual(await present(href), { 'container.blob': 3, 'container.manifest': 1 })
    await task('POST', `${href}copy_manifests/`, {
      source_repository: source.pulp_href,
      media_types: ['application/vnd.oci.image.index.v1+json'],
    })
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3 })
    assert.deepEqual((await call('POST', `${href}copy_tags/`, {})).body, {
      non_field_errors: ["Either the 'repository' or 'repository_version' needs to be specified"],
    })
    assert.equal((await task('POST', `${href}copy_tags/`, { source_repository: source.pulp_href })).state, 'completed')
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3, 'container.tag': 3 })
  })

  test(`${engine}: what is said of an image comes and goes with it`, async (t) => {
    const { ctx, call, task, images, target, present } = await openWithImages(t, await open(t))
    const signed = await makeImage(ctx, ['signature'], { subject: images.one })
    const { repository } = await addPushed(ctx, 'dev/signed', { one: images.one, sig: signed })
    const from = (await call('GET', `${pushed}?name=dev/signed`)).body.results[0].pulp_href
    await task('POST', `${from}untag/`, { tag: 'sig' })
    await task('POST', `${target.pulp_href}copy_tags/`, { source_repository: from, names: ['one'] })
    assert.deepEqual(await present(target.pulp_href), { 'container.blob': 5, 'container.manifest': 2, 'container.tag': 1 })
    const [tag] = (await call('GET', `content/container/tags/?repository_version=${target.pulp_href}versions/1/`)).body.results
    await task('POST', `${target.pulp_href}remove/`, { content_units: [tag.pulp_href] })
    assert.deepEqual(await present(target.pulp_href), {})
    assert.ok(repository.id > 0)
  })

  test(`${engine}: an image gets another tag, loses one, and is deleted with all of them`, async (t) => {
    const { call, task, images, source, tags, present } = await openWithImages(t, await open(t))
    const href = source.pulp_href
    const tagged = await task('POST', `${href}tag/`, { tag: 'two', digest: images.one.digest })
    assert.deepEqual([tagged.name, tagged.created_resources.length], ['pulp_container.app.tasks.tag.tag_image', 2])
    assert.equal(tagged.created_resources[0], `${href}versions/2/`)
    const [, , two] = await tags(`${href}versions/2/`)
    assert.equal((await call('GET', two.tagged_manifest)).body.digest, images.one.digest)
    assert.deepEqual((await task('POST', `${href}tag/`, { tag: 'two', digest: images.one.digest })).created_resources, [])
    assert.deepEqual((await call('POST', `${href}tag/`, { tag: '-x', digest: images.one.digest })).body, {
      tag: [
        'The provided tag is not valid. A tag may contain lowercase and uppercase ASCII alphabetic characters, digits, underscores, periods, and dashes. A tag must not start with a period or a dash.',
      ],
    })
    assert.deepEqual((await call('POST', `${href}tag/`, { tag: 'x', digest: 'sha256:0' })).body, {
      non_field_errors: [
        "A manifest with the digest 'sha256:0' does not exist in the latest repository version '<Repository: dev/app; Version: 2>'",
      ],
    })
    assert.deepEqual((await call('POST', `${href}untag/`, { tag: 'x' })).body, {
      non_field_errors: ["The tag 'x' does not exist in the latest repository version '<Repository: dev/app; Version: 2>'"],
    })
    await task('POST', `${href}untag/`, { tag: 'both' })
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3, 'container.tag': 2 })
    // Two tags name it, and the list has it: the list keeps the image, but not its tags.
    await task('POST', `${href}remove_image/`, { digest: images.one.digest })
    assert.deepEqual(await present(href), { 'container.blob': 5, 'container.manifest': 3 })
    await task('POST', `${href}remove_image/`, { digest: images.both.digest })
    assert.deepEqual(await present(href), {})
    const unsigned = await call('POST', `${href}remove_signatures/`, { signed_with_key_id: 'AB' })
    assert.equal(unsigned.status, 400)
    assert.match(
      (await call('POST', `${href}sign/`, {})).body.manifest_signing_service[0],
      /signing_service is not set on the repo/,
    )
  })

  test(`${engine}: a task that was canceled while it ran changes no repository`, async (t) => {
    const { ctx, call, source, target } = await openWithImages(t, await open(t))
    const started = await call('POST', `${target.pulp_href}copy_tags/`, { source_repository: source.pulp_href })
    const { task } = (await claimTask(ctx.db, null))!
    await cancelTask(ctx, task.id)
    await runTask(ctx, task)
    assert.notEqual((await call('GET', started.body.task)).body.state, 'completed')
    assert.equal((await call('GET', target.pulp_href)).body.latest_version_href, `${target.pulp_href}versions/0/`)
  })

  test(`${engine}: a tag that is immutable is neither moved nor removed`, async (t) => {
    const { call, task, ctx, images, source, target } = await openWithImages(t, await open(t))
    const href = target.pulp_href
    await task('PATCH', href, { immutable_tags: ['o*'] })
    await task('POST', `${href}copy_tags/`, { source_repository: source.pulp_href, names: ['one'] })
    for (const [action, body] of [
      ['untag', { tag: 'one' }],
      ['remove', { content_units: ['*'] }],
    ] as const) {
      const { state, error } = await task('POST', `${href}${action}/`, body)
      assert.deepEqual([state, error.description.includes('"one" of release/app is immutable')], ['failed', true])
    }
    await putImages(ctx, await repositoryId(ctx.db, source.pulp_href), { one: images.two })
    assert.equal((await task('POST', `${href}copy_tags/`, { source_repository: source.pulp_href })).state, 'failed')
    assert.equal(
      (await task('POST', `${href}copy_tags/`, { source_repository: source.pulp_href, names: ['two'] })).state,
      'completed',
    )
    assert.equal((await call('GET', href)).body.latest_version_href, `${href}versions/2/`)
  })

  test(`${engine}: a distribution makes its namespace, which takes all that lies in it along`, async (t) => {
    const { call, task, source, target } = await openWithImages(t, await open(t))
    const refused = async (body: unknown, expected: unknown) =>
      assert.deepEqual((await call('POST', distributions, body)).body, expected)
    await refused(
      { name: 'x', base_path: 'Upper/case' },
      { base_path: ['The provided base path contains forbidden characters.'] },
    )
    await refused({ name: 'x', base_path: 'dev/app' }, { base_path: ['This field must be unique.'] })
    await refused({ name: 'x', base_path: 'r/x', content_guard: null }, { content_guard: ['This field may not be null.'] })
    await refused(
      { name: 'x', base_path: 'r/x', repository: target.pulp_href, repository_version: `${target.pulp_href}versions/0/` },
      { non_field_errors: ["Only one of the attributes 'repository' and 'repository_version' may be used simultaneously."] },
    )
    // Paths below one another are no problem for a registry.
    const made = await task('POST', distributions, { name: 'below', base_path: 'dev/app/below', repository: target.pulp_href })
    const { body } = await call('GET', made.created_resources[0])
    assert.deepEqual([body.private, body.description, body.remote, body.repository_version], [false, null, null, null])
    const namespace = (await call('GET', body.namespace)).body
    assert.equal(namespace.name, 'dev')
    await task('PATCH', body.pulp_href, { private: true, repository: null, repository_version: `${target.pulp_href}versions/0/` })
    assert.equal((await call('GET', body.pulp_href)).body.repository_version, `${target.pulp_href}versions/0/`)

    assert.equal((await call('POST', 'pulp_container/namespaces/', { name: 'new' })).status, 201)
    assert.deepEqual((await call('POST', 'pulp_container/namespaces/', { name: 'new' })).body, {
      name: ['This field must be unique.'],
    })
    assert.equal((await task('DELETE', namespace.pulp_href)).state, 'completed')
    assert.equal((await call('GET', distributions)).body.count, 0)
    assert.equal((await call('GET', source.pulp_href)).status, 404)
    assert.equal((await call('GET', target.pulp_href)).status, 200)
  })

  test(`${engine}: what is private is there for those with a role on it or on its namespace, and for nobody else`, async (t) => {
    const { ctx, call, images, source, target, tags } = await openWithImages(t, await open(t))
    for (const name of ['nobody', 'reader', 'member', 'maker']) await addUser(ctx, name)
    const [distribution] = (await call('GET', distributions)).body.results
    const [tag] = await tags(source.latest_version_href)
    const add = (href: string, role: string, user: string) =>
      call('POST', `${href}add_role/`, { role: `container.${role}`, users: [user] })
    assert.equal((await add(distribution.pulp_href, 'containerdistribution_consumer', 'reader')).status, 201)
    assert.equal((await add(distribution.namespace, 'containernamespace_collaborator', 'member')).status, 201)
    const hrefs = [distribution.pulp_href, source.pulp_href, tag.pulp_href]
    for (const [as, status] of [
      ['nobody', 404],
      ['reader', 200],
      ['member', 200],
    ] as const)
      for (const href of hrefs) assert.equal((await call('GET', href, undefined, { as })).status, status, `${as} ${href}`)
    assert.equal((await call('GET', target.pulp_href, undefined, { as: 'member' })).status, 404)

    const change = { description: 'x' }
    assert.equal((await call('PATCH', distribution.pulp_href, change, { as: 'reader' })).status, 403)
    assert.equal((await call('PATCH', distribution.pulp_href, change, { as: 'member' })).status, 202)
    assert.equal((await call('POST', `${source.pulp_href}untag/`, { tag: 'one' }, { as: 'reader' })).status, 403)
    assert.equal((await call('POST', `${source.pulp_href}untag/`, { tag: 'one' }, { as: 'member' })).status, 202)

    // Who may put something where: into an own namespace, or one with the right to.
    const put = async (as: string, base_path: string) =>
      (await call('POST', distributions, { name: base_path, base_path }, { as })).status
    assert.equal(await put('nobody', 'dev/x'), 403)
    assert.equal(await put('reader', 'dev/x'), 403)
    assert.equal(await put('member', 'dev/x'), 202)
    assert.equal(await put('member', 'other/x'), 403)
    assert.equal(await put('maker', 'maker/x'), 202)
    await work(ctx)
    const [own] = (await call('GET', `${distributions}?name=maker/x`, undefined, { as: 'maker' })).body.results
    assert.equal((await call('PATCH', own.pulp_href, { base_path: 'dev/y' }, { as: 'maker' })).status, 403)
    assert.equal((await call('PATCH', own.pulp_href, { repository: source.pulp_href }, { as: 'maker' })).status, 400)

    // What a repository has is not told to whoever may not see it, even of content that they see elsewhere.
    const { repository } = await addPushed(ctx, 'open/app', { one: images.one })
    await ctx.db.updateTable('distribution').set({ settings: '{}' }).where('repository_id', '=', repository.id).execute()
    ctx.changes.bump()
    const count = async (query: string, as: string) =>
      (await call('GET', `content/container/tags/?${query}`, undefined, { as })).body.count
    assert.equal(await count(`digest=${images.one.digest}`, 'nobody'), 1)
    for (const [as, expected] of [
      ['nobody', undefined],
      ['reader', 3],
    ] as const)
      assert.equal(await count(`repository_version=${source.latest_version_href}`, as), expected)

    // A private image is copied by nobody who may not see it, by its href either.
    const mine = (await call('POST', repositories, { name: 'mine' })).body.pulp_href
    assert.equal((await add(mine, 'containerrepository_owner', 'maker')).status, 201)
    const stolen = await call('POST', `${mine}add/`, { content_units: [tag.pulp_href] }, { as: 'maker' })
    assert.deepEqual(stolen.body, [`Could not find the following content units: ['${tag.pulp_href}']`])
    assert.equal((await call('POST', `${mine}copy_tags/`, { source_repository: source.pulp_href }, { as: 'maker' })).status, 400)
    await add(distribution.pulp_href, 'containerdistribution_consumer', 'maker')
    assert.equal((await call('POST', `${mine}add/`, { content_units: [tag.pulp_href] }, { as: 'maker' })).status, 202)
  })

  test(`${engine}: remotes name a repository upstream; others stand for a whole registry`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const url = 'https://registry.example'
    const missing = await call('POST', 'remotes/container/container/', { name: 'a', url })
    assert.deepEqual(missing.body, { upstream_name: ['This field is required.'] })
    const made = await call('POST', 'remotes/container/container/', {
      name: 'a',
      url,
      upstream_name: 'library/busybox',
      include_tags: ['1.*'],
    })
    assert.deepEqual(
      [made.body.include_tags, made.body.exclude_tags, made.body.sigstore, made.body.policy],
      [['1.*'], null, null, 'immediate'],
    )
    const through = await call('POST', 'remotes/container/pull-through/', { name: 'b', url, includes: ['library/*'] })
    assert.deepEqual([through.body.policy, through.body.includes, through.body.excludes], ['on_demand', ['library/*'], null])
    assert.match(through.body.prn, /^prn:container\.containerpullthroughremote:/)
    const repository = await call('POST', repositories, { name: 'a', remote: through.body.pulp_href })
    assert.deepEqual(repository.body, { remote: ["Type for Remote 'b' does not match Repository."] })
    const place = await task('POST', 'distributions/container/pull-through/', {
      name: 'cache',
      base_path: 'cache',
      remote: through.body.pulp_href,
    })
    const { body } = await call('GET', place.created_resources[0])
    assert.deepEqual([body.remote, body.distributions, body.private], [through.body.pulp_href, [], false])
    assert.equal((await call('GET', 'remotes/?pulp_type__in=container.pull-through')).body.count, 1)
    assert.equal((await task('DELETE', through.body.pulp_href)).state, 'completed')
    assert.equal((await call('GET', body.pulp_href)).body.remote, null)
  })
})
