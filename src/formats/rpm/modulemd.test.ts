import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unitsOf, versionOf } from '../../../tests/fixtures/version-of.ts'
import { type ModuleEntry, readModules, renderModules } from './modulemd.ts'

const modulemd = `document: modulemd
version: 2
data:
  name: perl
  stream: 5.30
  version: 20260101000000
  context: 00e12
  arch: x86_64
  static_context: true
  summary: Perl
  description: >-
    A language --- of some
    age.
  license:
    module: [MIT]
  dependencies:
  - requires:
      platform: [el9]
      ruby: [2.10, 3.1]
  profiles:
    common: {rpms: [perl]}
    empty: {}
  artifacts:
    rpms:
    - perl-4:5.30.1-1.x86_64
    - perl-libs-4:5.30.1-1.x86_64`

const defaults = `document: modulemd-defaults
version: 1
data:
  module: perl
  stream: 5.30
  profiles:
    5.30: [common]`

const obsolete = `document: modulemd-obsoletes
version: 1
data:
  modified: 2026-01-01T00:00Z
  reset: true
  module: perl
  stream: 5.10
  message: old
  obsoleted_by:
    module: perl
    stream: 5.30`

const all = `---\n${modulemd}\n...\n---\n${defaults}\n---\n${obsolete}\n...\n---\ndocument: modulemd-translations\ndata: {}\n...\n`
const read = (text: string) => readModules(Buffer.from(text))

test('a module is read, its stream as it is written', () => {
  const { units, modularNevras } = read(all)
  const [unit] = units
  assert.equal(unit!.slot, 'perl:5.30:20260101000000:00e12:x86_64')
  assert.equal(unit!.meta['static_context'], true)
  const entry = JSON.parse(Buffer.from(unit!.entry!).toString()) as ModuleEntry
  assert.deepEqual(entry.artifacts, [...modularNevras])
  assert.deepEqual(entry.dependencies, [{ requires: { platform: ['el9'], ruby: ['2.10', 3.1] } }])
  assert.deepEqual(entry.profiles, { common: ['perl'] })
  assert.equal(entry.description, 'A language --- of some age.')
  assert.equal(entry.snippet, `---\n${modulemd}\n...`)
})

test('defaults and obsoletes are read; kinds that clients do not need are not', () => {
  const { units } = read(all)
  assert.deepEqual(
    units.map(({ type }) => type),
    ['rpm.modulemd', 'rpm.modulemd_defaults', 'rpm.modulemd_obsolete'],
  )
  assert.deepEqual([units[1]!.slot, units[1]!.meta['stream']], ['perl', '5.30'])
  assert.deepEqual(units[2]!.meta, {
    modified: '2026-01-01T00:00Z',
    module_name: 'perl',
    module_stream: '5.10',
    message: 'old',
    override_previous: 'True',
    module_context: null,
    eol_date: null,
    obsoleted_by_module_name: 'perl',
    obsoleted_by_module_stream: '5.30',
  })
})

test('what is published is what was read, to the letter', async () => {
  const published = Buffer.concat(await Array.fromAsync(renderModules(versionOf(unitsOf(read(all).units))))).toString()
  assert.equal(published, `---\n${modulemd}\n...\n---\n${defaults}\n...\n---\n${obsolete}\n...\n`)
})

const bomb = `document: modulemd-defaults\ndata:\n  module: x\n  a: &a [${'x,'.repeat(20)}]\n${Array.from('bcdefgh', (name, i) => `  ${name}: &${name} [${`*${'abcdefg'[i]},`.repeat(20)}]`).join('\n')}\n`

for (const [what, text, message] of [
  ['broken YAML', `---\n${defaults}\n---\ndocument: modulemd\ndata: {a: [\n`, /^Document 2 of the modules metadata is broken/],
  ['an alias bomb', bomb, /Excessive alias count/],
  ['a module without a context', modulemd.replace(/ {2}context.*\n/, ''), /needs "context"/],
  ['a module whose version is no number', modulemd.replace('20260101000000', 'one'), /not a whole number/],
  ['a module without licences', modulemd.replace('[MIT]', 'MIT'), /"license" has no list/],
  ['defaults of no module', defaults.replace('module: perl', 'x: y'), /needs "module"/],
  ['an obsolete without a message', obsolete.replace('message', 'note'), /needs "message"/],
  ['a document without data', 'document: modulemd\n', /has no data/],
] as const)
  test(`${what} is refused, naming the document`, () => {
    assert.throws(() => read(text), { name: 'Failure', code: 'integrity', message })
  })
