import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { openPulp, work } from '../../../tests/pulp.ts'

forEachDatabase((engine, open) => {
  test(`${engine}: tasks are found by what they hold, what they made and how they are`, async (t) => {
    const { ctx, call } = await openPulp(t, await open(t))
    const repository = (await call('POST', 'repositories/file/file/', { name: 'one' })).body
    const publishing = (await call('POST', 'publications/file/file/', { repository: repository.pulp_href })).body.task
    const count = async (query: string) => {
      const { status, body, text } = await call('GET', `tasks/?${query}`)
      assert.equal(status, 200, text)
      return body.count
    }
    assert.equal(await count('state=waiting'), 1)
    assert.equal(await count('state__in=waiting,running&worker__isnull=true'), 1)
    await work(ctx)
    const done = (await call('GET', publishing)).body
    const [made] = done.created_resources
    assert.equal(done.created_by, '/pulp/api/v3/users/1/')
    assert.deepEqual(done.reserved_resources_record.slice(0, 1), [`shared:${repository.prn}`])
    assert.equal(await count('state__ne=completed'), 0)
    assert.equal(await count(`created_resources=${made}`), 1)
    assert.equal(await count(`reserved_resources=${repository.pulp_href}`), 1)
    assert.equal(await count(`reserved_resources__in=${repository.prn}`), 1)
    assert.equal(await count(`shared_resources=${repository.prn}`), 1)
    assert.equal(await count(`exclusive_resources=${repository.pulp_href}`), 0)
    assert.equal(await count('name__contains=publish&finished_at__isnull=false'), 1)
    assert.equal(await count('started_at__gt=2999-01-01'), 0)
    assert.equal(await count(`parent_task=${publishing}`), 0)
    const minimal = (await call('GET', 'tasks/?minimal=true')).body.results[0]
    assert.deepEqual(Object.keys(minimal).sort(), [
      'finished_at',
      'name',
      'prn',
      'pulp_created',
      'pulp_href',
      'pulp_last_updated',
      'started_at',
      'state',
      'unblocked_at',
      'worker', // biome-ignore format: a list
    ])
    assert.deepEqual((await call('GET', 'tasks/?state=nonsense')).body, {
      state: ['Select a valid choice. nonsense is not one of the available choices.'],
    })
    assert.equal((await call('DELETE', made)).status, 204)
    assert.deepEqual((await call('GET', publishing)).body.created_resources, [made])
  })

  test(`${engine}: a waiting task is canceled, a finished one is not, and both can be forgotten`, async (t) => {
    const { ctx, call } = await openPulp(t, await open(t))
    const first = (await call('POST', 'repair/', {})).body.task
    assert.deepEqual((await call('PATCH', first, { state: 'x' })).body, {
      state: ["The only acceptable value for 'state' is 'canceled'."],
    })
    const busy = await call('DELETE', first)
    assert.equal(busy.status, 409)
    const canceled = await call('PATCH', first, { state: 'canceled' })
    assert.equal(canceled.status, 200)
    assert.equal(canceled.body.state, 'canceled')
    const again = await call('PATCH', first, { state: 'canceled' })
    assert.equal(again.status, 409)
    assert.equal(again.body.pulp_href, first)
    assert.equal((await call('DELETE', first)).status, 204)
    assert.equal((await call('GET', first)).status, 404)
    const second = (await call('POST', 'orphans/cleanup/', { orphan_protection_time: 0 })).body.task
    await work(ctx)
    assert.equal((await call('GET', second)).body.state, 'completed')
    const purge = await call('POST', 'tasks/purge/', { states: ['running'] })
    assert.equal(purge.status, 400)
    await call('POST', 'tasks/purge/', { finished_before: '2999-01-01', states: ['completed'] })
    await work(ctx)
    assert.equal((await call('GET', second)).status, 404)
  })
})
