import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSlabs, packEntry, parseEntry, unpackEntry } from './package-entry.ts'

const parts = {
  before: `<package type="rpm"><name>bear</name><summary>A bear</summary><description>It
  eats &amp; sleeps.</description><packager/><url>http://x/</url><size package="1" installed="2" archive="3"/>`,
  after: `<format><rpm:license>MIT</rpm:license><rpm:vendor/><rpm:group>Zoo</rpm:group><rpm:buildhost>h</rpm:buildhost>
    <rpm:sourcerpm>bear.src.rpm</rpm:sourcerpm><rpm:header-range start="10" end="20"/>
    <rpm:requires><rpm:entry name="honey" flags="GE" epoch="0" ver="1" rel="2"/><rpm:entry name="(a if b)" pre="1"/></rpm:requires>
    <rpm:recommends><rpm:entry name="cave"/></rpm:recommends></format></package>`,
  filelists: `<package pkgid="x" name="bear" arch="noarch"><version epoch="0" ver="1" rel="1"/><file type="dir">/usr/share/bear</file>
    <file>/usr/bin/bear</file><file>/usr/bin/bear</file><file type="ghost">/bear</file></package>`,
  other: `<package pkgid="x" name="bear" arch="noarch"><version epoch="0" ver="1" rel="1"/>${Array.from(
    { length: 12 },
    (_, index) => `<changelog author="A ${index}" date="${1200 - index}">- ${index}</changelog>`,
  ).join('')}</package>`,
}
const buffers = Object.fromEntries(Object.entries(parts).map(([name, text]) => [name, Buffer.from(text)])) as Record<
  keyof typeof parts,
  Buffer
>

test('what packEntry writes, unpackEntry reads, also out of shared memory', () => {
  const allocate = openSlabs()
  for (const entry of [packEntry(buffers), packEntry(buffers, allocate), packEntry(buffers, allocate)])
    assert.deepEqual(Object.fromEntries(Object.entries(unpackEntry(entry)).map(([name, part]) => [name, String(part)])), parts)
})

test('an entry of another length than its header says is a bug', () => {
  assert.throws(() => unpackEntry(packEntry(buffers).subarray(0, -1)), /another length/)
})

test('details are shaped as Pulp shapes them', () => {
  const { changelogs, ...details } = parseEntry(packEntry(buffers))
  assert.deepEqual(details, {
    summary: 'A bear',
    description: 'It\n  eats & sleeps.',
    url: 'http://x/',
    files: [
      ['dir', '/usr/share/', 'bear'],
      [null, '/usr/bin/', 'bear'],
      ['ghost', '/', 'bear'],
    ],
    requires: [
      ['honey', 'GE', '0', '1', '2', false],
      ['(a if b)', null, null, null, null, true],
    ],
    provides: [],
    conflicts: [],
    obsoletes: [],
    suggests: [],
    enhances: [],
    recommends: [['cave', null, null, null, null, false]],
    supplements: [],
    rpm_buildhost: 'h',
    rpm_group: 'Zoo',
    rpm_license: 'MIT',
    rpm_packager: '',
    rpm_sourcerpm: 'bear.src.rpm',
    rpm_vendor: '',
    rpm_header_start: 10,
    rpm_header_end: 20,
    size_archive: 3,
    size_installed: 2,
  })
  // The ten latest, oldest first.
  assert.deepEqual(
    (changelogs as [string, number, string][]).map(([, time]) => time),
    [1191, 1192, 1193, 1194, 1195, 1196, 1197, 1198, 1199, 1200],
  )
})
