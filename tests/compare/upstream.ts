import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createHash } from 'node:crypto'
import { headersOf, makeImages } from '../image-upstream.ts'
import { makeRepository } from '../rpm-upstream.ts'

/** Upstreams on loopback for both servers. All they hold is of this run, so that no server has it already. */
export interface Upstream extends AsyncDisposable {
  readonly url: string
}

export async function openUpstream(run: string): Promise<Upstream> {
  const files = filesOf(run)
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? '/').slice(1).replace(/\?.*/, ''))
    const body = files[path]
    if (body) response.writeHead(200, headersOf(path, body)).end(request.method === 'HEAD' ? undefined : body)
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function filesOf(run: string): Record<string, Buffer> {
  const below = (folder: string, files: Record<string, Buffer>) =>
    Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`${folder}/${path}`, bytes]))
  return {
    ...below('rpm', rpmRepository(run)),
    ...below('zoo', rpmRepository(`zoo-${run}`)),
    ...below('lists', rpmRepository(`lists-${run}`)),
    ...below('lists-files', fileRepository({ 'a.txt': `listed a of ${run}`, 'b.txt': `listed, too: b of ${run}` })),
    ...below(
      'file',
      fileRepository({ 'one.txt': `one of ${run}`, 'sub/two.txt': `two of ${run}`, 'three.iso': `three of ${run}` }),
    ),
    ...below('file-wrong', fileRepository({ 'a.txt': `a of ${run}` }, { 'a.txt': `changed ${run}` })),
    ...below('v2', { '': Buffer.from('{}'), ...makeImages(`images-${run}`, run), ...makeImages(`lists-${run}`, `lists-${run}`) }),
    'file-odd/PULP_MANIFEST': Buffer.from('this is no manifest\n'),
    'rpm-odd/repodata/repomd.xml': Buffer.from('this is no XML'),
    'single.txt': Buffer.from(`single of ${run}`),
  }
}

/** `served` replaces bytes after the manifest was written. */
function fileRepository(texts: Record<string, string>, served: Record<string, string> = {}): Record<string, Buffer> {
  const lines = Object.entries(texts).map(
    ([path, text]) => `${path},${createHash('sha256').update(text).digest('hex')},${Buffer.byteLength(text)}\n`,
  )
  const files = Object.entries({ ...texts, ...served }).map(([path, text]) => [path, Buffer.from(text)])
  return { PULP_MANIFEST: Buffer.from(lines.join('')), ...Object.fromEntries(files) }
}

function rpmRepository(run: string): Record<string, Buffer> {
  const packages = [
    { name: `bear-${run}`, version: '4.1', summary: 'A bear' },
    { name: `bear-${run}`, version: '5.0', epoch: '1', summary: 'A newer bear' },
    { name: `cat-${run}`, arch: 'x86_64', files: ['/usr/bin/cat', '/etc/cat/', '/etc/cat/rc'] },
    { name: `walrus-${run}`, release: '0.8.el9', arch: 'src', href: `Packages/w/walrus-${run}.src.rpm` },
  ]
  const files = makeRepository({
    packages,
    further: { group: comps(run), updateinfo: updateinfo(run), modules: modules(run), productid: run },
  })
  const image = Buffer.from(`a kernel of ${run}`)
  return { ...files, 'images/vmlinuz': image, '.treeinfo': Buffer.from(treeinfo(run, image)) }
}

const comps = (run: string) => `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps>
  <group>
    <id>animals-${run}</id>
    <name>Animals</name>
    <name xml:lang="de">Tiere</name>
    <description>All of them</description>
    <default>true</default>
    <uservisible>false</uservisible>
    <display_order>7</display_order>
    <packagelist>
      <packagereq type="mandatory">bear-${run}</packagereq>
      <packagereq type="optional" requires="x">cat-${run}</packagereq>
    </packagelist>
  </group>
  <category>
    <id>all-${run}</id>
    <name>All</name>
    <description></description>
    <display_order>99</display_order>
    <grouplist><groupid>animals-${run}</groupid></grouplist>
  </category>
  <environment>
    <id>zoo-${run}</id>
    <name>Zoo</name>
    <description>A zoo</description>
    <display_order>3</display_order>
    <grouplist><groupid>animals-${run}</groupid></grouplist>
    <optionlist><groupid default="true">birds</groupid></optionlist>
  </environment>
  <langpacks><match install="LibreOffice-${run}-%s" name="office-${run}"/></langpacks>
</comps>
`

const updateinfo = (run: string) => `<?xml version="1.0" encoding="UTF-8"?>
<updates>
  <update from="team@example.org" status="final" type="security" version="3">
    <id>ADV-${run}</id>
    <title>Bear bites</title>
    <release>0</release>
    <issued date="2024-02-03 04:05:06"/>
    <updated date="2024-03-04"/>
    <rights>Ours</rights>
    <severity>Important</severity>
    <summary>Less teeth</summary>
    <description>A bear with less teeth.</description>
    <solution>Install it</solution>
    <reboot_suggested>True</reboot_suggested>
    <references>
      <reference href="https://example.org/1" id="CVE-2024-1" title="Teeth" type="cve"/>
    </references>
    <pkglist>
      <collection short="zoo">
        <name>Zoo</name>
        <package name="bear-${run}" version="4.1" release="1" epoch="0" arch="noarch" src="bear-${run}-4.1-1.src.rpm">
          <filename>bear-${run}-4.1-1.noarch.rpm</filename>
          <sum type="sha256">${'ab'.repeat(32)}</sum>
          <reboot_suggested/>
        </package>
      </collection>
    </pkglist>
  </update>
</updates>
`

const modules = (run: string) => `---
document: modulemd
version: 2
data:
  name: walrus-${run}
  stream: "5.21"
  version: 20180704144203
  context: deadbeef
  arch: x86_64
  summary: Walrus module
  description: >-
    A module for walruses.
  license:
    module:
    - MIT
  dependencies:
  - requires:
      platform: [el9]
  profiles:
    default:
      description: The default
      rpms:
      - walrus-${run}
  artifacts:
    rpms:
    - walrus-${run}-0:1.0-0.8.el9.src
...
---
document: modulemd-defaults
version: 1
data:
  module: walrus-${run}
  stream: "5.21"
  profiles:
    "5.21": [default]
...
---
document: modulemd-obsoletes
version: 1
data:
  modified: 2024-01-02T03:04Z
  module: walrus-${run}
  stream: "5.21"
  message: It is over
  obsoleted_by:
    module: walrus-${run}
    stream: "6"
...
`

const treeinfo = (run: string, image: Buffer) => `[header]
type = productmd.treeinfo
version = 1.2

[release]
name = Zoo ${run}
short = Zoo
version = 9

[general]
arch = x86_64
family = Zoo ${run}
name = Zoo ${run} 9
platforms = x86_64
timestamp = 1700000000
variant = Main
version = 9

[tree]
arch = x86_64
build_timestamp = 1700000000
platforms = x86_64
variants = Main

[variant-Main]
id = Main
name = Main
packages = Packages
repository = .
type = variant
uid = Main

[checksums]
images/vmlinuz = sha256:${createHash('sha256').update(image).digest('hex')}

[images-x86_64]
kernel = images/vmlinuz
`
