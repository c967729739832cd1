import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutElements, splitElements } from './xml.ts'

/** The elements of a document that comes in chunks of `size` bytes. */
async function split(xml: string, size = 1 << 20): Promise<string[]> {
  const bytes = Buffer.from(xml)
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
  }
  const found: string[] = []
  for await (const batch of splitElements(chunks(), 'package', 'The test metadata')) found.push(...batch.map(String))
  return found
}

const usual = `<?xml version="1.0" encoding="UTF-8"?>
<metadata packages="3">
<package type="rpm"><name>a</name><packager>someone</packager></package>
<package type="rpm">
  <name>b</name>
</package>
<package pkgid="x>/" name='"'/>
</metadata>
`

for (const size of [1, 2, 3, 7, 50, 1 << 20])
  test(`elements are cut out of a document that comes in chunks of ${size} bytes`, async () => {
    assert.deepEqual(await split(usual, size), [
      '<package type="rpm"><name>a</name><packager>someone</packager></package>',
      '<package type="rpm">\n  <name>b</name>\n</package>',
      `<package pkgid="x>/" name='"'/>`,
    ])
  })

const odd: Record<string, [inside: string, expected: string[]]> = {
  'white space within tags': ['<package\n a="1"\t>x</package  >', ['<package\n a="1"\t>x</package  >']],
  'its own end in a comment': ['<package><!-- </package> -->x</package>', ['<package><!-- </package> -->x</package>']],
  'its own end in CDATA': ['<package><![CDATA[</package>]]></package>', ['<package><![CDATA[</package>]]></package>']],
  'its own end in an instruction': ['<package><?x </package> ?></package>', ['<package><?x </package> ?></package>']],
  'elements in comments': ['<!-- <package>1</package> --><package>2</package>', ['<package>2</package>']],
  'elements of other names': ['<packages><package>1</package></packages><package>2</package>', ['<package>2</package>']],
  'an attribute that looks like an end': ['<package a="</package>">1</package>', ['<package a="</package>">1</package>']],
  'no elements': ['', []],
}
for (const [what, [inside, expected]] of Object.entries(odd))
  for (const size of [1, 5, 1000])
    test(`a document with ${what} is cut rightly in chunks of ${size}`, async () => {
      assert.deepEqual(
        await split(`<!DOCTYPE metadata SYSTEM "x.dtd"><metadata>${inside}</metadata><!-- end -->\n`, size),
        expected,
      )
    })

test('an empty root element holds nothing', async () => {
  assert.deepEqual(await split('<metadata packages="0"/>'), [])
})

const bad: Record<string, [xml: string, message: RegExp]> = {
  'cut short within an element': ['<metadata><package><name>a</name>', /is cut short/],
  'cut short between elements': ['<metadata><package/>', /is cut short/],
  'cut short within its first tag': ['<meta', /is cut short/],
  empty: ['', /is cut short/],
  'entity declarations': ['<!DOCTYPE m [<!ENTITY a "aaaa">]><m><package>&a;</package></m>', /declarations of its own/],
  'an entity declaration outside': ['<!ENTITY a "b"><m/>', /declaration/],
  'a document type within': ['<m><!DOCTYPE x></m>', /document type within/],
  'a document type within an element': ['<m><package><!DOCTYPE x></package></m>', /document type within/],
  'text around elements': ['<m>hello<package/></m>', /text where none may be/],
  'two roots': ['<m/><m/>', /more than one root/],
  'another end than its start': ['<m></n>', /closes nothing/],
  'a prefixed root': ['<md:m xmlns:md="x"><md:package/></md:m>', /prefix/],
  'no XML at all': ['{"error": "not found"}', /text where none may be/],
}
for (const [what, [xml, message]] of Object.entries(bad))
  for (const size of [1, 1000])
    test(`a document with ${what} is refused in chunks of ${size}`, async () => {
      await assert.rejects(split(xml, size), { name: 'Failure', code: 'integrity', message })
    })

test('an element nested too deeply is refused where it has to be read markup by markup', async () => {
  const deep = `<package><!-- -->${'<a>'.repeat(40)}${'</a>'.repeat(40)}</package>`
  await assert.rejects(split(`<m>${deep}</m>`), { code: 'integrity', message: /nested too deeply/ })
})

test('a document of another kind is refused, although it is sound', async () => {
  async function* page() {
    yield Buffer.from('<html><body/></html>')
  }
  await assert.rejects(Array.fromAsync(splitElements(page(), 'package', 'The list', 'metadata')), {
    code: 'integrity',
    message: 'The list is something else: its root element is html.',
  })
})

test('an element of more than 32 MiB is refused before it is read to its end', async () => {
  let read = 0
  async function* endless() {
    yield Buffer.from('<m><package>')
    for (;;) {
      read++
      yield Buffer.alloc(1 << 20, 'x')
    }
  }
  await assert.rejects(Array.fromAsync(splitElements(endless(), 'package', 'It')), {
    code: 'integrity',
    message: /more than 32 MiB/,
  })
  assert.ok(read < 200, `${read} MiB were read`)
})

test('an element may span many small chunks', async () => {
  const [element] = await split(`<m><package>${'<file>/a/b</file>'.repeat(500_000)}</package></m>`, 16 * 1024)
  assert.equal(element?.length, 8_500_019)
})

test('elements are the same however they are found, and tell when one is unusual', async () => {
  const usual = /<package id="\d+">(?:<file>[^<>]*<\/file>\s*)*<\/package>/y
  const plain = Array.from({ length: 300 }, (_, id) => `<package id="${id}"><file>/a &amp; b/${id}</file>\n</package>`)
  const odd = ['<package id="x"><file>a</file></package>', '<package id="7"><!-- </package> --></package>', '<package id="8"/>']
  const bad = [
    '<package id="7"><file>&bomb;</file></package>',
    Buffer.from('<package id="7"><file>\xff</file></package>', 'latin1'),
  ]
  for (const size of [1, 100, 100_000])
    for (const more of [[], ...odd.map((each) => [each]), ...bad.map((each) => [each])]) {
      const middle = [...plain.slice(0, 200), ...more, ...plain.slice(200)]
      const document = Buffer.concat(['<r>', ...middle.flatMap((each) => [each, '\n']), '</r>'].map((each) => Buffer.from(each)))
      const chunks = async function* () {
        for (let at = 0; at < document.length; at += size) yield document.subarray(at, at + size)
      }
      const cuts = await Array.fromAsync(cutElements(chunks(), { name: 'package', what: 'It', rootName: 'r', usual }))
      const elements = cuts.flatMap((cut) => cut.elements)
      assert.deepEqual(
        elements,
        middle.map((each) => Buffer.from(each)),
      )
      const unusual = cuts.filter(({ areUsual }) => !areUsual).flatMap((cut) => cut.elements.map(String))
      for (const each of more) assert.ok(unusual.includes(String(each)), String(each))
      if (size === 100 && more.length === 0) assert.ok(unusual.length < 10, `${unusual.length} of ${middle.length}`)
    }
})
