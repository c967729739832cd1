import { type FileHandle, mkdir, open, opendir, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { Failure, hasCode } from '../lib/failure.ts'
import { newUuid } from '../lib/uuid.ts'
import type { BlobStore, Digests, Range, Staged } from './blobs.ts'
import { batchSize, makeTree, openAtOnce, syncDirectory, translated, writeAll } from './disk.ts'
import { openGrowing } from './growing.ts'
import { openRoom, type Reserve, usualReserve } from './room.ts'
import { openVerifier } from './verify.ts'

/** A blob store whose blobs are files, so that they can be sent without passing through this program. */
export interface FsBlobStore extends BlobStore {
  /** Where the blob is, or would be. */
  pathOf(sha256: string): string
}

// Smaller ones stay in memory until they are kept, which saves them a file that may not be needed.
const smallSize = 1 << 17
const readSize = 1 << 18

/*
 * <directory>/sha256/ab/cdef...   a blob, whole and durable
 * <directory>/tmp/<uuid>          one that is being written
 * <directory>/growing/<uuid>      bytes that grow from call to call
 */

/** Opens the blobs in a directory, which is made if need be. Of the disk's room the reserve is not taken. */
export async function openFsBlobs(directory: string, reserve: Reserve = usualReserve): Promise<FsBlobStore> {
  const root = join(directory, 'sha256')
  const scratch = join(directory, 'tmp')
  const growing = join(directory, 'growing')
  for (const each of [root, scratch, growing]) await makeTree(each)
  const room = openRoom(directory, reserve)
  const place: Place = { pathOf, temporary: () => join(scratch, newUuid()), ensure: openEnsure(root) }

  function pathOf(sha256: string): string {
    // A digest may come from a request: it must not lead out of the directory.
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Failure('not_found', `${JSON.stringify(sha256)} is not a SHA-256 digest.`)
    return join(root, sha256.slice(0, 2), sha256.slice(2))
  }

  async function size(sha256: string): Promise<number | undefined> {
    try {
      return (await stat(pathOf(sha256))).size
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
  }

  async function* list() {
    for await (const { name: start } of await opendir(root))
      for (const rest of await readdir(join(root, start))) if (/^[0-9a-f]{64}$/.test(start + rest)) yield start + rest
  }

  async function tidy() {
    for (const name of await readdir(scratch)) {
      const gone = /^gone-([0-9a-f]{64})$/.exec(name)?.[1]
      // It may have been on its way back: the next collection decides about it again.
      if (gone && (await size(gone)) === undefined) await rename(join(scratch, name), pathOf(gone))
      else await rm(join(scratch, name), { recursive: true, force: true })
    }
  }

  async function space() {
    const { bsize, blocks, bavail, bfree } = await statfs(directory)
    return { total: blocks * bsize, used: (blocks - bfree) * bsize, free: bavail * bsize }
  }

  return {
    stage: async (bytes, expected, also) => {
      using passage = room.enter()
      return await stage(place, passage.guard(bytes), openVerifier(expected, also))
    },
    growing: openGrowing(growing, place, room),
    makeRoom: room.check,
    open: async (sha256, range) => openBlob(pathOf(sha256), sha256, range),
    size,
    delete: async (sha256, { unlessUsedSince } = {}) =>
      unlessUsedSince
        ? removeUnused(pathOf(sha256), join(scratch, `gone-${sha256}`), unlessUsedSince)
        : rm(pathOf(sha256), { force: true }),
    list,
    tidy,
    space,
    pathOf,
  }
}

/**
 * Deletes a file unless it was put there at `since` or later. Between a look at it and its removal somebody may put another in its
 * place, and there is no call that removes only what was looked at: so it is moved aside, looked at again, and put back if it is another.
 */
async function removeUnused(path: string, aside: string, since: Date) {
  try {
    // Renaming a file into its place sets its change time.
    const { ino, ctimeMs } = await stat(path)
    if (ctimeMs >= since.getTime()) return
    await rename(path, aside)
    if ((await stat(aside)).ino === ino) await rm(aside)
    else await rename(aside, path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

/** What writing needs to know about the layout. */
export interface Place {
  pathOf(sha256: string): string
  temporary(): string
  /** Makes sure that the directory of a blob exists and will after a power cut. */
  ensure(sha256: string): Promise<string>
}

async function openBlob(path: string, sha256: string, range?: Range): Promise<Readable> {
  try {
    const handle = await open(path)
    return handle.createReadStream({ ...range, highWaterMark: readSize })
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new Failure('not_found', `The blob sha256:${sha256} is missing.`, { cause: error })
    throw error
  }
}

async function stage(place: Place, bytes: AsyncIterable<Uint8Array>, verifier: ReturnType<typeof openVerifier>): Promise<Staged> {
  const file = openScratchFile(place)
  try {
    for await (const chunk of bytes) {
      verifier.update(chunk)
      await file.add(chunk)
    }
    const { digests, size } = verifier.finish()
    await file.finish()
    return staged(place, file, digests, size)
  } catch (error) {
    await file.discard()
    throw error
  }
}

function staged(place: Place, file: ScratchFile, digests: Digests, size: number): Staged {
  let keeping: Promise<void> | undefined

  async function moveIn() {
    try {
      await file.keep(place.pathOf(digests.sha256), () => place.ensure(digests.sha256))
    } catch (error) {
      // After a failed fsync nobody knows what is on the disk: the file must not be tried again.
      await file.discard()
      throw error
    }
  }

  function keep() {
    keeping ??= moveIn()
    return keeping
  }
  return { digests, size, keep, open: file.open, [Symbol.asyncDispose]: file.discard }
}

type ScratchFile = ReturnType<typeof openScratchFile>

/** A file that is only begun when its bytes are too many for memory, or when it is kept. */
function openScratchFile(place: Place) {
  let path = place.temporary()
  let handle: FileHandle | undefined
  let batch: Uint8Array[] = []
  let length = 0
  let writing: Promise<void> = Promise.resolve()
  let inMemory = true
  // Whether there is a file at `path` that goes when these bytes are not kept.
  let begun = false

  async function begin(): Promise<FileHandle> {
    const opened = await translated(open(path, 'wx'))
    begun = true
    return opened
  }

  async function add(chunk: Uint8Array) {
    batch.push(chunk)
    length += chunk.length
    if (length >= batchSize) await flush()
  }

  /** Starts writing what has gathered. At most one batch is under way, so at most two are in memory. */
  async function flush() {
    inMemory = false
    await writing
    const chunks = batch
    batch = []
    length = 0
    handle ??= await begin()
    writing = writeAll(handle, chunks)
    // It is awaited later; until then a rejection is not unhandled.
    writing.catch(() => {})
  }

  async function finish() {
    // The chunks may be small parts of large buffers.
    if (inMemory && length <= smallSize) batch = [Buffer.concat(batch)]
    else await flush()
    await writing
  }

  async function keep(target: string, ensureDirectory: () => Promise<string>) {
    if (inMemory) {
      handle = await begin()
      await writeAll(handle, batch)
    }
    await translated(handle!.sync())
    await close()
    const directory = await ensureDirectory()
    // What may already be there is replaced, so that storing a blob again heals a damaged one.
    await translated(rename(path, target))
    path = target
    begun = false
    await translated(syncDirectory(directory))
  }

  async function close() {
    const open = handle
    handle = undefined
    await open?.close()
  }

  async function discard() {
    await writing.catch(() => {})
    await close()
    if (begun) await rm(path, { force: true })
    begun = false
  }
  return { add, finish, keep, open: () => (inMemory ? Readable.from(batch, { objectMode: false }) : openAtOnce(path)), discard }
}

/** Each of the 256 directories is made durable once in the life of the store. */
function openEnsure(root: string) {
  const directories = new Map<string, Promise<string>>()
  return (sha256: string) => {
    const start = sha256.slice(0, 2)
    let made = directories.get(start)
    if (!made) {
      made = makeDirectory(root, join(root, start))
      directories.set(start, made)
      made.catch(() => directories.delete(start))
    }
    return made
  }
}

async function makeDirectory(parent: string, directory: string): Promise<string> {
  await translated(mkdir(directory, { recursive: true }))
  await translated(syncDirectory(parent))
  return directory
}
