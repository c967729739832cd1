import { createHash } from 'node:crypto'
import { posix } from 'node:path'
import type { Described, DescribedFile, Unit } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { checkPath } from '../../lib/safe-path.ts'

/*
 * A distribution tree: what an installer boots from. `.treeinfo` (INI) names its images and the repositories below it.
 * https://release-engineering.github.io/productmd/treeinfo-1.0.html
 *
 * The main repository is synced as every repository is. Others become files of the tree: all of their metadata and packages are served
 * as they are, below the path the tree gives them. One outside of the tree (`../AppStream`) is served below its id instead,
 * and the tree's file is then rewritten to say so.
 */

/** What an upstream may call the file, in the order in which installers ask. */
export const treeinfoNames = ['.treeinfo', 'treeinfo'] as const

export interface Tree {
  /** Response fields of the content, in Pulp's words. */
  meta: Record<string, unknown>
  /** Files that an installer loads; `checksum` is `<algorithm>:<hex>`. */
  images: { path: string; checksum?: string }[]
  subRepositories: SubRepository[]
  /** The file as it is to be served. */
  text: string
  /** Whether `text` differs from what the upstream serves. */
  rewritten: boolean
}

export interface SubRepository {
  /** Relative to the tree's upstream. */
  path: string
  /** Relative to where the tree is served. */
  servedAt: string
}

type Sections = Map<string, Map<string, string>>

/** Reads a treeinfo file. Undefined when it is an HTML page, as careless servers send for what they do not have. Throws Failure integrity. */
export function parseTreeinfo(bytes: Uint8Array): Tree | undefined {
  const text = Buffer.from(bytes).toString('utf8')
  if (text.trimStart().startsWith('<')) return undefined
  const sections = parseIni(text)
  const repositories = readRepositories(sections)
  const images = readImages(sections)
  const moved = repositories.filter(({ path, servedAt }) => path !== servedAt)
  return {
    meta: { ...readFields(sections), ...readLists(sections, repositories) },
    images,
    subRepositories: repositories.filter(({ path }) => path !== '.').map(({ path, servedAt }) => ({ path, servedAt })),
    text: moved.length > 0 ? rewrite(text, moved) : text,
    rewritten: moved.length > 0,
  }
}

function parseIni(text: string): Sections {
  const sections: Sections = new Map()
  let section: Map<string, string> | undefined
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*([#;].*)?$/.test(line)) continue
    const name = /^\[(.+)\]\s*$/.exec(line)?.[1]
    // Looked for and trimmed, because an expression would try every space of a line.
    const mark = line.search(/[=:]/)
    const [option, value] = [line.slice(0, Math.max(mark, 0)).trim(), line.slice(mark + 1).trim()]
    if (name !== undefined) {
      section = sections.get(name) ?? new Map()
      sections.set(name, section)
    } else if (section && option !== '') section.set(option, value)
    else
      throw new Failure(
        'integrity',
        `Line ${index + 1} of the treeinfo file is neither a section nor an option: ${line.slice(0, 100)}`,
      )
  }
  return sections
}

/** A variant or addon and where its repository lies. */
interface Repository extends SubRepository {
  section: string
  values: Map<string, string>
}

function readRepositories(sections: Sections): Repository[] {
  const list = (text = '') => text.split(',').map((each) => each.trim())
  const variants = list(sections.get('tree')?.get('variants')).map((uid) => `variant-${uid}`)
  const addons = variants.flatMap((name) => list(sections.get(name)?.get('addons'))).map((uid) => `addon-${uid}`)
  return [...variants, ...addons].flatMap((section) => {
    const values = sections.get(section)
    if (!values) return []
    const path = posix.join('.', values.get('repository') || '.').replace(/\/$/, '')
    // Absolute, or out of the tree: Pulp serves every one of them below its id, we only those that have no other place.
    const outside = path.startsWith('/') || path.split('/')[0] === '..'
    const servedAt = outside ? checkPath(values.get('id') ?? section, 'integrity') : path
    return [{ section, values, path, servedAt }]
  })
}

function readImages(sections: Sections): Tree['images'] {
  const checksums = new Map(
    [...(sections.get('checksums') ?? [])]
      .filter(([path]) => !path.endsWith('repodata/repomd.xml'))
      .map(([path, checksum]) => {
        if (!/^[\w]+:[0-9a-fA-F]+$/.test(checksum))
          throw new Failure('integrity', `The treeinfo file has no usable checksum of ${path}.`)
        return [path, checksum.toLowerCase()]
      }),
  )
  const named = [...sections].flatMap(([name, values]) => (name.startsWith('images') ? [...values.values()] : []))
  const stages = ['mainimage', 'instimage'].flatMap((key) => sections.get('stage2')?.get(key) ?? [])
  return [...new Set([...named, ...checksums.keys(), ...stages])].map((path) => {
    const checksum = checksums.get(path)
    return { path: checkPath(path, 'integrity'), ...(checksum && { checksum }) }
  })
}

function readFields(sections: Sections): Record<string, unknown> {
  // Trees from before productmd have a section `general` and no more; later ones repeat it for old readers.
  const general = sections.get('general')
  const value = (section: string, key: string) => sections.get(section)?.get(key)
  const needed = (text: string | undefined, what: string) => {
    if (text === undefined) throw new Failure('integrity', `The treeinfo file does not tell the ${what}.`)
    return text
  }
  const whole = (text: string | undefined) => (text === undefined ? null : Number.parseInt(text, 10))
  return {
    header_version: '1.2',
    release_name: needed(value('release', 'name') ?? general?.get('family'), 'name of the release'),
    release_short: needed(value('release', 'short') ?? general?.get('family'), 'short name of the release'),
    release_version: needed(value('release', 'version') ?? general?.get('version'), 'version of the release'),
    release_is_layered: value('release', 'is_layered')?.toLowerCase() === 'true',
    base_product_name: value('base_product', 'name') ?? null,
    base_product_short: value('base_product', 'short') ?? null,
    base_product_version: value('base_product', 'version') ?? null,
    arch: needed(value('tree', 'arch') ?? general?.get('arch'), 'architecture'),
    build_timestamp: Number(value('tree', 'build_timestamp') ?? general?.get('timestamp') ?? 0) || 0,
    instimage: value('stage2', 'instimage') ?? null,
    mainimage: value('stage2', 'mainimage') ?? null,
    discnum: whole(value('media', 'discnum')),
    totaldiscs: whole(value('media', 'totaldiscs')),
  }
}

function readLists(sections: Sections, repositories: readonly Repository[]): Record<string, unknown> {
  const about = ({ section, values, path, servedAt }: Repository) => ({
    uid: values.get('uid') ?? values.get('id') ?? section,
    name: values.get('name') ?? '',
    type: values.get('type') ?? '',
    packages: path === servedAt ? (values.get('packages') ?? 'Packages') : servedAt,
  })
  const id = ({ section, values }: Repository) => values.get('id') ?? section
  const optional = ['source_packages', 'source_repository', 'debug_packages', 'debug_repository', 'identity']
  const variants = repositories.filter(({ section }) => section.startsWith('variant-'))
  return {
    addons: repositories
      .filter(({ section }) => section.startsWith('addon-'))
      .map((each) => ({ addon_id: id(each), ...about(each) })),
    checksums: [...(sections.get('checksums') ?? [])].map(([path, checksum]) => ({ path, checksum })),
    images: readImageList(sections),
    variants: variants.map((each) => ({
      variant_id: id(each),
      ...about(each),
      ...Object.fromEntries(optional.map((key) => [key, each.values.get(key) ?? null])),
    })),
  }
}

/** One line for each name and path; platforms that share it are listed together. */
function readImageList(sections: Sections): { name: string; path: string; platforms: string }[] {
  const platforms = new Map<string, string[]>()
  for (const [section, values] of sections)
    for (const [name, path] of section.startsWith('images-') ? values : []) {
      const key = `${name}\n${path}`
      platforms.set(key, [...(platforms.get(key) ?? []), section.slice('images-'.length)])
    }
  return [...platforms].map(([key, names]) => {
    const [name = '', path = ''] = key.split('\n')
    return { name, path, platforms: names.join(', ') }
  })
}

/** The same file with other places for some of its repositories. Everything else stays as it is, to the byte. */
function rewrite(text: string, moved: readonly Repository[]): string {
  let section = ''
  return text
    .split('\n')
    .map((line) => {
      section = /^\[(.+)\]\s*$/.exec(line)?.[1] ?? section
      const place = moved.find((each) => each.section === section)
      return place
        ? line.replace(/^(\s*(?:repository|packages)\s*[=:]\s*).*?(\r?)$/, (_, start, end) => start + place.servedAt + end)
        : line
    })
    .join('\n')
}

export interface TreeFiles {
  /** The treeinfo file as its upstream has it. */
  treeinfo: DescribedFile
  images: readonly DescribedFile[]
  /** All files of all sub-repositories, where they are served. */
  subRepositories: readonly DescribedFile[]
}

/** A distribution tree as content. A tree whose sub-repositories changed is another one. */
export function describeTree(tree: Tree, { treeinfo, images, subRepositories }: TreeFiles): Described {
  const named = [...(tree.rewritten ? [] : [treeinfo]), ...images, ...subRepositories]
  const files = [...new Map(named.map((file) => [file.path, file])).values()]
  const digest = createHash('sha256').update(tree.text)
  for (const { path, size, checksum } of files) digest.update(`\n${path}\n${size}\n${checksum}`)
  const meta = { ...tree.meta, ...(tree.rewritten && { served_as: treeinfo.path }) }
  return { type: 'rpm.distribution_tree', key: digest.digest('hex'), slot: 'tree', meta, entry: Buffer.from(tree.text), files }
}

/**
 * The treeinfo file that a publication must write, because the upstream's would name other places. Undefined when it is a file of the tree.
 * Takes the tree as it was described or as it is stored.
 */
export async function renderTreeinfo({
  meta,
  entry,
}: Pick<Described | Unit, 'meta' | 'entry'>): Promise<{ path: string; body: Buffer } | undefined> {
  const path = meta['served_as'] as string | undefined
  if (path === undefined) return undefined
  return { path, body: Buffer.from((typeof entry === 'function' ? await entry() : entry) ?? []) }
}
