import { createHash } from 'node:crypto'
import type { ListedUnit, MetadataFile, Piece, Rendered, Stored, Unit, VersionView } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { hasComps, renderComps } from './comps.ts'
import { quoteXml } from './element.ts'
import type { FragmentKind } from './fragments.ts'
import { hasModules, renderModules } from './modulemd.ts'
import { type PackageEntry, unpackEntry } from './package-entry.ts'
import { type MetadataRecord, renderRepomd } from './repomd.ts'
import { renderTreeinfo } from './treeinfo.ts'
import { hasUpdateinfo, renderUpdateinfo } from './updateinfo.ts'

/*
 * The three package lists are written in pieces of some dozens of packages, cut behind packages whose digest says so: a package that
 * comes or goes changes one piece, and all the others are copied, compressed as they are, from the publication before.
 */

interface RenderSettings {
  checksum_type?: unknown
  compression_type?: unknown
  layout?: unknown
}

/** Writes the metadata of a version; see Format.render. */
export async function* render(version: VersionView, settings: RenderSettings): AsyncGenerator<Rendered, void, readonly Stored[]> {
  const compression = settings.compression_type === 'zstd' ? 'zstd' : settings.compression_type === 'none' ? 'none' : 'gz'
  const checksumType = checksumTypeFor(settings)
  const timestamp = Math.floor(version.created / 1_000_000)
  const records: MetadataRecord[] = []
  const checksumOf = (stored: Stored) => stored.digests[checksumType]!

  function fileCalled(name: string, packing: MetadataFile['compression']): MetadataFile & { path: (stored: Stored) => string } {
    const path = (stored: Stored) => `repodata/${checksumOf(stored)}-${name}${extensions[packing]}`
    return { path, compression: packing, digests: [checksumType] }
  }
  function list(type: string, file: ReturnType<typeof fileCalled>, stored: Stored): void {
    const checksum = { type: checksumType, value: checksumOf(stored) }
    const openSize = file.compression === 'none' ? undefined : stored.openSize
    records.push({ type, href: file.path(stored), checksum, size: stored.size, openSize, timestamp })
  }
  /** Yields a metadata file and lists it. */
  async function* write(
    type: string,
    name: string,
    body: AsyncIterable<Uint8Array>,
    packing: MetadataFile['compression'],
  ): AsyncGenerator<Rendered, void, readonly Stored[]> {
    const file = fileCalled(name, packing)
    const [stored] = yield { ...file, body }
    list(type, file, stored!)
  }

  const packageLists = kinds.map((kind) => fileCalled(`${kind}.xml`, compression))
  const stored = yield { files: packageLists, pieces: cutPieces(version, String(settings.layout)) }
  for (const [index, kind] of kinds.entries()) list(kind, packageLists[index]!, stored[index]!)
  if (hasUpdateinfo(version)) yield* write('updateinfo', 'updateinfo.xml', renderUpdateinfo(version), compression)
  if (hasModules(version)) yield* write('modules', 'modules.yaml', renderModules(version), 'none')
  if (hasComps(version)) yield* write('group', 'comps.xml', renderComps(version), 'none')
  for await (const unit of version.units('rpm.repo_metadata_file')) {
    const [file] = unit.files
    if (!file?.sha256) throw new Failure('integrity', `The bytes of the metadata file ${unit.meta['data_type']} are not here.`)
    const body = await version.open(file.sha256)
    yield* write(unit.meta['data_type'], nameWithoutChecksum(file.path, unit.meta['checksum']), body, 'none')
  }
  for await (const unit of version.units('rpm.distribution_tree')) {
    const treeinfo = await renderTreeinfo(unit)
    if (treeinfo) yield { path: treeinfo.path, body: once(treeinfo.body), compression: 'none' }
  }
  // As Pulp has it, so that two empty repositories are the same.
  const revision = Object.values(version.counts).some((count) => count > 0) ? String(timestamp) : '0'
  yield {
    path: 'repodata/repomd.xml',
    body: once(Buffer.from(renderRepomd({ revision, records }))),
    compression: 'none',
    signed: { signature: 'repodata/repomd.xml.asc', publicKey: repomdKeyPath },
  }
}

/** Where dnf gets the key that signs the metadata; config.repo tells it so. */
export const repomdKeyPath = 'repodata/repomd.xml.key'

const extensions = { gz: '.gz', zstd: '.zst', none: '' }

function checksumTypeFor({ checksum_type }: RenderSettings): 'sha256' | 'sha384' | 'sha512' {
  return checksum_type === 'sha384' || checksum_type === 'sha512' ? checksum_type : 'sha256'
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** `<checksum>-productid.gz` is `productid.gz`, as upstreams name files by what is in them. */
function nameWithoutChecksum(path: string, checksum: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1)
  return name.startsWith(`${checksum}-`) ? name.slice(checksum.length + 1) : name
}

/** Where a layout puts a package. */
export function packagePath(name: string, layout: string): string {
  return layout === 'flat' ? `Packages/${name}` : `Packages/${name.slice(0, 1).toLowerCase()}/${name}`
}

/** What is needed of a package to write it, and no more: there are many. */
interface ListedPackage {
  path: string
  /** Its checksum in the metadata, where it cannot be the one that the upstream gave. */
  sha256: string | undefined
  entry: Unit['entry']
}

const usualPieceSize = 32
const largestPiece = 128

/** The package lists in pieces, each with a part of primary, filelists and other. */
async function* cutPieces(version: VersionView, layout: string): AsyncGenerator<Piece> {
  const total = version.counts['rpm.package'] ?? 0
  yield { key: `head:${total}`, parts: () => kinds.map((kind) => Buffer.from(headOf(kind, total))) }
  let packages: ListedPackage[] = []
  let digest = createHash('sha256')
  function cut(): Piece {
    const these = packages
    const key = digest.digest('hex').slice(0, 32)
    packages = []
    digest = createHash('sha256')
    return { key, parts: () => writePiece(these) }
  }
  for await (const unit of version.listed('rpm.package')) {
    const listed = listedPackage(unit, layout)
    packages.push(listed)
    digest.update(`${unit.uuid}\n${listed.path}\n${listed.sha256}\n`)
    if (packages.length === largestPiece || endsPiece(unit.slot)) yield cut()
  }
  if (packages.length > 0) yield cut()
  yield { key: 'end', parts: () => kinds.map((kind) => Buffer.from(`${roots[kind][1]}\n`)) }
}

/** Decides by the name alone, so that what comes and goes elsewhere moves no cut. FNV-1a: quick, and even enough. */
function endsPiece(slot: string): boolean {
  let hash = 0x811c9dc5
  for (let at = 0; at < slot.length; at++) hash = Math.imul(hash ^ slot.charCodeAt(at), 0x01000193)
  // The high bits are the better mixed ones.
  return (hash >>> 16) % usualPieceSize === 0
}

/** Checksums that clients refuse, or will soon: with them the keys of packages begin. */
const weak = /^(?:md5|sha1):/

function listedPackage(unit: ListedUnit, layout: string): ListedPackage {
  const [file] = unit.files
  const name = file!.path.slice(file!.path.lastIndexOf('/') + 1)
  const sha256 = weak.test(unit.key) ? file!.sha256 : null
  return { path: packagePath(name, layout), sha256: sha256 ?? undefined, entry: unit.entry }
}

const kinds = ['primary', 'filelists', 'other'] as const

const roots: Record<FragmentKind, [start: string, end: string]> = {
  primary: [
    '<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"',
    '</metadata>',
  ],
  filelists: ['<filelists xmlns="http://linux.duke.edu/metadata/filelists"', '</filelists>'],
  other: ['<otherdata xmlns="http://linux.duke.edu/metadata/other"', '</otherdata>'],
}

function headOf(kind: FragmentKind, total: number): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${roots[kind][0]} packages="${total}">\n`
}

const newline = Buffer.from('\n')

async function writePiece(packages: readonly ListedPackage[]): Promise<Buffer[]> {
  const parts = kinds.map((): Buffer[] => [])
  for (const listed of packages) {
    const whole = unpackEntry(await listed.entry())
    const entry = listed.sha256 === undefined ? whole : withChecksum(whole, listed.sha256)
    for (const [index, kind] of kinds.entries()) parts[index]!.push(...partsOf(kind, entry, listed.path), newline)
  }
  return parts.map((part) => Buffer.concat(part))
}

function partsOf(kind: FragmentKind, { before, after, filelists, other }: PackageEntry, path: string): Buffer[] {
  if (kind === 'filelists') return [filelists]
  if (kind === 'other') return [other]
  return [before, Buffer.from(`<location href=${quoteXml(path)}/>`), after]
}

/** The elements with another checksum than the upstream gave the package. */
function withChecksum(entry: PackageEntry, sha256: string): PackageEntry {
  const replaced = (part: Buffer, pattern: RegExp, by: string) => Buffer.from(part.toString('utf8').replace(pattern, by))
  const checksum = `<checksum type="sha256" pkgid="YES">${sha256}</checksum>`
  const listed = (part: Buffer) => replaced(part, /pkgid="[^"]*"/, `pkgid="${sha256}"`)
  return {
    before: replaced(entry.before, /<checksum [^>]*>[^<]*<\/checksum>/, checksum),
    after: replaced(entry.after, /<checksum [^>]*>[^<]*<\/checksum>/, checksum),
    filelists: listed(entry.filelists),
    other: listed(entry.other),
  }
}
