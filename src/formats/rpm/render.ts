import type { ListedUnit, Listing, MetadataFile, Rendered, Stored, VersionView } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { hasComps, renderComps } from './comps.ts'
import { hasModules, renderModules } from './modulemd.ts'
import { type MetadataRecord, renderRepomd } from './repomd.ts'
import { renderTreeinfo } from './treeinfo.ts'
import { hasUpdateinfo, renderUpdateinfo } from './updateinfo.ts'
import { frameLists, kinds, writePackages } from './write-packages.ts'

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
  const layout = String(settings.layout)
  const stored = yield {
    type: 'rpm.package',
    files: packageLists,
    ...frameLists(version.counts['rpm.package'] ?? 0),
    form: `${layout} ${compression}`,
    about: (unit) => aboutPackage(unit, layout),
    write: writePackages,
    thread: new URL('./write-packages-thread.ts', import.meta.url),
  }
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

/** Checksums that clients refuse, or will soon: with them the keys of packages begin. */
const weak = /^(?:md5|sha1):/

/** What is written of a package that is not in its entry: where it lies, and its checksum where it cannot be the one that the upstream gave. */
function aboutPackage({ key, files: [file] }: ListedUnit, layout: string): ReturnType<Listing['about']> {
  const path = packagePath(file!.path.slice(file!.path.lastIndexOf('/') + 1), layout)
  const isWeak = weak.test(key)
  // The bytes may come, or go, later.
  return { facts: isWeak && file!.sha256 ? { path, sha256: file!.sha256 } : { path }, settled: !isWeak }
}
