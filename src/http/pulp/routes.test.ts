import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { openPulp } from '../../../tests/pulp.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: a repository is created, read, listed, changed and deleted`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const made = await call('POST', 'repositories/file/file/', { name: 'one', pulp_labels: { a: 'b' } })
    assert.equal(made.status, 201, made.text)
    assert.equal(made.headers['content-type'], 'application/json')
    assert.equal(made.headers['location'], made.body.pulp_href)
    assert.deepEqual(
      { ...made.body, pulp_href: 0, prn: 0, pulp_created: 0, pulp_last_updated: 0 },
      {
        pulp_href: 0,
        prn: 0,
        pulp_created: 0,
        pulp_last_updated: 0,
        versions_href: `${made.body.pulp_href}versions/`,
        pulp_labels: { a: 'b' },
        latest_version_href: `${made.body.pulp_href}versions/0/`,
        name: 'one',
        description: null,
        retain_repo_versions: null,
        remote: null,
        autopublish: false,
        manifest: 'PULP_MANIFEST',
      },
    )
    assert.deepEqual((await call('GET', made.body.pulp_href)).body, made.body)
    const { body: page } = await call('GET', 'repositories/file/file/?name=one')
    assert.deepEqual(page, { count: 1, next: null, previous: null, results: [made.body] })

    const done = await task('PATCH', made.body.pulp_href, { description: 'changed' })
    assert.equal(done.state, 'completed')
    assert.equal(done.name, 'pulpcore.app.tasks.base.ageneral_update')
    assert.equal((await call('GET', made.body.pulp_href)).body.description, 'changed')

    assert.equal((await task('DELETE', made.body.pulp_href)).state, 'completed')
    const gone = await call('GET', made.body.pulp_href)
    assert.equal(gone.status, 404)
    assert.deepEqual(gone.body, { detail: 'No FileRepository matches the given query.' })
  })
})
