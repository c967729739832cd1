import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { forEachDatabase, type OpenTestDatabase } from '../../../tests/databases.ts'
import { addUser, openPulp } from '../../../tests/pulp.ts'
import { findSession, openSession, sessionSeconds } from '../../core/access/sessions.ts'
import { now } from '../../lib/time.ts'

/* Sessions over HTTP. Answers and texts are those of a real Pulp 3.81. */

const alice = { pulp_href: '/pulp/api/v3/users/2/', prn: 'prn:auth.user:2', username: 'alice' }
const nobody = [401, { detail: 'Authentication credentials were not provided.' }]
const refusal = (reason: string) => [403, { detail: `CSRF Failed: ${reason}` }]

forEachDatabase((engine, open) => {
  test(`${engine}: a session stands for a user until it is ended`, async (t) => {
    const { login, by, session, meant } = await start(t, open)
    const { status, body, headers } = await login()
    assert.deepEqual([status, body, headers['location'], headers['vary']], [201, alice, alice.pulp_href, 'Accept, Cookie'])
    assert.deepEqual(await by(session(), 'GET', 'login/'), [200, alice])
    // What its user may not do, a session may not.
    assert.equal((await by(session(), 'GET', 'users/'))[0], 403)
    assert.deepEqual(await by({ cookie: 'sessionid=nonsense' }, 'GET', 'login/'), nobody)
    const ended = session()
    assert.deepEqual(await by(meant(), 'DELETE', 'login/'), [204, undefined])
    assert.deepEqual(await by(ended, 'GET', 'login/'), nobody)
  })

  test(`${engine}: scripts cannot read the session, and other sites cannot send it`, async (t) => {
    const { login, cookies } = await start(t, open)
    await login()
    const [csrf, session] = cookies()
    assert.match(session!, /^sessionid=[\w-]{43}; HttpOnly; Max-Age=1209600; Path=\/; SameSite=Strict$/)
    assert.match(csrf!, /^csrftoken=[\w-]{32}; Max-Age=1209600; Path=\/; SameSite=Strict$/)
  })

  test(`${engine}: a session changes nothing without proof that its user means it`, async (t) => {
    const { pulp, login, by, session, meant } = await start(t, open)
    await login()
    const create = (headers: Record<string, string>) => by(headers, 'POST', 'groups/', { name: 'g' })
    const withCookie = meant()
    const { 'x-csrftoken': token } = withCookie
    assert.deepEqual(await create(session()), refusal('CSRF cookie not set.'))
    assert.deepEqual(await create({ ...session(), 'x-csrftoken': token! }), refusal('CSRF cookie not set.'))
    assert.deepEqual(await create({ cookie: withCookie.cookie! }), refusal('CSRF token missing.'))
    const wrong = refusal("CSRF token from the 'X-Csrftoken' HTTP header incorrect.")
    for (const guess of ['x', 'x'.repeat(32)]) assert.deepEqual(await create({ ...withCookie, 'x-csrftoken': guess }), wrong)
    // A pair that fits itself is not enough: it must be of this session.
    const planted = { cookie: `${session().cookie}; csrftoken=${'x'.repeat(32)}`, 'x-csrftoken': 'x'.repeat(32) }
    assert.deepEqual(await create(planted), wrong)
    const origin = 'http://other.example'
    assert.deepEqual(
      await create({ ...withCookie, origin }),
      refusal(`Origin checking failed - ${origin} does not match any trusted origins.`),
    )
    assert.equal((await pulp.call('GET', 'groups/')).body.count, 0)
    // She may not, but she means it.
    assert.deepEqual(await create(withCookie), [403, { detail: 'You do not have permission to perform this action.' }])
    assert.equal((await create({ ...withCookie, origin: 'http://localhost:80' }))[1].detail.startsWith('You do not'), true)
  })

  test(`${engine}: a name and a password count more than a session`, async (t) => {
    const { pulp, login, by, session } = await start(t, open)
    await login()
    const wrong = { ...session(), authorization: `Basic ${btoa('alice:wrong')}` }
    assert.deepEqual(await by(wrong, 'GET', 'login/'), [401, { detail: 'Invalid username/password.' }])
    assert.deepEqual(await by({ ...session(), authorization: 'Bearer x' }, 'GET', 'login/'), [200, alice])
    const made = await pulp.call('POST', 'groups/', { name: 'g' }, { headers: { ...session(), origin: 'http://other.example' } })
    assert.equal(made.status, 201)
  })

  test(`${engine}: what a page of another site starts changes nothing, even with the right password`, async (t) => {
    const { pulp } = await start(t, open)
    const create = async (name: string, site: string) =>
      (await pulp.call('POST', 'groups/', { name }, { headers: { 'sec-fetch-site': site } })).status
    const sites = ['cross-site', 'same-site', 'same-origin', 'none']
    assert.deepEqual(await Promise.all(sites.map((site) => create(site, site))), [403, 403, 201, 201])
    const read = await pulp.call('GET', 'groups/', undefined, { headers: { 'sec-fetch-site': 'cross-site' } })
    assert.deepEqual([read.status, read.body.count], [200, 2])
  })

  for (const [what, change] of [
    ['a new password', { password: 'another long password' }],
    ['being disabled', { is_active: false }],
  ] as const)
    test(`${engine}: ${what} ends a user's sessions`, async (t) => {
      const { pulp, login, by, session } = await start(t, open)
      await login()
      await pulp.call('PATCH', 'users/2/', change)
      assert.deepEqual(await by(session(), 'GET', 'login/'), nobody)
    })

  test(`${engine}: a session ends with its user, and after two weeks`, async (t) => {
    const { pulp } = await start(t, open)
    const { db } = pulp.ctx
    const at = now()
    const later = (seconds: number) => at + seconds * 1_000_000
    const old = await openSession(db, { id: 2 }, at)
    assert.equal((await findSession(db, old, later(sessionSeconds - 1)))?.username, 'alice')
    assert.equal(await findSession(db, old, later(sessionSeconds)), undefined)
    const fresh = await openSession(db, { id: 2 }, later(sessionSeconds))
    assert.equal((await db.selectFrom('session').select('digest').execute()).length, 1, 'old ones are cleared away')
    await pulp.call('DELETE', 'users/2/')
    assert.equal(await findSession(db, fresh, at), undefined)
    assert.equal((await db.selectFrom('session').select('digest').execute()).length, 0)
  })

  test(`${engine}: the database does not hold what a session's cookie says`, async (t) => {
    const { pulp, login, session } = await start(t, open)
    await login()
    const stored = JSON.stringify(await pulp.ctx.db.selectFrom('session').selectAll().execute())
    assert.ok(!stored.includes(session().cookie!.split('=')[1]!))
  })
})

/** A server and alice's browser. */
async function start(t: TestContext, open: OpenTestDatabase) {
  const pulp = await openPulp(t, await open(t))
  await addUser(pulp.ctx, 'alice')
  let cookies: string[] = []
  const value = (name: string) => cookies.map((cookie) => cookie.split(';')[0]!).find((pair) => pair.startsWith(`${name}=`))!
  const session = (): Record<string, string> => ({ cookie: value('sessionid') })
  return {
    pulp,
    cookies: () => cookies,
    session,
    meant: (): Record<string, string> => ({
      cookie: `${value('sessionid')}; ${value('csrftoken')}`,
      'x-csrftoken': value('csrftoken').split('=')[1]!,
    }),
    async login() {
      const answer = await pulp.call('POST', 'login/', undefined, { as: 'alice' })
      cookies = answer.headers['set-cookie']
      return answer
    },
    async by(headers: Record<string, string>, method: string, path: string, body?: unknown): Promise<[number, any]> {
      const answer = await pulp.call(method, path, body, { as: null, headers })
      return [answer.status, answer.body]
    },
  }
}
