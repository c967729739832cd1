import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { openPulp } from '../pulp.ts'

/* What the comparison with a real Pulp (tests/compare-pulp.ts) taught about queries. */

const files = 'repositories/file/file/'

forEachDatabase((engine, open) => {
  test(`${engine}: nothing is more than anything, and of two orders the last counts`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    for (const [name, retain_repo_versions] of Object.entries({ a: null, b: 2, c: 1 }))
      await call('POST', files, { name, retain_repo_versions })
    const names = async (query: string) => {
      const { body } = await call('GET', `${files}?${query}`)
      return body.results.map(({ name }: { name: string }) => name).join('')
    }
    assert.equal(await names('ordering=retain_repo_versions'), 'cba')
    assert.equal(await names('ordering=-retain_repo_versions'), 'abc')
    assert.equal(await names('ordering=name&ordering=-name'), 'cba')
    assert.equal(await names('ordering=retain_repo_versions,name&ordering='), 'cba', 'newest first')
    for (const yes of ['true', 'True', 'TRUE', '1']) assert.equal(await names(`retain_repo_versions__isnull=${yes}`), 'a')
    for (const no of ['false', 'False', '0']) assert.equal(await names(`retain_repo_versions__isnull=${no}&ordering=name`), 'bc')
  })

  test(`${engine}: a look at one item refuses what is no filter of its list`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: repository } = await call('POST', files, { name: 'one' })
    const { status, body } = await call('GET', `${repository.pulp_href}?nosuch=1&fields=name`)
    assert.deepEqual([status, body], [400, { errors: ["Invalid Filter: 'nosuch'"] }])
    assert.deepEqual((await call('GET', `${repository.pulp_href}?fields=name`)).body, { name: 'one' })
  })

  test(`${engine}: without a name and a password, an answer varies by the session too`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const vary = async (authorization?: string) => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
      const answer = await call('GET', files, undefined, { as: null, headers })
      return [answer.status, answer.headers['vary']]
    }
    assert.deepEqual(await vary(), [401, 'Accept, Cookie'])
    assert.deepEqual(await vary('Bearer abc'), [401, 'Accept, Cookie'])
    assert.deepEqual(await vary('Basic'), [401, 'Accept'])
    assert.deepEqual(await vary('Basic YWJj'), [401, 'Accept'])
  })

  test(`${engine}: what is no content of a modify request is said to be missing`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: repository } = await call('POST', files, { name: 'one' })
    const modify = async (unit: string) =>
      (await call('POST', `${repository.pulp_href}modify/`, { add_content_units: [unit] })).body.add_content_units
    assert.deepEqual(await modify(repository.pulp_href), [
      `Could not find the following content units: ['${repository.pulp_href}']`,
    ])
    assert.deepEqual(await modify('x'), ['URI not valid: x'])
  })
})
