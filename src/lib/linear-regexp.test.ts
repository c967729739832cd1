import assert from 'node:assert/strict'
import { test } from 'node:test'
import { linearRegExp } from './linear-regexp.ts'

for (const [pattern, text, found] of [
  ['^rocky-[89]\\b.*\\d{2}$', 'rocky-9-12', true],
  ['^rocky-[89]\\b.*\\d{2}$', 'Rocky-9-12', false],
  ['(base|app)s?tream', 'the appstream', true],
  ['a.c', 'abd', false],
  ['', 'anything', true],
] as const)
  test(`/${pattern}/ ${found ? 'matches' : 'does not match'} "${text}"`, () => {
    assert.equal(linearRegExp(pattern).test(text), found)
    assert.equal(new RegExp(pattern).test(text), found)
  })

test('upper and lower case are the same where that is asked for', () => {
  for (const pattern of ['^ROCKY-\\D+$', '^rocky-[A-Z]+$', 'STRASSE|ROCKY-Ä']) {
    assert.ok(
      linearRegExp(pattern, { ignoreCase: true }).test('Rocky-Äx') ||
        linearRegExp(pattern, { ignoreCase: true }).test('rOcKy-bc'),
    )
    assert.ok(!linearRegExp(pattern, { ignoreCase: true }).test('Rocky+1'))
  }
  assert.ok(!linearRegExp('\\D', { ignoreCase: true }).test('123'))
})

for (const evil of ['^(a+)+$', '^(a|a)*$', '^(a|aa)+$', '((a*)*)*b', '^(([a-z])+.)+[A-Z]([a-z])+$'])
  test(`/${evil}/ is soon done with what would take others years`, () => {
    const from = performance.now()
    assert.equal(linearRegExp(evil).test(`${'a'.repeat(50_000)}!`), false)
    assert.ok(performance.now() - from < 5000)
  })

for (const refused of ['(', '[', '(a)\\1', '(?=a)a', '(a{1,100}){1,100}', 'a'.repeat(1001)])
  test(`/${refused.slice(0, 20)}/ is refused`, () => {
    assert.throws(() => linearRegExp(refused), SyntaxError)
  })
