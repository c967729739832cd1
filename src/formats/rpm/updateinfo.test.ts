import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unitsOf, versionOf } from '../../../tests/fixtures/version-of.ts'
import { parseAdvisory, readUpdateinfo, renderAdvisory, renderUpdateinfo } from './updateinfo.ts'

const xml = `<?xml version="1.0" encoding="UTF-8"?>
<updates>
  <update from="a@b.c" status="final" type="security" version="3">
    <id>RHSA-1</id>
    <title>Bear &amp; honey</title>
    <issued date="2026-01-02"/>
    <updated date="2026-01-03 04:05:06 CEST"/>
    <rights>©</rights><release>1</release><pushcount>2</pushcount>
    <severity>Low</severity>
    <summary>s</summary>
    <description><![CDATA[<b>bold</b> </update> & so]]></description>
    <solution>pull</solution>
    <reboot_suggested/>
    <references><reference href="http://x/1" id="1" type="cve" title="CVE-1"/><reference href="http://x/2" type="self"/></references>
    <pkglist>
      <collection short="c"><name>C</name>
        <module name="m" stream="1.10" version="20180816142114" context="x" arch="x86_64"/>
        <package name="bear" version="4.1" release="1" epoch="1" arch="noarch" src="bear.src.rpm">
          <filename>bear-4.1-1.noarch.rpm</filename><sum type="sha256">ab</sum><reboot_suggested>True</reboot_suggested><restart_suggested/>
        </package>
        <package name="cat" version="1" release="1" arch="noarch"><filename>cat.rpm</filename></package>
      </collection>
    </pkglist>
  </update>
  <update from="a@b.c" status="final" type="bugfix" version="1"><id>RHSA-2</id><issued date="1577836800"/></update>
  <update from="a@b.c" status="final" type="bugfix" version="2"><id>RHSA-2</id></update>
</updates>
`

async function* streamed(text: string, size = 64): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const read = async (text: string, size?: number) => (await Array.fromAsync(readUpdateinfo(streamed(text, size)))).flat()

test('an advisory is read in Pulp’s words, wherever the stream is cut', async () => {
  for (const size of [1, 7, 10_000]) {
    const [unit] = await read(xml, size)
    const advisory = parseAdvisory(Buffer.from(unit!.entry!).toString())
    assert.deepEqual(advisory, {
      id: 'RHSA-1',
      updated_date: '2026-01-03 04:05:06',
      issued_date: '2026-01-02 00:00:00',
      description: '<b>bold</b> </update> & so',
      fromstr: 'a@b.c',
      status: 'final',
      title: 'Bear & honey',
      summary: 's',
      version: '3',
      type: 'security',
      severity: 'Low',
      solution: 'pull',
      release: '1',
      rights: '©',
      pushcount: '2',
      reboot_suggested: true,
      pkglist: [
        {
          name: 'C',
          shortname: 'c',
          module: { name: 'm', stream: '1.10', version: 20180816142114, context: 'x', arch: 'x86_64' },
          packages: [
            {
              name: 'bear',
              epoch: '1',
              version: '4.1',
              release: '1',
              arch: 'noarch',
              filename: 'bear-4.1-1.noarch.rpm',
              src: 'bear.src.rpm',
              sum: 'ab',
              sum_type: 'sha256',
              reboot_suggested: true,
              relogin_suggested: false,
              restart_suggested: true,
            },
            {
              name: 'cat',
              epoch: '0',
              version: '1',
              release: '1',
              arch: 'noarch',
              filename: 'cat.rpm',
              src: '',
              sum: '',
              sum_type: 'unknown',
              reboot_suggested: false,
              relogin_suggested: false,
              restart_suggested: false,
            },
          ],
        },
      ],
      references: [
        { href: 'http://x/1', id: '1', title: 'CVE-1', type: 'cve' },
        { href: 'http://x/2', id: null, title: null, type: 'self' },
      ],
    })
    assert.deepEqual(parseAdvisory(renderAdvisory(advisory)), advisory)
  }
})

test('advisories of one id want the same slot', async () => {
  const units = await read(xml)
  assert.deepEqual(
    units.map(({ slot, meta }) => [slot, meta['version'], meta['issued_date']]),
    [
      ['RHSA-1', '3', '2026-01-02 00:00:00'],
      ['RHSA-2', '1', '1577836800'],
      ['RHSA-2', '2', ''],
    ],
  )
})

test('what is published is what was read', async () => {
  const units = await read(xml)
  const published = Buffer.concat(await Array.fromAsync(renderUpdateinfo(versionOf(unitsOf(units))))).toString()
  assert.deepEqual(
    (await read(published)).map(({ key }) => key),
    units.map(({ key }) => key),
  )
  assert.ok(published.includes('<![CDATA[<b>bold</b> </update> & so]]>'))
})

for (const [what, broken] of [
  ['an advisory without an id', '<updates><update><title>x</title></update></updates>'],
  ['half a document', '<updates><update><id>x</id></update>'],
  ['half an advisory', '<updates><update><id>x</id>'],
  ['an advisory that is not well-formed', '<updates><update><id>x</update></updates>'],
  ['an entity declaration', '<!DOCTYPE u [<!ENTITY a "b">]><updates><update><id>&a;</id></update></updates>'],
  ['HTML', '<html><body>sorry</body>'],
] as const)
  test(`${what} is refused`, async () => {
    await assert.rejects(read(broken), { name: 'Failure', code: 'integrity' })
  })

test('bytes that are not UTF-8 are refused', async () => {
  const bytes = Buffer.from('<updates><update><id>x</id></update></updates>')
  bytes[bytes.indexOf('x')] = 0xe4
  await assert.rejects(
    Array.fromAsync(
      readUpdateinfo(
        (async function* () {
          yield bytes
        })(),
      ),
    ),
    { code: 'integrity' },
  )
})
