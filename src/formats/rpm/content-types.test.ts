import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Described, Unit } from '../../core/format.ts'
import { unitsOf } from '../../../tests/fixtures/version-of.ts'
import { readComps } from './comps.ts'
import { describeMetadataFile, otherContentTypes } from './content-types.ts'
import { readModules } from './modulemd.ts'
import { describeTree, parseTreeinfo } from './treeinfo.ts'
import { describeAdvisory, parseAdvisory } from './updateinfo.ts'

const treeinfo = '[general]\nfamily = Zoo\nversion = 5\narch = i386\n[images-i386]\nkernel = k\n'
const described: Described[] = [
  describeAdvisory(parseAdvisory('<update><id>A</id><description>long</description></update>')),
  ...readComps(
    Buffer.from(
      '<comps><group><id>g</id></group><category><id>c</id></category><environment><id>e</id></environment><langpacks><match name="a" install="b"/></langpacks></comps>',
    ),
  ),
  ...readModules(
    Buffer.from(
      '---\ndocument: modulemd\ndata: {name: n, stream: 1, version: 1, context: c, arch: a, summary: s, description: d, license: {module: [MIT]}}\n---\ndocument: modulemd-defaults\ndata: {module: n}\n---\ndocument: modulemd-obsoletes\ndata: {module: n, stream: 1, modified: x, message: y}\n',
    ),
  ).units,
  describeTree(parseTreeinfo(Buffer.from(treeinfo))!, { treeinfo: { path: '.treeinfo' }, images: [], subRepositories: [] }),
  describeMetadataFile('productid', { path: 'repodata/productid', checksum: `sha256:${'a'.repeat(64)}` }),
]

for (const unit of unitsOf(described)) {
  const type = otherContentTypes.find(({ name }) => `rpm.${name}` === unit.type)!

  test(`${type.name} shows exactly its fields`, async () => {
    const view = await type.view(unit, () => true)
    assert.deepEqual(Object.keys(view).sort(), Object.keys(type.fields).sort())
    for (const [name, value] of Object.entries(view))
      if (value === null)
        assert.ok(
          type.fields[name]!.nullable || type.fields[name]!.readOnly || name === 'static_context' || name === 'profiles',
          name,
        )
  })

  test(`${type.name} leaves its entry packed when no heavy field is asked for`, async () => {
    const packed: Unit = { ...unit, entry: () => assert.fail('the entry was unpacked') }
    const heavy = new Set(type.heavy)
    const view = await type.view(packed, (field) => !heavy.has(field))
    assert.deepEqual(
      Object.keys(type.fields).filter((name) => !heavy.has(name) && !(name in view)),
      [],
    )
  })

  test(`filters and order of ${type.name} look at what is in meta`, () => {
    for (const [name, { as = name }] of Object.entries(type.filters)) assert.ok(as in unit.meta || name === 'sha256', name)
  })
}
