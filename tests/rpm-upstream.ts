import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { openFetcher } from '../src/core/fetch/fetch.ts'
import type { Access } from '../src/core/fetch/remotes.ts'
import type { Described, Discovered, SyncOptions } from '../src/core/format.ts'
import { rpm } from '../src/formats/rpm/index.ts'
import { openFsBlobs } from '../src/store/fs.ts'

/* rpm-md repositories made up for tests, served on loopback. Their packages are a few bytes that only say what they are. */

export interface MadePackage {
  name: string
  epoch?: string
  version?: string
  release?: string
  arch?: string
  summary?: string
  buildTime?: number
  /** Location, `<name>-<version>-<release>.<arch>.rpm` by default. */
  href?: string
  /** Goes into `<location>` before href. */
  base?: string
  /** Paths; a slash at the end makes a directory. */
  files?: string[]
  checksumType?: string
  /** What its file holds. */
  body?: string
}

export interface MadeRepository {
  packages?: readonly MadePackage[]
  /** Packs the three lists. */
  pack?: (bytes: Buffer) => Buffer
  suffix?: string
  /** Changes the lists before they are packed. */
  edit?: Partial<Record<'primary' | 'filelists' | 'other', (xml: string) => string>>
  /** Further metadata: `productid` by type. */
  further?: Record<string, string | Buffer>
  leaveOut?: readonly string[]
  revision?: string
  checksumType?: string
}

/** The files of a repository, by path. */
export function makeRepository({
  packages = [],
  pack = gzipSync,
  suffix = '.gz',
  edit = {},
  ...more
}: MadeRepository): Record<string, Buffer> {
  const { further = {}, leaveOut = [], revision = '1', checksumType = 'sha256' } = more
  const files: Record<string, Buffer> = {}
  const records: string[] = []
  const add = (type: string, name: string, bytes: Buffer, openSize?: number) => {
    const checksum = createHash(checksumType).update(bytes).digest('hex')
    const path = `repodata/${checksum}-${name}`
    files[path] = bytes
    records.push(`  <data type="${type}">
    <checksum type="${checksumType}">${checksum}</checksum>
    <location href="${path}"/>
    <timestamp>1700000000</timestamp>
    <size>${bytes.length}</size>${openSize === undefined ? '' : `\n    <open-size>${openSize}</open-size>`}
  </data>\n`)
  }
  const lists = {
    primary: document('metadata', 'common', packages.map(primaryOf)),
    filelists: document('filelists', 'filelists', packages.map(filelistsOf)),
    other: document('otherdata', 'other', packages.map(otherOf)),
  }
  for (const kind of ['primary', 'filelists', 'other'] as const) {
    if (leaveOut.includes(kind)) continue
    const xml = Buffer.from(edit[kind]?.(lists[kind]) ?? lists[kind])
    add(kind, `${kind}.xml${suffix}`, pack(xml), xml.length)
  }
  for (const [type, bytes] of Object.entries(further)) add(type, `${type}.data`, Buffer.from(bytes))
  for (const each of packages) if (!/^https?:|\.\./.test(hrefOf(each))) files[hrefOf(each)] = Buffer.from(bodyOf(each))
  files['repodata/repomd.xml'] = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo">
  <revision>${revision}</revision>
${records.join('')}</repomd>\n`)
  return files
}

function document(root: string, namespace: string, packages: string[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<${root} xmlns="http://linux.duke.edu/metadata/${namespace}" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${packages.length}">
${packages.join('\n')}${packages.length > 0 ? '\n' : ''}</${root}>\n`
}

const hrefOf = ({ name, version = '1.0', release = '1', arch = 'noarch', href }: MadePackage) =>
  href ?? `${name}-${version}-${release}.${arch}.rpm`
const bodyOf = (each: MadePackage) =>
  each.body ?? JSON.stringify([each.name, each.version, each.release, each.arch, each.buildTime])

/** What metadata calls the package by. */
export function checksumOf(each: MadePackage): string {
  return createHash(each.checksumType ?? 'sha256')
    .update(bodyOf(each))
    .digest('hex')
}

export function primaryOf(each: MadePackage): string {
  const {
    name,
    epoch = '0',
    version = '1.0',
    release = '1',
    arch = 'noarch',
    summary = `Summary of ${name}`,
    buildTime = 1600000000,
  } = each
  const base = each.base === undefined ? '' : `xml:base="${each.base}" `
  return `<package type="rpm">
  <name>${name}</name>
  <arch>${arch}</arch>
  <version epoch="${epoch}" ver="${version}" rel="${release}"/>
  <checksum type="${each.checksumType ?? 'sha256'}" pkgid="YES">${checksumOf(each)}</checksum>
  <summary>${summary}</summary>
  <description>Made for a test.</description>
  <packager></packager>
  <url>http://example.org/</url>
  <time file="1600000001" build="${buildTime}"/>
  <size package="${Buffer.byteLength(bodyOf(each))}" installed="10" archive="20"/>
  <location ${base}href="${hrefOf(each)}"/>
  <format>
    <rpm:license>MIT</rpm:license>
    <rpm:vendor/>
    <rpm:group>Unspecified</rpm:group>
    <rpm:buildhost>localhost</rpm:buildhost>
    <rpm:sourcerpm>${name}-${version}-${release}.src.rpm</rpm:sourcerpm>
    <rpm:header-range start="4504" end="6000"/>
    <rpm:provides>
      <rpm:entry name="${name}" flags="EQ" epoch="${epoch}" ver="${version}" rel="${release}"/>
    </rpm:provides>
    <rpm:requires>
      <rpm:entry name="/bin/sh" pre="1"/>
      <rpm:entry name="libc" flags="GE" epoch="0" ver="2.34"/>
    </rpm:requires>
    <file>/usr/bin/${name}</file>
  </format>
</package>`
}

function startOf(each: MadePackage): string {
  const { name, epoch = '0', version = '1.0', release = '1', arch = 'noarch' } = each
  return `<package pkgid="${checksumOf(each)}" name="${name}" arch="${arch}">\n  <version epoch="${epoch}" ver="${version}" rel="${release}"/>\n`
}

export function filelistsOf(each: MadePackage): string {
  const files = each.files ?? [`/usr/bin/${each.name}`, `/usr/share/${each.name}/`]
  const lines = files.map((path) =>
    path.endsWith('/') ? `  <file type="dir">${path.slice(0, -1)}</file>\n` : `  <file>${path}</file>\n`,
  )
  return `${startOf(each)}${lines.join('')}</package>`
}

export function otherOf(each: MadePackage): string {
  return `${startOf(each)}  <changelog author="A B &lt;a@example.org&gt; - 1.0-1" date="1600000000">- made ${each.name}</changelog>\n</package>`
}

export interface ServedUpstream {
  url: string
  files: Record<string, Buffer | undefined>
  /** Paths asked for, without the leading slash. */
  requests: string[]
  /** Status of what is not there; 404 by default. */
  missing: number
  /** Called before each answer. */
  before?: (path: string) => void
}

/** Serves these files until the test ends. */
export async function serve(t: TestContext, files: Record<string, Buffer | undefined> = {}): Promise<ServedUpstream> {
  const upstream: ServedUpstream = { url: '', files, requests: [], missing: 404 }
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? '/').slice(1))
    upstream.requests.push(path)
    upstream.before?.(path)
    const body = upstream.files[path]
    if (body) response.end(body)
    else response.writeHead(upstream.missing).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (typeof address === 'object' && address) upstream.url = `http://127.0.0.1:${address.port}/`
  return upstream
}

export async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-rpm-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

export interface Found {
  units: Described[]
  others: Discovered[]
  fingerprint: string
  unchanged: boolean
  reports: Map<string, object>
}

/** What the rpm format discovers at a URL. */
export async function discoverAt(t: TestContext, url: string, options: Partial<SyncOptions> = {}): Promise<Found> {
  const blobs = await openFsBlobs(await temporaryDirectory(t))
  const access: Access = { url, retries: 0, ...options.access }
  await using upstream = openFetcher({ blobs, patience: { pause: 1, slow: 10_000 } }).open(access)
  const found: Found = { units: [], others: [], fingerprint: '', unchanged: false, reports: new Map() }
  const all: SyncOptions = {
    settings: {},
    repository: { name: 'r', settings: {} },
    remote: {},
    policy: 'on_demand',
    unchanged: undefined,
    allowedChecksums: ['sha224', 'sha256', 'sha384', 'sha512'],
    known: async (_, keys) => keys.map(() => undefined),
    held: async (_, keys) => keys.map(() => undefined),
    recall: async () => undefined,
    settled: false,
    stage: (bytes) => blobs.stage(once(bytes)),
    progress: { report: (code, _, change) => void found.reports.set(code, { ...found.reports.get(code), ...change }) },
    signal: new AbortController().signal,
    ...options,
    access,
  }
  for await (const item of rpm.discover!(upstream, all))
    if (item.kind === 'content') found.units.push(...item.batch)
    else if (item.kind === 'fingerprint') Object.assign(found, { fingerprint: item.value, unchanged: item.unchanged })
    else found.others.push(item)
  return found
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
