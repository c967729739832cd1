import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../../tests/databases.ts'
import { addUser, openPulp } from '../../../../tests/pulp.ts'

const absent = '018df5f0-0000-7000-8000-000000000000'

forEachDatabase((engine, open) => {
  test(`${engine}: a repository is created, read, listed, changed and deleted`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const made = await call('POST', 'repositories/file/file/', { name: 'one', pulp_labels: { a: 'b' } })
    assert.equal(made.status, 201, made.text)
    assert.equal(made.headers['content-type'], 'application/json')
    assert.equal(made.headers['location'], made.body.pulp_href)
    const { pulp_href, prn, pulp_created, pulp_last_updated, ...rest } = made.body
    assert.match(prn, /^prn:file\.filerepository:[0-9a-f-]{36}$/)
    assert.match(pulp_created, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
    assert.equal(pulp_created, pulp_last_updated)
    assert.deepEqual(rest, {
      versions_href: `${pulp_href}versions/`,
      pulp_labels: { a: 'b' },
      latest_version_href: `${pulp_href}versions/0/`,
      name: 'one',
      description: null,
      retain_repo_versions: null,
      remote: null,
      autopublish: false,
      manifest: 'PULP_MANIFEST',
    })
    assert.deepEqual((await call('GET', pulp_href)).body, made.body)
    const { body: page } = await call('GET', 'repositories/file/file/?name=one')
    assert.deepEqual(page, { count: 1, next: null, previous: null, results: [made.body] })

    const done = await task('PATCH', pulp_href, { description: 'changed' })
    assert.equal(done.state, 'completed')
    assert.equal(done.name, 'pulpcore.app.tasks.base.ageneral_update')
    assert.equal(done.worker, null)
    assert.equal(done.reserved_resources_record[0], prn)
    assert.equal((await call('GET', pulp_href)).body.description, 'changed')

    assert.equal((await task('DELETE', pulp_href)).state, 'completed')
    const gone = await call('GET', pulp_href)
    assert.equal(gone.status, 404)
    assert.deepEqual(gone.body, { detail: 'No FileRepository matches the given query.' })
  })

  test(`${engine}: a wrong body is refused in the words of Pulp`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const refused = async (body: unknown, expected: unknown) => {
      const { status, body: answer } = await call('POST', 'repositories/file/file/', body)
      assert.deepEqual([status, answer], [400, expected])
    }
    await refused({}, { name: ['This field is required.'] })
    await refused({ name: null, bogus: 1 }, { name: ['This field may not be null.'] })
    await refused({ name: '  ' }, { name: ['This field may not be blank.'] })
    await refused({ name: ['x'] }, { name: ['Not a valid string.'] })
    await refused({ name: 'x', bogus: 1 }, { bogus: ['Unexpected field'] })
    await refused([1], { non_field_errors: ['Invalid data. Expected a dictionary, but got list.'] })
    await refused(
      { name: 'x', retain_repo_versions: 0, autopublish: 'perhaps', pulp_labels: 'x' },
      {
        retain_repo_versions: ['Ensure this value is greater than or equal to 1.'],
        autopublish: ['Must be a valid boolean.'],
        pulp_labels: ['Expected a dictionary of items but got type "str".'],
      },
    )
    const defaults = { module: 'm', stream: 's', snippet: 'x', profiles: null }
    const { body } = await call('POST', 'content/rpm/modulemd_defaults/', defaults)
    assert.deepEqual(body, { profiles: ['This field may not be null.'] })
    await refused({ name: 'x', remote: 'nonsense' }, { remote: ['Invalid hyperlink - No URL match.'] })
    await refused(
      { name: 'x', remote: `/pulp/api/v3/repositories/file/file/${absent}/` },
      { remote: ['Invalid hyperlink - Incorrect URL match.'] },
    )
    await refused(
      { name: 'x', remote: `/pulp/api/v3/remotes/file/file/${absent}/` },
      { remote: ['Invalid hyperlink - Object does not exist.'] },
    )
    await refused(
      { name: 'x', pulp_labels: { a: 'x,y' } },
      { pulp_labels: ["Key 'a' contains value with comma or parenthesis."] },
    )
    assert.equal((await call('POST', 'repositories/file/file/', { name: 'x' })).status, 201)
    await refused({ name: 'x' }, { name: ['This field must be unique.'] })
    const rpm = await call('POST', 'repositories/rpm/rpm/', { name: 'x' })
    assert.deepEqual(rpm.body, { name: ['This field must be unique.'] })
  })

  test(`${engine}: wrong addresses, methods, media and credentials have their statuses`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const path = 'repositories/file/file/'
    const nowhere = await call('GET', 'nosuch/')
    assert.equal(nowhere.status, 404)
    assert.match(nowhere.headers['content-type'], /^text\/html/)
    assert.deepEqual((await call('GET', `${path}${absent}/`)).body, { detail: 'No FileRepository matches the given query.' })
    assert.deepEqual((await call('GET', `${path}abc/`)).body, { detail: 'Not found.' })
    const put = await call('PUT', path, {})
    assert.equal(put.status, 405)
    assert.deepEqual(put.body, { detail: 'Method "PUT" not allowed.' })
    assert.equal(put.headers['allow'], 'GET, POST, HEAD, OPTIONS')
    const text = await call('POST', path, 'x', { headers: { 'content-type': 'text/plain' } })
    assert.equal(text.status, 415)
    assert.deepEqual(text.body, { detail: 'Unsupported media type "text/plain" in request.' })
    const broken = await call('POST', path, '{"name":', { headers: { 'content-type': 'application/json' } })
    assert.equal(broken.status, 400)
    assert.match(broken.body.detail, /^JSON parse error - /)
    const nobody = await call('GET', path, undefined, { as: null })
    assert.equal(nobody.status, 401)
    assert.equal(nobody.headers['www-authenticate'], 'Basic realm="api"')
    assert.equal(nobody.headers['vary'], 'Accept, Cookie')
    assert.deepEqual(nobody.body, { detail: 'Authentication credentials were not provided.' })
    // Clients send a type without a body: there is nothing to parse.
    assert.equal((await call('GET', path, undefined, { headers: { 'content-type': 'application/json' } })).status, 200)
    const empty = await call('POST', path, '', { headers: { 'content-type': 'application/json' } })
    assert.deepEqual(empty.body, { name: ['This field is required.'] })
  })

  test(`${engine}: the id of a request comes back and is that of its tasks`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const { pulp_href } = (await call('POST', 'repositories/file/file/', { name: 'one' })).body
    const cid = '0123456789abcdef0123456789abcdef'
    const given = await call('PATCH', pulp_href, {}, { headers: { 'correlation-id': cid } })
    assert.equal(given.headers['correlation-id'], cid)
    assert.equal((await call('GET', given.body.task)).body.logging_cid, cid)
    const other = await call('GET', 'status/', undefined, { headers: { 'correlation-id': 'not an id' }, as: null })
    assert.match(other.headers['correlation-id'], /^[0-9a-f]{32}$/)
    assert.equal(other.headers['vary'], 'Accept')
    assert.equal((await task('DELETE', pulp_href)).state, 'completed')
  })

  test(`${engine}: a body may come as JSON, as a form or in parts`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const named = await call(
      'POST',
      'repositories/file/file/',
      'name=a+b%2Fc&description=&retain_repo_versions=&pulp_labels=%7B%22k%22%3A%22v%22%7D',
      { headers: form },
    )
    assert.equal(named.status, 201, named.text)
    assert.deepEqual([named.body.name, named.body.description, named.body.pulp_labels], ['a b/c', null, { k: 'v' }])
    assert.equal((await call('GET', 'repositories/file/file/?name=a%20b%2Fc')).body.count, 1)
    // pulp.squeezer 0.0.13: a disposition of its own, and no line break at the end.
    const parts = [
      '--x',
      'Content-Disposition: file; name="file"; filename="file"',
      'Content-Type: application/octet-stream',
      '',
      'some\r\n--bytes',
      '--x--',
    ].join('\r\n')
    const artifact = await call('POST', 'artifacts/', parts, { headers: { 'content-type': 'multipart/form-data; boundary=x' } })
    assert.equal(artifact.status, 201, artifact.text)
    assert.equal(artifact.body.size, 13)
    const again = await call('POST', 'artifacts/', parts, { headers: { 'content-type': 'multipart/form-data; boundary=x' } })
    assert.deepEqual(again.body, {
      non_field_errors: [`Artifact with sha256 checksum of '${artifact.body.sha256}' already exists.`],
    })
    const cut = await call('POST', 'artifacts/', parts.slice(0, -9), {
      headers: { 'content-type': 'multipart/form-data; boundary=x' },
    })
    assert.equal(cut.status, 400)
  })

  test(`${engine}: who may not see an object does not find it, and who may not change it is told so`, async (t) => {
    const { ctx, call } = await openPulp(t, await open(t))
    const { pulp_href } = (await call('POST', 'repositories/file/file/', { name: 'one' })).body
    await addUser(ctx, 'eve')
    const eve = (method: string, path: string, body?: unknown) => call(method, path, body, { as: 'eve' })
    assert.equal((await eve('GET', 'repositories/file/file/')).body.count, 0)
    assert.equal((await eve('GET', 'repositories/')).body.count, 0)
    assert.equal((await eve('GET', 'repository_versions/')).body.count, 0)
    assert.equal((await eve('GET', 'content/')).body.count, 0)
    for (const [method, path] of [
      ['GET', ''],
      ['PATCH', ''],
      ['DELETE', ''],
      ['POST', 'modify/'],
      ['GET', 'versions/'],
      ['GET', 'list_roles/'],
    ] as const)
      assert.equal((await eve(method, `${pulp_href}${path}`, method === 'GET' ? undefined : {})).status, 404, `${method} ${path}`)
    for (const [method, path] of [
      ['POST', 'repositories/file/file/'],
      ['GET', 'workers/'],
      ['POST', 'orphans/cleanup/'],
      ['POST', 'artifacts/'],
    ] as const)
      assert.equal((await eve(method, path, method === 'GET' ? undefined : {})).status, 403, `${method} ${path}`)

    await call('POST', `${pulp_href}add_role/`, { role: 'file.filerepository_viewer', users: ['eve'] })
    assert.equal((await eve('GET', 'repositories/')).body.count, 1)
    assert.equal((await eve('GET', pulp_href)).status, 200)
    assert.equal((await eve('GET', `${pulp_href}versions/0/`)).status, 200)
    assert.equal((await eve('PATCH', pulp_href, {})).status, 403)
    assert.equal((await eve('DELETE', pulp_href)).status, 403)
    assert.equal((await eve('POST', 'publications/file/file/', { repository: pulp_href })).status, 403)
  })
})
