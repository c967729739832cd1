import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { runCli } from '../command-line.ts'
import { makeRepository } from './made-repository.ts'
import { temporaryDirectory } from './run.ts'
import { adminPassword, getContent, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

test('old snapshots that nobody needs are deleted, and all others stay as they are', { timeout: 240_000 }, async (t) => {
  const server = await startServer(t)
  const base = await serveFiles(t, new Map())
  const config = join(await temporaryDirectory(t), 'train.yaml')
  await writeFile(
    config,
    `train: example
server: ${server.url}
repositories: { base: { rpm: "${base.url}", path: base } }
lines: { stable: { repositories: [base] }, next: { repositories: [base] } }
`,
  )
  const cli = (...words: string[]) => runCli([...words, '--config', config], { SIGNALBOX_PASSWORD: adminPassword })
  const night = async (version: string) => {
    base.files = makeRepository([{ name: 'kept' }, { name: 'bell', version }])
    return JSON.parse((await cli('sync', '--json')).out).repositories[0].stamp as string
  }
  const look = async (stamps: readonly string[], file: string) =>
    Promise.all(
      stamps.map(async (stamp) => {
        const response = await getContent(server, `base/${stamp}/${file}`, { as: ['admin', adminPassword] })
        await response.body?.cancel()
        return response.status
      }),
    )

  await cli('apply')
  const released = await night('1')
  await cli('pin', '--line', 'stable')
  await cli('promote', 'stable')
  const pinned = await night('2')
  await cli('pin', '--line', 'next')
  const unneeded = await night('3')
  const newest = await night('4')
  const all = [released, pinned, unneeded, newest]
  // Versions of one second get stamps of the seconds after it.
  await sleep(4000)

  await t.test('the age must be said, and what is younger stays', async () => {
    assert.equal((await cli('prune')).code, 2)
    assert.equal((await cli('prune', '--older-than', 'week')).code, 2)
    assert.equal((await cli('prune', '--older-than', '30', '--yes')).out, 'Nothing to do: 4 snapshots kept.\n')
    assert.equal((await cli('prune', '--older-than', '30', '--check')).code, 3)
  })
  await t.test('without --yes nothing happens', async () => {
    const { code, out } = await cli('prune', '--older-than', '0')
    const told = `  base   1 snapshot   ${unneeded}\n1 snapshot would be deleted, 3 kept. Delete them with --yes.\n`
    assert.deepEqual([code, out], [0, told])
    assert.deepEqual(await look(all, 'repodata/repomd.xml'), [200, 200, 200, 200])
  })
  await t.test('with --yes it goes, and clients of the others see no difference', async () => {
    const { out } = await cli('prune', '--older-than', '0', '--yes', '--json')
    const gone = { repository: 'base', stamp: unneeded, path: `base/${unneeded}` }
    assert.deepEqual(JSON.parse(out), { snapshots: [gone], kept: 3, deleted: true })
    assert.deepEqual(await look(all, 'repodata/repomd.xml'), [200, 200, 404, 200])
    assert.deepEqual(await look([released, pinned, newest], 'Packages/kept-1.0-1.noarch.rpm'), [200, 200, 200])
    assert.deepEqual(await look([newest], 'Packages/bell-4-1.noarch.rpm'), [200])
    const versions = []
    for await (const { number } of server.api.list<{ number: number }>(
      `${(await server.api.find<{ pulp_href: string }>('repositories/rpm/rpm/', { name: 'base' }))!.pulp_href}versions/`,
    ))
      versions.push(number)
    assert.deepEqual(versions, [0, 1, 2, 4])
    assert.equal((await cli('prune', '--older-than', '0', '--check')).code, 3)
  })
  await t.test('the next night is as if nothing had gone', async () => {
    const next = await night('5')
    assert.deepEqual(await look([next], 'Packages/bell-5-1.noarch.rpm'), [200])
    const { repositories } = JSON.parse((await cli('diff', '--line', 'stable', '--json')).out)
    assert.deepEqual(
      repositories[0].changes.map(({ name, from, to }: Record<string, string>) => [name, from, to]),
      [['bell', '1-1', '5-1']],
    )
  })
})
