import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Failure } from '../../lib/failure.ts'
import { type Cut, cutElements, splitElements } from '../../lib/xml.ts'
import { quoteXml } from './element.ts'
import { type FragmentKind, soundFragment, usualIn } from './fragments.ts'
import { nevraOf, type PrimaryPackage, parsePrimary } from './primary.ts'
import { saysTheSame } from './variant.ts'

/*
 * The packages of an upstream are read twice. First primary.xml alone: which packages are there, which of them are new, which to leave
 * out. Then, unless all are known, all three files side by side: their orders nearly always agree, so that a package's three elements
 * come together without keeping any; where they do not agree, elements wait compressed.
 */

/** What becomes of the packages of primary.xml, by their place in it. */
export interface Selection {
  decisions: ('new' | 'known' | 'again' | 'left out')[]
  /** Checksums of the new ones. */
  wanted: ReadonlySet<string>
  /** The variants of the known ones, by their place. */
  variants: ReadonlyMap<number, string>
  /** Their keys. */
  keys: ReadonlyMap<number, string>
}

export interface SelectOptions {
  /** Source packages are left out. */
  skipSources: boolean
  /** All packages are kept, also several of one name, version and architecture. */
  keepTwins: boolean
  known(keys: readonly string[]): Promise<(string | undefined)[]>
  /** Called for every package; throws to refuse it. */
  check(found: PrimaryPackage): void
}

const askedTogether = 1000
/** Few, because the text of all of them is in memory. */
const batchSize = 400

/** The first look at primary.xml. Throws Failure integrity. */
export async function selectPackages(primary: AsyncIterable<Buffer>, options: SelectOptions): Promise<Selection> {
  const decisions: Selection['decisions'] = []
  const wanted = new Set<string>()
  const variants = new Map<number, string>()
  const keys = new Map<number, string>()
  const winners = new Map<string, { index: number; buildTime: number; checksum: string }>()
  let batch: { index: number; key: string; found: PrimaryPackage }[] = []

  function decide(found: PrimaryPackage, key: string, index: number): Selection['decisions'][number] {
    if (options.skipSources && (found.arch === 'src' || found.arch === 'nosrc')) return 'left out'
    const name = options.keepTwins ? key : owned(nevraOf(found))
    const twin = winners.get(name)
    if (twin?.checksum === found.checksum) return 'again'
    // As clients do: of packages that differ in nothing but their bytes, the one built last counts.
    if (twin && twin.buildTime >= found.buildTime) return 'left out'
    if (twin) decisions[twin.index] = 'left out'
    winners.set(name, { index, buildTime: found.buildTime, checksum: owned(found.checksum) })
    return 'new'
  }
  async function ask(): Promise<void> {
    const stored = await options.known(batch.map(({ key }) => key))
    for (const [at, { index, key, found }] of batch.entries()) {
      const variant = stored[at]
      if (decisions[index] !== 'new') continue
      if (variant === undefined || !saysTheSame(variant, found)) wanted.add(owned(found.checksum))
      else {
        decisions[index] = 'known'
        variants.set(index, variant)
        keys.set(index, key)
      }
    }
    batch = []
  }
  for await (const fragments of splitElements(primary, 'package', 'The primary metadata', 'metadata'))
    for (const fragment of fragments) {
      const found = parsePrimary(fragment)
      options.check(found)
      const index = decisions.length
      decisions.push('left out')
      const key = owned(keyOf(found))
      decisions[index] = decide(found, key, index)
      if (decisions[index] === 'new') batch.push({ index, key, found })
      if (batch.length === askedTogether) await ask()
    }
  await ask()
  return { decisions, wanted, variants, keys }
}

/** The same text in memory of its own: one cut out of a larger text keeps all of that alive. */
function owned(text: string): string {
  return Buffer.from(text).toString()
}

/** What identifies a package wherever it comes from. */
export function keyOf(
  found: Pick<PrimaryPackage, 'name' | 'epoch' | 'version' | 'release' | 'arch' | 'checksumType' | 'checksum'>,
): string {
  return `${found.checksumType}:${found.checksum} ${nevraOf(found)}`
}

export interface ReadPackage {
  found: PrimaryPackage
  /** Of a new package the other elements, of a known one its variant; undefined when it was there before, at another place. */
  lists: { filelists: Buffer; other: Buffer } | string | undefined
}

/** The unpacked files; undefined where the upstream has no such list. */
export interface PackageLists {
  primary: AsyncIterable<Buffer>
  filelists: AsyncIterable<Buffer> | undefined
  other: AsyncIterable<Buffer> | undefined
}

/** The second look; `onlyNew` passes over known packages. Throws Failure integrity, also when a new package is missing in a list. */
export async function* readPackages(
  lists: PackageLists,
  { decisions, wanted, variants }: Selection,
  onlyNew = false,
): AsyncGenerator<ReadPackage[]> {
  await using filelists = openList(lists.filelists, 'filelists', wanted)
  await using other = openList(lists.other, 'other', wanted)
  let index = 0
  let batch: ReadPackage[] = []
  for await (const fragments of splitElements(lists.primary, 'package', 'The primary metadata', 'metadata'))
    for (const fragment of fragments) {
      const at = index++
      const decision = decisions[at] ?? 'left out'
      if (decision === 'left out' || (onlyNew && decision !== 'new')) continue
      const found = parsePrimary(fragment)
      const lists =
        decision === 'new'
          ? {
              filelists: filelists.take(found) ?? (await filelists.find(found)),
              other: other.take(found) ?? (await other.find(found)),
            }
          : variants.get(at)
      batch.push({ found, lists })
      if (batch.length === batchSize) {
        yield batch
        batch = []
      }
    }
  if (batch.length > 0) yield batch
}

/** Bytes of compressed elements that may wait for their package. */
const mostWaitingBytes = 256 << 20

const roots = { filelists: 'filelists', other: 'otherdata' } as const

/** One of the other two lists, read as far as needed. */
function openList(bytes: AsyncIterable<Buffer> | undefined, kind: Exclude<FragmentKind, 'primary'>, wanted: ReadonlySet<string>) {
  const what = `The ${kind} metadata`
  const batches = bytes && cutElements(bytes, { name: 'package', what, rootName: roots[kind], usual: usualIn(kind) })
  const taken = new Set<string>()
  const waiting = new Map<string, Buffer>()
  let waitingBytes = 0
  let batch: Cut = { elements: [], areUsual: true }
  let next = 0

  const sound = (fragment: Buffer) => (batch.areUsual ? fragment : soundFragment(kind, fragment))
  /** Looks only at what is at hand. */
  function take(found: PrimaryPackage): Buffer | undefined {
    if (!batches) return emptyElement(kind, found)
    const waited = waiting.get(found.checksum)
    if (waited) {
      waiting.delete(found.checksum)
      waitingBytes -= waited.length
      taken.add(found.checksum)
      return zstdDecompressSync(waited)
    }
    while (next < batch.elements.length) {
      const fragment = batch.elements[next++]!
      const checksum = checksumOf(fragment, kind)
      if (checksum === found.checksum) {
        taken.add(checksum)
        return sound(fragment)
      }
      if (wanted.has(checksum) && !taken.has(checksum) && !waiting.has(checksum)) wait(checksum, sound(fragment))
    }
    return undefined
  }
  function wait(checksum: string, fragment: Buffer): void {
    const packed = zstdCompressSync(fragment)
    waiting.set(checksum, packed)
    waitingBytes += packed.length
    if (waitingBytes > mostWaitingBytes)
      throw new Failure('integrity', `The ${kind} metadata is in an order too different from that of the primary metadata.`)
  }
  async function find(found: PrimaryPackage): Promise<Buffer> {
    for (;;) {
      const { done, value } = await batches!.next()
      if (done) throw new Failure('integrity', `The package ${nevraOf(found)} is missing in the ${kind} metadata.`)
      batch = value
      next = 0
      const fragment = take(found)
      if (fragment) return fragment
    }
  }
  return { take, find, [Symbol.asyncDispose]: async () => void (await batches?.return(undefined)) }
}

const usualStart = Buffer.from('<package pkgid="')

function checksumOf(fragment: Buffer, kind: string): string {
  if (fragment.compare(usualStart, 0, usualStart.length, 0, usualStart.length) === 0) {
    const end = fragment.indexOf('"', usualStart.length)
    if (end > 0 && end < 200) return fragment.toString('latin1', usualStart.length, end).toLowerCase()
  }
  const tag = fragment.toString('latin1', 0, Math.min(fragment.length, 4096))
  const checksum = /^<package\s[^>]*?\bpkgid\s*=\s*["']([0-9a-fA-F]+)["']/.exec(tag)?.[1]
  if (!checksum) throw new Failure('integrity', `A package in the ${kind} metadata has no pkgid.`)
  return checksum.toLowerCase()
}

/** What a list says of a package when the upstream does not have the list. The files that primary.xml names are better than none. */
function emptyElement(kind: FragmentKind, found: PrimaryPackage): Buffer {
  const { name, arch, epoch, version, release, checksum } = found
  const files = kind === 'filelists' ? (found.after.toString('utf8').match(/<file(?: type="\w+")?>[^<]*<\/file>/g) ?? []) : []
  return Buffer.from(`<package pkgid=${quoteXml(checksum)} name=${quoteXml(name)} arch=${quoteXml(arch)}>
  <version epoch=${quoteXml(epoch)} ver=${quoteXml(version)} rel=${quoteXml(release)}/>
${files.map((file) => `  ${file}\n`).join('')}</package>`)
}
