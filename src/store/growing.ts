import { type FileHandle, link, open, opendir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, hasCode } from '../lib/failure.ts'
import { uuidPattern } from '../lib/uuid.ts'
import type { Algorithm, Digests, Expected, GrowingBlobs, Staged } from './blobs.ts'
import { batchSize, openAtOnce, syncDirectory, translated, writeAll } from './disk.ts'
import type { Place } from './fs.ts'
import type { Room } from './room.ts'
import { checkExpected, openVerifier, parseChecksum, type Verifier } from './verify.ts'

/*
 * Each name is a file that bytes are added to. What was hashed of it is remembered while the process lives; when it is not known (after a
 * restart, or because the digest turns out to be of another kind) the file is read again.
 */

/** The hashes of the first `size` bytes under a name. */
interface Hashed {
  size: number
  algorithms: ReadonlySet<Algorithm>
  verifier: Verifier
}

const mostRemembered = 10_000

/** Growing bytes as files in a directory that exists, on the same file system as the blobs. */
export function openGrowing(directory: string, place: Pick<Place, 'pathOf' | 'temporary' | 'ensure'>, room: Room): GrowingBlobs {
  const hashed = new Map<string, Hashed>()
  const busy = new Set<string>()

  function pathOf(name: string): string {
    if (!uuidPattern.test(name)) throw new Failure('not_found', `${JSON.stringify(name)} is not the name of an upload.`)
    return join(directory, name)
  }

  function occupy(name: string): void {
    if (busy.has(name)) throw new Failure('conflict', 'The upload is being worked on by another request.')
    busy.add(name)
  }

  function remember(name: string, known: Hashed): void {
    hashed.set(name, known)
    if (hashed.size > mostRemembered) hashed.delete(hashed.keys().next().value!)
  }

  const append: GrowingBlobs['append'] = async (name, bytes, { from, size, also, release = () => {} }) => {
    const path = pathOf(name)
    occupy(name)
    try {
      await using file = await translated(open(path, 'a'))
      const before = await file.stat()
      if (before.size !== from) throw new Failure('conflict', `The upload goes on at byte ${before.size}, not at ${from}.`)
      // The same bytes are a blob already, which must not change any more.
      if (before.nlink > 1) throw new Failure('conflict', 'The upload is whole already.')
      const known = from === 0 ? beginning(also) : hashed.get(name)
      // Only what was hashed from the first byte on is of use.
      const hashing = known?.size === from ? known : undefined
      hashed.delete(name)
      using passage = room.enter()
      const added = await addTo(openBatches(file, release), file, from, passage.guard(bytes), size, hashing)
      if (hashing) remember(name, hashing)
      if (added.broken) throw added.broken.error
      return added.size
    } finally {
      busy.delete(name)
    }
  }

  async function digestsOf(name: string, path: string, algorithm: Algorithm): Promise<{ digests: Digests; size: number }> {
    const size = await sizeOf(path)
    const known = size === 0 ? beginning(algorithm) : hashed.get(name)
    hashed.delete(name)
    if (known?.size === size && known.algorithms.has(algorithm)) return known.verifier.finish()
    const verifier = openVerifier({}, [algorithm])
    for await (const chunk of openAtOnce(path)) verifier.update(chunk as Uint8Array)
    return verifier.finish()
  }

  const finish: GrowingBlobs['finish'] = async (name, expected: Expected = {}) => {
    const path = pathOf(name)
    occupy(name)
    try {
      const algorithm = expected.checksum === undefined ? 'sha256' : parseChecksum(expected.checksum).algorithm
      await (await translated(open(path, 'a'))).close()
      const found = await digestsOf(name, path, algorithm)
      checkExpected(found, expected)
      return grown(place, path, found, () => busy.delete(name))
    } catch (error) {
      busy.delete(name)
      throw error
    }
  }

  async function* list() {
    for await (const { name } of await opendir(directory)) {
      const found = await stat(join(directory, name)).catch(ignoreMissing)
      if (found) yield { name, written: found.mtime }
    }
  }

  return {
    size: async (name) => sizeOf(pathOf(name)),
    append,
    finish,
    async remove(name) {
      hashed.delete(name)
      await rm(pathOf(name), { force: true })
    },
    list,
  }
}

function beginning(also: Algorithm | undefined): Hashed {
  const algorithms = new Set<Algorithm>(['sha256', ...(also ? [also] : [])])
  return { size: 0, algorithms, verifier: openVerifier({}, [...algorithms]) }
}

/**
 * Writes bytes at the end of a file while it hashes them. A source that breaks is told with what arrived before, so that the hashes are
 * still those of the file; when the file cannot be written nobody knows what it holds, and that is thrown.
 */
async function addTo(
  batches: ReturnType<typeof openBatches>,
  file: FileHandle,
  from: number,
  bytes: AsyncIterable<Uint8Array>,
  wanted: number | undefined,
  hashing: Hashed | undefined,
): Promise<{ size: number; broken?: { error: unknown } }> {
  const room = wanted === undefined ? Number.POSITIVE_INFINITY : from + wanted
  let size = from
  let broken: { error: unknown } | undefined
  const source = bytes[Symbol.asyncIterator]()
  for (;;) {
    const next = await source.next().catch((error: unknown) => void (broken = { error }))
    if (!next || next.done) break
    size += next.value.length
    if (size > room) break
    hashing?.verifier.update(next.value)
    await batches.add(next.value)
  }
  await batches.end()
  if (size > room || (!broken && wanted !== undefined && size < room)) {
    await source.return?.()
    await file.truncate(from)
    throw new Failure('integrity', `${size > room ? 'More' : 'Fewer'} than the announced ${wanted} bytes came.`)
  }
  if (hashing) hashing.size = size
  return broken ? { size, broken } : { size }
}

/** Writes what is added in batches, one of them at a time, while the next gathers. */
function openBatches(file: FileHandle, release: (chunk: Uint8Array) => void) {
  let batch: Uint8Array[] = []
  let length = 0
  let writing: Promise<void> = Promise.resolve()

  async function flush(): Promise<void> {
    await writing
    const chunks = batch
    batch = []
    length = 0
    writing = writeAll(file, chunks).then(() => chunks.forEach(release))
    // It is awaited later; until then a rejection is not unhandled.
    writing.catch(() => {})
  }
  return {
    async add(chunk: Uint8Array) {
      batch.push(chunk)
      length += chunk.length
      if (length >= batchSize) await flush()
    },
    async end() {
      if (length > 0) await flush()
      await writing
    },
  }
}

/** Nothing may be added from when the bytes were hashed until they are what they will always be: `done` says that. */
function grown(
  place: Pick<Place, 'pathOf' | 'temporary' | 'ensure'>,
  path: string,
  found: { digests: Digests; size: number },
  done: () => void,
): Staged {
  let keeping: Promise<void> | undefined

  async function moveIn(): Promise<void> {
    const file = await open(path, 'r+')
    try {
      await translated(file.sync())
    } finally {
      await file.close()
    }
    const directory = await place.ensure(found.digests.sha256)
    // A second name first: the bytes stay under their own until whoever keeps them has noted that. What is there already is replaced, so
    // that storing a blob again heals a damaged one; when it is this very file, renaming does nothing and the second name is left.
    const second = place.temporary()
    await translated(link(path, second))
    await translated(rename(second, place.pathOf(found.digests.sha256)))
    await rm(second, { force: true })
    await translated(syncDirectory(directory))
  }
  return {
    ...found,
    open: () => openAtOnce(path),
    keep: () => (keeping ??= moveIn()),
    async [Symbol.asyncDispose]() {
      await keeping?.catch(() => {})
      done()
    },
  }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(ignoreMissing))?.size ?? 0
}

function ignoreMissing(error: unknown): undefined {
  if (!hasCode(error, 'ENOENT')) throw error
}
