import { escapeXml as escape, quoteXml as quote } from './element.ts'
import { type Dependency, isPrimaryFile, type PackageFile, type RpmHeader } from './header.ts'

/** What a header does not know about its package. */
export interface PackageSource {
  /** What identifies the package in metadata, with its algorithm. */
  checksum: { type: string; value: string }
  size: number
  /** Seconds; when the file was last changed. */
  fileTime: number
  /** Where the package lies, relative to the repository. */
  location: string
}

/** A package's elements in the three metadata files. */
export interface PackageFragments {
  primary: string
  filelists: string
  other: string
}

/** Writes a package's `<package>` elements as createrepo_c does. */
export function renderPackage(header: RpmHeader, source: PackageSource): PackageFragments {
  const version = `  <version epoch=${quote(header.epoch)} ver=${quote(header.version)} rel=${quote(header.release)}/>\n`
  const start = `<package pkgid=${quote(source.checksum.value)} name=${quote(header.name)} arch=${quote(header.arch)}>\n${version}`
  const files = header.files.map((file) => `  ${renderFile(file)}\n`).join('')
  const changelogs = header.changelogs
    .map(({ author, date, text }) => `  <changelog author=${quote(author)} date="${date}">${escape(text)}</changelog>\n`)
    .join('')
  return {
    primary: renderPrimary(header, source, version),
    filelists: `${start}${files}</package>\n`,
    other: `${start}${changelogs}</package>\n`,
  }
}

function renderPrimary(header: RpmHeader, { checksum, size, fileTime, location }: PackageSource, version: string): string {
  const primaryFiles = header.files.filter(({ directory, name }) => isPrimaryFile(directory + name))
  return `<package type="rpm">
  <name>${escape(header.name)}</name>
  <arch>${escape(header.arch)}</arch>
${version}  <checksum type=${quote(checksum.type)} pkgid="YES">${escape(checksum.value)}</checksum>
  <summary>${escape(header.summary)}</summary>
  <description>${escape(header.description)}</description>
  <packager>${escape(header.packager)}</packager>
  <url>${escape(header.url)}</url>
  <time file="${fileTime}" build="${header.buildTime}"/>
  <size package="${size}" installed="${header.installedSize}" archive="${header.archiveSize}"/>
  <location href=${quote(location)}/>
  <format>
    <rpm:license>${escape(header.license)}</rpm:license>
    <rpm:vendor>${escape(header.vendor)}</rpm:vendor>
    <rpm:group>${escape(header.group)}</rpm:group>
    <rpm:buildhost>${escape(header.buildHost)}</rpm:buildhost>
    <rpm:sourcerpm>${escape(header.sourceRpm)}</rpm:sourcerpm>
    <rpm:header-range start="${header.headerStart}" end="${header.headerEnd}"/>
${dependencyKinds.map((kind) => renderDependencies(kind, header[kind])).join('')}${primaryFiles
  .map((file) => `    ${renderFile(file)}\n`)
  .join('')}  </format>
</package>
`
}

const dependencyKinds = [
  'provides',
  'requires',
  'conflicts',
  'obsoletes',
  'suggests',
  'enhances',
  'recommends',
  'supplements',
] as const

function renderDependencies(kind: (typeof dependencyKinds)[number], dependencies: readonly Dependency[]): string {
  if (dependencies.length === 0) return ''
  return `    <rpm:${kind}>\n${dependencies.map((each) => `      ${renderDependency(each)}\n`).join('')}    </rpm:${kind}>\n`
}

function renderDependency({ name, flags, epoch, version, release, pre }: Dependency): string {
  const attributes = { name, flags, epoch, ver: version, rel: release, pre: pre ? '1' : undefined }
  const written = Object.entries(attributes).map(([key, value]) => (value ? ` ${key}=${quote(value)}` : ''))
  return `<rpm:entry${written.join('')}/>`
}

function renderFile({ directory, name, type }: PackageFile): string {
  return `<file${type ? ` type="${type}"` : ''}>${escape(directory + name)}</file>`
}
