import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { headerOf, lead, packageOf } from '../../../tests/fixtures/made-package.ts'
import { childrenOf, type Element, parseElements } from './element.ts'
import { parseHeader } from './header.ts'
import { dependencyTags, signatureTags, tags } from './header-tags.ts'
import { renderPackage } from './render-package.ts'

const tools = ['/usr/bin/rpmbuild', '/usr/bin/createrepo_c']
const missing = tools.filter((tool) => !existsSync(tool))
const skip = missing.length > 0 && process.env['CI'] !== 'true' ? `${missing.join(' and ')} not installed` : false

const spec = `
Name: bear
Version: 4.1
Release: 1.el9
Epoch: 2
Summary: Ein Bär <&> "quoted" 熊
License: MIT & X
Group: Zoo
URL: http://example.com/?a=1&b=2
Vendor: Wald & Söhne
Packager: Förster <f@example.com>
Requires: (cat or dog)
Requires: (lion >= 1.0 if tiger)
Requires: foo >= 2:1.0-3
Requires: foo >= 2:1.0-3
Requires: foo < 3
Requires: /usr/bin/bear
Requires: /bin/sh
Requires(pre): shadow-utils
Requires(post): shadow-utils
Requires(preun): thing
Requires: config(bear) = 2:4.1-1.el9
Requires: libc.so.6()(64bit)
Requires: libc.so.6(GLIBC_2.4)(64bit)
Requires: libc.so.6(GLIBC_2.34)(64bit)
Requires: libc.so.6(GLIBC_2.9)(64bit)
Recommends: honey
Suggests: salmon > 1
Supplements: (forest and winter)
Enhances: zoo
Conflicts: hunter <= 1.0
Obsoletes: panda < 4:1
Provides: animal = 1
Provides: grizzly
BuildRequires: saw >= 2
%description
Line <one> & two
   indented "text" ]]> end
%package -n bear-data
Summary: data
BuildArch: noarch
%description -n bear-data
data only
%package -n bear-empty
Summary: empty
%description -n bear-empty
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/bear %{buildroot}/usr/lib "%{buildroot}/usr/share/bear dir" %{buildroot}/var/log
echo x > %{buildroot}/usr/bin/bear
echo y > %{buildroot}/etc/bear/bear.conf
echo z > "%{buildroot}/usr/share/bear dir/a & b <c>.txt"
echo s > %{buildroot}/usr/lib/sendmail
touch %{buildroot}/var/log/bear.log
ln -s bear %{buildroot}/usr/bin/bär
%pre
true
%post
true
%files
/usr/bin/bear
/usr/bin/bär
%dir /etc/bear
%config /etc/bear/bear.conf
/usr/lib/sendmail
%ghost /var/log/bear.log
%files -n bear-data
"/usr/share/bear dir"
%files -n bear-empty
%changelog
* Mon Jan 05 2026 Jürgen <j@example.com> - 4.1-3
- third & last <x>
* Mon Jan 05 2026 Jürgen <j@example.com> - 4.1-2
- second
* Mon Jan 05 2026 Jürgen <j@example.com> - 4.1-1
- first
* Sun Jan 04 2026 A B  - 1
- older
${Array.from({ length: 11 }, (_, i) => `* Thu Jan ${String(11 - i).padStart(2, '0')} 2015 A - ${i}\n- entry ${i}\n`).join('')}
`

describe('packages made by rpmbuild, compared with createrepo_c', { skip }, () => {
  let directory = ''

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'signalbox-header-'))
    await writeFile(join(directory, 'bear.spec'), spec)
    const run = (...command: string[]) =>
      execFileSync(command[0]!, command.slice(1), { cwd: directory, stdio: 'ignore', timeout: 60_000 })
    run('rpmbuild', '-ba', '--nodeps', '--define', `_topdir ${directory}/top`, 'bear.spec')
    run('createrepo_c', '--no-database', '--general-compress-type=gz', 'top')
  })
  after(() => rm(directory, { recursive: true, force: true }))

  for (const kind of ['primary', 'filelists', 'other'] as const)
    test(`the ${kind} elements say the same`, async () => {
      const top = join(directory, 'top')
      const rpms = (await readdir(top, { recursive: true })).filter((name) => name.endsWith('.rpm'))
      assert.equal(rpms.length, 4)
      const ours = await Promise.all(
        rpms.map(async (name) => {
          const path = join(top, name)
          const { size, mtimeMs } = await stat(path)
          const checksum = {
            type: 'sha256',
            value: createHash('sha256')
              .update(await readFile(path))
              .digest('hex'),
          }
          const header = await parseHeader(createReadStream(path), name)
          return parsed(renderPackage(header, { checksum, size, fileTime: Math.floor(mtimeMs / 1000), location: name })[kind])
        }),
      )
      const file = (await readdir(join(top, 'repodata'))).find((name) => name.endsWith(`-${kind}.xml.gz`))!
      const theirs = childrenOf(
        parseElements(gunzipSync(await readFile(join(top, 'repodata', file))).toString(), kind),
        'package',
      )
      const sorted = (elements: Element[]) => elements.map(bare).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
      assert.deepEqual(sorted(ours), sorted(theirs))
    })
})

function parsed(xml: string): Element {
  return parseElements(xml, 'our element')
}

/** An element without where it stood. */
function bare({ name, attributes, children, text }: Element): object {
  return { name, attributes, children: children.map(bare), text: children.length > 0 ? text.trim() : text }
}

const identity = {
  [tags.name]: 'a',
  [tags.version]: '1',
  [tags.release]: '1',
  [tags.arch]: 'noarch',
  [tags.sourceRpm]: 'a.src.rpm',
}

async function* chunks(bytes: Buffer, size = 7): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

test('no more is read than the headers, in chunks of any size', async () => {
  let read = 0
  async function* endless() {
    yield* chunks(packageOf(headerOf(identity), headerOf({ [signatureTags.payloadSize]: 77 })), 1)
    for (; ; read++) yield Buffer.alloc(1)
  }
  const header = await parseHeader(endless(), 'a.rpm')
  assert.equal(header.name, 'a')
  assert.equal(header.archiveSize, 77)
  assert.deepEqual([header.headerStart, header.headerEnd], [136, 136 + headerOf(identity).length])
  assert.equal(read, 0)
})

test('a package without a source package is one', async () => {
  const { [tags.sourceRpm]: _, ...source } = identity
  assert.equal((await parseHeader(chunks(packageOf(headerOf(source))), 'a.rpm')).arch, 'src')
})

test('texts that are not UTF-8 are read as Latin-1', async () => {
  const header = headerOf({ ...identity, [tags.summary]: 'Bxr' })
  header[header.indexOf('Bxr') + 1] = 0xe4
  assert.equal((await parseHeader(chunks(packageOf(header)), 'a.rpm')).summary, 'Bär')
})

test('a dependency with an epoch that is no number is left out', async () => {
  const [names, flags, versions] = dependencyTags.requires
  const header = headerOf({ ...identity, [names]: ['good', 'bad'], [flags]: [8, 8], [versions]: ['1:2-3', 'x:2'] })
  const { requires } = await parseHeader(chunks(packageOf(header)), 'a.rpm')
  assert.deepEqual(requires, [{ name: 'good', flags: 'EQ', epoch: '1', version: '2', release: '3' }])
})

test('weak dependencies in the old way become those of today', async () => {
  const [requires, requireFlags, requireVersions] = dependencyTags.requires
  const [suggests, suggestFlags, suggestVersions] = dependencyTags.oldSuggests
  const header = headerOf({
    ...identity,
    [requires]: ['must', 'may'],
    [requireFlags]: [0, 1 << 19],
    [requireVersions]: ['', ''],
    [suggests]: ['strong', 'weak'],
    [suggestFlags]: [1 << 27, 0],
    [suggestVersions]: ['', ''],
  })
  const found = await parseHeader(chunks(packageOf(header)), 'a.rpm')
  const names = (list: { name: string }[]) => list.map(({ name }) => name)
  assert.deepEqual(
    [names(found.requires), names(found.recommends), names(found.suggests)],
    [['must'], ['may', 'strong'], ['weak']],
  )
})

const good = packageOf(headerOf(identity))

for (const [what, bytes, message] of [
  ['an empty file', Buffer.alloc(0), /ends too early/],
  ['a file of zeros', Buffer.alloc(500), /does not start with the magic number/],
  ['HTML', Buffer.from('<html>'.repeat(100)), /does not start with the magic number/],
  ['a lead alone', lead, /ends too early/],
  ['a header cut short', good.subarray(0, -1), /ends too early/],
  ['a broken signature header', packageOf(headerOf(identity), Buffer.alloc(16)), /does not start with its magic number/],
  ['a header with too many entries', packageOf(headerOf(identity, { entries: 0x10000 })), /claims 65536 entries/],
  ['a header with too much data', packageOf(headerOf(identity, { data: 0xffffffff })), /claims 4294967295 bytes/],
  ['an entry beyond the data', packageOf(corrupt(8, 0x7fffffff)), /lies outside its header/],
  ['an entry before the data', packageOf(corrupt(8, 0x80000000)), /lies outside its header/],
  ['an entry of more items than there are bytes', packageOf(corrupt(12, 0xffffffff)), /lies outside its header/],
  ['an entry of an unknown type', packageOf(corrupt(4, 99)), /unknown type 99/],
  ['an endless list', packageOf(longList()), /claims 5000000 items/],
  ['a text without its end', packageOf(endless()), /does not end/],
  ['a header without a name', packageOf(headerOf({ [tags.version]: '1' })), /has no name/],
] as const)
  test(`${what} is refused, naming the file`, async () => {
    await assert.rejects(parseHeader(chunks(bytes, 4096), 'odd.rpm'), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'invalid')
      assert.match(error.message, /^odd\.rpm is not an RPM package: /)
      assert.match(error.message, message)
      return true
    })
  })

/** A header whose first index entry has this at that offset. */
function corrupt(offset: number, value: number): Buffer {
  const header = headerOf(identity)
  header.writeUInt32BE(value, 16 + offset)
  return header
}

/** A header whose last text lacks its NUL. */
function endless(): Buffer {
  const header = headerOf({ [tags.name]: 'a' })
  header[header.length - 1] = 0x61
  return header
}

/** A header with a list of empty texts, in as many bytes. */
function longList(): Buffer {
  const header = headerOf({ [tags.baseNames]: ['\0'.repeat(5_000_000 - 1)] })
  header.writeUInt32BE(5_000_000, 16 + 12)
  return header
}
