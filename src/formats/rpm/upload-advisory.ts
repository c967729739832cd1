import { Failure } from '../../lib/failure.ts'
import type { Advisory, AdvisoryPackage, Collection, Reference } from './updateinfo.ts'

/** Checksum types as createrepo_c numbers them: an upload may give the number. */
const checksumTypes = ['unknown', 'md5', 'sha', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'] as const

/** Reads an advisory that a user uploads: a JSON object with Pulp's field names, or those of updateinfo.xml. Throws Failure invalid. */
export function parseUploadedAdvisory(bytes: Uint8Array): Advisory {
  const fields = asObject(parseJson(bytes), 'The advisory')
  const text = (...names: string[]) => names.map((name) => asText(fields[name], name)).find((value) => value !== '') ?? ''
  const advisory: Advisory = {
    id: text('id'),
    updated_date: text('updated', 'updated_date'),
    issued_date: text('issued', 'issued_date'),
    description: text('description'),
    fromstr: text('from', 'fromstr'),
    status: text('status'),
    title: text('title'),
    summary: text('summary'),
    version: text('version'),
    type: text('type'),
    severity: text('severity'),
    solution: text('solution'),
    release: text('release'),
    rights: text('rights'),
    pushcount: text('pushcount'),
    reboot_suggested: asFlag(fields['reboot_suggested']),
    pkglist: asList(fields['pkglist'], 'pkglist').map(readCollection),
    references: asList(fields['references'], 'references').map(readReference),
  }
  if (!advisory.id || !advisory.updated_date || !advisory.issued_date)
    throw new Failure('invalid', "All 'id', 'updated_date' and 'issued_date' must be specified.")
  return advisory
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new Failure('invalid', 'JSON file is expected', { cause })
  }
}

type Json = Record<string, unknown>

function readCollection(value: unknown): Collection {
  const fields = asObject(value, 'A collection')
  const module = fields['module'] ? asObject(fields['module'], 'The module of a collection') : undefined
  return {
    name: fields['name'] === undefined || fields['name'] === null ? null : asText(fields['name'], 'name'),
    shortname: asText(fields['short'] ?? fields['shortname'], 'short'),
    module: module
      ? {
          name: asText(module['name'], 'name'),
          stream: asText(module['stream'], 'stream'),
          version: Number(module['version'] ?? 0),
          context: asText(module['context'], 'context'),
          arch: asText(module['arch'], 'arch'),
        }
      : null,
    packages: asList(fields['packages'], 'packages').map(readPackage),
  }
}

function readPackage(value: unknown): AdvisoryPackage {
  const fields = asObject(value, 'A package')
  const text = (name: keyof AdvisoryPackage) => asText(fields[name], name)
  return {
    name: text('name'),
    epoch: text('epoch') || '0',
    version: text('version'),
    release: text('release'),
    arch: text('arch'),
    filename: text('filename'),
    src: text('src'),
    sum: text('sum'),
    sum_type: readChecksumType(fields['sum_type']),
    reboot_suggested: asFlag(fields['reboot_suggested']),
    relogin_suggested: asFlag(fields['relogin_suggested']),
    restart_suggested: asFlag(fields['restart_suggested']),
  }
}

function readChecksumType(value: unknown): string {
  if (value === undefined || value === null || value === '') return 'unknown'
  const name = checksumTypes.find((each, number) => each === value || number === value)
  if (!name) throw new Failure('invalid', `${JSON.stringify(value)} is not supported.`)
  return name
}

function readReference(value: unknown): Reference {
  const fields = asObject(value, 'A reference')
  return {
    href: asText(fields['href'], 'href'),
    id: asText(fields['id'], 'id'),
    title: asText(fields['title'], 'title'),
    type: asText(fields['type'], 'type'),
  }
}

function asObject(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Failure('invalid', `${what} is not a JSON object.`)
  return value as Json
}

function asList(value: unknown, name: string): unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new Failure('invalid', `The field ${name} of the advisory is not a list.`)
  return value
}

/** Numbers are taken as they are written: `"version": 1`. */
function asText(value: unknown, name: string): string {
  if (value === undefined || value === null) return ''
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new Failure('invalid', `The field ${name} of the advisory is not a text.`)
  return String(value)
}

function asFlag(value: unknown): boolean {
  return value === true || value === 1 || (typeof value === 'string' && /^(true|1)$/i.test(value))
}
