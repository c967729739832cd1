import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { type Api, connect } from '../../src/api/client.ts'
import type { Distribution, Group, Repository, User } from '../../src/api/resources.ts'
import { openDemoUpstream } from '../../src/cli/demo-upstream.ts'
import { serve } from '../../src/serve.ts'
import { runCli } from '../command-line.ts'
import { forEachDatabase } from '../databases.ts'
import { listen } from '../serving.ts'
import { temporaryDirectory } from './run.ts'

const password = 'a password for tests'

/** A server, an upstream of rpms and one of files, a train over both, and the command line that works on it. */
async function openTrain(t: TestContext, database: string) {
  const directory = await temporaryDirectory(t)
  const server = await serve({
    data: join(directory, 'var'),
    host: '127.0.0.1',
    port: 0,
    database,
    adminPassword: password,
    logLevel: 'silent',
  })
  t.after(() => server.close())
  const bells = await openDemoUpstream(0, 1)
  t.after(() => bells[Symbol.asyncDispose]())
  const scores = { body: 'a score\n' }
  const files = await listen(t, (request, response) => {
    const digest = createHash('sha256').update(scores.body).digest('hex')
    if (request.url === '/scores/PULP_MANIFEST') response.end(`score.txt,${digest},${scores.body.length}\n`)
    else if (request.url === '/scores/score.txt') response.end(scores.body)
    else response.writeHead(404).end()
  })
  const config = join(directory, 'train.yaml')
  await writeFile(
    config,
    `train: tower
server: ${server.url}
repositories:
  bells: { rpm: "http://127.0.0.1:${bells.port}/bells/", path: tower/bells, group: metal }
  scores: { file: "${files}/scores/PULP_MANIFEST", path: tower/scores }
  gone: { rpm: "http://127.0.0.1:${bells.port}/nothing/", path: tower/gone }
lines:
  demo: { repositories: [bells, scores] }
`,
  )
  const api = connect({ url: server.url, username: 'admin', password })
  const cli = (...words: string[]) => runCli([...words, '--config', config], { SIGNALBOX_PASSWORD: password })
  const json = async (...words: string[]) => JSON.parse((await cli(...words, '--json')).out)
  return { api, bells, scores, cli, json, config, pins: join(directory, 'pins/demo.yaml') }
}

async function addUser(api: Api, username: string, group: string): Promise<void> {
  await api.create('users/', { username, password })
  const found = await api.find<Group>('groups/', { name: group })
  await api.post(`${found!.pulp_href}users/`, { username })
}

/** The status with which a path is answered to a user. */
async function look(api: Api, path: string, username?: string): Promise<number> {
  const headers =
    username === undefined ? {} : { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  const response = await fetch(`${api.url}/pulp/content/${path}`, { headers })
  await response.body?.cancel()
  return response.status
}

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: a train from its declaration to a released snapshot`, { timeout: 240_000 }, async (t) => {
    const { api, bells, scores, cli, json, config, pins } = await openTrain(t, await makeDatabase(t))

    await t.test('apply shows what it would do, does it, and has nothing to do then', async () => {
      const dry = await cli('apply', '--dry-run')
      assert.equal(dry.code, 0)
      assert.match(dry.out, /\+ {3}guard +development/)
      assert.match(dry.out, /13 changes would be applied\.\n$/)
      assert.equal(await api.find('groups/', { name: 'clients' }), undefined)
      assert.match((await cli('apply')).out, /✓ 13 changes applied to http/)
      const again = await cli('apply', '--check')
      assert.deepEqual([again.code, again.out], [3, 'Nothing to do: the server matches the train.\n'])
    })

    await t.test('apply mends what was changed by hand, and tells what it leaves alone', async () => {
      const { pulp_href } = (await api.find<Repository>('repositories/rpm/rpm/', { name: 'bells' }))!
      await api.update(pulp_href, { retain_package_versions: 3 })
      const stray = { name: 'stray', pulp_labels: { train: 'tower' } }
      await api.create('repositories/rpm/rpm/', stray)
      const plan = await json('apply')
      assert.deepEqual(plan.steps, [
        { act: 'change', what: 'repository', name: 'bells', changes: [{ field: 'retain_package_versions', from: '3', to: '0' }] },
      ])
      assert.equal(plan.applied, 1)
      assert.match(plan.drift[0], /^rpm repository stray is no longer in /)
    })
    await addUser(api, 'client', 'clients')
    await addUser(api, 'tester', 'testers')

    const first: Record<string, string> = {}
    await t.test('a sync makes a snapshot of each repository; the one that fails does not stop the others', async () => {
      const { code, out } = await cli('sync', '--json', '--retries', '0')
      assert.equal(code, 1)
      const outcomes = JSON.parse(out).repositories as {
        repository: string
        state: string
        stamp?: string
        path?: string
        changes?: Record<string, unknown>
        reason?: string
      }[]
      const reasons = outcomes.map(({ repository, reason }) => `${repository}: ${reason}`).join('\n')
      assert.deepEqual(
        outcomes.map(({ repository, state }) => `${repository} ${state}`),
        ['bells new', 'scores new', 'gone failed'],
        reasons,
      )
      for (const { repository, stamp } of outcomes) if (stamp) first[repository] = stamp
      assert.equal(outcomes[0]!.changes!['added'], 9)
      assert.equal(outcomes[1]!.path, `tower/scores/${first['scores']}`)
      const text = await cli('sync', 'gone', '--retries', '0')
      assert.match(
        text.out,
        /^ {2}gone {3}✗ .+; it has no snapshot yet\n0 of 1 done, 1 failed\.\nTry again: signalbox sync gone\n$/,
      )
      assert.match(
        (await cli('status')).out,
        /failing\n {2}✗ gone +since today .+\nTry again: signalbox sync gone\n\ndisk {3}.+ free\n$/,
      )
    })

    await t.test('a stamp is the time at which its version was synced', async () => {
      const { latest_version_href } = (await api.find<Repository>('repositories/rpm/rpm/', { name: 'bells' }))!
      const { pulp_created } = await api.get<{ pulp_created: string }>(latest_version_href!)
      assert.equal(first['bells'], pulp_created.slice(0, 19).replace(/[-:]/g, ''))
    })

    await t.test('what is unchanged gets no new snapshot', async () => {
      const { code, out } = await cli('sync', 'bells', 'scores')
      assert.equal(code, 0)
      assert.match(out, new RegExp(`bells +✓ unchanged +${first['bells']}\n`))
      assert.equal((await Array.fromAsync(api.list('distributions/rpm/rpm/'))).length, 1)
    })

    await t.test('a snapshot is for testers only', async () => {
      const path = `tower/bells/${first['bells']}/repodata/repomd.xml`
      assert.deepEqual([await look(api, path, 'tester'), await look(api, path, 'client')], [200, 403])
      assert.ok((await look(api, path)) >= 401)
      assert.equal(await look(api, `tower/scores/${first['scores']}/score.txt`, 'tester'), 200)
    })

    await t.test('a pin is written and keeps what people wrote', async () => {
      assert.equal((await cli('pin', '--check')).code, 0)
      assert.match((await cli('pin')).out, /2 pins written to /)
      await writeFile(pins, (await readFile(pins, 'utf8')).replace('  bells', '  # loud\n  bells'))
      assert.equal((await cli('pin', '--check')).code, 3)
      assert.match(await readFile(pins, 'utf8'), /# loud\n {2}bells: \d{8}T\d{6}\n {2}scores: /)
    })

    await t.test('a pin without a snapshot is refused with the nearest one, and nothing is promoted', async () => {
      const right = await readFile(pins, 'utf8')
      await writeFile(pins, right.replace(first['bells']!, '20200101T000000'))
      const { code, err } = await cli('promote')
      assert.equal(code, 1)
      assert.match(
        err,
        new RegExp(
          `bells: no snapshot 20200101T000000 \\(nearest: ${first['bells']}\\)\\. Run "signalbox sync bells" or pin the nearest\\.\nNothing changed\\.`,
        ),
      )
      assert.equal(await look(api, `tower/scores/${first['scores']}/score.txt`, 'client'), 403)
      await writeFile(pins, right)
    })

    await t.test('promoting releases all pins of the line at once, at the same paths', async () => {
      const dry = await cli('promote', 'demo', '--dry-run')
      assert.match(dry.out, /2 repositories would be promoted to release\.\n$/)
      assert.equal(await look(api, `tower/scores/${first['scores']}/score.txt`, 'client'), 403)
      assert.match((await cli('promote', 'demo', '--to', 'release')).out, /✓ 2 repositories → release {3}/)
      assert.equal(await look(api, `tower/scores/${first['scores']}/score.txt`, 'client'), 200)
      assert.equal(await look(api, `tower/bells/${first['bells']}/repodata/repomd.xml`, 'client'), 200)
      assert.equal((await cli('promote', '--check')).code, 3)
    })

    await t.test('the next night is a snapshot of its own; what is released stays as it is', async () => {
      bells.become(2)
      scores.body = 'another score\n'
      const { repositories } = await json('sync', 'bells', 'scores')
      assert.deepEqual(
        [repositories[0].changes.added, repositories[0].changes.upgraded, repositories[0].changes.removed],
        [1, 1, 0],
      )
      assert.notEqual(repositories[0].stamp, first['bells'])
      assert.equal(await look(api, `${repositories[0].path}/packages/bell-1.1-1.noarch.rpm`, 'client'), 403)
      assert.equal(await look(api, `${repositories[0].path}/packages/bell-1.1-1.noarch.rpm`, 'tester'), 200)
      assert.equal(await look(api, `tower/bells/${first['bells']}/packages/bell-1.0-1.noarch.rpm`, 'client'), 200)
      const { lines } = await json('status')
      assert.deepEqual([lines[0].behind, lines[0].waiting], [2, ['pin of 2 repositories']])
    })

    await t.test('whoever may not change the distributions may not promote them', async () => {
      const [distribution] = await Array.fromAsync(api.list<Distribution>('distributions/rpm/rpm/'))
      const client = connect({ url: api.url, username: 'client', password })
      const body = { distributions: [distribution!.pulp_href], guard: distribution!.content_guard }
      // To those who may not see the guard there is none.
      await assert.rejects(client.post('signalbox/promotions/', body), { code: 'invalid', message: /^guard: Invalid hyperlink/ })
      const user = await api.find<User>('users/', { username: 'client' })
      for (const role of ['core.rbaccontentguard_viewer', 'rpm.rpmdistribution_viewer'])
        await api.post(`${user!.pulp_href}roles/`, { role, content_object: null })
      await assert.rejects(client.post('signalbox/promotions/', body), { code: 'denied' })
      await assert.rejects(connect({ url: api.url, username: 'nobody', password }).post('signalbox/promotions/', body), {
        code: 'denied',
      })
      await assert.rejects(api.post('signalbox/promotions/', { ...body, distributions: ['nonesuch'] }), {
        code: 'invalid',
        message: 'distributions: There is no distribution nonesuch.',
      })
      await assert.rejects(api.post('signalbox/promotions/', { ...body, distributions: [] }), { code: 'invalid' })
      const byName = { ...body, distributions: [distribution!.name, distribution!.prn] }
      const unchanged = { guard: body.guard, promoted: 0, unchanged: 1, images: [], untagged: 0 }
      assert.deepEqual(await api.post('signalbox/promotions/', byName), unchanged)
    })

    await t.test('the train must be applied before it is synced', async () => {
      await writeFile(
        config,
        (await readFile(config, 'utf8')).replace('lines:', '  new: { rpm: "http://127.0.0.1:9/", path: new }\nlines:'),
      )
      const { code, out } = await cli('sync', 'new')
      assert.equal(code, 1)
      assert.match(out, /has no rpm repository new yet; run "signalbox apply"; it has no snapshot yet/)
    })
  })
})
