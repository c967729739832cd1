import type { Described, SyncOptions } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { blobType, type Config, describeManifest, manifestType, signatureType } from './describe.ts'
import type { Descriptor } from './manifest.ts'
import { isForeign, isImageConfig } from './media-types.ts'
import type { FetchedManifest, ImageSource } from './registry-requests.ts'

/** A manifest that was read, or is held and need not be. */
export interface Node {
  digest: string
  /** Where it is held: the manifests that are held and say something about it. */
  held: { about: readonly string[] } | undefined
}

/** What is held, by key. Signatures of what is held stay with it: some were made here. */
interface Kept {
  manifests: string[]
  blobs: string[]
  signatures: string[]
}

/** Reads manifests with all that they are made of, each once. */
export interface ImageReader extends AsyncDisposable {
  /** The manifest of this digest and those that it lists, itself first. `given`: it is read already. Throws Failure upstream or integrity. */
  read(digest: string, given?: FetchedManifest): Promise<readonly Node[]>
  /** What was read and what is held since the last time. Files are the reader's again when the next is taken. */
  take(): Promise<{ described: Described[]; kept: Kept }>
}

/** Lists of lists: deeper ones are nobody's, and would never end. */
const deepest = 4
const mostChildren = 1000
const mostManifests = 10_000
/** Largest config that is read for what it says of the image; larger ones are kept like layers. */
const largestConfig = 1 << 20

interface Budget {
  left: number
}

export function openImageReader(
  source: ImageSource,
  options: Pick<SyncOptions, 'held' | 'known' | 'recall' | 'stage'>,
): ImageReader {
  const read = new Map<string, Promise<readonly Node[]>>()
  const blobs = new Set<string>()
  let reading = openBatch()
  let taken = openBatch()

  function readOnce(
    digest: string,
    depth: number,
    budget: Budget,
    from: { given?: FetchedManifest | undefined; named?: Descriptor },
  ) {
    const before = read.get(digest)
    if (before) return before
    if (budget.left-- <= 0) throw refused(`it lists more than ${mostManifests} manifests`)
    const tree = readTree(digest, depth, budget, from)
    read.set(digest, tree)
    return tree
  }

  async function readTree(
    digest: string,
    depth: number,
    budget: Budget,
    { given, named }: { given?: FetchedManifest | undefined; named?: Descriptor },
  ): Promise<readonly Node[]> {
    const held = await findHeld(digest)
    if (held) {
      reading.kept.manifests.push(digest)
      for (const each of held.blobs) reading.kept.blobs.push(each)
      const listed = held.listed.map((each) => readOnce(each, depth + 1, budget, {}))
      return [{ digest, held }, ...(await Promise.all(listed)).flat()]
    }
    const fetched = given ?? (await source.manifest(digest))
    if (!fetched) throw refused(`it names the manifest ${digest}, which is not there`)
    const { bytes, manifest } = fetched
    if (named && named.size !== bytes.length)
      throw refused(`it says that the manifest ${digest} has ${named.size} bytes, and it has ${bytes.length}`)
    const { manifests } = manifest
    if (manifests.length > mostChildren) throw refused(`it lists ${manifests.length} manifests; ${mostChildren} are allowed`)
    if (manifests.length > 0 && depth >= deepest) throw refused(`its lists of lists are more than ${deepest} deep`)
    const children = await Promise.all(manifests.map((each) => readOnce(each.digest, depth + 1, budget, { named: each })))
    const config = await readConfig(manifest.config)
    for (const layer of manifest.layers) if (!isForeign(layer)) addBlob(layer)
    reading.described.push(describeManifest(digest, manifest, bytes, config))
    return [{ digest, held: undefined }, ...children.flat()]
  }

  /** What is held of a manifest, if all that it is made of is. */
  async function findHeld(digest: string) {
    const [unit] = await options.held(manifestType, [digest])
    if (!unit) return undefined
    const aboutIt = (type: string) => unit.about.flatMap((each) => (each.type === type ? [each.key] : []))
    reading.kept.signatures.push(...aboutIt(signatureType))
    const { config_digest: config, blob_digests: layers, listed_digests: listed } = unit.meta
    const blobs: string[] = [...(config ? [config] : []), ...layers]
    if ((await options.known(blobType, blobs)).includes(undefined)) return undefined
    return { about: aboutIt(manifestType), blobs, listed: listed as string[] }
  }

  async function readConfig(descriptor: Descriptor | undefined): Promise<Config> {
    if (!descriptor) return {}
    if (!isImageConfig(descriptor.mediaType) || descriptor.size > largestConfig || blobs.has(descriptor.digest)) {
      addBlob(descriptor)
      return {}
    }
    blobs.add(descriptor.digest)
    const stored = await options.recall(blobType, descriptor.digest)
    const bytes = stored ?? (await source.blob(descriptor))
    const staged = stored ? undefined : reading.files.use(await options.stage(bytes))
    reading.described.push(describe(descriptor, staged && { staged }))
    return parseConfig(bytes)
  }

  function addBlob(descriptor: Descriptor): void {
    if (blobs.has(descriptor.digest)) return
    blobs.add(descriptor.digest)
    reading.described.push(describe(descriptor))
  }

  function describe({ digest, size }: Descriptor, more: { staged?: Awaited<ReturnType<SyncOptions['stage']>> } = {}): Described {
    const file = { path: digest, checksum: digest, ...(size >= 0 && { size }), urls: [source.blobUrl(digest)], ...more }
    return { type: blobType, key: digest, meta: { digest, size }, files: [file] }
  }

  return {
    read: (digest, given) => readOnce(digest, 1, { left: mostManifests }, { given }),
    async take() {
      await taken.files.disposeAsync()
      taken = reading
      reading = openBatch()
      return taken
    },
    async [Symbol.asyncDispose]() {
      await taken.files.disposeAsync()
      await reading.files.disposeAsync()
    },
  }
}

function openBatch() {
  const kept: Kept = { manifests: [], blobs: [], signatures: [] }
  return { described: [] as Described[], kept, files: new AsyncDisposableStack() }
}

/** What a config says, as far as it is one: an upstream that writes it in another way is none the worse for it. */
function parseConfig(bytes: Buffer): Config {
  try {
    const body: unknown = JSON.parse(bytes.toString('utf8'))
    return typeof body === 'object' && body !== null && !Array.isArray(body) ? body : {}
  } catch {
    return {}
  }
}

function refused(reason: string): Failure {
  return new Failure('integrity', `The image is refused: ${reason}.`)
}
