import assert from 'node:assert/strict'
import { test } from 'node:test'
import { filelistsOf, type MadePackage, otherOf, primaryOf } from '../../../tests/rpm-upstream.ts'
import { parsePrimary } from './primary.ts'
import { saysTheSame, variantOf } from './variant.ts'

const bear: MadePackage = { name: 'bear' }
const primary = primaryOf(bear)
const rest = {
  filelists: Buffer.from(filelistsOf(bear)),
  other: Buffer.from(otherOf(bear)),
  filename: 'bear.rpm',
  isModular: false,
}
const variant = (text: string, more: Partial<typeof rest> = {}) =>
  variantOf(parsePrimary(Buffer.from(text)), { ...rest, ...more })

test('a package is the same wherever and whenever it was put there', () => {
  const moved = primary.replace(/<location .*>/, '<location href="elsewhere/bear.rpm"/>').replace('file="1600000001"', 'file="5"')
  assert.notEqual(moved, primary)
  assert.equal(variant(moved), variant(primary))
})

test('whatever else is said of a package makes it another description', () => {
  const lies = [
    variant(primary),
    variant(primary.replace('"libc"', '"evil"')),
    variant(primary.replace('build="1600000000"', 'build="5"')),
    variant(primary.replace('installed="10"', 'installed="11"')),
    variant(primary, { filelists: Buffer.from(filelistsOf({ ...bear, files: ['/usr/bin/evil'] })) }),
    variant(primary, { other: rest.filelists, filelists: rest.other }),
    variant(primary, { filename: 'evil.rpm' }),
    variant(primary, { isModular: true }),
  ]
  assert.equal(new Set(lies).size, lies.length)
})

test('what primary.xml says can be compared without the rest', () => {
  const found = parsePrimary(Buffer.from(primary))
  assert.ok(saysTheSame(variant(primary, { isModular: true }), found))
  assert.ok(!saysTheSame(variant(primary.replace('"libc"', '"evil"')), found))
  assert.ok(!saysTheSame('', found))
})

test('an element that is written in another order is compared without its times, too', () => {
  const odd = (time: number) => primary.replace(/<time .*>/, '').replace('<format>', `<time build="7" file="${time}"/><format>`)
  assert.equal(variant(odd(1)), variant(odd(2)))
})
