import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Distribution } from '../../src/api/resources.ts'
import { makeRepository, sha256 } from './made-repository.ts'
import { run, temporaryDirectory } from './run.ts'
import { adminPassword, program, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

/* The commands as programs of their own, as scripts call them: what they print where, and how they exit. */

test('a script drives the train by exit codes and JSON', { timeout: 120_000 }, async (t) => {
  const server = await startServer(t)
  const base = await serveFiles(t, makeRepository([{ name: 'app' }, { name: 'lib' }]))
  const extras = await serveFiles(t, makeRepository([{ name: 'extra' }]))
  const images = await serveFiles(
    t,
    new Map([
      ['image.img', Buffer.from('an image')],
      ['PULP_MANIFEST', Buffer.from(`image.img,${sha256('an image')},8\n`)],
    ]),
  )
  const directory = await temporaryDirectory(t)
  await writeFile(
    join(directory, 'train.yaml'),
    `train: example
server: ${server.url}
repositories:
  base: { rpm: "${base.url}", path: base, group: distribution }
  extras: { rpm: "${extras.url}", path: extras, group: distribution, policy: on_demand }
  images: { file: "${images.url}PULP_MANIFEST", path: images }
lines:
  "2026.1": { repositories: [base, extras, images] }
  "2026.2": { repositories: [base] }
stages: [development, release]
groups: { clients: [release] }
`,
  )
  const cli = (words: string, env: Record<string, string> = {}) =>
    run(program, words.split(' '), { cwd: directory, mayFail: true, env: { SIGNALBOX_PASSWORD: adminPassword, ...env } })
  const json = async (words: string) => JSON.parse((await cli(`${words} --json`)).stdout)
  const guards = async () => {
    const found: Record<string, string | null> = {}
    for await (const { base_path, content_guard } of server.api.list<Distribution>('distributions/'))
      found[base_path] = content_guard
    return found
  }

  await t.test('before apply a sync fails; apply makes the server match; again there is nothing to do', async () => {
    assert.equal((await cli('sync')).code, 1)
    assert.equal((await cli('apply --check')).code, 0)
    assert.equal((await cli('apply')).code, 0)
    assert.equal((await cli('apply --check')).code, 3)
  })
  await t.test('a sync of a group syncs only the group', async () => {
    const { repositories } = await json('sync group:distribution')
    assert.deepEqual(
      repositories.map(({ repository, state }: Record<string, string>) => [repository, state]),
      [
        ['base', 'new'],
        ['extras', 'new'],
      ],
    )
    assert.equal((await cli('sync --dry-run')).code, 0)
    assert.equal(Object.keys(await guards()).length, 2)
    assert.equal((await cli('sync')).code, 0)
    assert.equal(Object.keys(await guards()).length, 3)
  })
  await t.test('a pin that has no snapshot refuses the whole promotion', async () => {
    assert.equal((await cli('pin --line 2026.1')).code, 0)
    const pins = join(directory, 'pins/2026.1.yaml')
    const right = await readFile(pins, 'utf8')
    await writeFile(pins, right.replace(/images: .*/, 'images: 20200101T000000'))
    const before = await guards()
    const refused = await cli('promote 2026.1')
    assert.deepEqual([refused.code, refused.stdout], [1, ''])
    assert.match(refused.stderr, /images: no snapshot 20200101T000000/)
    assert.deepEqual(await guards(), before)
    await writeFile(pins, right)
  })
  await t.test('a promotion moves all of the line, and only that', async () => {
    const before = await guards()
    const plan = await json('promote 2026.1 --dry-run')
    assert.deepEqual([plan.planned.length, plan.promoted.length], [3, 0])
    assert.deepEqual(await guards(), before)
    assert.equal((await json('promote 2026.1')).promoted.length, 3)
    const after = await guards()
    assert.equal(new Set(Object.values(after)).size, 1)
    assert.notDeepEqual(after, before)
    assert.equal((await cli('promote 2026.1 --check')).code, 3)
    const { lines } = await json('status')
    assert.deepEqual([lines[0].line, lines[0].behind, lines[0].repositories], ['2026.1', 0, 3])
  })
  await t.test('a promotion can be taken back', async () => {
    assert.equal((await cli('promote 2026.1 --to development')).code, 0)
    assert.equal((await json('promote 2026.1 --dry-run')).planned.length, 3)
  })
  await t.test('wrong usage exits with 2, a refusal with 1, an absent server with 4; reasons go to standard error', async () => {
    for (const [words, code, reason] of [
      ['sink', 2, /There is no command sink.*sync/],
      ['sync --jbos 3', 2, /--jobs/],
      ['sync nothing-like-it', 1, /nothing-like-it/],
      ['pin', 1, /line/],
      ['status --server http://127.0.0.1:9', 4, /cannot be reached/],
    ] as const) {
      const ran = await cli(words)
      assert.deepEqual([ran.code, ran.stdout], [code, ''], `${words}: ${ran.stderr}`)
      assert.match(ran.stderr, reason)
    }
    assert.equal((await cli('status', { SIGNALBOX_PASSWORD: 'wrong' })).code, 1)
    await mkdir(join(directory, 'elsewhere'))
    assert.match((await run(program, ['status'], { cwd: join(directory, 'elsewhere'), mayFail: true })).stderr, /train\.yaml/)
  })
})
