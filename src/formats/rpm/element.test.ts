import assert from 'node:assert/strict'
import { test } from 'node:test'
import { escapeXml, parseElements, quoteXml } from './element.ts'

test('elements, attributes, text and where they stand are read', () => {
  const xml =
    '<?xml version="1.0"?>\n<!DOCTYPE a PUBLIC "x" "y.dtd">\n<a x="1" y=\'&lt;"&#x41;&#66;\'>t&amp;<!-- <b> --><b/><![CDATA[<&]]></a>\n'
  const root = parseElements(xml, 'It')
  assert.deepEqual(root.attributes, { x: '1', y: '<"AB' })
  assert.equal(root.text, 't&<&')
  assert.deepEqual(
    root.children.map(({ name, start, end }) => [name, xml.slice(start, end)]),
    [['b', '<b/>']],
  )
  assert.equal(xml.slice(root.start, root.end), xml.slice(xml.indexOf('<a'), -1))
})

test('what escapeXml and quoteXml write is read as it was', () => {
  const text = 'a & <b> "c" \'d\'\r\n\t]]> ü 熊'
  const root = parseElements(`<a x=${quoteXml(text)}>${escapeXml(text)}</a>`, 'It')
  assert.equal(root.attributes['x'], text)
  assert.equal(root.text, text)
})

test('characters that XML cannot hold are left out', () => {
  assert.equal(escapeXml('a\u0000b\u001bc\uffff'), 'abc')
})

const laughs = '<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'
for (const [what, xml, message] of [
  ['an entity declaration', laughs, /a document type with declarations/],
  ['an unknown entity', '<a>&b;</a>', /unknown entity &b;/],
  ['an element that is not closed', '<a><b></a>', /closes nothing/],
  ['the end in the middle', '<a><b>', /<b> is not closed/],
  ['a tag cut short', '<a><b', /unfinished markup/],
  ['two roots', '<a/><b/>', /not one root/],
  ['nothing', '', /not one root/],
  ['text outside', 'hello <a/>', /outside of an element/],
  ['an attribute twice', '<a b="1" b="2"/>', /attribute b twice/],
  ['an attribute without quotes', '<a b=1/>', /broken attribute/],
  ['too deep a nest', '<a>'.repeat(1000), /nested too deeply/],
  ['a character beyond Unicode', '<a>&#x110000;</a>', /broken character reference/],
] as const)
  test(`${what} is refused`, () => {
    assert.throws(() => parseElements(xml, 'It'), { name: 'Failure', code: 'integrity', message })
  })

test('a long unfinished attribute list costs no more than its length', () => {
  const start = performance.now()
  assert.throws(() => parseElements(`<a ${'b="" '.repeat(50_000)}`, 'It'))
  assert.ok(performance.now() - start < 2000)
})
