import { createHash } from 'node:crypto'
import { isMap, isScalar, parseDocument, type ParsedNode } from 'yaml'
import type { Described, VersionView } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'

/** What `entry` of a modulemd holds, as JSON; defaults and obsoletes have the snippet alone. */
export interface ModuleEntry {
  /** The YAML document, from `---` to `...`. */
  snippet: string
  /** `<name>-<epoch>:<version>-<release>.<arch>`. */
  artifacts: unknown
  dependencies: unknown
  profiles: unknown
  description: string
  /** What a user named when creating it: hrefs. */
  packages?: unknown
}

export interface Modules {
  units: Described[]
  /** The NEVRAs that belong to a module: `<name>-<epoch>:<version>-<release>.<arch>`. */
  modularNevras: Set<string>
}

/** Reads a modules.yaml. Documents of kinds that clients do not need are left out. Throws Failure integrity, naming the document. */
export function readModules(yaml: Uint8Array): Modules {
  const units: Described[] = []
  const modularNevras = new Set<string>()
  for (const [index, text] of splitDocuments(Buffer.from(yaml.buffer, yaml.byteOffset, yaml.length).toString('utf8')).entries()) {
    const parsed = parseModuleDocument(text, index + 1)
    if (!parsed) continue
    units.push(parsed.unit)
    for (const nevra of parsed.artifacts) modularNevras.add(nevra)
  }
  return { units, modularNevras }
}

/** The text of each document, without the lines that begin and end it. */
function splitDocuments(text: string): string[] {
  const documents: string[] = []
  let lines: string[] = []
  for (const line of [...text.split(/\r?\n/), '---']) {
    const start = /^---(?:\s+(.*))?$/.exec(line)
    if (!start && !/^\.\.\.\s*$/.test(line)) lines.push(line)
    else {
      const document = lines
        .filter((each, at) => at > 0 || each !== '')
        .join('\n')
        .trimEnd()
      if (document.trim() !== '') documents.push(document.replace(/^\n+/, ''))
      lines = start?.[1] ? [start[1]] : []
    }
  }
  return documents
}

function parseModuleDocument(text: string, number: number): { unit: Described; artifacts: string[] } | undefined {
  const wrong = (why: string): never => {
    throw new Failure('integrity', `Document ${number} of the modules metadata is broken: ${why}.`)
  }
  const document = parseDocument(text, { prettyErrors: false, logLevel: 'silent' })
  if (document.errors.length > 0) wrong(document.errors[0]!.message)
  const kind = document.get('document')
  const data = document.get('data', true) as ParsedNode | undefined
  if (typeof kind !== 'string' || !(kind in readers)) return undefined
  if (!isMap(data)) wrong('it has no data')
  let values: Record<string, any>
  try {
    // A few aliases are legitimate; thousands are a bomb.
    values = document.toJS({ maxAliasCount: 100 }).data
  } catch (error) {
    return wrong((error as Error).message)
  }
  // Numbers that would lose digits (stream 5.30) are kept as they are written, wherever they stand.
  keepWrittenNumbers(data, values)
  return readers[kind as keyof typeof readers](values, `---\n${text}\n...`, wrong)
}

const wordFields = new Set(['name', 'stream', 'version', 'context', 'arch'])

function keepWrittenNumbers(node: unknown, values: any): void {
  if (isMap(node))
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : ''
      if (isScalar(value) && typeof value.value === 'number' && value.source !== undefined) {
        if (wordFields.has(name) || String(value.value) !== value.source) values[name] = value.source
      } else keepWrittenNumbers(value, values?.[name])
    }
  else if (node && typeof node === 'object' && 'items' in node && Array.isArray(node.items) && Array.isArray(values))
    for (const [at, item] of node.items.entries())
      if (isScalar(item) && typeof item.value === 'number' && item.source !== undefined && String(item.value) !== item.source)
        values[at] = item.source
      else if (!isScalar(item)) keepWrittenNumbers(item, values[at])
}

type Wrong = (why: string) => never
type Read = (data: Record<string, any>, snippet: string, wrong: Wrong) => { unit: Described; artifacts: string[] }

const readers: Readonly<Record<'modulemd' | 'modulemd-defaults' | 'modulemd-obsoletes', Read>> = {
  modulemd(data, snippet, wrong) {
    checkModulemd(data, wrong)
    const artifacts: string[] = data['artifacts']?.rpms ?? []
    if (!Array.isArray(artifacts)) wrong('its artifacts are no list')
    const fields = {
      name: String(data['name']),
      stream: String(data['stream']),
      version: String(data['version']),
      context: String(data['context']),
      arch: String(data['arch']),
      static_context: data['static_context'] ?? null,
    }
    const rest = {
      artifacts,
      dependencies: data['dependencies'] ?? [],
      profiles: readProfiles(data['profiles']),
      description: data['description'],
    }
    return { unit: describeModulemd(fields, { snippet, ...rest }), artifacts }
  },
  'modulemd-defaults'(data, snippet, wrong) {
    if (data['module'] === undefined) wrong('a modulemd-defaults document needs "module"')
    const fields = { module: String(data['module']), stream: String(data['stream'] ?? ''), profiles: data['profiles'] ?? null }
    return { unit: describeDefaults(fields, snippet), artifacts: [] }
  },
  'modulemd-obsoletes'(data, snippet, wrong) {
    for (const field of ['modified', 'module', 'stream', 'message'])
      if (data[field] === undefined) wrong(`a modulemd-obsoletes document needs "${field}"`)
    const optional = (value: string | number | boolean | null | undefined) =>
      value === undefined || value === null ? null : String(value)
    const fields = {
      modified: String(data['modified']),
      module_name: String(data['module']),
      module_stream: String(data['stream']),
      message: String(data['message']),
      override_previous: typeof data['reset'] === 'boolean' ? (data['reset'] ? 'True' : 'False') : optional(data['reset']),
      module_context: optional(data['context']),
      eol_date: optional(data['eol_date']),
      obsoleted_by_module_name: optional(data['obsoleted_by']?.module),
      obsoleted_by_module_stream: optional(data['obsoleted_by']?.stream),
    }
    return { unit: describeObsolete(fields, snippet), artifacts: [] }
  },
}

function checkModulemd(data: Record<string, any>, wrong: Wrong): void {
  for (const field of ['name', 'stream', 'version', 'context', 'arch', 'summary', 'description', 'license'])
    if (data[field] === undefined) wrong(`a modulemd document needs "${field}"`)
  for (const field of ['name', 'arch', 'summary', 'description'])
    if (typeof data[field] !== 'string') wrong(`"${field}" is not a text`)
  if (!/^[0-9]+$/.test(String(data['version']))) wrong(`the version ${JSON.stringify(data['version'])} is not a whole number`)
  if (!Array.isArray(data['license']?.module)) wrong('"license" has no list "module"')
}

function readProfiles(profiles: unknown): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries((profiles ?? {}) as Record<string, { rpms?: unknown } | null>).flatMap(([name, profile]) =>
      profile?.rpms ? [[name, profile.rpms]] : [],
    ),
  )
}

export interface ModulemdFields {
  name: string
  stream: string
  version: string
  context: string
  arch: string
  static_context: boolean | null
}

/** A module's build as content. What a user says of a document need not be true: it is part of what the content is known by. */
export function describeModulemd(fields: ModulemdFields, entry: ModuleEntry): Described {
  const slot = [fields.name, fields.stream, fields.version, fields.context, fields.arch].join(':')
  const digest = sha256(entry.snippet)
  return {
    type: 'rpm.modulemd',
    key: `${slot}:${digest}`,
    variant: sha256(JSON.stringify([fields, entry])),
    slot,
    meta: { ...fields, digest },
    entry: Buffer.from(JSON.stringify(entry)),
    files: [],
  }
}

/** Default stream and profiles of a module as content. */
export function describeDefaults(fields: { module: string; stream: string; profiles: unknown }, snippet: string): Described {
  const digest = sha256(snippet)
  const entry = Buffer.from(JSON.stringify({ snippet }))
  const variant = sha256(JSON.stringify(fields))
  return {
    type: 'rpm.modulemd_defaults',
    key: digest,
    variant,
    slot: fields.module,
    meta: { ...fields, digest },
    entry,
    files: [],
  }
}

const obsoleteFields = [
  'modified',
  'module_name',
  'module_stream',
  'message',
  'override_previous',
  'module_context',
  'eol_date',
  'obsoleted_by_module_name',
  'obsoleted_by_module_stream',
] as const

/** The end of a module's stream as content. One module may have many: other streams, contexts, times. */
export function describeObsolete(fields: Partial<Record<(typeof obsoleteFields)[number], unknown>>, snippet: string): Described {
  const key = [fields['module_name'], fields['module_stream'], fields['modified'], sha256(snippet)].join(':')
  const meta = Object.fromEntries(obsoleteFields.map((name) => [name, fields[name] ?? null]))
  const variant = sha256(JSON.stringify(meta))
  return { type: 'rpm.modulemd_obsolete', key, variant, meta, entry: Buffer.from(JSON.stringify({ snippet })), files: [] }
}

const moduleTypes = ['rpm.modulemd', 'rpm.modulemd_defaults', 'rpm.modulemd_obsolete']

export function hasModules({ counts }: Pick<VersionView, 'counts'>): boolean {
  return moduleTypes.some((type) => counts[type])
}

/** Writes modules.yaml: each document as its upstream or user wrote it. */
export async function* renderModules(version: Pick<VersionView, 'units'>): AsyncGenerator<Uint8Array> {
  for (const type of moduleTypes)
    for await (const unit of version.units(type)) {
      const { snippet } = JSON.parse((await unit.entry()).toString('utf8')) as ModuleEntry
      yield Buffer.from(`${snippet.trimEnd()}\n`)
    }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
