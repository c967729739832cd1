import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resolveAdvisories } from './advisory-conflicts.ts'
import { type Advisory, parseAdvisory } from './updateinfo.ts'

/** An advisory of these packages (`name-version`). */
function advisory(packages: string[], { date = '2026-01-01', version = '1', name = 'c' } = {}): Advisory {
  const list = packages.map((each) => {
    const [name, version] = each.split('-')
    return `<package name="${name}" version="${version}" release="1" arch="noarch"/>`
  })
  return parseAdvisory(
    `<update version="${version}"><id>A</id><updated date="${date}"/><pkglist><collection><name>${name}</name>${list.join('')}</collection></pkglist></update>`,
  )
}

for (const [what, previous, added, keep] of [
  ['the newer of two about the same packages', advisory(['a-1'], { date: '2026-02-01' }), advisory(['a-1']), 'before'],
  [
    'the newer of two about other versions of the same packages',
    advisory(['a-1']),
    advisory(['a-2'], { date: '2026-02-01' }),
    'added',
  ],
  ['the higher version of one day', advisory(['a-1'], { version: '10' }), advisory(['a-1'], { version: '9' }), 'before'],
  ['the added one when nothing tells them apart', advisory(['a-1']), advisory(['a-1']), 'added'],
  ['the one with more packages', advisory(['a-1', 'b-1']), advisory(['a-1']), 'before'],
  ['the one with a date', advisory(['a-1'], { date: '' }), advisory(['a-1']), 'added'],
] as const)
  test(`kept is ${what}`, () => {
    assert.equal(resolveAdvisories(previous, added), keep)
  })

test('two of one day about different packages become one, each collection with its own name', () => {
  const merged = resolveAdvisories(advisory(['a-1']), advisory(['b-1']))
  assert.ok(typeof merged === 'object')
  assert.deepEqual(
    merged.pkglist.map(({ name, packages }) => [name, packages.map((each) => each.name)]),
    [
      ['c', ['a']],
      ['c_0', ['b']],
    ],
  )
})

for (const [what, previous, added] of [
  ['two of one day that overlap in part', advisory(['a-1', 'b-1']), advisory(['b-1', 'c-1'])],
  ['two of different days about different packages', advisory(['a-1']), advisory(['b-1'], { date: '2026-02-01' })],
] as const)
  test(`${what} cannot both be right`, () => {
    assert.throws(() => resolveAdvisories(previous, added), { name: 'Failure', code: 'conflict', message: /Advisory A / })
  })
