import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from './failure.ts'
import { checkPath } from './safe-path.ts'

const good = [
  'repodata/repomd.xml',
  'Packages/g/gcc-c++-11.5.0-5.el9.x86_64.rpm',
  'with space/a~b^c+d=e@f,g;h&i!.rpm',
  'höhe/北京/файл.iso',
  'percent%20encoded/100%/50%25',
  '...',
  '.treeinfo',
  'a..b/..c/d..',
  'images/pxeboot/vmlinuz',
  '-rf',
  'name:1.2.rpm',
  `${'x'.repeat(255)}/y`,
]

for (const path of good)
  test(`${path.slice(0, 40)} is a path`, () => {
    assert.equal(checkPath(path), path)
  })

const bad: [string, RegExp][] = [
  ['', /empty/],
  ['/etc/passwd', /absolute/],
  ['../up', /\.\. segment/],
  ['a/../b', /\.\. segment/],
  ['a/..', /\.\. segment/],
  ['./a', /\. or/],
  ['a/./b', /\. or/],
  ['a//b', /empty segment/],
  ['a/', /empty segment/],
  ['a\\..\\b', /backslash/],
  ['C:windows', /drive letter/],
  ['http://elsewhere/x.rpm', /URL/],
  ['a\0b', /control/],
  ['a\nb', /control/],
  ['a\x7fb', /control/],
  ['a\u0085b', /control/],
  ['a/%2e%2e/b', /encoded/],
  ['a%2Fb', /encoded/],
  ['a%5cb', /encoded/],
  ['a%00b', /encoded/],
  ['a%0ab', /control/],
  ['100%/a%0ab', /control/],
  ['a/%252e%252e/b', /encoded/],
  ['%2fetc', /encoded/],
  ['h\u006f\u0308he', /normal form/],
  ['a\ud800b', /Unicode/],
  ['ü'.repeat(128), /255 bytes/],
  ['a/'.repeat(2100) + 'b', /4096/],
]

for (const [path, why] of bad)
  test(`${JSON.stringify(path.slice(0, 40))} is refused`, () => {
    assert.throws(
      () => checkPath(path),
      (error) => error instanceof Failure && error.code === 'invalid' && why.test(error.message),
    )
  })

test('a path that an upstream named is an integrity failure', () => {
  assert.throws(() => checkPath('../x', 'integrity'), { code: 'integrity' })
})
