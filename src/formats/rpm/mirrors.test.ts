import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { discoverAt, makeRepository, serve } from '../../../tests/rpm-upstream.ts'
import { parseMirrors } from './mirrors.ts'

const repository = makeRepository({ packages: [{ name: 'bear' }] })
const below = (folder: string, files: Record<string, Buffer>) =>
  Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`${folder}/${path}`, bytes]))
const digest = (type: string, bytes: Buffer) => createHash(type).update(bytes).digest('hex')

function metalink(urls: [url: string, preference: number][], hashes: string, alternates = ''): string {
  return `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager"><files><file name="repomd.xml">
  <mm0:timestamp>1</mm0:timestamp><size>1</size><verification>${hashes}</verification>${alternates}
  <resources maxconnections="1">${urls.map(([url, preference]) => `<url protocol="http" type="http" location="DE" preference="${preference}">${url}repodata/repomd.xml</url>`).join('')}</resources>
</file></files></metalink>`
}

test('a mirrorlist is read line by line: comments and other text are passed over', () => {
  const { bases, expected } = parseMirrors(
    '# http://no/\nhttp://a/r\nbaseurl = https://b/r/?x=$y \nftp://c/\n<html>http://d/</html>\n\n',
  )
  assert.deepEqual(bases.map(String), ['http://a/r', 'https://b/r/?x=$y'])
  assert.equal(expected, undefined)
})

test('a metalink is read: mirrors by preference, the strongest hashes of the file and of its alternates', () => {
  const alternate = `<mm0:alternates><mm0:alternate><verification><hash type="sha256">cc</hash></verification></mm0:alternate></mm0:alternates>`
  const { bases, expected } = parseMirrors(
    metalink(
      [
        ['http://a/', 1],
        ['http://b/', 90],
      ],
      '<hash type="md5">aa</hash><hash type="sha512">BB</hash>',
      alternate,
    ),
  )
  assert.deepEqual(bases.map(String), ['http://b/', 'http://a/'])
  assert.deepEqual(expected, [
    { type: 'sha512', value: 'bb' },
    { type: 'sha256', value: 'cc' },
  ])
})

test('a metalink with entity declarations is refused', () => {
  assert.throws(() => parseMirrors('<!DOCTYPE m [<!ENTITY a "b">]><metalink/>'), { code: 'integrity' })
})

test('a URL with a query is asked for as a list of mirrors first: one request more than a plain one', async (t) => {
  const upstream = await serve(t, below('r', repository))
  upstream.files['list?repo=x&arch=y'] = Buffer.from(`# mirrors\n${upstream.url}r/\n`)
  const { units } = await discoverAt(t, `${upstream.url}list?repo=x&arch=y`)
  assert.deepEqual(
    units.map(({ meta }) => meta['name']),
    ['bear'],
  )
  assert.equal(String(units[0]?.files[0]?.urls?.[0]), `${upstream.url}r/bear-1.0-1.noarch.rpm`)
  assert.deepEqual(upstream.requests.slice(0, 2), ['list?repo=x&arch=y', 'r/repodata/repomd.xml'])
})

test('a URL without a query may be a list too, and the first mirror that works is taken', async (t) => {
  const upstream = await serve(t, below('good', repository))
  upstream.files['mirrors'] = Buffer.from(`${upstream.url}gone/\n${upstream.url}good/\n`)
  const { units } = await discoverAt(t, `${upstream.url}mirrors`)
  assert.equal(units.length, 1)
})

test('a plain repository may have a query', async (t) => {
  const upstream = await serve(t, below('r', repository))
  const { units } = await discoverAt(t, `${upstream.url}r?sig=1`)
  assert.equal(units.length, 1)
})

test('a mirror whose repomd.xml is not the one that the metalink names is passed over', async (t) => {
  const stale = makeRepository({ packages: [{ name: 'wolf' }] })
  const upstream = await serve(t, { ...below('new', repository), ...below('old', stale) })
  const hash = `<hash type="sha256">${digest('sha256', repository['repodata/repomd.xml']!)}</hash>`
  const list = (urls: [string, number][]) =>
    Buffer.from(
      metalink(
        urls.map(([path, preference]) => [`${upstream.url}${path}/`, preference]),
        hash,
      ),
    )
  upstream.files['metalink?repo=x'] = list([
    ['old', 100],
    ['new', 50],
  ])
  const { units } = await discoverAt(t, `${upstream.url}metalink?repo=x`)
  assert.deepEqual(
    units.map(({ meta }) => meta['name']),
    ['bear'],
  )

  upstream.files['metalink?repo=x'] = list([
    ['old', 100],
    ['gone', 50],
  ])
  await assert.rejects(discoverAt(t, `${upstream.url}metalink?repo=x`), {
    code: 'upstream',
    message: /not the one that the metalink names.*404/s,
  })
})

test('a file that one mirror lacks comes from another', async (t) => {
  const { [Object.keys(repository).find((path) => path.includes('filelists'))!]: _, ...partial } = repository
  const upstream = await serve(t, { ...below('a', partial), ...below('b', repository) })
  upstream.files['list'] = Buffer.from(`${upstream.url}a/\n${upstream.url}b/\n`)
  assert.equal((await discoverAt(t, `${upstream.url}list`)).units.length, 1)
})

test('an upstream that is neither a repository nor a list is told as it was asked for', async (t) => {
  const upstream = await serve(t, {})
  await assert.rejects(discoverAt(t, `${upstream.url}r/`), { code: 'upstream', message: /repodata\/repomd\.xml answered 404/ })
})
