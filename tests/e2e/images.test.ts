import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { type Api, connect } from '../../src/api/client.ts'
import { connectRegistry } from '../../src/api/registry.ts'
import type { ContainerDistribution, Group, Repository, User } from '../../src/api/resources.ts'
import { makeDemoImage } from '../../src/cli/demo-image.ts'
import { openDemoUpstream } from '../../src/cli/demo-upstream.ts'
import { serve } from '../../src/serve.ts'
import { runCli } from '../command-line.ts'
import { forEachDatabase } from '../databases.ts'
import { missing, run, temporaryDirectory } from './run.ts'

const password = 'a password for tests'
const [t1, t2, t3] = ['20261101T020000', '20261102T020000', '20261103T020000'] as const
const created = '2026-11-01T02:00:00Z'

/** A server, an upstream of packages, and a train that has images beside them. */
async function openTrain(t: TestContext, database: string) {
  const directory = await temporaryDirectory(t)
  const options = {
    data: join(directory, 'var'),
    host: '127.0.0.1',
    port: 0,
    database,
    adminPassword: password,
    logLevel: 'silent',
  }
  const server = await serve(options)
  t.after(() => server.close())
  const bells = await openDemoUpstream(0, 1)
  t.after(() => bells[Symbol.asyncDispose]())
  const config = join(directory, 'train.yaml')
  await writeFile(
    config,
    `train: tower
server: ${server.url}
repositories:
  bells: { rpm: "http://127.0.0.1:${bells.port}/bells/", path: tower/bells }
images:
  registry: [nova-api, nova-compute, cron]
  development: x-dev
  release: x
  map: kolla
  distributions: [rocky-9, ubuntu-jammy]
lines:
  "2024.1": { repositories: [bells], images: rocky-9 }
`,
  )
  const api = connect({ url: server.url, username: 'admin', password })
  const cli = (...words: string[]) => runCli([...words, '--config', config], { SIGNALBOX_PASSWORD: password })
  const json = async (...words: string[]) => JSON.parse((await cli(...words, '--json')).out)
  const as = (username: string) => connectRegistry({ url: server.url, username, password })
  return { api, cli, json, as, url: server.url, directory, pins: join(directory, 'pins/2024.1.yaml') }
}

async function addUser(api: Api, username: string, group: string): Promise<void> {
  await api.create<User>('users/', { username, password })
  const found = await api.find<Group>('groups/', { name: group })
  await api.post(`${found!.pulp_href}users/`, { username })
}

const rocky = (stamp: string) => `2024.1-rocky-9-${stamp}`
const denied = { name: 'Failure', code: /denied|not_found/ } as const

forEachDatabase((engine, _, makeDatabase) => {
  test(`${engine}: images are built, pinned and promoted with the packages of their line`, { timeout: 240_000 }, async (t) => {
    const { api, cli, json, as, url, directory, pins } = await openTrain(t, await makeDatabase(t))
    const push = (image: string, stamp: string, line = `${image} ${stamp}`) =>
      as('builder').push(`x-dev/${image}`, rocky(stamp), makeDemoImage(line, created))
    const refused = (promise: Promise<unknown>) =>
      assert.rejects(promise, (error: Error & { code?: string }) => denied.code.test(error.code ?? ''))
    const look = async () => {
      const found: Record<string, string> = {}
      for await (const { name, latest_version_href } of api.list<Repository>('repositories/container/container/'))
        found[name] = latest_version_href!
      for await (const { name, content_guard } of api.list<{ name: string; content_guard: string }>('distributions/rpm/rpm/'))
        found[name] = content_guard
      return found
    }

    await t.test('apply makes namespaces, roles, and where promotions go; then there is nothing to do', async () => {
      const { steps } = await json('apply', '--dry-run')
      const of = (what: string) => steps.filter((step: { what: string }) => step.what === what).map((step: any) => step.name)
      assert.deepEqual(of('image'), ['x/nova-api', 'x/nova-compute', 'x/cron'])
      assert.match((await cli('apply')).out, /\+ +namespace +x-dev +group builders may push\n/)
      assert.equal((await cli('apply', '--check')).code, 3)
      for await (const each of api.list<ContainerDistribution>('distributions/container/container/'))
        assert.equal(each.private, true)
    })
    for (const [user, group] of [
      ['client', 'clients'],
      ['tester', 'testers'],
      ['builder', 'builders'],
    ] as const)
      await addUser(api, user, group)

    await t.test('builders push to development and nowhere else; testers pull there, clients do not', async () => {
      for (const image of ['nova-api', 'nova-compute', 'cron']) await push(image, t1)
      await refused(as('tester').push('x-dev/nova-api', rocky(t3), makeDemoImage('x', created)))
      await refused(as('builder').push('x/nova-api', rocky(t3), makeDemoImage('x', created)))
      await refused(as('client').pull('x-dev/nova-api', rocky(t1)))
      await as('tester').pull('x-dev/nova-api', rocky(t1))
      await refused(as('client').pull('x/nova-api', rocky(t1)))
    })

    await t.test("a pin gives Kolla's keys the newest tags", async () => {
      await cli('sync')
      assert.match((await cli('status')).out, /1 of 1, images 3 of 3 +pin of bells\n +pin of 3 images\n/)
      const { out, err } = await cli('pin')
      assert.match(out, new RegExp(`openstack \\(rocky-9\\) +\\(not pinned\\) → ${rocky(t1)}\n`), err)
      assert.match(await readFile(pins, 'utf8'), new RegExp(`kolla_image_tags:\n  openstack:\n    rocky-9: ${rocky(t1)}\n`))
      assert.equal((await cli('pin', '--check')).code, 3)
      const again = await json('pin', '--dry-run')
      assert.deepEqual(again.changes, [])
    })

    await t.test('a promotion moves packages and images in one act; clients pull what testers had', async () => {
      const before = await look()
      const dry = await cli('promote', '--dry-run')
      assert.match(dry.out, new RegExp(`cron +${rocky(t1)} +x/cron:${rocky(t1)}\n`))
      assert.match(dry.out, /1 repository, 3 images would be promoted to release\.\n$/)
      assert.deepEqual(await look(), before)
      assert.match((await cli('promote')).out, /✓ 1 repository, 3 images → release {3}\d/)
      const digest = await as('tester').pull('x-dev/nova-api', rocky(t1))
      assert.equal(await as('client').pull('x/nova-api', rocky(t1)), digest)
      assert.equal((await cli('promote', '--check')).code, 3)
      const after = await look()
      await cli('promote')
      assert.deepEqual(await look(), after)
      const [line] = (await json('status')).lines
      assert.deepEqual([line.imagesBehind, line.behind, line.waiting], [0, 0, []])
    })

    await t.test('a build of one service is a pin of one key', async () => {
      await push('nova-compute', t2)
      const { changes } = await json('pin')
      assert.deepEqual(changes, [{ key: 'nova_compute', distribution: 'rocky-9', to: rocky(t2) }])
      const { promoted, unchanged } = await json('promote')
      assert.deepEqual(promoted, [{ image: 'nova-compute', tag: rocky(t2), path: `x/nova-compute` }])
      assert.equal(unchanged.length, 3)
      await as('client').pull('x/nova-compute', rocky(t2))
    })

    await t.test('a tag that was never pushed refuses the whole promotion, and so does the server', async () => {
      const right = await readFile(pins, 'utf8')
      await writeFile(pins, right.replace(rocky(t1), rocky(t3)))
      const before = await look()
      const { code, err } = await cli('promote')
      assert.equal(code, 1)
      assert.match(err, new RegExp(`nova-api: no tag ${rocky(t3)} in x-dev/nova-api \\(nearest: ${rocky(t1)}\\)\\.`))
      assert.deepEqual(await look(), before)
      await writeFile(pins, right)

      const [guard] = await Array.fromAsync(api.list<{ pulp_href: string }>('contentguards/core/rbac/'))
      const body = (...images: object[]) => ({ guard: guard!.pulp_href, distributions: Object.keys(before).slice(-1), images })
      const good = { from: 'x-dev/cron', to: 'x-new/cron', tag: rocky(t1) }
      const missing = { ...good, from: 'x-dev/nova-api', to: 'x/nova-api', tag: rocky(t3) }
      await assert.rejects(api.post('signalbox/promotions/', body(good, missing)), {
        code: 'invalid',
        message: `images: There is no tag ${rocky(t3)} in x-dev/nova-api.`,
      })
      assert.deepEqual(await look(), before)
      for (const wrong of [
        { ...good, to: 'x' },
        { ...good, to: '../x' },
        { ...good, tag: '' },
        { ...good, digest: 'sha256:0' },
        { to: 'x/y' },
      ])
        await assert.rejects(api.post('signalbox/promotions/', body(wrong)), { code: 'invalid' })
      // Nor by whoever may only read or build, even if they see the guard.
      for (const user of ['client', 'tester', 'builder']) {
        await api.post(`${guard!.pulp_href}add_role/`, { role: 'core.rbaccontentguard_viewer', users: [user] })
        await assert.rejects(
          connect({ url, username: user, password }).post('signalbox/promotions/', { ...body(good), distributions: [] }),
          { code: 'denied' },
        )
      }
      assert.deepEqual(await look(), before)
    })

    await t.test('what is missing at the release is made by a promotion, private', async () => {
      const [guard] = await Array.fromAsync(api.list<{ pulp_href: string }>('contentguards/core/rbac/'))
      const images = [{ from: 'x-dev/cron', to: 'x-other/deep/cron', tag: rocky(t1) }]
      const done = await api.post<any>('signalbox/promotions/', { guard: guard!.pulp_href, images })
      assert.deepEqual([done.promoted, done.images[0].changed, done.untagged], [0, true, 0])
      const made = await api.find<ContainerDistribution>('distributions/container/container/', { name: 'x-other/deep/cron' })
      assert.equal(made!.private, true)
      await refused(as('client').pull('x-other/deep/cron', rocky(t1)))
      await refused(connectRegistry({ url, username: 'nobody', password }).pull('x-other/deep/cron', rocky(t1)))
    })

    await t.test('roles on the two namespaces and sight of the guard are enough to promote images, and less is not', async () => {
      await api.create<User>('users/', { username: 'promoter', password })
      const [guard] = await Array.fromAsync(api.list<{ pulp_href: string }>('contentguards/core/rbac/'))
      const images = ['cron', 'new'].map((name) => ({ from: 'x-dev/cron', to: `x/${name}`, tag: rocky(t1) }))
      const promote = () =>
        connect({ url, username: 'promoter', password }).post('signalbox/promotions/', { guard: guard!.pulp_href, images })
      const grant = async (name: string, role: string) => {
        const namespace = await api.find<{ pulp_href: string }>('pulp_container/namespaces/', { name })
        await api.post(`${namespace!.pulp_href}add_role/`, { role: `container.containernamespace_${role}`, users: ['promoter'] })
      }
      await assert.rejects(promote(), { code: 'invalid' })
      await api.post(`${guard!.pulp_href}add_role/`, { role: 'core.rbaccontentguard_viewer', users: ['promoter'] })
      await assert.rejects(promote(), { code: 'denied' })
      await grant('x', 'collaborator')
      await assert.rejects(promote(), { code: 'denied' })
      await grant('x-dev', 'consumer')
      await promote()
      assert.ok(await api.find<ContainerDistribution>('distributions/container/container/', { name: 'x/new' }))
    })

    await t.test('an image that somebody made public is not promoted to until apply has made it private', async () => {
      const served = await api.find<ContainerDistribution>('distributions/container/container/', { name: 'x/nova-compute' })
      await api.update(served!.pulp_href, { private: false })
      await push('nova-compute', t3)
      await cli('pin')
      const { code, err } = await cli('promote')
      assert.deepEqual([code, /x\/nova-compute can be pulled by anyone: make it private first\./.test(err)], [1, true], err)
      assert.match((await cli('apply')).out, /~ +image +x\/nova-compute +private: false → true/)
      assert.equal((await cli('promote')).code, 0)
    })

    await t.test('a promotion is taken back, images and packages', async () => {
      const { code, out } = await cli('promote', '--to', 'development')
      assert.equal(code, 0)
      assert.match(out, /1 repository, 3 images → development/)
      await refused(as('client').pull('x/nova-api', rocky(t1)))
      await as('tester').pull('x-dev/nova-api', rocky(t1))
    })

    await t.test('where there are no promotions in one act, one thing is promoted after another, and looked at', async () => {
      const { code, out, err } = await cli('promote', '--one-by-one')
      assert.equal(code, 0, err)
      assert.match(out, /1 repository, 3 images → release/)
      await as('client').pull('x/nova-api', rocky(t1))
      assert.equal((await cli('promote', '--to', 'development', '--one-by-one')).code, 0)
      await refused(as('client').pull('x/nova-api', rocky(t1)))
      assert.equal((await cli('promote')).code, 0)
      await as('client').pull('x/nova-api', rocky(t1))
    })

    await t.test('skopeo pulls and copies as clients do', { skip: await missing('skopeo') }, async () => {
      const host = new URL(url).host
      const inspect = (user: string, path: string, mayFail = false) =>
        run('skopeo', ['inspect', '--raw', '--tls-verify=false', '--creds', `${user}:${password}`, `docker://${host}/${path}`], {
          mayFail,
        })
      assert.notEqual((await inspect('client', `x-dev/nova-api:${rocky(t1)}`, true)).code, 0)
      const { stdout } = await inspect('client', `x/nova-api:${rocky(t1)}`)
      assert.equal(JSON.parse(stdout).manifests.length, 2)
      const copy = ['copy', '--all', '--src-tls-verify=false', '--src-creds', `client:${password}`]
      await run('skopeo', [...copy, `docker://${host}/x/nova-api:${rocky(t1)}`, `oci:${join(directory, 'copied')}:it`])
    })
  })
})
