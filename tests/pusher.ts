import assert from 'node:assert/strict'
import { digestOf, type Image } from './registry.ts'

/*
 * A client of the registry that remembers what it was told, for servers that are killed or lose their power: what was acknowledged is
 * there afterwards, what is there is whole, and what was under way goes on or is cleanly gone.
 */

/** Where the registry is, and as whom. */
export interface Reached {
  readonly url: string
  readonly authorization: string
}

export interface Answer {
  status: number
  headers: Headers
  bytes: Buffer
}

export async function ask(
  { url, authorization }: Reached,
  method: string,
  path: string,
  body?: Buffer | string,
  type?: string,
): Promise<Answer> {
  const response = await fetch(new URL(path, url), {
    method,
    headers: { authorization, ...(type && { 'content-type': type }) },
    ...(body !== undefined && { body: new Uint8Array(Buffer.from(body)) }),
  })
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) }
}

/** What one repository has, as far as its client was told. */
interface Told {
  blobs: Set<string>
  manifests: Set<string>
  tags: Map<string, string>
  /** Tags that are being moved, or taken away: before and after are both right. */
  moving: Map<string, string | undefined>
}

/** An upload that goes on, and the least that it has. */
interface Upload {
  location: string
  name: string
  size: number
  bytes: Buffer
}

/** What became of an upload that was under way. */
export type Resumed = 'went on' | 'became a blob' | 'was gone'

export interface Pusher {
  post(name: string, bytes: Buffer): Promise<void>
  /** An upload that is whole at its end. */
  putAtOnce(name: string, bytes: Buffer): Promise<void>
  putInChunks(name: string, bytes: Buffer): Promise<void>
  mount(name: string, digest: string, from: string): Promise<void>
  putManifest(name: string, reference: string, image: Image): Promise<void>
  /** The blobs of an image, and its manifest under a tag. */
  push(name: string, tag: string, image: Image): Promise<void>
  deleteTag(name: string, tag: string): Promise<void>
  deleteManifest(name: string, digest: string): Promise<void>
  /** Tags that something else than a push moves to an image while `act` runs, all of them or none. */
  moves(tags: readonly { name: string; tag: string; image: Image }[], act: () => Promise<unknown>): Promise<void>
  /** Reads all that was told of, and all that is there, and compares. Returns the tags of each repository. */
  check(what: string): Promise<Map<string, Map<string, string>>>
  /** Goes on with the upload that was under way. One that nobody was told to be durable may be gone with the power. */
  resume(what: string, mayBeGone?: boolean): Promise<Resumed | undefined>
  /** What was acknowledged. */
  counts(): { blobs: number; manifests: number; tags: number }
}

export function openPusher(reached: Reached): Pusher {
  const places = new Map<string, Told>()
  let upload: Upload | undefined

  function toldOf(name: string): Told {
    const known = places.get(name) ?? { blobs: new Set(), manifests: new Set(), tags: new Map(), moving: new Map() }
    places.set(name, known)
    return known
  }

  async function expect(status: number, ...request: [method: string, path: string, body?: Buffer | string, type?: string]) {
    const answer = await ask(reached, ...request)
    assert.equal(answer.status, status, `${request[0]} ${request[1]}: ${answer.bytes.toString().slice(0, 300)}`)
    return answer
  }

  const begin = async (name: string) => (await expect(202, 'POST', `/v2/${name}/blobs/uploads/`)).headers.get('location')!

  async function moves(tags: Parameters<Pusher['moves']>[0], act: () => Promise<unknown>): Promise<void> {
    for (const { name, tag, image } of tags) toldOf(name).moving.set(tag, image.digest)
    await act()
    for (const { name, tag, image } of tags) {
      const told = toldOf(name)
      told.tags.set(tag, image.digest)
      told.moving.delete(tag)
      for (const digest of image.manifests.keys()) told.manifests.add(digest)
    }
  }

  const pusher: Pusher = {
    async post(name, bytes) {
      await expect(201, 'POST', `/v2/${name}/blobs/uploads/?digest=${digestOf(bytes)}`, bytes)
      toldOf(name).blobs.add(digestOf(bytes))
    },
    async putAtOnce(name, bytes) {
      await expect(201, 'PUT', `${await begin(name)}?digest=${digestOf(bytes)}`, bytes)
      toldOf(name).blobs.add(digestOf(bytes))
    },
    async putInChunks(name, bytes) {
      const location = await begin(name)
      upload = { location, name, size: 0, bytes }
      const half = Math.floor(bytes.length / 2)
      await expect(202, 'PATCH', location, bytes.subarray(0, half))
      upload.size = half
      await expect(202, 'PATCH', location, bytes.subarray(half))
      upload.size = bytes.length
      await expect(201, 'PUT', `${location}?digest=${digestOf(bytes)}`)
      upload = undefined
      toldOf(name).blobs.add(digestOf(bytes))
    },
    async mount(name, digest, from) {
      await expect(201, 'POST', `/v2/${name}/blobs/uploads/?mount=${digest}&from=${from}`)
      toldOf(name).blobs.add(digest)
    },
    async putManifest(name, reference, { manifests, digest }) {
      const { bytes, mediaType } = manifests.get(digest)!
      const told = toldOf(name)
      const isTag = !reference.includes(':')
      if (isTag) told.moving.set(reference, digest)
      await expect(201, 'PUT', `/v2/${name}/manifests/${reference}`, bytes, mediaType)
      told.manifests.add(digest)
      if (!isTag) return
      told.tags.set(reference, digest)
      told.moving.delete(reference)
    },
    async push(name, tag, image) {
      for (const bytes of image.blobs.values()) await pusher.post(name, bytes)
      await pusher.putManifest(name, tag, image)
    },
    async deleteTag(name, tag) {
      const told = toldOf(name)
      told.moving.set(tag, undefined)
      await expect(202, 'DELETE', `/v2/${name}/manifests/${tag}`)
      told.tags.delete(tag)
      told.moving.delete(tag)
    },
    async deleteManifest(name, digest) {
      const told = toldOf(name)
      // Its tags go with it, and what only it had: nobody counts on that from here on.
      for (const [tag, each] of told.tags) if (each === digest) told.moving.set(tag, undefined)
      told.manifests.delete(digest)
      told.blobs.clear()
      await expect(202, 'DELETE', `/v2/${name}/manifests/${digest}`)
      for (const [tag, each] of told.tags) if (each === digest) told.tags.delete(tag)
      told.moving.clear()
    },
    moves,
    async check(what) {
      const found = new Map<string, Map<string, string>>()
      for (const [name, told] of places) found.set(name, await checkPlace(reached, name, told, what))
      return found
    },
    async resume(what, mayBeGone = false) {
      const last = upload
      upload = undefined
      return last && resumeUpload(reached, last, what, mayBeGone)
    },
    counts() {
      const all = [...places.values()]
      const sum = (count: (told: Told) => number) => all.reduce((total, told) => total + count(told), 0)
      return {
        blobs: sum(({ blobs }) => blobs.size),
        manifests: sum(({ manifests }) => manifests.size),
        tags: sum(({ tags }) => tags.size),
      }
    },
  }
  return pusher
}

/** Reads over HTTP alone. Returns the tags that are there. */
async function checkPlace(reached: Reached, name: string, told: Told, what: string): Promise<Map<string, string>> {
  const seen = new Set<string>()
  const readBlob = async (digest: string) => {
    if (seen.has(digest)) return
    seen.add(digest)
    const { status, bytes } = await ask(reached, 'GET', `/v2/${name}/blobs/${digest}`)
    assert.deepEqual([status, digestOf(bytes)], [200, digest], `${what}: blob ${digest} of ${name}`)
  }
  const readManifest = async (reference: string): Promise<string> => {
    if (seen.has(reference)) return reference
    const { status, bytes, headers } = await ask(reached, 'GET', `/v2/${name}/manifests/${reference}`)
    assert.equal(status, 200, `${what}: manifest ${reference} of ${name}`)
    const digest = digestOf(bytes)
    assert.equal(headers.get('docker-content-digest'), digest, `${what}: manifest ${reference} of ${name}`)
    if (seen.has(digest)) return digest
    seen.add(digest)
    const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString())
    for (const each of [...(config ? [config] : []), ...layers]) await readBlob(each.digest)
    for (const each of manifests) await readManifest(each.digest)
    return digest
  }
  const listed = await ask(reached, 'GET', `/v2/${name}/tags/list`)
  assert.ok([200, 404].includes(listed.status), `${what}: the tags of ${name} answered ${listed.status}`)
  const tags: string[] = listed.status === 404 ? [] : JSON.parse(listed.bytes.toString()).tags
  const found = new Map<string, string>()
  for (const tag of tags) {
    const digest = await readManifest(tag)
    const right = [told.tags.get(tag), told.moving.get(tag)].filter((each) => each !== undefined)
    assert.ok(right.includes(digest), `${what}: ${name}:${tag} is ${digest}, not ${right.join(' or ')}`)
    found.set(tag, digest)
  }
  for (const tag of told.tags.keys())
    if (!told.moving.has(tag) || told.moving.get(tag) !== undefined) assert.ok(found.has(tag), `${what}: ${name}:${tag} is lost`)
  for (const digest of told.manifests) await readManifest(digest)
  for (const digest of told.blobs) await readBlob(digest)
  return found
}

async function resumeUpload(reached: Reached, upload: Upload, what: string, mayBeGone: boolean): Promise<Resumed> {
  const { location, name, size, bytes } = upload
  const status = await ask(reached, 'GET', location)
  if (status.status === 404) {
    // The last thing that was asked of it may have been done.
    const { status: found } = await ask(reached, 'HEAD', `/v2/${name}/blobs/${digestOf(bytes)}`)
    if (found === 404 && mayBeGone) return 'was gone'
    assert.equal(found, 200, `${what}: the upload is gone, and there is no blob`)
    return 'became a blob'
  }
  assert.equal(status.status, 204, what)
  const end = Number(status.headers.get('range')!.split('-')[1]) + 1
  // `0-0` says that there is nothing, or one byte.
  const there = end === 1 ? 0 : end
  assert.ok(mayBeGone || there >= size, `${what}: ${there} of ${size} bytes that were acknowledged`)
  const answer = await ask(reached, 'PUT', `${location}?digest=${digestOf(bytes)}`, bytes.subarray(there))
  // Bytes that were not yet durable may be zeros: the digest says so, and the client begins again.
  if (mayBeGone && answer.status === 400) return 'was gone'
  assert.equal(answer.status, 201, `${what}: ${answer.bytes.toString()}`)
  return 'went on'
}
