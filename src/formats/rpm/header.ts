import { Failure } from '../../lib/failure.ts'
import { compareVersions } from '../../lib/evr.ts'
import { type HeaderStore, introLength, parseIntro, parseStore } from './header-store.ts'
import { dependencyTags, ghostFile, sense, signatureTags, tags } from './header-tags.ts'

/** What a package says of itself, cut to what repository metadata holds of it: as createrepo_c writes it. */
export interface RpmHeader {
  name: string
  epoch: string
  version: string
  release: string
  /** `src` for source packages. */
  arch: string
  summary: string
  description: string
  url: string
  license: string
  vendor: string
  group: string
  packager: string
  buildHost: string
  sourceRpm: string
  /** Seconds. */
  buildTime: number
  installedSize: number
  archiveSize: number
  /** Where the main header lies in the package, in bytes. */
  headerStart: number
  headerEnd: number
  modularityLabel: string | undefined
  provides: Dependency[]
  requires: Dependency[]
  conflicts: Dependency[]
  obsoletes: Dependency[]
  suggests: Dependency[]
  enhances: Dependency[]
  recommends: Dependency[]
  supplements: Dependency[]
  files: PackageFile[]
  /** Oldest first. */
  changelogs: Changelog[]
}

/** `name` holds the whole of a rich dependency. Without `flags` any version will do. */
export interface Dependency {
  name: string
  flags?: 'LT' | 'LE' | 'EQ' | 'GE' | 'GT'
  epoch?: string
  version?: string
  release?: string
  /** Needed already while the package is installed. */
  pre?: boolean
}

export interface PackageFile {
  /** With a slash at its end. */
  directory: string
  name: string
  type: '' | 'dir' | 'ghost'
}

export interface Changelog {
  author: string
  /** Seconds. */
  date: number
  text: string
}

const leadLength = 96
/** createrepo_c and Pulp keep as many. */
const mostChangelogs = 10

/** Reads the headers of a package, and no more of the stream than that. `name` is for messages. Throws Failure invalid when it is no package. */
export async function parseHeader(bytes: AsyncIterable<Uint8Array>, name: string): Promise<RpmHeader> {
  const wrong = (why: string): never => {
    throw new Failure('invalid', `${name} is not an RPM package: ${why}.`)
  }
  const input = bytes[Symbol.asyncIterator]()
  try {
    const take = taker(input, () => wrong('it ends too early'))
    const lead = await take(leadLength)
    if (lead.readUInt32BE(0) !== 0xedabeedb) wrong('it does not start with the magic number of one')

    const signatureIntro = parseIntro(await take(introLength), wrong)
    const signature = parseStore(await take(signatureIntro.length), signatureIntro.entries, wrong)
    // The main header starts at a multiple of 8.
    const padding = -signatureIntro.length & 7
    await take(padding)

    const intro = parseIntro(await take(introLength), wrong)
    const store = parseStore(await take(intro.length), intro.entries, wrong)
    const headerStart = leadLength + introLength + signatureIntro.length + padding
    return readPackage(store, signature, { headerStart, headerEnd: headerStart + introLength + intro.length }, wrong)
  } finally {
    await input.return?.()
  }
}

/** Cuts pieces of known lengths off a stream. */
function taker(input: AsyncIterator<Uint8Array>, short: () => never): (length: number) => Promise<Buffer> {
  let held: Uint8Array[] = []
  let heldLength = 0
  return async (length) => {
    while (heldLength < length) {
      const next = await input.next()
      if (next.done) short()
      held.push(next.value)
      heldLength += next.value.length
    }
    const all = held.length === 1 ? Buffer.from(held[0]!.buffer, held[0]!.byteOffset, heldLength) : Buffer.concat(held)
    held = [all.subarray(length)]
    heldLength -= length
    return all.subarray(0, length)
  }
}

function readPackage(
  store: HeaderStore,
  signature: HeaderStore,
  range: { headerStart: number; headerEnd: number },
  wrong: (why: string) => never,
): RpmHeader {
  const required = (tag: number, what: string) => store.text(tag) || wrong(`it has no ${what}`)
  const text = (tag: number) => store.text(tag) ?? ''
  const isSource = store.number(tags.sourcePackage) || store.text(tags.sourceRpm) === undefined
  const files = readFiles(store)
  return {
    name: required(tags.name, 'name'),
    epoch: String(store.number(tags.epoch) ?? 0),
    version: required(tags.version, 'version'),
    release: required(tags.release, 'release'),
    arch: isSource ? 'src' : required(tags.arch, 'architecture'),
    summary: text(tags.summary),
    description: text(tags.description),
    url: text(tags.url),
    license: text(tags.license),
    vendor: text(tags.vendor),
    group: text(tags.group),
    packager: text(tags.packager),
    buildHost: text(tags.buildHost),
    sourceRpm: text(tags.sourceRpm),
    buildTime: store.number(tags.buildTime) ?? 0,
    installedSize: store.number(tags.longSize) ?? store.number(tags.size) ?? 0,
    archiveSize:
      store.number(tags.archiveSize) ??
      signature.number(signatureTags.longArchiveSize) ??
      signature.number(signatureTags.payloadSize) ??
      store.number(tags.payloadSizeAlt) ??
      0,
    ...range,
    modularityLabel: store.text(tags.modularityLabel),
    ...readDependencies(store, files),
    files,
    changelogs: readChangelogs(store),
  }
}

function readFiles(store: HeaderStore): PackageFile[] {
  const modes = store.numbers(tags.fileModes)
  const flags = store.numbers(tags.fileFlags)
  return readPaths(store).map((path, i) => ({
    ...path,
    type: ((modes[i] ?? 0) & 0o170000) === 0o040000 ? 'dir' : (flags[i] ?? 0) & ghostFile ? 'ghost' : '',
  }))
}

function readPaths(store: HeaderStore): { directory: string; name: string }[] {
  const names = store.texts(tags.baseNames)
  const directories = store.texts(tags.dirNames)
  const indexes = store.numbers(tags.dirIndexes)
  if (names.length > 0) return names.map((name, i) => ({ directory: directories[indexes[i] ?? -1] ?? '', name }))
  // Packages of rpm 3 list whole paths.
  return store.texts(tags.oldFileNames).map((path) => {
    const cut = path.lastIndexOf('/') + 1
    return { directory: path.slice(0, cut), name: path.slice(cut) }
  })
}

type DependencyKind = 'provides' | 'requires' | 'conflicts' | 'obsoletes' | 'suggests' | 'enhances' | 'recommends' | 'supplements'

function readDependencies(store: HeaderStore, files: readonly PackageFile[]): Record<DependencyKind, Dependency[]> {
  const read = (kind: keyof typeof dependencyTags) => readDependencyList(store, dependencyTags[kind])
  const plain = (kind: keyof typeof dependencyTags) => read(kind).map(({ dependency }) => dependency)
  const provides = read('provides')
  // Before rpm knew recommends, a requirement could be marked as one that may be missing.
  const requires = keptRequires(read('requires'), provides, files)
  const missable = requires.filter(({ bits }) => bits & sense.missingOk)
  const oldSuggests = read('oldSuggests')
  const oldEnhances = read('oldEnhances')
  const strong = (list: readonly Listed[], wanted: boolean) =>
    list.filter(({ bits }) => Boolean(bits & sense.strong) === wanted).map(({ dependency }) => dependency)
  return {
    provides: provides.map(({ dependency }) => dependency),
    requires: withHighestLibc(requires.filter(({ bits }) => !(bits & sense.missingOk))),
    conflicts: plain('conflicts'),
    obsoletes: plain('obsoletes'),
    suggests: [...plain('suggests'), ...strong(oldSuggests, false)],
    enhances: [...plain('enhances'), ...strong(oldEnhances, false)],
    recommends: [...missable.map(({ dependency }) => dependency), ...plain('recommends'), ...strong(oldSuggests, true)],
    supplements: [...plain('supplements'), ...strong(oldEnhances, true)],
  }
}

interface Listed {
  dependency: Dependency
  bits: number
  /** Tells dependencies apart. */
  identity: string
}

const comparisons: Readonly<Record<number, Dependency['flags']>> = {
  [sense.less]: 'LT',
  [sense.less | sense.equal]: 'LE',
  [sense.equal]: 'EQ',
  [sense.greater | sense.equal]: 'GE',
  [sense.greater]: 'GT',
}

function readDependencyList(store: HeaderStore, [nameTag, flagsTag, versionTag]: readonly [number, number, number]): Listed[] {
  const bits = store.numbers(flagsTag)
  const versions = store.texts(versionTag)
  return store.texts(nameTag).flatMap((name, i) => {
    const flags = comparisons[(bits[i] ?? 0) & 0xf]
    const evr = splitEvr(versions[i] ?? '')
    // A version whose epoch is no number can be compared with nothing: createrepo_c leaves such a dependency out.
    if (!evr || name === '') return []
    return [
      {
        dependency: { name, ...(flags && { flags, ...evr }) },
        bits: bits[i] ?? 0,
        identity: `${name}\0${flags}\0${versions[i]}`,
      },
    ]
  })
}

/** Splits `[epoch:]version[-release]`. Undefined when the epoch is no number. */
function splitEvr(text: string): Pick<Dependency, 'epoch' | 'version' | 'release'> | undefined {
  if (text === '') return {}
  const match = /^(?:(.*?):)?([^-]*)(?:-(.*))?$/s.exec(text)
  const [, epoch = '', version = '', release] = match ?? []
  if (!/^\s*[+-]?\d*$/.test(epoch)) return undefined
  return { epoch: epoch || '0', version, ...(release && { release }) }
}

/** Leaves out what createrepo_c does: what rpm itself must be able to do, what the package brings itself, and repetitions. */
function keptRequires(requires: readonly Listed[], provides: readonly Listed[], files: readonly PackageFile[]): Listed[] {
  const own = new Set(provides.map(({ identity }) => identity))
  const ownFiles = new Set(files.map(({ directory, name }) => directory + name).filter(isPrimaryFile))
  // Only the last dependency of a name counts as seen.
  const seen = new Map<string, string>()
  return requires.flatMap((listed) => {
    const { name } = listed.dependency
    if (name.startsWith('rpmlib(') || ownFiles.has(name) || own.has(listed.identity)) return []
    const pre = Boolean(listed.bits & installTime)
    const repeated = `${listed.identity}\0${pre}`
    if (seen.get(name) === repeated) return []
    if (!(listed.bits & sense.missingOk)) seen.set(name, repeated)
    return [{ ...listed, dependency: { ...listed.dependency, ...(pre && { pre }) } }]
  })
}

const installTime = sense.preReq | sense.scriptPre | sense.scriptPost | sense.postTrans | sense.preTrans

/** The C library's highest symbol version implies the lower ones: only it is kept, at the end. */
function withHighestLibc(requires: readonly Listed[]): Dependency[] {
  const isLibc = ({ dependency }: Listed) => dependency.name.startsWith('libc.so.6')
  const highest = requires
    .filter(isLibc)
    .map(({ dependency }) => dependency)
    .reduce<Dependency | undefined>((best, each) => (best && !isHigherLibc(each.name, best.name) ? best : each), undefined)
  const others = requires.filter((listed) => !isLibc(listed)).map(({ dependency }) => dependency)
  return highest ? [...others, highest] : others
}

function isHigherLibc(name: string, than: string): boolean {
  const version = (text: string) => /^[^(]*\([^0-9)]*([0-9][^)]*)\)/.exec(text)?.[1]
  const left = version(name)
  const right = version(than)
  if (left === undefined) return false
  return right === undefined || compareVersions(left, right) > 0
}

/** Whether primary metadata lists this file too, so that dependencies on it are met without the file lists. */
export function isPrimaryFile(path: string): boolean {
  return path.startsWith('/etc/') || path.includes('bin/') || path === '/usr/lib/sendmail'
}

function readChangelogs(store: HeaderStore): Changelog[] {
  const authors = store.texts(tags.changelogName)
  const texts = store.texts(tags.changelogText)
  const newestFirst = store
    .numbers(tags.changelogTime)
    .slice(0, mostChangelogs)
    .map((date, i) => ({ author: (authors[i] ?? '').replace(/(?<=.) +$/, ''), date, text: texts[i] ?? '' }))
  const dates = newestFirst.map(({ date }) => date)
  // Entries of one day would lose their order in readers that sort by date: each is made a second newer than the one after it.
  for (let i = 1; i < newestFirst.length; i++)
    for (let k = i - 1, date = dates[i]!; dates[i] === dates[i - 1] && newestFirst[k]?.date === date; k--, date++)
      newestFirst[k]!.date++
  return newestFirst.reverse()
}
