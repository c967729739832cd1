import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectRegistry } from '../../src/api/registry.ts'
import { makeDemoImage } from '../../src/cli/demo-image.ts'
import { runCli } from '../command-line.ts'
import { makeRepository, type MadePackage, sha256 } from './made-repository.ts'
import { temporaryDirectory } from './run.ts'
import { adminPassword, startServer } from './server.ts'
import { serveFiles } from './upstream.ts'

/* What changed between two states of a train, over nights with all that can change. */

const advisory = (id: string, severity: string) =>
  `<update from="x" status="final" type="${severity ? 'security' : 'bugfix'}" version="1"><id>${id}</id><title>About ${id}</title><issued date="2026-11-01"/><severity>${severity}</severity><description/><pkglist/></update>`

function night(packages: readonly MadePackage[], ...advisories: string[]): Map<string, Buffer> {
  return makeRepository(packages, { replace: { updateinfo: `<updates>${advisories.join('')}</updates>` } })
}

function files(each: Readonly<Record<string, string>>): Map<string, Buffer> {
  const manifest = Object.entries(each).map(([name, text]) => `${name},${sha256(text)},${text.length}\n`)
  return new Map(
    [...Object.entries(each), ['PULP_MANIFEST', manifest.join('')] as const].map(([name, text]) => [name, Buffer.from(text)]),
  )
}

test('a diff tells packages, files, advisories and images that come, go and change', { timeout: 240_000 }, async (t) => {
  const server = await startServer(t)
  const kept = [{ name: 'kept' }, { name: 'kernel', version: '5.9' }]
  const base = await serveFiles(
    t,
    night([...kept, { name: 'bell' }, { name: 'gong' }, { name: 'drum', version: '2.0' }], advisory('OLD-1', 'Low')),
  )
  const discs = await serveFiles(t, files({ 'a.img': 'one', 'b.img': 'one' }))
  const directory = await temporaryDirectory(t)
  const config = join(directory, 'train.yaml')
  await writeFile(
    config,
    `train: example
server: ${server.url}
repositories:
  base: { rpm: "${base.url}", path: base }
  discs: { file: "${discs.url}PULP_MANIFEST", path: discs }
  late: { rpm: "${base.url}", path: late }
images: { registry: [app, tool], development: x-dev, release: x }
lines:
  stable: { repositories: [base, discs, late], images: [app, tool] }
`,
  )
  const cli = (...words: string[]) => runCli([...words, '--config', config], { SIGNALBOX_PASSWORD: adminPassword })
  const json = async (...words: string[]) => JSON.parse((await cli(...words, '--json')).out)
  const registry = connectRegistry({ url: server.url, username: 'admin', password: adminPassword })
  const push = (name: string, stamp: string, line: string) =>
    registry.push(`x-dev/${name}`, `stable-${stamp}`, makeDemoImage(line, '2026-11-01T02:00:00Z'))
  const done = async (...words: string[]) => {
    const { code, out, err } = await cli(...words)
    assert.equal(code, 0, `${words.join(' ')}: ${out}${err}`)
    return out
  }

  await done('apply')
  await done('sync', 'base', 'discs')
  const first = (await json('sync', 'base', 'discs')).repositories.map(({ stamp }: { stamp: string }) => stamp)
  const digests = [await push('app', '20261101T020000', 'app'), await push('tool', '20261101T020000', 'tool')]
  await done('pin', 'base', 'discs', 'app', 'tool')
  await done('promote')

  await t.test('where nothing is new nothing differs', async () => {
    assert.match(
      await done('diff'),
      /^line stable: release → development\nNothing differs: 2 repositories, 2 images compared\.\n$/,
    )
    assert.equal((await cli('diff', '--check')).code, 3)
  })

  // Two nights pass: what the first of them brings and the second takes again is not seen.
  base.files = night([...kept, { name: 'passing' }, { name: 'drum', version: '2.0' }])
  await done('sync', 'base')
  base.files = night(
    [
      ...kept,
      { name: 'kernel', version: '5.10' },
      { name: 'bell', bytes: Buffer.from('built again') },
      { name: 'drum', version: '1.9' },
      { name: 'fife' },
    ],
    advisory('OLD-1', 'Low'),
    advisory('NEW-1', 'Critical'),
    advisory('NEW-2', ''),
  )
  discs.files = files({ 'a.img': 'two', 'c.img': 'one' })
  await done('sync')
  await push('app', '20261102T020000', 'another app')
  await push('tool', '20261102T020000', 'tool')

  await t.test('what changed is told by package, with what needs attention first', async () => {
    const { repositories, images, ...rest } = await json('diff')
    assert.deepEqual(rest, { line: 'stable', from: 'release', to: 'development', compared: { repositories: 3, images: 2 } })
    const [ofBase, ofDiscs, late] = repositories
    assert.deepEqual([ofBase.repository, ofBase.from], ['base', first[0]])
    assert.deepEqual(ofBase.changes, [
      { change: 'downgraded', name: 'drum', arch: 'noarch', from: '2.0-1', to: '1.9-1' },
      { change: 'changed', name: 'bell', arch: 'noarch', from: '1.0-1', to: '1.0-1' },
      { change: 'removed', name: 'gong', arch: 'noarch', from: '1.0-1' },
      { change: 'upgraded', name: 'kernel', arch: 'noarch', from: '5.9-1', to: '5.10-1' },
      { change: 'added', name: 'fife', arch: 'noarch', to: '1.0-1' },
    ])
    assert.deepEqual(ofBase.advisories, [
      { id: 'NEW-1', type: 'security', severity: 'Critical', title: 'About NEW-1' },
      { id: 'NEW-2', type: 'bugfix', severity: '', title: 'About NEW-2' },
    ])
    assert.ok(ofBase.bytes > 0)
    assert.deepEqual(ofDiscs.changes, [
      { change: 'changed', name: 'a.img', from: sha256('one'), to: sha256('two') },
      { change: 'removed', name: 'b.img', from: sha256('one') },
      { change: 'added', name: 'c.img', to: sha256('one') },
    ])
    assert.deepEqual([late.repository, late.from, late.units], ['late', undefined, 6])
    assert.deepEqual(
      images.map(({ image, from, to }: (typeof images)[number]) => [
        image,
        from.tag,
        from.digest,
        to.tag,
        to.digest === from.digest,
      ]),
      [
        ['app', 'stable-20261101T020000', digests[0], 'stable-20261102T020000', false],
        ['tool', 'stable-20261101T020000', digests[1], 'stable-20261102T020000', true],
      ],
    )
  })
  await t.test('people read it as a table', async () => {
    const out = await done('diff')
    assert.match(
      out,
      /^base +\d{8}T\d{6} → \d{8}T\d{6} +1 new, 1 upgraded, 1 downgraded, 1 changed, 1 gone, 1 security advisory +\d+ B\n/m,
    )
    assert.match(
      out,
      /^ {2}! +NEW-1 +critical: About NEW-1\n {2}↓ +drum\.noarch +2\.0-1 → 1\.9-1\n {2}~ +bell\.noarch +1\.0-1 \(other bytes\)\n/m,
    )
    assert.match(out, /^late +\(none\) → \d{8}T\d{6} +6 new\n/m)
    assert.match(out, /^tool +stable-20261101T020000 → stable-20261102T020000 +the same image\n/m)
    assert.match(
      out,
      /\n3 of 3 repositories and 2 of 2 images differ: 2 new, 1 upgraded, 1 downgraded, 2 changed, 2 gone, 1 security advisory\.\n$/,
    )
  })
  await t.test('the other way round it is the other way round', async () => {
    const { repositories } = await json('diff', 'base', '--from', 'development', '--to', first[0])
    assert.deepEqual(
      repositories[0].changes.map(({ change, name }: Record<string, string>) => `${change} ${name}`),
      ['downgraded kernel', 'changed bell', 'removed fife', 'upgraded drum', 'added gong'],
    )
    assert.deepEqual(repositories[0].advisories, [])
  })
  await t.test('what is pinned is compared before it is promoted; what is not pinned stays as it is', async () => {
    assert.equal((await json('diff', '--to', 'pins')).repositories.length, 0)
    await done('pin', 'base')
    const { repositories, images } = await json('diff', '--to', 'pins')
    assert.deepEqual([repositories.map(({ repository }: { repository: string }) => repository), images], [['base'], []])
    await done('promote')
    assert.equal((await cli('diff', '--to', 'pins', '--check')).code, 3)
  })
  await t.test('a line that is pinned back is where it was, and status says so', async () => {
    await done('pin', 'base', '--at', first[0])
    assert.match(await done('promote'), /Nothing to do/)
    assert.equal((await json('diff', 'base')).repositories[0].from, first[0])
    assert.equal((await json('status')).lines[0].behind, 3)
  })
  await t.test('what is none of the train is said', async () => {
    assert.match((await cli('diff', 'bsae')).err, /No repository or image is called bsae\. Did you mean "base"\?/)
    assert.match((await cli('diff', '--to', 'pinz')).err, /"pinz" is neither a stage .+ Did you mean "pins"\?/)
  })
})
