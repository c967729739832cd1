import type { Facts, WriteUnits } from '../../core/format.ts'
import { quoteXml } from './element.ts'
import { type PackageEntry, unpackEntry } from './package-entry.ts'

/** The three lists of packages. */
export const kinds = ['primary', 'filelists', 'other'] as const
type Kind = (typeof kinds)[number]

const roots: Record<Kind, [start: string, end: string]> = {
  primary: [
    '<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"',
    '</metadata>',
  ],
  filelists: ['<filelists xmlns="http://linux.duke.edu/metadata/filelists"', '</filelists>'],
  other: ['<otherdata xmlns="http://linux.duke.edu/metadata/other"', '</otherdata>'],
}

/** What the lists of so many packages begin and end with. */
export function frameLists(total: number): { head: Buffer[]; tail: Buffer[] } {
  return {
    head: kinds.map((kind) => Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${roots[kind][0]} packages="${total}">\n`)),
    tail: kinds.map((kind) => Buffer.from(`${roots[kind][1]}\n`)),
  }
}

const newline = Buffer.from('\n')

/** The elements of some packages in each of the lists. */
export const writePackages: WriteUnits = (packages) => {
  const parts = kinds.map((): Buffer[] => [])
  for (const { facts, entry } of packages) {
    const elements = elementsOf(facts, unpackEntry(entry))
    for (const [index, kind] of kinds.entries()) parts[index]!.push(...elements[kind], newline)
  }
  return parts.map((part) => Buffer.concat(part))
}

function elementsOf({ path, sha256 }: Facts, whole: PackageEntry): Record<Kind, Buffer[]> {
  const { before, after, filelists, other } = sha256 === undefined ? whole : withChecksum(whole, sha256)
  const location = Buffer.from(`<location href=${quoteXml(path!)}/>`)
  return { primary: [before, location, after], filelists: [filelists], other: [other] }
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
