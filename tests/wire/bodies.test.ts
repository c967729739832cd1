import assert from 'node:assert/strict'
import { glob } from 'node:fs/promises'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { openPulp } from '../pulp.ts'

/* What the comparison with a real Pulp (tests/compare-pulp.ts) taught about request bodies. */

const files = 'repositories/file/file/'

forEachDatabase((engine, open) => {
  test(`${engine}: a whole object may be sent back, with what only the server sets`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const { body: made } = await call('POST', files, { name: 'one' })
    assert.equal((await task('PUT', made.pulp_href, { ...made, description: 'new' })).state, 'completed')
    const { body: changed } = await call('GET', made.pulp_href)
    assert.deepEqual([changed.description, changed.prn, changed.pulp_created], ['new', made.prn, made.pulp_created])
    const { body: refused } = await call('PUT', made.pulp_href, { ...made, created: 'x' })
    assert.deepEqual(refused, { created: ['Unexpected field'] })
  })

  test(`${engine}: an empty text where an object may be named names none`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const made = await call('POST', files, { name: 'one', remote: '' })
    assert.deepEqual([made.status, made.body.remote], [201, null])
    const { body: refused } = await call('POST', 'publications/file/file/', { repository: '' })
    assert.deepEqual(refused, { repository: ['This field may not be null.'] })
  })

  test(`${engine}: a body that says nothing, or cannot be read, is refused`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const json = { headers: { 'content-type': 'application/json' } }
    assert.deepEqual((await call('POST', files, 'null', json)).body, { non_field_errors: ['No data provided'] })
    const unbounded = await call('POST', files, 'x', { headers: { 'content-type': 'multipart/form-data' } })
    assert.deepEqual(
      [unbounded.status, unbounded.body],
      [400, { detail: 'Multipart form parse error - Invalid boundary in multipart: None' }],
    )
  })

  test(`${engine}: a remote of another format is named in the refusal`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: remote } = await call('POST', 'remotes/rpm/rpm/', { name: 'rpms', url: 'http://localhost/' })
    const expected = { remote: ["Type for Remote 'rpms' does not match Repository."] }
    assert.deepEqual((await call('POST', files, { name: 'one', remote: remote.pulp_href })).body, expected)
    const { body: repository } = await call('POST', files, { name: 'one' })
    assert.deepEqual((await call('PATCH', repository.pulp_href, { remote: remote.prn })).body, expected)
  })

  test(`${engine}: content does not go into a repository of another format`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: repository } = await call('POST', 'repositories/rpm/rpm/', { name: 'rpms' })
    const body = { relative_path: 'a', file_url: 'http://localhost/a', repository: repository.pulp_href }
    const { status, body: answer } = await call('POST', 'content/file/files/', body)
    assert.deepEqual([status, answer], [400, { non_field_errors: ['Content is not supported by this repository.'] }])
  })

  test(`${engine}: the key of a label is made of letters of any script, digits, underscores and spaces`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const made = await call('POST', files, { name: 'one', pulp_labels: { 'größe 1_a': 'x' } })
    assert.equal(made.status, 201, made.text)
    assert.equal((await call('GET', `${files}?pulp_label_select=${encodeURIComponent('größe 1_a=x')}`)).body.count, 1)
    for (const key of ['', 'a-b', 'a.b'])
      assert.deepEqual((await call('POST', files, { name: 'two', pulp_labels: { [key]: 'x' } })).body, {
        pulp_labels: [`Key '${key}' contains non-alphanumerics.`],
      })
  })

  test(`${engine}: unknown fields are no error where Pulp does not look for them`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const user = await call('POST', 'users/', { username: 'ann', is_superuser: true, bogus: 1 })
    assert.equal(user.status, 201, user.text)
    assert.equal((await call('PATCH', user.body.pulp_href, { bogus: 1 })).status, 200)
    const { body: repository } = await call('POST', files, { name: 'one' })
    const label = await call('POST', `${repository.pulp_href}set_label/`, { key: 'a', value: 'b', bogus: 1 })
    assert.deepEqual([label.status, label.body], [201, { key: 'a', value: 'b' }])
    assert.equal((await call('POST', 'orphans/cleanup/', { bogus: 1 })).status, 202)
    assert.equal((await call('POST', 'tasks/purge/', { bogus: 1 })).status, 202)
    assert.deepEqual((await call('POST', `${repository.pulp_href}modify/`, { bogus: 1 })).body, { bogus: ['Unexpected field'] })
  })

  test(`${engine}: a distribution is told of a taken name and a taken path at once`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    await task('POST', 'distributions/file/file/', { name: 'one', base_path: 'a/b' })
    assert.deepEqual((await call('POST', 'distributions/file/file/', { name: 'one', base_path: 'a/b' })).body, {
      base_path: ['This field must be unique.'],
      name: ['This field must be unique.'],
    })
    assert.deepEqual((await call('POST', 'distributions/file/file/', { name: 'one', base_path: 'a' })).body, {
      base_path: { base_path: "Overlaps with existing distribution 'one'" },
      name: ['This field must be unique.'],
    })
  })

  test(`${engine}: what would keep the server busy, or cannot be stored, is refused`, async (t) => {
    const { ctx, call } = await openPulp(t, await open(t))
    const json = { headers: { 'content-type': 'application/json' } }
    const form = (count: number, name: string, more = '') => ({
      body: `${`--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\nx\r\n`.repeat(count)}--b--\r\n`,
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
    })
    const status = async (path: string, body: string, options: { headers: Record<string, string> } = json) => {
      const from = process.cpuUsage()
      const answer = await call('POST', path, body, options)
      const { user, system } = process.cpuUsage(from)
      assert.ok(user + system < 5_000_000, `${user + system} µs for ${path} ${body.slice(0, 60)}`)
      return answer.status
    }
    const deep = '['.repeat(100_000) + ']'.repeat(100_000)
    assert.equal(await status('rpm/copy/', `{"config":${deep}}`), 400)
    assert.equal(await status(files, `{"name":"${'x'.repeat(17_000_000)}"}`), 400)
    for (const name of ['a\\u0000', '\\ud800', '\\udc00x']) {
      assert.equal(await status(files, `{"name":"${name}"}`), 400, name)
      assert.equal(
        await status('remotes/file/file/', `{"name":"a","url":"http://localhost/","headers":[{"${name}":"${name}"}]}`),
        400,
        name,
      )
    }
    assert.equal(await status(files, '{"name":"\\\\u0000 and \\ud83d\\ude00"}'), 201)
    const encoded = { headers: { 'content-type': 'application/x-www-form-urlencoded' } }
    assert.equal(await status(files, 'name=a&'.repeat(500_000), encoded), 201)
    assert.equal(await status(files, 'constructor=1&__proto__=2&__proto__=3&name=b', encoded), 400)
    const many = form(20_000, 'name')
    assert.equal(await status(files, many.body, many), 400)
    // A file that comes twice is one too many, and neither stays.
    const twice = form(2, 'file', '; filename="f"')
    assert.equal(await status('artifacts/', twice.body, twice), 400)
    assert.deepEqual(await Array.fromAsync(glob(`${ctx.config.dataDirectory}/blobs/tmp/*`)), [])
    for (const query of ['number=1.5', 'number=1e300', 'number__gt=99999999999999999999', 'number=0x1p3', 'number=NaN'])
      assert.equal((await call('GET', `repository_versions/?${query}`)).status, 400, query)
    for (const query of [
      'orphaned_for=1e300',
      'orphaned_for=-1e300',
      'limit=1000000000&offset=999999999999',
      'repository_version=x%22',
    ])
      assert.ok([200, 400].includes((await call('GET', `content/?${query}`)).status), query)
    for (const q of ['('.repeat(15_000), 'NOT '.repeat(3_700), `${'(NOT '.repeat(60)}name=a${')'.repeat(60)}`])
      assert.equal((await call('GET', `${files}?q=${encodeURIComponent(q)}`)).status, 400)
    assert.equal((await call('GET', 'users/999999999999999/')).status, 404)
    assert.equal((await call('GET', 'groups/999999999999999/')).status, 404)
  })

  test(`${engine}: what is wrong with a copy is said in the words of Pulp's schema`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: repository } = await call('POST', 'repositories/rpm/rpm/', { name: 'one' })
    const copy = { source_repo_version: `${repository.pulp_href}versions/0/`, dest_repo: repository.pulp_href }
    const refused = async (config: unknown, problem: string) => {
      const { body } = await call('POST', 'rpm/copy/', { config })
      assert.deepEqual(body, { non_field_errors: [`Provided copy criteria is invalid:'[${problem}]'`] })
    }
    await refused('x', `"'x' is not of type 'array'"`)
    await refused([], "'[] should be non-empty'")
    await refused([{ ...copy, dest_base_version: 'x' }], `"'x' is not of type 'integer'"`)
  })
})
