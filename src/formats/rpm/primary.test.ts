import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checksumOf, primaryOf } from '../../../tests/rpm-upstream.ts'
import { keyOf } from './package-lists.ts'
import { nevraOf, parsePrimary, pathOf, urlOf } from './primary.ts'

const bear = { name: 'bear', epoch: '2', version: '4.1', release: '1.el9', arch: 'x86_64', href: 'Packages/b/bear.rpm' }
const usual = primaryOf(bear)

test('the fields of a package are read', () => {
  const { before, after, ...fields } = parsePrimary(Buffer.from(usual))
  assert.deepEqual(fields, {
    name: 'bear',
    epoch: '2',
    version: '4.1',
    release: '1.el9',
    arch: 'x86_64',
    checksumType: 'sha256',
    checksum: checksumOf(bear),
    summary: 'Summary of bear',
    fileTime: 1600000001,
    buildTime: 1600000000,
    size: 36,
    sourceRpm: 'bear-4.1-1.el9.src.rpm',
    href: 'Packages/b/bear.rpm',
    base: undefined,
  })
  assert.equal(`${String(before)}<location href="Packages/b/bear.rpm"/>${String(after)}`, usual)
  assert.equal(nevraOf(fields), 'bear-2:4.1-1.el9.x86_64')
  assert.equal(keyOf(fields), `sha256:${checksumOf(bear)} bear-2:4.1-1.el9.x86_64`)
})

test('text is decoded: entities, character references and UTF-8', () => {
  const summary = 'Bären &amp; &lt;Höhlen&gt; &#x1F43B; &quot;&#39;'
  assert.equal(parsePrimary(Buffer.from(primaryOf({ ...bear, summary }))).summary, `Bären & <Höhlen> 🐻 "'`)
})

/** The same package, written in ways that createrepo_c does not. */
const unusual: Record<string, (xml: string) => string> = {
  'other white space': (xml) => xml.replaceAll('\n', '\r\n\t').replaceAll('"/>', '" />'),
  'single quotes': (xml) => xml.replace('ver="4.1"', "ver='4.1'"),
  'attributes in another order': (xml) => xml.replace('epoch="2" ver="4.1" rel="1.el9"', 'rel="1.el9" ver="4.1" epoch="2"'),
  'elements in another order': (xml) =>
    xml
      .replace(/( *<location .*\n)([^]*)( *<format>)/, '$2$3')
      .replace('  <arch>', `  <location href="Packages/b/bear.rpm"/>\n  <arch>`),
  'a comment': (xml) => xml.replace('<name>', '<!-- <name>wolf</name> --><name>'),
  CDATA: (xml) => xml.replace('Summary of bear', '<![CDATA[Summary of bear]]>'),
  'an element more': (xml) => xml.replace('<url>', '<license-tag>x</license-tag><url>'),
  'an element with a prefix of its own': (xml) => xml.replace('<url>', '<suse:x suse:y="z">x</suse:x><url>'),
}
for (const [what, write] of Object.entries(unusual))
  test(`a package written with ${what} is the same package`, () => {
    const written = write(usual)
    assert.notEqual(written, usual)
    const found = parsePrimary(Buffer.from(written))
    const expected = parsePrimary(Buffer.from(usual))
    assert.deepEqual({ ...found, before: 0, after: 0 }, { ...expected, before: 0, after: 0 })
    const whole = Buffer.concat([found.before, Buffer.from(`<location href="Packages/b/bear.rpm"/>`), found.after])
    assert.doesNotMatch(whole.toString(), /suse:|CDATA|<!--/)
    const again = parsePrimary(whole)
    assert.deepEqual({ ...again, before: 0, after: 0 }, { ...expected, before: 0, after: 0 })
  })

test('a missing epoch is 0, and `sha` is SHA-1', () => {
  const found = parsePrimary(
    Buffer.from(
      usual.replace('epoch="2" ', '').replace(/type="sha256" pkgid="YES">\w+/, `type="sha" pkgid="YES">${'A'.repeat(40)}`),
    ),
  )
  assert.deepEqual([found.epoch, found.checksumType, found.checksum], ['0', 'sha1', 'a'.repeat(40)])
})

test('xml:base of a location is told', () => {
  const found = parsePrimary(Buffer.from(primaryOf({ ...bear, base: 'http://example.org/x' })))
  assert.deepEqual([found.base, found.href], ['http://example.org/x', 'Packages/b/bear.rpm'])
})

const bad: Record<string, [write: (xml: string) => string | Buffer, message: RegExp]> = {
  'no name': [(xml) => xml.replace('<name>bear</name>', ''), /no name/],
  'an empty name': [(xml) => xml.replace('<name>bear</name>', '<name/>'), /no name/],
  'an endless name': [(xml) => xml.replace('>bear<', `>${'b'.repeat(300)}<`), /overlong name/],
  'no version': [(xml) => xml.replace(/<version.*\/>/, ''), /no version/],
  'no location': [(xml) => xml.replace(/<location.*\/>/, ''), /no location/],
  'no checksum': [(xml) => xml.replace(/<checksum.*>/, ''), /no checksum/],
  'a checksum of another length': [(xml) => xml.replace(/YES">\w/, 'YES">'), /no sha256 checksum/],
  'an unknown checksum type': [(xml) => xml.replace('type="sha256"', 'type="crc"'), /unknown type crc/],
  'an epoch that is no number': [(xml) => xml.replace('epoch="2"', 'epoch="x"'), /epoch x/],
  'a size that is no number': [(xml) => xml.replace('package="36"', 'package="big"'), /size package big/],
  'a size beyond counting': [(xml) => xml.replace('package="36"', `package="${'9'.repeat(30)}"`), /size/],
  'tags that do not match': [(xml) => xml.replace('</summary>', '</description>'), /not well-formed/],
  'an unknown entity': [(xml) => xml.replace('Summary', '&bomb;'), /not well-formed/],
  'bytes that are not UTF-8': [(xml) => Buffer.from(xml.replace('Summary', 'Zusammenf\xfchrung'), 'latin1'), /UTF-8/],
}
for (const [what, [write, message]] of Object.entries(bad))
  test(`a package with ${what} is refused`, () => {
    assert.throws(() => parsePrimary(Buffer.from(write(usual))), { name: 'Failure', code: 'integrity', message })
  })

test('a location becomes a path only when it stays within the repository', () => {
  assert.equal(pathOf('Packages/l/libstdc%2B%2B-1.rpm'), 'Packages/l/libstdc++-1.rpm')
  assert.equal(pathOf('100% cotton.rpm'), '100% cotton.rpm')
  assert.equal(pathOf('./Packages/././x.rpm'), 'Packages/x.rpm')
  for (const href of [
    '../x.rpm',
    './../x.rpm',
    'a/../../x.rpm',
    '/etc/passwd',
    'a//b',
    '%2e%2e/x.rpm',
    'a%2fb.rpm',
    'a\\b.rpm',
    'a\0.rpm',
    '',
  ])
    assert.throws(() => pathOf(href), { code: 'integrity' }, href)
})

test('a URL has every odd character encoded, and the token of its repository', () => {
  assert.equal(urlOf('a b/libc++^1.rpm', new URL('http://x/r/?tok')).href, 'http://x/r/a%20b/libc%2B%2B%5E1.rpm?tok')
})
