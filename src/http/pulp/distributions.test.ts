import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { openPulp } from '../../../tests/pulp.ts'

const path = 'distributions/file/file/'

forEachDatabase((engine, open) => {
  test(`${engine}: a distribution serves a publication, then a repository`, async (t) => {
    const { call, task } = await openPulp(t, await open(t), { origin: 'https://content.example' })
    const repository = (await call('POST', 'repositories/file/file/', { name: 'one' })).body.pulp_href
    const published = await task('POST', 'publications/file/file/', { repository })
    const [publication] = published.created_resources
    assert.equal(published.name, 'pulp_file.app.tasks.publishing.publish')
    assert.equal((await call('GET', publication)).body.repository_version, `${repository}versions/0/`)
    const made = await task('POST', path, { name: 'one', base_path: 'a/b', publication })
    assert.match(made.reserved_resources_record[0], /^pdrn:[0-9a-f-]{36}:distributions$/)
    const [href] = made.created_resources
    const { body } = await call('GET', href)
    assert.equal(body.base_url, 'https://content.example/pulp/content/a/b/')
    assert.deepEqual([body.publication, body.repository, body.content_guard, body.hidden], [publication, null, null, false])
    assert.equal(body.no_content_change_since, body.pulp_last_updated)
    assert.deepEqual((await call('GET', publication)).body.distributions, [href])

    const both = await call('PATCH', href, { repository })
    assert.deepEqual(both.body, {
      non_field_errors: ["Only one of the attributes 'repository' and 'publication' may be used simultaneously."],
    })
    const serving = await call('DELETE', `${repository}versions/0/`)
    assert.equal(serving.status, 400)
    assert.match(serving.body[0], /^The repository version cannot be deleted because it/)
    assert.equal((await task('PATCH', href, { repository, publication: null })).state, 'completed')
    const changed = (await call('GET', href)).body
    assert.deepEqual([changed.publication, changed.repository, changed.no_content_change_since], [null, repository, null])
    const count = async (query: string) => (await call('GET', `${path}?${query}`)).body.count
    assert.equal(await count(`repository=${repository}`), 1)
    assert.equal(await count(`repository__in=${repository}&base_path__contains=/b`), 1)
    assert.equal(await count('checkpoint=true'), 0)
    assert.equal((await call('DELETE', publication)).status, 204)
    assert.equal((await task('DELETE', href)).state, 'completed')
    assert.equal(await count(''), 0)
  })

  test(`${engine}: base paths must be clean, free and not lie within one another`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    await task('POST', path, { name: 'one', base_path: 'a/b' })
    const refused = async (body: unknown, expected: unknown) => {
      const { status, body: answer } = await call('POST', path, body)
      assert.deepEqual([status, answer], [400, expected])
    }
    const overlap = { base_path: { base_path: "Overlaps with existing distribution 'one'" } }
    await refused({ name: 'two', base_path: 'a' }, overlap)
    await refused({ name: 'two', base_path: 'a/b/c' }, overlap)
    await refused({ name: 'two', base_path: 'a/b' }, { base_path: ['This field must be unique.'] })
    await refused({ name: 'one', base_path: 'z' }, { name: ['This field must be unique.'] })
    await refused({ name: 'two', base_path: '/z' }, { base_path: ['Relative path cannot begin or end with slashes.'] })
    await refused({ name: 'two', base_path: 'a b' }, { base_path: ['Relative path cannot contain spaces.'] })
    for (const base_path of ['a/../c', 'a//c', 'a?', './a'])
      await refused({ name: 'two', base_path }, { base_path: ['Enter a valid URL.'] })
    await refused(
      { name: 'two', base_path: 'z', checkpoint: true },
      { non_field_errors: ["The 'checkpoint' attribute may only be used with the 'repository' attribute."] },
    )
    for (const base_path of ['a/bc', 'a/b0', 'a/b-1', 'ab'])
      assert.equal((await task('POST', path, { name: base_path, base_path })).state, 'completed', base_path)
  })

  test(`${engine}: a remote keeps its secrets to itself, and a change of them alone is no reason to sync again`, async (t) => {
    const { ctx, call, task } = await openPulp(t, await open(t))
    const url = 'http://127.0.0.1:1/PULP_MANIFEST'
    const made = await call('POST', 'remotes/file/file/', { name: 'one', url, username: 'user', password: ' secret ' })
    assert.equal(made.status, 201, made.text)
    assert.ok(!made.text.includes('secret'))
    assert.deepEqual(
      made.body.hidden_fields.filter(({ is_set }: { is_set: boolean }) => is_set).map(({ name }: { name: string }) => name),
      ['username', 'password'],
    )
    const remote = made.body.pulp_href
    const repository = (await call('POST', 'repositories/file/file/', { name: 'one', remote: made.body.prn })).body
    assert.equal(repository.remote, remote)
    assert.equal((await call('GET', `repositories/?remote=${remote}`)).body.count, 1)
    const seen = async () => (await ctx.db.selectFrom('repository').select('last_sync').executeTakeFirstOrThrow()).last_sync
    await ctx.db.updateTable('repository').set({ last_sync: '{}' }).execute()
    await task('PATCH', remote, { password: 'another', url })
    const stored = await ctx.db.selectFrom('remote').select('secrets').executeTakeFirstOrThrow()
    assert.deepEqual(JSON.parse(stored.secrets), { username: 'user', password: 'another' })
    assert.equal(await seen(), '{}')
    await task('PATCH', remote, { policy: 'on_demand' })
    assert.equal(await seen(), null)
    assert.deepEqual((await call('PATCH', remote, { proxy_username: 'x' })).body, {
      non_field_errors: ['proxy credentials cannot be specified without a proxy'],
    })
    assert.deepEqual((await call('PATCH', remote, { url: 'http://u:p@host/' })).body, {
      url: ['The remote url contains username or password. Please use remote username or password instead.'],
    })
    await task('DELETE', remote)
    assert.equal((await call('GET', repository.pulp_href)).body.remote, null)
    assert.deepEqual((await call('POST', `${repository.pulp_href}sync/`, {})).body, {
      remote: ['This field is required since a remote is not set on the repository.'],
    })
  })
})
