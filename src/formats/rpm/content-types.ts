import type { ContentType, Described, Field, Fields, Unit } from '../../core/format.ts'
import { resolveAdvisories } from './advisory-conflicts.ts'
import { parseComps } from './comps.ts'
import type { ModuleEntry } from './modulemd.ts'
import { type Advisory, describeAdvisory, parseAdvisory } from './updateinfo.ts'

/*
 * Every kind of content but packages. Fields and filters are those of Pulp's API; the heavy ones are read out of the entry.
 */

const text = (description: string): Field => ({ type: 'string', description, required: true })
const optionalText = (description: string): Field => ({ type: 'string', description, required: true, nullable: true })
const flag = (description: string): Field => ({ type: 'boolean', description })
const anything = (description: string): Field => ({ type: 'any', description, required: true, nullable: true })
const whole = (description: string): Field => ({ type: 'integer', format: 'int64', description, required: true, nullable: true })
const readOnly = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, { ...field, required: false, readOnly: true }]))

const advisoryTexts = {
  id: text('Update id (short update name, e.g. RHEA-2013:1777)'),
  updated_date: text("Date when the update was updated (e.g. '2013-12-02 00:00:00')"),
  description: text('Update description'),
  issued_date: text("Date when the update was issued (e.g. '2013-12-02 00:00:00')"),
  fromstr: text('Source of the update (e.g. security@redhat.com)'),
  status: text("Update status ('final', ...)"),
  title: text('Update name'),
  summary: text('Short summary'),
  version: text('Update version (probably always an integer number)'),
  type: text("Update type ('enhancement', 'bugfix', ...)"),
  severity: text('Severity'),
  solution: text('Solution'),
  release: text('Update release'),
  rights: text('Copyrights'),
  pushcount: text('Push count'),
}

const advisoryOrder = [...Object.keys(advisoryTexts), 'digest', 'reboot_suggested'].sort()

const advisoryHeavy = ['description', 'solution', 'pkglist', 'references']

const advisories: ContentType = {
  name: 'advisory',
  model: 'UpdateRecord',
  path: 'advisories',
  files: 'none',
  fields: readOnly({
    ...advisoryTexts,
    pkglist: { type: 'array', items: { type: 'object' }, description: 'List of packages' },
    references: { type: 'array', items: { type: 'object' }, description: 'List of references' },
    reboot_suggested: flag('Reboot suggested'),
  }),
  filters: {
    id: { lookups: ['exact', 'in'] },
    status: { lookups: ['exact', 'in', 'ne'] },
    severity: { lookups: ['exact', 'in', 'ne'] },
    type: { lookups: ['exact', 'in', 'ne'] },
  },
  ordering: advisoryOrder,
  heavy: advisoryHeavy,
  async view({ meta, entry }, wanted) {
    const { digest: _, ...light } = meta
    const rest = advisoryHeavy.some(wanted) ? await readAdvisory({ entry }) : {}
    return { ...rest, ...light, updated_date: meta['updated_date'] || null }
  },
  async settle(before, added) {
    const stays = resolveAdvisories(await readAdvisory(before), await readAdvisory(added))
    return typeof stays === 'string' ? stays : describeAdvisory(stays)
  },
  create: { from: 'file', fields: {} },
}

async function readAdvisory({ entry }: Pick<Unit, 'entry'>): Promise<Advisory> {
  return parseAdvisory((await entry()).toString('utf8'))
}

const named = (what: string): Fields => ({
  id: text(`${what} id.`),
  name: text(`${what} name.`),
  description: text(`${what} description.`),
  display_order: whole(`${what} display order.`),
  desc_by_lang: anything(`${what} description by language.`),
  name_by_lang: anything(`${what} name by language.`),
  digest: text(`${what} digest.`),
})

function compsType(type: Pick<ContentType, 'name' | 'model' | 'path' | 'fields'>): ContentType {
  // What one look at a list shows is in meta; the rest is in the element that the upstream wrote.
  const heavy = Object.keys(type.fields).filter((field) => !['id', 'name', 'digest'].includes(field))
  return {
    ...type,
    files: 'none',
    filters: {},
    ordering: [],
    heavy,
    async view({ meta, entry }, wanted) {
      return heavy.some(wanted) ? { ...parseComps(`rpm.${type.name}`, await entry()), digest: meta['digest'] } : { ...meta }
    },
  }
}

const groups = compsType({
  name: 'packagegroup',
  model: 'PackageGroup',
  path: 'packagegroups',
  fields: {
    ...named('PackageGroup'),
    default: flag('PackageGroup default.'),
    user_visible: flag('PackageGroup user visibility.'),
    packages: anything('PackageGroup package list.'),
    biarch_only: flag('PackageGroup biarch only.'),
  },
})

const categories = compsType({
  name: 'packagecategory',
  model: 'PackageCategory',
  path: 'packagecategories',
  fields: { ...named('Category'), group_ids: anything('Category group list.') },
})

const environments = compsType({
  name: 'packageenvironment',
  model: 'PackageEnvironment',
  path: 'packageenvironments',
  fields: {
    ...named('Environment'),
    group_ids: anything('Environment group list.'),
    option_ids: anything('Environment option ids'),
  },
})

const langpacks = compsType({
  name: 'packagelangpacks',
  model: 'PackageLangpacks',
  path: 'packagelangpacks',
  fields: { matches: anything('Langpacks matches.'), digest: optionalText('Langpacks digest.') },
})

async function moduleEntry(unit: Unit): Promise<ModuleEntry> {
  return JSON.parse((await unit.entry()).toString('utf8'))
}

const snippet = (description: string): Field => ({ type: 'string', description, required: true, writeOnly: true, minLength: 1 })
const filled = (field: Field): Field => ({ ...field, minLength: 1 })

const modulemdFields: Fields = {
  name: filled(text('Modulemd name.')),
  stream: filled(text('Stream name.')),
  version: filled(text('Modulemd version.')),
  static_context: flag('Modulemd static-context flag.'),
  context: filled(text('Modulemd context.')),
  arch: filled(text('Modulemd architecture.')),
  artifacts: anything('Modulemd artifacts.'),
  dependencies: anything('Modulemd dependencies.'),
  packages: {
    type: 'array',
    items: { type: 'href', format: 'uri', nullable: true, to: 'content:rpm.package' },
    description: "Modulemd artifacts' packages.",
  },
  profiles: anything('Modulemd profiles.'),
  description: filled(text('Description of module.')),
}

const modulemdHeavy = ['artifacts', 'dependencies', 'packages', 'profiles', 'description']

const modulemds: ContentType = {
  name: 'modulemd',
  model: 'Modulemd',
  path: 'modulemds',
  files: 'none',
  fields: modulemdFields,
  filters: {
    ...Object.fromEntries(
      ['name', 'stream', 'version', 'context', 'arch'].map((name) => [name, { lookups: ['exact', 'in'] as const }]),
    ),
    sha256: { lookups: ['exact'] },
  },
  ordering: [...Object.keys(modulemdFields).filter((name) => name !== 'packages'), 'digest', 'snippet'].sort(),
  heavy: modulemdHeavy,
  members: {
    field: 'packages',
    type: 'rpm.package',
    async slots(unit) {
      const { artifacts } = await moduleEntry(unit)
      return Array.isArray(artifacts) ? artifacts.filter((nevra) => typeof nevra === 'string') : []
    },
  },
  async view(unit, wanted) {
    const { digest: _, ...light } = unit.meta
    if (!modulemdHeavy.some(wanted)) return light
    const { snippet: __, packages, ...rest } = await moduleEntry(unit)
    return { ...light, ...rest, packages: packages ?? [] }
  },
  create: { from: 'json', fields: { ...modulemdFields, snippet: snippet('Modulemd snippet') } },
}

const defaultsFields: Fields = {
  module: filled(text('Modulemd name.')),
  stream: filled(text('Modulemd default stream.')),
  profiles: { type: 'any', required: true, description: 'Default profiles for modulemd streams.' },
}

const modulemdDefaults: ContentType = {
  name: 'modulemd_defaults',
  model: 'ModulemdDefaults',
  path: 'modulemd_defaults',
  files: 'none',
  fields: defaultsFields,
  filters: { module: { lookups: ['exact', 'in'] }, stream: { lookups: ['exact', 'in'] }, sha256: { lookups: ['exact'] } },
  ordering: ['digest', 'module', 'profiles', 'snippet', 'stream'],
  view: ({ meta }) => ({ module: meta['module'], stream: meta['stream'], profiles: meta['profiles'] }),
  create: { from: 'json', fields: { ...defaultsFields, snippet: snippet('Modulemd default snippet') } },
}

const obsoleteFields: Fields = {
  modified: filled(text('Obsolete modified time.')),
  module_name: filled(text('Modulemd name.')),
  module_stream: filled(text("Modulemd's stream.")),
  message: filled(text('Obsolete description.')),
  override_previous: filled(optionalText('Reset previous obsoletes.')),
  module_context: filled(optionalText("Modulemd's context.")),
  eol_date: filled(optionalText('End of Life date.')),
  obsoleted_by_module_name: filled(optionalText('Obsolete by module name.')),
  obsoleted_by_module_stream: filled(optionalText('Obsolete by module stream.')),
}

const modulemdObsoletes: ContentType = {
  name: 'modulemd_obsolete',
  model: 'ModulemdObsolete',
  path: 'modulemd_obsoletes',
  files: 'none',
  fields: obsoleteFields,
  filters: {},
  ordering: [],
  view: ({ meta }) => Object.fromEntries(Object.keys(obsoleteFields).map((name) => [name, meta[name] ?? null])),
  create: { from: 'json', fields: { ...obsoleteFields, snippet: snippet('Module Obsolete snippet.') } },
}

const list = (description: string): Field => ({ type: 'array', items: { type: 'object' }, required: true, description })

const treeFields: Fields = {
  header_version: text('Header Version.'),
  release_name: text('Release name.'),
  release_short: text('Release short name.'),
  release_version: text('Release version.'),
  release_is_layered: { ...flag('Typically False for an operating system, True otherwise.'), required: true },
  base_product_name: optionalText('Base Product name.'),
  base_product_short: optionalText('Base Product short name.'),
  base_product_version: optionalText('Base Product version.'),
  arch: text('Tree architecturerch.'),
  build_timestamp: { type: 'number', format: 'double', required: true, description: 'Tree build time timestamp.' },
  instimage: optionalText('Relative path to Anaconda instimage.'),
  mainimage: optionalText('Relative path to Anaconda stage2 image.'),
  discnum: whole('Disc number.'),
  totaldiscs: whole('Number of discs in media set.'),
  addons: list('Addons.'),
  checksums: list('Checksums.'),
  images: list('Images.'),
  variants: list('Variants.'),
}

const distributionTrees: ContentType = {
  name: 'distribution_tree',
  model: 'DistributionTree',
  path: 'distribution_trees',
  files: 'many',
  fields: treeFields,
  filters: {},
  ordering: [],
  artifactsIn: 'images',
  view: ({ meta }) => Object.fromEntries(Object.keys(treeFields).map((name) => [name, meta[name]])),
}

const metadataFiles: ContentType = {
  name: 'repo_metadata_file',
  model: 'RepoMetadataFile',
  path: 'repo_metadata_files',
  files: 'one',
  fields: {
    relative_path: text('Relative path of the file.'),
    data_type: text('Metadata type.'),
    checksum_type: text('Checksum type for the file.'),
    checksum: text('Checksum for the file.'),
  },
  filters: {},
  ordering: [],
  view: ({ meta }) => ({ ...meta }),
}

/** In the order in which versions list them. */
export const otherContentTypes: readonly ContentType[] = [
  advisories,
  groups,
  categories,
  environments,
  langpacks,
  modulemds,
  modulemdDefaults,
  modulemdObsoletes,
  distributionTrees,
  metadataFiles,
]

/** A metadata file that we carry along without reading it (productid, ...), as content. */
export function describeMetadataFile(dataType: string, file: Described['files'][number] & { checksum: string }): Described {
  const [checksum_type, checksum] = file.checksum.split(':')
  return {
    type: 'rpm.repo_metadata_file',
    key: `${dataType}:${file.checksum}:${file.path}`,
    slot: dataType,
    meta: { data_type: dataType, checksum_type, checksum, relative_path: file.path },
    files: [file],
  }
}
