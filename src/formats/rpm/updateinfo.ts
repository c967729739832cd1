import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Described, VersionView } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { splitElements } from '../../lib/xml.ts'
import { childOf, childrenOf, type Element, escapeXml, parseElements, quoteXml, textOf } from './element.ts'

/** An advisory, in Pulp's words. What is not given is empty. */
export interface Advisory {
  id: string
  updated_date: string
  issued_date: string
  description: string
  fromstr: string
  status: string
  title: string
  summary: string
  version: string
  type: string
  severity: string
  solution: string
  release: string
  rights: string
  pushcount: string
  reboot_suggested: boolean
  pkglist: Collection[]
  references: Reference[]
}

export interface Collection {
  name: string | null
  shortname: string | null
  module: { name: string; stream: string; version: number; context: string; arch: string } | null
  packages: AdvisoryPackage[]
}

export interface AdvisoryPackage {
  name: string
  epoch: string
  version: string
  release: string
  arch: string
  filename: string
  src: string
  sum: string
  sum_type: string
  reboot_suggested: boolean
  relogin_suggested: boolean
  restart_suggested: boolean
}

export interface Reference {
  href: string
  id: string | null
  title: string | null
  type: string
}

const what = 'The updateinfo metadata'

/** Reads an updateinfo.xml as it streams by, holding a few advisories at a time. Throws Failure integrity. */
export async function* readUpdateinfo(xml: AsyncIterable<Buffer>): AsyncGenerator<Described[]> {
  for await (const fragments of splitElements(xml, 'update', what))
    yield fragments.map((fragment) => {
      if (!isUtf8(fragment)) throw new Failure('integrity', `${what} has bytes that are not UTF-8.`)
      return describeAdvisory(parseAdvisory(fragment.toString('utf8')), fragment)
    })
}

/** An advisory as content. */
export function describeAdvisory(advisory: Advisory, fragment: Buffer = Buffer.from(renderAdvisory(advisory))): Described {
  const { pkglist: _, references: __, description: ___, solution: ____, ...meta } = advisory
  const digest = createHash('sha256').update(JSON.stringify(advisory)).digest('hex')
  // What is published is the element as it was written, which may hold more than what is read of it here.
  const variant = createHash('sha256').update(fragment.toString('utf8').replaceAll(/>\s+</g, '><')).digest('base64url')
  return { type: 'rpm.advisory', key: digest, variant, slot: advisory.id, meta: { ...meta, digest }, entry: fragment, files: [] }
}

/** Reads one `<update>` element, as the entry of an advisory has it. */
export function parseAdvisory(fragment: string): Advisory {
  const update = parseElements(fragment, 'An advisory of the updateinfo metadata')
  const text = (name: string) => textOf(update, name) ?? ''
  const id = text('id').trim()
  if (id === '') throw new Failure('integrity', 'An advisory of the updateinfo metadata has no id.')
  return {
    id,
    updated_date: readDate(childOf(update, 'updated')?.attributes['date']),
    issued_date: readDate(childOf(update, 'issued')?.attributes['date']),
    description: text('description'),
    fromstr: update.attributes['from'] ?? '',
    status: update.attributes['status'] ?? '',
    title: text('title'),
    summary: text('summary'),
    version: update.attributes['version'] ?? '',
    type: update.attributes['type'] ?? '',
    severity: text('severity'),
    solution: text('solution'),
    release: text('release'),
    rights: text('rights'),
    pushcount: text('pushcount'),
    reboot_suggested: has(update, 'reboot_suggested'),
    pkglist: childrenOf(update, 'pkglist').flatMap((list) => childrenOf(list, 'collection').map(readCollection)),
    references: childrenOf(update, 'references').flatMap((list) => childrenOf(list, 'reference').map(readReference)),
  }
}

function has(element: Element, name: string): boolean {
  return childOf(element, name) !== undefined
}

/** Pulp shows whole dates with their midnight and keeps seconds since 1970 as they are. */
function readDate(text = ''): string {
  const match = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d))?/.exec(text)
  return match ? `${match[1]} ${match[2] ?? '00:00:00'}` : text
}

function readCollection(element: Element): Collection {
  const module = childOf(element, 'module')?.attributes
  return {
    name: textOf(element, 'name') ?? null,
    shortname: element.attributes['short'] ?? null,
    module: module
      ? {
          name: module['name'] ?? '',
          stream: module['stream'] ?? '',
          version: Number(module['version'] ?? 0),
          context: module['context'] ?? '',
          arch: module['arch'] ?? '',
        }
      : null,
    packages: childrenOf(element, 'package').map(readPackage),
  }
}

function readPackage(element: Element): AdvisoryPackage {
  const { attributes } = element
  const sum = childOf(element, 'sum')
  return {
    name: attributes['name'] ?? '',
    epoch: attributes['epoch'] || '0',
    version: attributes['version'] ?? '',
    release: attributes['release'] ?? '',
    arch: attributes['arch'] ?? '',
    filename: textOf(element, 'filename') ?? '',
    src: attributes['src'] ?? '',
    sum: sum?.text ?? '',
    sum_type: sum?.attributes['type']?.toLowerCase() ?? 'unknown',
    reboot_suggested: has(element, 'reboot_suggested'),
    relogin_suggested: has(element, 'relogin_suggested'),
    restart_suggested: has(element, 'restart_suggested'),
  }
}

function readReference({ attributes }: Element): Reference {
  return {
    href: attributes['href'] ?? '',
    id: attributes['id'] ?? null,
    title: attributes['title'] ?? null,
    type: attributes['type'] ?? '',
  }
}

/** The inverse of parseAdvisory. */
export function renderAdvisory(advisory: Advisory): string {
  const element = (name: string, text: string | null) => (text ? `<${name}>${escapeXml(text)}</${name}>` : '')
  const attributes = (values: Record<string, string | number | null>) =>
    Object.entries(values)
      .map(([name, value]) => (value === null ? '' : ` ${name}=${quoteXml(String(value))}`))
      .join('')
  const flag = (name: string, set: boolean) => (set ? `<${name}>True</${name}>` : '')

  const renderPackage = (each: AdvisoryPackage) => {
    const { name, version, release, epoch, arch, src } = each
    const sum = each.sum && each.sum_type !== 'unknown' ? `<sum type=${quoteXml(each.sum_type)}>${escapeXml(each.sum)}</sum>` : ''
    const flags = (['reboot_suggested', 'restart_suggested', 'relogin_suggested'] as const).map((key) => flag(key, each[key]))
    return `<package${attributes({ name, version, release, epoch, arch, src })}>${element('filename', each.filename)}${sum}${flags.join('')}</package>`
  }
  const renderCollection = ({ name, shortname, module, packages }: Collection) =>
    `<collection${attributes({ short: shortname })}>${element('name', name)}${module ? `<module${attributes(module)}/>` : ''}${packages.map(renderPackage).join('')}</collection>`
  const { fromstr, status, type, version } = advisory
  const references = advisory.references.map(
    ({ href, id, type, title }) => `<reference${attributes({ href, id, type, title })}/>`,
  )
  return `<update${attributes({ from: fromstr, status, type, version })}><id>${escapeXml(advisory.id)}</id>${element('title', advisory.title)}${
    advisory.issued_date && `<issued date=${quoteXml(readDate(advisory.issued_date))}/>`
  }${advisory.updated_date && `<updated date=${quoteXml(readDate(advisory.updated_date))}/>`}${(
    ['rights', 'release', 'pushcount', 'severity', 'summary', 'description', 'solution'] as const
  )
    .map((name) => element(name, advisory[name]))
    .join(
      '',
    )}${flag('reboot_suggested', advisory.reboot_suggested)}<references>${references.join('')}</references><pkglist>${advisory.pkglist
    .map(renderCollection)
    .join('')}</pkglist></update>`
}

export function hasUpdateinfo({ counts }: Pick<VersionView, 'counts'>): boolean {
  return Boolean(counts['rpm.advisory'])
}

/** Writes updateinfo.xml: each advisory as its upstream or user wrote it. */
export async function* renderUpdateinfo(version: Pick<VersionView, 'units'>): AsyncGenerator<Uint8Array> {
  yield Buffer.from('<?xml version="1.0" encoding="UTF-8"?>\n<updates>\n')
  for await (const unit of version.units('rpm.advisory')) {
    yield await unit.entry()
    yield Buffer.from('\n')
  }
  yield Buffer.from('</updates>\n')
}
