import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Described, Unit } from '../../core/format.ts'
import { unitsOf, versionOf } from '../../../tests/fixtures/version-of.ts'
import { readComps } from './comps.ts'
import { unitsToCopy } from './copy-units.ts'
import { readModules } from './modulemd.ts'
import { packEntry } from './package-entry.ts'
import { describeAdvisory, parseAdvisory } from './updateinfo.ts'

/** `bear-0:1-1.noarch`, which requires these names. */
function rpm(nevra: string, ...requires: string[]): Described {
  const [, name, epoch, version, release, arch] = /^(.*)-(\d+):(.*)-(.*)\.(\w+)$/.exec(nevra)!
  const needs = requires.map((each) => `<rpm:entry name="${each}"/>`).join('')
  const entry = packEntry({
    before: Buffer.from('<package>'),
    after: Buffer.from(`<format><rpm:requires>${needs}</rpm:requires></format></package>`),
    filelists: Buffer.from(`<package><file>/usr/share/${name}</file></package>`),
    other: Buffer.from('<package/>'),
  })
  return { type: 'rpm.package', key: nevra, meta: { name, epoch, version, release, arch }, entry, files: [] }
}

const modules = `---
document: modulemd
data: {name: m, stream: 1, version: 2, context: c, arch: x86_64, summary: s, description: d, license: {module: [MIT]},
  dependencies: [{requires: {platform: [el9], n: [5.10]}}], artifacts: {rpms: [mod-0:1-1.x86_64]}}
...
---
document: modulemd
data: {name: n, stream: 5.10, version: 1, context: c, arch: x86_64, summary: s, description: d, license: {module: [MIT]}, artifacts: {rpms: [nod-0:1-1.x86_64]}}
...
---
document: modulemd
data: {name: n, stream: 5.1, version: 9, context: c, arch: x86_64, summary: s, description: d, license: {module: [MIT]}}
...
`

const comps = `<comps>
<group><id>g</id><packagelist><packagereq>bear</packagereq><packagereq>gone</packagereq></packagelist></group>
<group><id>h</id><packagelist><packagereq>cat</packagereq></packagelist></group>
<category><id>all</id><grouplist><groupid>g</groupid></grouplist></category>
<environment><id>env</id><grouplist><groupid>g</groupid></grouplist><optionlist><groupid>h</groupid></optionlist></environment>
</comps>`

const advisory = `<update><id>A</id><pkglist><collection>
<module name="n" stream="5.1" version="9" context="c" arch="x86_64"/>
<package name="bear" epoch="0" version="1" release="1" arch="noarch"/><package name="absent" version="1" release="1" arch="noarch"/>
</collection></pkglist></update>`

const source = unitsOf([
  rpm('bear-0:1-1.noarch', 'honey'),
  rpm('bear-0:2-1.noarch', 'honey'),
  rpm('cat-0:1-1.x86_64', 'mod'),
  rpm('cat-1:0-1.i686'),
  rpm('honey-0:1-1.noarch', '/usr/share/cat'),
  rpm('mod-0:1-1.x86_64'),
  rpm('nod-0:1-1.x86_64'),
  ...readComps(Buffer.from(comps)),
  ...readModules(Buffer.from(modules)).units,
  describeAdvisory(parseAdvisory(advisory)),
])

const name = ({ type, slot, key }: Unit) => (type === 'rpm.package' ? key : `${type.slice(4)} ${slot}`)

async function copied(chosen: string, { dependencySolving = false, destination = [] as Unit[] } = {}): Promise<string[]> {
  const request = {
    chosen: source.filter((unit) => name(unit) === chosen),
    source: versionOf(source),
    destinations: [versionOf(destination)],
  }
  assert.equal(request.chosen.length, 1)
  const ids = await unitsToCopy({ ...request, dependencySolving })
  return source
    .filter(({ id }) => ids.has(id))
    .map(name)
    .filter((each) => each !== chosen)
}

test('an advisory brings its packages and modules', async () => {
  assert.deepEqual(await copied('advisory A'), ['bear-0:1-1.noarch', 'modulemd n:5.1:9:c:x86_64'])
})

test('a group brings the newest of each of its packages', async () => {
  assert.deepEqual(await copied('packagegroup g'), ['bear-0:2-1.noarch'])
})

test('categories and environments bring their groups and these their packages, of every architecture', async () => {
  assert.deepEqual(await copied('packagecategory all'), ['bear-0:2-1.noarch', 'packagegroup g'])
  assert.deepEqual(await copied('packageenvironment env'), [
    'bear-0:2-1.noarch',
    'cat-0:1-1.x86_64',
    'cat-1:0-1.i686',
    'packagegroup g',
    'packagegroup h',
  ])
})

test('a module brings its artifacts', async () => {
  assert.deepEqual(await copied('modulemd m:1:2:c:x86_64'), ['mod-0:1-1.x86_64'])
})

test('a package brings nothing, unless dependencies are solved', async () => {
  assert.deepEqual(await copied('bear-0:1-1.noarch'), [])
  const destination = [rpm('honey-0:0.5-1.noarch')].flatMap((each) => unitsOf([each])).map((unit) => ({ ...unit, id: 99 }))
  assert.deepEqual(await copied('bear-0:1-1.noarch', { dependencySolving: true, destination }), [])
})

test('a modular package found by solving brings its module and the streams that one needs', async () => {
  assert.deepEqual(await copied('cat-0:1-1.x86_64', { dependencySolving: true }), [
    'mod-0:1-1.x86_64',
    'nod-0:1-1.x86_64',
    'modulemd m:1:2:c:x86_64',
    'modulemd n:5.10:1:c:x86_64',
  ])
})

test('a dependency on any file of a package is met by it', async () => {
  assert.deepEqual((await copied('bear-0:1-1.noarch', { dependencySolving: true })).slice(0, 2), [
    'cat-0:1-1.x86_64',
    'honey-0:1-1.noarch',
  ])
})
