import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'

/* Repositories that no tool would make: metadata with anything in it, over packages that are just bytes. */

export interface MadePackage {
  name: string
  version?: string
  /** What the file holds; made of its name and version by default. */
  bytes?: Buffer
  /** Where the metadata says it is; it lies at `Packages/` anyway. */
  href?: string
  /** What the metadata says of its bytes, where that is wrong. */
  checksum?: string
  /** Seconds since 1970. */
  built?: number
}

interface Making {
  /** Another text instead of a metadata file's own. */
  replace?: Partial<Record<'primary' | 'filelists' | 'other' | 'group' | 'updateinfo', string>>
  /** Another packed file instead of a metadata file's own; repomd.xml tells its real checksum. */
  pack?: (type: string, packed: Buffer) => Buffer
  /** The place that repomd.xml names for a metadata file. */
  hrefOf?: (type: string, href: string) => string
}

export const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')

/** Files of an rpm-md repository, by path. */
export function makeRepository(
  packages: readonly MadePackage[],
  { replace = {}, pack, hrefOf }: Making = {},
): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  const described = packages.map((each) => {
    const { name, version = '1.0', bytes = Buffer.from(`the package ${name} ${version}\n`) } = each
    const path = each.href ?? `Packages/${name}-${version}-1.noarch.rpm`
    files.set(path.replace(/^(\.\.\/|\/)+/, ''), bytes)
    return { built: 1_700_000_000, ...each, version, bytes, path, checksum: each.checksum ?? sha256(bytes) }
  })
  const list = (root: string, name: string, render: (each: (typeof described)[number]) => string) =>
    `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://linux.duke.edu/metadata/${name}" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${described.length}">\n${described.map(render).join('')}</${root}>\n`
  const brief = (inner: string) => (each: (typeof described)[number]) =>
    `<package pkgid="${each.checksum}" name="${each.name}" arch="noarch"><version epoch="0" ver="${each.version}" rel="1"/>${inner}</package>\n`
  const texts: Record<string, string> = {
    primary: list('metadata', 'common', renderPrimary),
    filelists: list('filelists', 'filelists', brief('<file>/usr/bin/it</file>')),
    other: list('otherdata', 'other', brief('')),
    ...replace,
  }
  const records = Object.entries(texts).map(([type, text]) => {
    const packed = pack?.(type, gzipSync(text)) ?? gzipSync(text)
    const href = `repodata/${sha256(packed)}-${type}.xml.gz`
    files.set(href, packed)
    return `<data type="${type}"><checksum type="sha256">${sha256(packed)}</checksum><location href="${hrefOf?.(type, href) ?? href}"/><timestamp>1</timestamp><size>${packed.length}</size></data>\n`
  })
  const repomd = `<?xml version="1.0" encoding="UTF-8"?>\n<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>\n${records.join('')}</repomd>\n`
  return files.set('repodata/repomd.xml', Buffer.from(repomd))
}

function renderPrimary({
  name,
  version,
  bytes,
  path,
  checksum,
  built,
}: Required<Omit<MadePackage, 'href'>> & { path: string }): string {
  return `<package type="rpm"><name>${name}</name><arch>noarch</arch><version epoch="0" ver="${version}" rel="1"/><checksum type="sha256" pkgid="YES">${checksum}</checksum><summary>It</summary><description/><packager/><url/><time file="1" build="${built}"/><size package="${bytes.length}" installed="1" archive="1"/><location href="${path}"/><format><rpm:license>Apache-2.0</rpm:license><rpm:vendor/><rpm:group/><rpm:buildhost/><rpm:sourcerpm>${name}-${version}-1.src.rpm</rpm:sourcerpm><rpm:header-range start="1" end="2"/></format></package>\n`
}
