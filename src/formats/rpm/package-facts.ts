import type { Unit } from '../../core/format.ts'
import type { PackageFacts } from './depsolve.ts'
import { childOf, childrenOf, type Element, parseElements } from './element.ts'
import type { Dependency } from './header.ts'
import { unpackEntry } from './package-entry.ts'

type Facts = PackageFacts & { files: string[] }

/** What solving dependencies needs to know of all of these packages. */
export async function readFacts(packages: readonly Unit[]): Promise<PackageFacts[]> {
  const all: Facts[] = []
  for (const unit of packages) all.push(await readPrimaryFacts(unit))
  // Few dependencies are on files that primary metadata does not list: only for these the lists of files are searched.
  const provided = new Set(all.flatMap(({ files }) => files))
  const wanted = new Set(
    all.flatMap(({ requires }) => requires.flatMap(({ name }) => (name.startsWith('/') && !provided.has(name) ? name : []))),
  )
  if (wanted.size > 0)
    for (const [index, unit] of packages.entries()) {
      const { filelists } = unpackEntry(await unit.entry())
      for (const [, path = ''] of filelists.toString('utf8').matchAll(/>(\/[^<]*)<\/file>/g))
        if (wanted.has(path)) all[index]!.files.push(path)
    }
  return all
}

async function readPrimaryFacts(unit: Unit): Promise<Facts> {
  const { before, after } = unpackEntry(await unit.entry())
  const element = parseElements(Buffer.concat([before, after]).toString('utf8'), 'The stored metadata of a package')
  const format = childOf(element, 'format') ?? element
  const { name, epoch, version, release, arch } = unit.meta
  return {
    id: unit.id,
    name,
    epoch,
    version,
    release,
    arch,
    provides: readDependencies(format, 'rpm:provides'),
    requires: readDependencies(format, 'rpm:requires'),
    files: childrenOf(format, 'file').map(({ text }) => text),
  }
}

function readDependencies(format: Element, name: string): Dependency[] {
  return childrenOf(childOf(format, name) ?? format, 'rpm:entry').map(
    ({ attributes: { name = '', flags, epoch, ver, rel } }) => ({
      name,
      ...(flags && {
        flags: flags as Dependency['flags'],
        epoch: epoch ?? '0',
        version: ver ?? '',
        ...(rel && { release: rel }),
      }),
    }),
  )
}
