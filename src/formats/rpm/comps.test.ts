import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseComps, readComps, renderComps } from './comps.ts'
import { unitsOf, versionOf } from '../../../tests/fixtures/version-of.ts'

const xml = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps>
 <group><id>bare</id></group>
 <group>
  <id>zoo</id><name>Zoo &amp; more</name><name xml:lang="de">Tierpark</name>
  <description>Animals</description><description xml:lang="de">Tiere</description>
  <default>true</default><uservisible>false</uservisible><display_order>7</display_order><biarchonly>true</biarchonly><langonly>de</langonly>
  <packagelist>
   <packagereq>bear</packagereq>
   <packagereq type="default">cat</packagereq>
   <packagereq type="optional" basearchonly="true">dog</packagereq>
   <packagereq type="conditional" requires="cat">mouse</packagereq>
   <packagereq>bear</packagereq>
  </packagelist>
 </group>
 <category><id>all</id><name>All</name><grouplist><groupid>zoo</groupid></grouplist></category>
 <environment>
  <id>world</id><name>World</name><display_order>x</display_order>
  <grouplist><groupid>zoo</groupid></grouplist><optionlist><groupid default="true">bare</groupid></optionlist>
 </environment>
 <langpacks><match name="bear" install="bear-%s"/></langpacks>
</comps>
`

const units = readComps(Buffer.from(xml))
const view = (type: string, slot?: string) => {
  const unit = units.find((each) => each.type === type && (slot === undefined || each.slot === slot))!
  return parseComps(type, unit.entry!)
}

test('a group is shown as Pulp shows it', () => {
  assert.deepEqual(view('rpm.packagegroup', 'zoo'), {
    id: 'zoo',
    name: 'Zoo & more',
    description: 'Animals',
    default: true,
    user_visible: false,
    display_order: 7,
    biarch_only: true,
    desc_by_lang: { de: 'Tiere' },
    name_by_lang: { de: 'Tierpark' },
    packages: [
      { name: 'bear', type: 3, basearchonly: null, requires: null },
      { name: 'cat', type: 0, basearchonly: null, requires: null },
      { name: 'dog', type: 1, basearchonly: true, requires: null },
      { name: 'mouse', type: 2, basearchonly: null, requires: 'cat' },
    ],
  })
  const bare = view('rpm.packagegroup', 'bare')
  assert.deepEqual([bare['default'], bare['user_visible'], bare['display_order'], bare['packages']], [false, true, null, []])
})

test('categories, environments and language packs are shown as Pulp shows them', () => {
  assert.deepEqual(view('rpm.packagecategory', 'all')['group_ids'], [{ name: 'zoo', default: false }])
  const world = view('rpm.packageenvironment', 'world')
  assert.deepEqual([world['option_ids'], world['display_order']], [[{ name: 'bare', default: true }], 0])
  assert.deepEqual(view('rpm.packagelangpacks'), { matches: { bear: 'bear-%s' } })
})

test('what is published is what was read, whatever else it says', async () => {
  const published = Buffer.concat(await Array.fromAsync(renderComps(versionOf(unitsOf(units)))))
  assert.ok(published.includes('<langonly>de</langonly>'))
  const byKey = (list: typeof units) => list.map(({ type, key }) => `${type} ${key}`).sort()
  assert.deepEqual(byKey(readComps(published)), byKey(units))
})

test('language packs of several uploads are published as one', async () => {
  const more = readComps(Buffer.from('<comps><langpacks><match name="wolf" install="wolf-%s"/></langpacks></comps>'))
  const published = Buffer.concat(await Array.fromAsync(renderComps(versionOf(unitsOf([...units, ...more])))))
  const together = readComps(published).find(({ type }) => type === 'rpm.packagelangpacks')
  assert.deepEqual(parseComps('rpm.packagelangpacks', together!.entry!), { matches: { bear: 'bear-%s', wolf: 'wolf-%s' } })
})

test('the same group, indented in another way, is the same content', () => {
  const [group] = readComps(Buffer.from('<comps>\n  <group>\n    <id>bare</id>\n  </group>\n</comps>'))
  assert.equal(group!.key, units.find(({ slot }) => slot === 'bare')!.key)
})

for (const [what, broken] of [
  ['a group without an id', '<comps><group><name>x</name></group></comps>'],
  ['another document', '<metadata/>'],
  ['half a document', '<comps><group><id>x</id>'],
] as const)
  test(`${what} is refused`, () => {
    assert.throws(() => readComps(Buffer.from(broken)), { name: 'Failure', code: 'integrity' })
  })
