import type { Described, DescribedFile } from '../../core/format.ts'
import { keyOf } from './package-lists.ts'
import { type Allocate, packEntry } from './package-entry.ts'
import { nevraOf, type PrimaryPackage } from './primary.ts'
import { variantOf } from './variant.ts'

/** What is known of a package beside its element in primary.xml. */
export interface PackageDetails {
  /** Its elements in the other two lists; or the variant in which the package is stored already. */
  lists: { filelists: Buffer; other: Buffer } | string
  isModular: boolean
  /** Its file; the path may differ from the location that the element has. */
  file: DescribedFile
  /** Where the memory for the entry comes from, when there are many. */
  allocate?: Allocate
}

/** A package as content. */
export function describePackage(found: PrimaryPackage, { lists, isModular, file, allocate }: PackageDetails): Described {
  const filename = file.path.slice(file.path.lastIndexOf('/') + 1)
  return {
    type: 'rpm.package',
    key: keyOf(found),
    variant: typeof lists === 'string' ? lists : variantOf(found, { ...lists, filename, isModular }),
    slot: nevraOf(found),
    meta: {
      name: found.name,
      epoch: found.epoch,
      version: found.version,
      release: found.release,
      arch: found.arch,
      checksum_type: found.checksumType,
      pkgId: found.checksum,
      location_href: found.href,
      filename,
      size_package: found.size,
      time_build: found.buildTime,
      time_file: found.fileTime,
      summary: found.summary,
      rpm_sourcerpm: found.sourceRpm,
      is_modular: isModular,
    },
    ...(typeof lists === 'object' && { entry: packEntry({ before: found.before, after: found.after, ...lists }, allocate) }),
    files: [file],
  }
}
