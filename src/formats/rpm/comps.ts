import { createHash } from 'node:crypto'
import type { Described, VersionView } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { childOf, childrenOf, type Element, parseElements, textOf } from './element.ts'

/*
 * comps.xml: groups of packages, categories and environments of groups, language packs.
 * The element that an upstream wrote is kept as it is (the entry); what the API shows is read out of it.
 */

interface CompsKind {
  /** Element below `<comps>`. */
  element: string
  type: string
  /** In Pulp's words. */
  read(element: Element): Record<string, unknown>
}

const kinds: readonly CompsKind[] = [
  { element: 'group', type: 'rpm.packagegroup', read: readGroup },
  {
    element: 'category',
    type: 'rpm.packagecategory',
    read: (each) => ({ ...readTexts(each), group_ids: readIds(each, 'grouplist') }),
  },
  {
    element: 'environment',
    type: 'rpm.packageenvironment',
    read: (each) => ({ ...readTexts(each), group_ids: readIds(each, 'grouplist'), option_ids: readIds(each, 'optionlist') }),
  },
  { element: 'langpacks', type: 'rpm.packagelangpacks', read: (each) => ({ matches: readMatches(each) }) },
]

/** Reads a comps.xml. Throws Failure integrity. */
export function readComps(xml: Uint8Array): Described[] {
  const text = Buffer.from(xml.buffer, xml.byteOffset, xml.length).toString('utf8')
  const root = parseElements(text, 'The comps metadata')
  if (root.name !== 'comps') throw new Failure('integrity', `The comps metadata starts with <${root.name}> instead of <comps>.`)
  return kinds.flatMap(({ element, type }) =>
    childrenOf(root, element).flatMap((each) => {
      const hasMatches = element === 'langpacks'
      if (hasMatches && each.children.length === 0) return []
      const id = hasMatches ? 'langpacks' : textOf(each, 'id')?.trim()
      if (!id) throw new Failure('integrity', `A ${element} of the comps metadata has no id.`)
      const digest = createHash('sha256')
        .update(JSON.stringify(canonical(each)))
        .digest('hex')
      const meta = { ...(hasMatches ? {} : { id, name: textOf(each, 'name') ?? '' }), digest }
      // As in Pulp, language packs of several uploads lie beside each other.
      const slot = hasMatches ? digest : id
      return [{ type, key: digest, slot, meta, entry: Buffer.from(text.slice(each.start, each.end)), files: [] }]
    }),
  )
}

/** Equal for elements that say the same, however they are indented. */
function canonical({ name, attributes, children, text }: Element): unknown {
  return [name, Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1)), text.trim(), children.map(canonical)]
}

/** What a content of one of these types is, in Pulp's words, from its entry. */
export function parseComps(type: string, entry: Uint8Array): Record<string, unknown> {
  const kind = kinds.find((each) => each.type === type)
  if (!kind) throw new Error(`${type} is none of comps`)
  return kind.read(parseElements(Buffer.from(entry).toString('utf8'), 'An entry of the comps metadata'))
}

function readTexts(element: Element): Record<string, unknown> {
  const order = textOf(element, 'display_order')
  return {
    id: textOf(element, 'id')?.trim() ?? '',
    name: ownText(element, 'name'),
    description: ownText(element, 'description'),
    display_order: order === undefined ? null : Number.parseInt(order, 10) || 0,
    desc_by_lang: readTranslations(element, 'description'),
    name_by_lang: readTranslations(element, 'name'),
  }
}

function ownText(element: Element, name: string): string {
  return childrenOf(element, name).find(({ attributes }) => attributes['xml:lang'] === undefined)?.text ?? ''
}

function readTranslations(element: Element, name: string): Record<string, string> {
  return Object.fromEntries(
    childrenOf(element, name).flatMap(({ attributes, text }) => (attributes['xml:lang'] ? [[attributes['xml:lang'], text]] : [])),
  )
}

function readGroup(element: Element): Record<string, unknown> {
  const isTrue = (name: string) => textOf(element, name)?.trim() === 'true'
  return {
    ...readTexts(element),
    default: isTrue('default'),
    user_visible: textOf(element, 'uservisible')?.trim() !== 'false',
    biarch_only: isTrue('biarchonly'),
    packages: readPackages(element),
  }
}

/** How a group holds a package, as libcomps numbers it. */
const packageTypes = { default: 0, optional: 1, conditional: 2, mandatory: 3, unknown: 4 } as const

function readPackages(group: Element): unknown[] {
  const packages = childrenOf(childOf(group, 'packagelist') ?? group, 'packagereq').map(({ text, attributes }) => {
    const { type = 'mandatory', requires = null, basearchonly } = attributes
    return {
      name: text.trim(),
      type: packageTypes[type as keyof typeof packageTypes] ?? packageTypes.unknown,
      basearchonly: basearchonly === undefined ? null : basearchonly === 'true',
      requires,
    }
  })
  return [...new Map(packages.map((each) => [JSON.stringify(each), each])).values()]
}

function readIds(element: Element, list: string): { name: string; default: boolean }[] {
  return childrenOf(childOf(element, list) ?? element, 'groupid').map(({ text, attributes }) => ({
    name: text.trim(),
    default: attributes['default'] === 'true',
  }))
}

function readMatches(element: Element): Record<string, string> {
  return Object.fromEntries(
    childrenOf(element, 'match').map(({ attributes }) => [attributes['name'] ?? '', attributes['install'] ?? '']),
  )
}

export function hasComps({ counts }: Pick<VersionView, 'counts'>): boolean {
  return kinds.some(({ type }) => counts[type])
}

/** The types of what a comps.xml holds. */
export const compsTypes = kinds.map(({ type }) => type)

/** Writes comps.xml: each element as its upstream or user wrote it. */
export async function* renderComps(version: Pick<VersionView, 'units'>): AsyncGenerator<Uint8Array> {
  yield Buffer.from(
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">\n<comps>\n',
  )
  for (const { type, element } of kinds) {
    const entries: Buffer[] = []
    for await (const unit of version.units(type)) entries.push(await unit.entry())
    // There can only be one element of language packs.
    if (element === 'langpacks' && entries.length > 1)
      yield Buffer.from(`<langpacks>${entries.map(innerOf).join('')}</langpacks>\n`)
    else for (const entry of entries) yield Buffer.concat([entry, Buffer.from('\n')])
  }
  yield Buffer.from('</comps>\n')
}

function innerOf(element: Buffer): string {
  const text = element.toString('utf8')
  return text.slice(text.indexOf('>') + 1, text.lastIndexOf('</'))
}
