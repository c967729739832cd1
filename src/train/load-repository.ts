import type { FormatName, Outside, TrainRepository } from './train.ts'
import {
  fields,
  flag,
  isMapping,
  listOf,
  members,
  name,
  oneOf,
  type Place,
  type Reader,
  text,
  wholeNumber,
  wrong,
} from './yaml-document.ts'

type Part = 'remote' | 'repository' | 'sync'

interface Setting {
  part: Part
  read: Reader<unknown>
  /** What the server has when train.yaml says nothing of it: taking a line out of train.yaml takes its effect away. */
  absent: unknown
}

type Settings = Readonly<Record<string, Setting>>

const settings = (part: Part, absent: unknown, readers: Record<string, Reader<unknown>>): Settings =>
  Object.fromEntries(Object.entries(readers).map(([key, read]) => [key, { part, read, absent }]))

/** What may be said of a repository of any format, with Pulp's names, and which of its resources has it. */
const everyFormat: Settings = {
  ...settings('remote', 'immediate', { policy: oneOf('immediate', 'on_demand', 'streamed') }),
  ...settings('remote', true, { tls_validation: flag }),
  ...settings('remote', null, {
    proxy_url: text,
    download_concurrency: wholeNumber,
    max_retries: wholeNumber,
    rate_limit: wholeNumber,
    total_timeout: wholeNumber,
    connect_timeout: wholeNumber,
    sock_connect_timeout: wholeNumber,
    sock_read_timeout: wholeNumber,
  }),
  ...settings('repository', null, { retain_repo_versions: wholeNumber }),
}

const rpm: Settings = {
  ...everyFormat,
  ...settings('repository', 0, { retain_package_versions: wholeNumber }),
  ...settings('repository', null, {
    checksum_type: oneOf('sha224', 'sha256', 'sha384', 'sha512'),
    compression_type: oneOf('zstd', 'gz', 'none'),
    layout: oneOf('nested_alphabetically', 'flat', 'nested_by_digest'),
  }),
  ...settings('sync', 'mirror_complete', { sync_policy: oneOf('additive', 'mirror_content_only', 'mirror_complete') }),
  ...settings('sync', [], { skip_types: listOf(oneOf('srpm', 'treeinfo')) }),
  ...settings('sync', true, { optimize: flag }),
}

const file: Settings = {
  ...everyFormat,
  ...settings('repository', 'PULP_MANIFEST', { manifest: text }),
  ...settings('sync', true, { mirror: flag }),
}

const container: Settings = {
  ...everyFormat,
  ...settings('remote', null, { exclude_tags: listOf(name) }),
  ...settings('sync', false, { mirror: flag, signed_only: flag }),
}

const formats: Readonly<Record<FormatName, Settings>> = { rpm, file, container }

export const formatNames = Object.keys(formats) as FormatName[]
/** Images have a section of their own. */
const repositoryFormats = formatNames.filter((format) => format !== 'container')

/** Kept outside train.yaml, which is in git. The server never shows the secret ones again. */
const outsideFields = {
  username: 'plain',
  password: 'secret',
  proxy_username: 'plain',
  proxy_password: 'secret',
  ca_cert: 'plain',
  client_cert: 'plain',
  client_key: 'secret',
} as const

/** Reads `name: { rpm: URL, path: ..., ... }`; `defaults` holds the settings of `defaults.<format>`. */
export function loadRepository(key: string, place: Place, defaults: ReadonlyMap<string, Place>): TrainRepository {
  if (!/^[A-Za-z0-9][\w.+-]*$/.test(key)) throw wrong(place, 'a repository is named with letters, digits, ".", "+", "-" and "_".')
  const format = formatOf(place)
  const own = ['path', 'group', 'distribution_name', ...Object.keys(outsideFields)]
  const found = fields(place, [format, ...own, ...Object.keys(formats[format])])
  const path = found.get('path')
  if (!path) throw wrong(place, '"path" is missing: snapshots are served at <path>/<stamp>.')

  return {
    name: key,
    format,
    url: loadUrl(found.get(format)!),
    path: loadPath(path),
    distributionName: loadDistributionName(key, found.get('distribution_name')),
    group: found.has('group') ? name(found.get('group')!) : undefined,
    outside: loadOutside(found),
    ...loadParts(format, found, defaults),
  }
}

/** Reads `name: { upstream: URL, tags: [...], ... }`: an image of another registry, to be kept at `path`. */
export function loadMirroredImage(
  key: string,
  place: Place,
  path: string,
  defaults: ReadonlyMap<string, Place>,
): { name: string; tags: string[]; repository: TrainRepository } {
  if (!isMapping(place)) throw wrong(place, 'a mirrored image is a map, as in { upstream: "https://quay.io/ceph/ceph" }.')
  const found = fields(place, ['upstream', 'tags', ...Object.keys(outsideFields), ...Object.keys(container)])
  const upstream = found.get('upstream')
  if (!upstream) throw wrong(place, '"upstream" is missing: where the image comes from.')
  const { origin, pathname } = new URL(loadUrl(upstream))
  const upstreamName = pathname.replace(/^\/|\/$/g, '')
  if (upstreamName === '') throw wrong(upstream, 'the name of the image is missing, as in "https://quay.io/ceph/ceph".')
  const tags = found.has('tags') ? listOf(name)(found.get('tags')!) : []
  const parts = loadParts('container', found, defaults)
  const remote = { ...parts.remote, upstream_name: upstreamName, include_tags: tags.length > 0 ? tags : null }
  const shared = { format: 'container', url: origin, path, distributionName: path, group: 'images' } as const
  return { name: key, tags, repository: { ...shared, name: path, outside: loadOutside(found), ...parts, remote } }
}

/** The settings of a format with their defaults, by the resource that has them. */
function loadParts(format: FormatName, found: ReadonlyMap<string, Place>, defaults: ReadonlyMap<string, Place>) {
  const known = formats[format]
  const shared = defaults.get(format)
  return partsOf(format, {
    ...Object.fromEntries(Object.entries(known).map(([field, { absent }]) => [field, absent])),
    ...(shared && loadSettings(format, shared)),
    ...Object.fromEntries([...found].flatMap(([field, at]) => (known[field] ? [[field, known[field].read(at)]] : []))),
  })
}

/** The settings of `defaults.<format>`, checked. */
export function loadSettings(format: FormatName, place: Place): Record<string, unknown> {
  const known = formats[format]
  return Object.fromEntries([...fields(place, Object.keys(known))].map(([field, at]) => [field, known[field]!.read(at)]))
}

const notYet: Readonly<Record<string, string>> = { deb: 'Debian repositories', git: 'Sources' }

function formatOf(place: Place): FormatName {
  if (!isMapping(place)) throw wrong(place, 'a repository is a map, as in { rpm: URL, path: PATH }.')
  const keys = members(place)
  const later = keys.find(([key]) => notYet[key] !== undefined)
  if (later) throw wrong(later[1], `${notYet[later[0]]} are not supported yet.`)
  if (keys.some(([key]) => key === 'container')) throw wrong(place, 'images are declared below "images".')
  const named = repositoryFormats.filter((format) => keys.some(([key]) => key === format))
  if (named.length !== 1)
    throw wrong(place, `one of ${repositoryFormats.join(', ')} must say what it is and where it comes from.`)
  return named[0]!
}

function loadUrl(place: Place): string {
  const url = text(place)
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw wrong(place, `"${url}" is not an http or https URL.`)
  if (new URL(url).password) throw wrong(place, 'a URL must not hold a password. Use "username" and "password: { env: NAME }".')
  return url
}

function loadPath(place: Place): string {
  const path = name(place).replace(/\/+$/, '')
  const segments = path.split('/')
  if (segments.some((each) => each === '' || each === '.' || each === '..') || /[\s?#%]/.test(path))
    throw wrong(place, `"${path}" cannot be part of a URL path: no empty, "." or ".." segments, no spaces, "?", "#" or "%".`)
  return path
}

function loadDistributionName(key: string, place: Place | undefined): string {
  if (!place) return `${key}-`
  const given = name(place)
  if (/[A-Za-z0-9]$/.test(given))
    throw wrong(place, `"${given}" must end with a separator, as in "${given}-": the stamp follows it.`)
  return given
}

function loadOutside(found: ReadonlyMap<string, Place>): Record<string, Outside> {
  const outside: Record<string, Outside> = {}
  for (const [field, kind] of Object.entries(outsideFields)) {
    const place = found.get(field)
    if (place) outside[field] = readOutside(place, kind === 'secret')
  }
  return outside
}

function readOutside(place: Place, secret: boolean): Outside {
  if (!isMapping(place)) {
    if (secret) throw wrong(place, 'a secret is not written here. Use { env: NAME } or { file: PATH }.')
    return { value: text(place) }
  }
  const found = fields(place, ['env', 'file'])
  if (found.size !== 1) throw wrong(place, 'either env or file is expected.')
  return found.has('env') ? { env: text(found.get('env')!) } : { file: text(found.get('file')!) }
}

function partsOf(format: FormatName, values: Record<string, unknown>): Pick<TrainRepository, Part> {
  const parts: Record<Part, Record<string, unknown>> = { remote: {}, repository: {}, sync: {} }
  for (const [field, value] of Object.entries(values)) parts[formats[format][field]!.part][field] = value
  return parts
}
