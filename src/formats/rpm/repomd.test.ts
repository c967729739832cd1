import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRepomd, renderRepomd } from './repomd.ts'

const checksum = { type: 'sha256', value: 'a'.repeat(64) }

test('what renderRepomd writes, parseRepomd reads', () => {
  const repomd = {
    revision: '1600000000',
    records: [
      {
        type: 'primary',
        href: 'repodata/a&b.xml.gz',
        base: undefined,
        checksum,
        openChecksum: checksum,
        size: 10,
        openSize: 20,
        timestamp: 30,
      },
      {
        type: 'group',
        href: 'repodata/c.xml',
        base: 'http://x/',
        checksum,
        openChecksum: undefined,
        size: undefined,
        openSize: undefined,
        timestamp: undefined,
      },
    ],
  }
  assert.deepEqual(parseRepomd(Buffer.from(renderRepomd(repomd))), repomd)
})

test('odd sizes and times do no harm, and `sha` is SHA-1', () => {
  const xml = `<repomd><data type="primary"><checksum type="sha">${'B'.repeat(40)}</checksum><location href="p"/><timestamp>1600000000.75</timestamp><size/></data></repomd>`
  const { revision, records } = parseRepomd(Buffer.from(xml))
  assert.equal(revision, '')
  assert.deepEqual(records[0]?.checksum, { type: 'sha1', value: 'b'.repeat(40) })
  assert.deepEqual([records[0]?.timestamp, records[0]?.size], [1600000000, undefined])
})

const record = (inside: string, type = 'type="primary"') => `<repomd><data ${type}>${inside}</data></repomd>`
const sum = `<checksum type="sha256">${checksum.value}</checksum>`
const bad: Record<string, string> = {
  'an HTML page': '<html><body>Welcome</body></html>',
  'half a document': '<repomd><data type="primary">',
  'an entity declaration': `<!DOCTYPE repomd [<!ENTITY x "y">]><repomd/>`,
  'a record without location': record(sum),
  'a record without checksum': record('<location href="p"/>'),
  'a record without type': record(`${sum}<location href="p"/>`, ''),
  'a checksum that is none': record('<checksum type="sha256">../../etc</checksum><location href="p"/>'),
  'an unknown checksum type': record(`<checksum type="rot13">${checksum.value}</checksum><location href="p"/>`),
  'one type twice': `<repomd>${`<data type="primary">${sum}<location href="p"/></data>`.repeat(2)}</repomd>`,
}
for (const [what, xml] of Object.entries(bad))
  test(`a repomd.xml that is or has ${what} is refused`, () => {
    assert.throws(() => parseRepomd(Buffer.from(xml)), { name: 'Failure', code: 'integrity' })
  })
