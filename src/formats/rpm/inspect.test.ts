import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Uploaded } from '../../core/format.ts'
import { unitsOf } from '../../../tests/fixtures/version-of.ts'
import { madePackage } from '../../../tests/fixtures/made-package.ts'
import { otherContentTypes } from './content-types.ts'
import { tags } from './header-tags.ts'
import { inspect } from './inspect.ts'
import { parseEntry } from './package-entry.ts'

function upload(type: string, bytes: Uint8Array | string, fields: Record<string, unknown> = {}): Uploaded {
  const buffer = Buffer.from(bytes)
  const digests = { sha256: createHash('sha256').update(buffer).digest('hex') }
  return { type, fields, file: { size: buffer.length, digests, open: async () => Readable.from([buffer]) } }
}

async function viewOf(uploaded: Uploaded): Promise<Record<string, unknown>> {
  const [unit] = unitsOf(await inspect(uploaded))
  const type = otherContentTypes.find(({ name }) => `rpm.${name}` === uploaded.type)!
  return type.view(unit!, () => true)
}

const rpm = madePackage({
  [tags.summary]: 'A <bear>',
  [tags.epoch]: 3,
  [tags.changelogTime]: [86400],
  [tags.changelogName]: ['me'],
  [tags.changelogText]: ['- x'],
})

test('a package is named as rpm names it, and described as a synced one is', async () => {
  const [unit] = await inspect(upload('rpm.package', rpm))
  assert.equal(unit!.slot, 'bear-3:4.1-1.noarch')
  assert.equal(unit!.meta['location_href'], 'bear-4.1-1.noarch.rpm')
  assert.equal(unit!.meta['is_modular'], false)
  const sha256 = createHash('sha256').update(rpm).digest('hex')
  assert.deepEqual(unit!.files, [{ path: 'bear-4.1-1.noarch.rpm', size: rpm.length, checksum: `sha256:${sha256}`, sha256 }])
  const details = parseEntry(Buffer.from(unit!.entry!))
  assert.equal(details['summary'], 'A <bear>')
  assert.deepEqual(details['changelogs'], [['me', 86400, '- x']])
})

test('a package lies where its user wants it', async () => {
  const [unit] = await inspect(upload('rpm.package', rpm, { relative_path: 'b/bear.rpm' }))
  assert.deepEqual([unit!.files[0]!.path, unit!.meta['location_href']], ['b/bear.rpm', 'b/bear.rpm'])
  await assert.rejects(inspect(upload('rpm.package', rpm, { relative_path: '../bear.rpm' })), { code: 'invalid' })
})

test('a package with a modularity label is modular', async () => {
  const [unit] = await inspect(upload('rpm.package', madePackage({ [tags.modularityLabel]: 'm:1:2:c' })))
  assert.equal(unit!.meta['is_modular'], true)
})

test('what is no package is refused', async () => {
  await assert.rejects(inspect(upload('rpm.package', 'hello')), {
    code: 'invalid',
    message: /^The uploaded file is not an RPM package/,
  })
  await assert.rejects(inspect({ type: 'rpm.package', fields: {} }), { code: 'invalid', message: /A file is needed/ })
})

const advisory = {
  id: 'CEBA-1',
  issued: '2020-03-08 20:04:01',
  updated: '2022-03-08 20:04:01',
  from: 'me',
  version: 1,
  severity: null,
  pkglist: [
    {
      short: 's',
      packages: [
        { name: 'bear', version: '4.1', release: '1', arch: 'noarch', sum: 'ab', sum_type: 5 },
        { name: 'cat', sum_type: '' },
      ],
    },
  ],
  references: [{ href: 'http://x', id: '1', title: 't', type: 'self' }],
}

test('an advisory is uploaded as JSON, with the names of updateinfo.xml or of the API', async () => {
  const view = await viewOf(upload('rpm.advisory', JSON.stringify(advisory)))
  assert.deepEqual(
    [view['id'], view['fromstr'], view['issued_date'], view['updated_date'], view['version'], view['severity']],
    ['CEBA-1', 'me', '2020-03-08 20:04:01', '2022-03-08 20:04:01', '1', ''],
  )
  const [collection] = view['pkglist'] as any[]
  assert.deepEqual(
    [collection.shortname, collection.packages[0].sum_type, collection.packages[1].sum_type, collection.packages[1].epoch],
    ['s', 'sha256', 'unknown', '0'],
  )
  const renamed = { ...advisory, issued: undefined, issued_date: advisory.issued, from: undefined, fromstr: 'me' }
  assert.deepEqual(await viewOf(upload('rpm.advisory', JSON.stringify(renamed))), view)
})

for (const [what, body, message] of [
  ['no JSON', '<xml/>', /JSON file is expected/],
  ['bytes that are no text', Buffer.from([0xff, 0xfe]), /JSON file is expected/],
  ['a list', '[]', /not a JSON object/],
  ['no date', JSON.stringify({ ...advisory, updated: '' }), /All 'id', 'updated_date' and 'issued_date' must be specified\./],
  [
    'packages that are no list',
    JSON.stringify({ ...advisory, pkglist: [{ packages: 'x' }] }),
    /field packages of the advisory is not a list/,
  ],
  [
    'an unknown checksum',
    JSON.stringify({ ...advisory, pkglist: [{ packages: [{ sum_type: 'crc32' }] }] }),
    /"crc32" is not supported/,
  ],
] as const)
  test(`an advisory of ${what} is refused`, async () => {
    await assert.rejects(inspect(upload('rpm.advisory', body)), { name: 'Failure', code: 'invalid', message })
  })

test('a comps.xml becomes its parts, compressed or not', async () => {
  const comps = '<comps><group><id>g</id></group><category><id>c</id></category></comps>'
  for (const body of [comps, gzipSync(comps)])
    assert.deepEqual(
      (await inspect(upload('rpm.comps', body))).map(({ type }) => type),
      ['rpm.packagegroup', 'rpm.packagecategory'],
    )
  await assert.rejects(inspect(upload('rpm.comps', '<comps>')), { code: 'invalid' })
})

test('module documents are created from their fields', async () => {
  const modulemd = {
    name: 'm',
    stream: '1',
    version: '2',
    context: 'c',
    arch: 'a',
    artifacts: [],
    dependencies: [],
    profiles: {},
    description: 'd',
    snippet: '---\nx\n...',
  }
  const { snippet: _, ...shown } = modulemd
  assert.deepEqual(await viewOf({ type: 'rpm.modulemd', fields: modulemd }), { ...shown, static_context: null, packages: [] })
  const defaults = { module: 'm', stream: '1', profiles: { 1: ['default'] }, snippet: 'x' }
  assert.deepEqual(await viewOf({ type: 'rpm.modulemd_defaults', fields: defaults }), {
    module: 'm',
    stream: '1',
    profiles: { 1: ['default'] },
  })
  const obsolete = { modified: 'x', module_name: 'm', module_stream: '1', message: 'gone', snippet: 'x' }
  assert.equal((await viewOf({ type: 'rpm.modulemd_obsolete', fields: obsolete }))['message'], 'gone')
})
