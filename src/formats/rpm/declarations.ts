import type { ContentType, Field, Fields } from '../../core/format.ts'
import { parseEntry } from './package-entry.ts'

/* What users may set and ask for, with Pulp's names, defaults and words. */

const checksumTypes = ['unknown', 'md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'] as const
const layouts = ['nested_alphabetically', 'flat'] as const
/** Pulp takes `none` from rpm 3.31 on. */
const compressionTypes = ['zstd', 'gz', 'none'] as const

const repoConfig: Field = {
  type: 'any',
  description: 'A JSON document describing the config.repo file Pulp should generate for this repo',
}
const layout: Field = {
  type: 'string',
  enum: layouts,
  nullable: true,
  description: 'How to layout the packages within the published repository.',
}
const compressionType: Field = {
  type: 'string',
  enum: compressionTypes,
  description: 'The compression type to use for metadata files.',
}
const checksumType: Field = {
  type: 'string',
  enum: checksumTypes,
  description: 'The preferred checksum type during repo publish.',
}
const service = (what: string, type: string): Field => ({
  type: 'href',
  to: `signing_service:${type}`,
  format: 'uri',
  nullable: true,
  description: `A reference to an associated ${what}signing service.`,
})

/** Fields of older versions, which still show in answers. */
const removed: Fields = {
  metadata_checksum_type: {
    ...checksumType,
    readOnly: true,
    nullable: true,
    description: "REMOVED: Use 'checksum_type' instead.",
  },
  package_checksum_type: {
    ...checksumType,
    readOnly: true,
    nullable: true,
    description: "REMOVED: Use 'checksum_type' instead.",
  },
  gpgcheck: {
    type: 'integer',
    format: 'int64',
    minimum: 0,
    maximum: 1,
    readOnly: true,
    description: "REMOVED: Use 'repo_config' instead.",
  },
  repo_gpgcheck: {
    type: 'integer',
    format: 'int64',
    minimum: 0,
    maximum: 1,
    readOnly: true,
    description: "REMOVED: Use 'repo_config' instead.",
  },
  sqlite_metadata: {
    type: 'boolean',
    default: false,
    readOnly: true,
    description: 'REMOVED: There is no SQLite metadata any more.',
  },
}

export const repositoryFields: Fields = {
  metadata_signing_service: service('', 'core.detached'),
  package_signing_service: service('package ', 'rpm.package'),
  package_signing_fingerprint: {
    type: 'string',
    default: '',
    allowBlank: true,
    maxLength: 40,
    description: 'The pubkey V4 fingerprint (160 bits) to be passed to the package signing service.',
  },
  retain_package_versions: {
    type: 'integer',
    format: 'int64',
    minimum: 0,
    description:
      "The number of versions of each package to keep in the repository; older versions will be purged. The default is '0', which will disable this feature and keep all versions of each package.",
  },
  checksum_type: { ...checksumType, nullable: true },
  ...removed,
  repo_config: repoConfig,
  compression_type: { ...compressionType, nullable: true },
  layout,
}

export const remoteFields: Fields = {
  policy: {
    type: 'string',
    enum: ['immediate', 'on_demand', 'streamed'],
    default: 'immediate',
    description:
      "The policy to use when downloading content. The possible values include: 'immediate', 'on_demand', and 'streamed'. 'immediate' is the default.",
  },
  sles_auth_token: { type: 'string', nullable: true, minLength: 1, description: 'Authentication token for SLES repositories.' },
  gpgkey: {
    type: 'string',
    nullable: true,
    minLength: 1,
    description:
      'ASCII-armored OpenPGP public keys. If set, a sync fails unless one of them signed the repomd.xml of the upstream. Not a field of Pulp.',
  },
}

export const publicationFields: Fields = {
  checksum_type: checksumType,
  ...removed,
  repo_config: repoConfig,
  compression_type: compressionType,
  layout,
}

export const distributionFields: Fields = {
  generate_repo_config: {
    type: 'boolean',
    default: false,
    description: 'An option specifying whether Pulp should generate *.repo files.',
  },
}

export const syncFields: Fields = {
  mirror: {
    type: 'boolean',
    nullable: true,
    description: "DEPRECATED: If ``True``, ``sync_policy`` will default to 'mirror_complete' instead of 'additive'.",
  },
  sync_policy: {
    type: 'string',
    enum: ['additive', 'mirror_complete', 'mirror_content_only'],
    nullable: true,
    description:
      "'additive', the default, keeps what is in the repository and adds what the upstream has. 'mirror_content_only' makes the content that of the upstream; metadata is generated. 'mirror_complete' also keeps the upstream's metadata bit for bit and publishes it.",
  },
  skip_types: {
    type: 'array',
    items: { type: 'string', enum: ['srpm', 'treeinfo'] },
    default: [],
    description: 'List of content types to skip during sync.',
  },
  optimize: { type: 'boolean', default: true, description: 'Whether or not to optimize sync.' },
}

const text = (description: string): Field => ({ type: 'string', readOnly: true, description })
const whole = (description: string): Field => ({ type: 'integer', format: 'int64', readOnly: true, description })
const list = (description: string): Field => ({ type: 'any', default: '[]', readOnly: true, description })

/** What `meta` holds. */
const lightFields: Fields = {
  name: text('Name of the package'),
  epoch: text("The package's epoch"),
  version: text("The version of the package. For example, '2.8.0'"),
  release: text("The release of a particular version of the package. e.g. '1.el7' or '3.f24'"),
  arch: text("The target architecture for a package.For example, 'x86_64', 'i686', or 'noarch'"),
  pkgId: text('Checksum of the package file'),
  checksum_type: text("Type of checksum, e.g. 'sha256', 'md5'"),
  summary: text('Short description of the packaged software'),
  location_href: text('DEPRECATED: Relative location of package to the repodata.'),
  rpm_sourcerpm: text('Name of the source package (srpm) the package was built from'),
  is_modular: { type: 'boolean', readOnly: true, description: 'Flag to identify if the package is modular' },
  size_package: whole('Size, in bytes, of the package'),
  time_build: whole('Time the package was built in seconds since the epoch'),
  time_file: whole("The 'file' time attribute in the primary XML - file mtime in seconds since the epoch."),
}

/** What only the entry holds. */
const heavyFields: Fields = {
  description: text('In-depth description of the packaged software'),
  url: text('URL with more information about the packaged software'),
  changelogs: list('Changelogs that package contains'),
  files: list('Files that package contains'),
  requires: list('Capabilities the package requires'),
  provides: list('Capabilities the package provides'),
  conflicts: list('Capabilities the package conflicts'),
  obsoletes: list('Capabilities the package obsoletes'),
  suggests: list('Capabilities the package suggests'),
  enhances: list('Capabilities the package enhances'),
  recommends: list('Capabilities the package recommends'),
  supplements: list('Capabilities the package supplements'),
  rpm_buildhost: text('Hostname of the system that built the package'),
  rpm_group: text('RPM group (See: http://fedoraproject.org/wiki/RPMGroups)'),
  rpm_license: text('License term applicable to the package software (GPLv2, etc.)'),
  rpm_packager: text('Person or persons responsible for creating the package'),
  rpm_vendor: text('Name of the organization that produced the package'),
  rpm_header_start: whole('First byte of the header'),
  rpm_header_end: whole('Last byte of the header'),
  size_archive: whole('Size, in bytes, of the archive portion of the original package file'),
  size_installed: whole('Total size, in bytes, of every file installed by this package'),
}

const heavy = Object.keys(heavyFields)

export const packages: ContentType = {
  name: 'package',
  model: 'Package',
  path: 'packages',
  files: 'one',
  fields: inPulpsOrder({ ...lightFields, ...heavyFields, location_base: text('DEPRECATED: Base location of this package.') }),
  filters: {
    name: { lookups: ['exact', 'in', 'ne', 'contains', 'startswith'], index: true },
    epoch: { lookups: ['exact', 'in', 'ne'] },
    version: { lookups: ['exact', 'in', 'ne'] },
    release: { lookups: ['exact', 'in', 'ne', 'contains', 'startswith'] },
    arch: { lookups: ['exact', 'in', 'ne', 'contains', 'startswith'] },
    pkgId: { lookups: ['exact', 'in'], index: true },
    checksum_type: { lookups: ['exact', 'in', 'ne'], enum: checksumTypes },
    sha256: { lookups: ['exact'], as: 'pkgId', index: true },
    filename: { lookups: ['exact'], index: true },
  },
  ordering: Object.keys(lightFields).sort(),
  ignoredOrdering: [...heavy, 'evr', 'location_base'].sort(),
  heavy,
  async view({ meta, entry }, wanted) {
    const { filename: _, ...light } = meta
    const details = heavy.some(wanted) ? parseEntry(await entry()) : {}
    return { location_base: '', ...light, ...details }
  },
  create: {
    from: 'file',
    fields: {
      relative_path: { type: 'string', writeOnly: true, minLength: 1, description: 'Name of the package file.' },
    },
  },
}

function inPulpsOrder(fields: Fields): Fields {
  const order = `name epoch version release arch pkgId checksum_type summary description url changelogs files requires provides conflicts
    obsoletes suggests enhances recommends supplements location_base location_href rpm_buildhost rpm_group rpm_license rpm_packager
    rpm_sourcerpm rpm_vendor rpm_header_start rpm_header_end is_modular size_archive size_installed size_package time_build time_file`
  return Object.fromEntries(order.split(/\s+/).map((name) => [name, fields[name]!]))
}
