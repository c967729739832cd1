import { createHash, randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import type { Ctx } from '../src/core/ctx.ts'
import { ensureRoles } from '../src/core/access/roles.ts'
import { createUser, ensureAdmin } from '../src/core/access/users.ts'
import { formats } from '../src/formats/index.ts'
import { openRegistryHandler, type RegistryOptions } from '../src/http/registry/handler.ts'
import type { Db } from '../src/store/database.ts'
import { listen, openTestCtx } from './serving.ts'

/** The registry over an open database, with an administrator. */
export interface Registry {
  readonly ctx: Ctx
  readonly url: string
  /** Sends a request as `as` (the administrator by default; null: nobody), or with a token. */
  send(method: string, path: string, options?: Sending): Promise<Answer>
  /** A token, as clients get it. */
  token(as: string | null, ...scopes: string[]): Promise<string>
  /** Makes somebody with the password of all. */
  addUser(username: string): Promise<void>
}

export interface Sending {
  as?: string | null
  token?: string
  headers?: Record<string, string>
  body?: Uint8Array | string | ReadableStream
}

export interface Answer {
  status: number
  headers: Headers
  bytes: Buffer
  /** Parsed, where it is JSON. */
  body: any
}

export const password = 'a-long-test-password'
export const basic = (username: string, secret = password) => `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`

export async function openRegistry(
  t: TestContext,
  db: Db,
  options: RegistryOptions = {},
  config: Partial<Ctx['config']> = {},
): Promise<Registry> {
  const ctx: Ctx = { ...(await openTestCtx(t, db, config)), formats }
  await ensureRoles(db, formats)
  await ensureAdmin(db, password)
  const handler = openRegistryHandler(ctx, options)
  t.after(() => handler[Symbol.asyncDispose]())
  const url = await listen(t, (req, res) => void (handler.handle(req, res) || res.writeHead(404).end()))

  const send: Registry['send'] = async (method, path, { as = 'admin', token, headers = {}, body } = {}) => {
    const authorization = token !== undefined ? `Bearer ${token}` : as === null ? undefined : basic(as)
    const response = await fetch(new URL(path, url), {
      method,
      redirect: 'manual',
      headers: { ...(authorization && { authorization }), ...headers },
      ...(body !== undefined && { body: body as string, duplex: 'half' as const }),
    })
    const bytes = Buffer.from(await response.arrayBuffer())
    const isJson = /json/.test(response.headers.get('content-type') ?? '') && bytes.length > 0
    return { status: response.status, headers: response.headers, bytes, body: isJson ? JSON.parse(bytes.toString()) : undefined }
  }
  return {
    ctx,
    url,
    send,
    async token(as, ...scopes) {
      const query = new URLSearchParams(scopes.map((scope) => ['scope', scope]))
      return (await send('GET', `/token?${query.toString()}`, { as })).body.token
    },
    addUser: async (username) => void (await createUser(ctx, { username, password })),
  }
}

export type Algorithm = 'sha256' | 'sha512'

export const digestOf = (bytes: Uint8Array | string, algorithm: Algorithm = 'sha256') =>
  `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`

export const types = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  empty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const

/** What is pushed: blobs and then manifests, each by digest, in an order that works. */
export interface Image {
  readonly blobs: ReadonlyMap<string, Buffer>
  readonly manifests: ReadonlyMap<string, { bytes: Buffer; mediaType: string }>
  /** The digest of the one that a tag is for. */
  readonly digest: string
}

interface Shape {
  algorithm?: Algorithm
  layers?: readonly Buffer[]
  config?: Buffer
  mediaType?: string
  configType?: string
  layerType?: string
  more?: Record<string, unknown>
}

/** An image of random layers, or of given ones. */
export function makeImage({
  algorithm = 'sha256',
  layers = [randomBytes(300), randomBytes(500)],
  config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', id: randomBytes(8).toString('hex') })),
  mediaType = types.manifest,
  configType = types.config,
  layerType = types.layer,
  more = {},
}: Shape = {}): Image {
  const describe = (bytes: Buffer, type: string) => ({ mediaType: type, digest: digestOf(bytes, algorithm), size: bytes.length })
  const body = {
    schemaVersion: 2,
    mediaType,
    config: describe(config, configType),
    layers: layers.map((layer) => describe(layer, layerType)),
    ...more,
  }
  const bytes = Buffer.from(JSON.stringify(body))
  const digest = digestOf(bytes, algorithm)
  const blobs = new Map([config, ...layers].map((each) => [digestOf(each, algorithm), each]))
  return { blobs, manifests: new Map([[digest, { bytes, mediaType }]]), digest }
}

/** A list of images, or of lists. */
export function makeIndex(
  images: readonly Image[],
  { mediaType = types.index, more = {} }: Pick<Shape, 'mediaType' | 'more'> = {},
): Image {
  const manifests = images.map(({ digest, manifests: all }) => {
    const { bytes, mediaType: type } = all.get(digest)!
    return { mediaType: type, digest, size: bytes.length, platform: { os: 'linux', architecture: 'amd64' } }
  })
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests, ...more }))
  const digest = digestOf(bytes)
  return {
    blobs: new Map(images.flatMap(({ blobs }) => [...blobs])),
    manifests: new Map([...images.flatMap(({ manifests: all }) => [...all]), [digest, { bytes, mediaType }]]),
    digest,
  }
}

export async function pushBlob(registry: Registry, name: string, bytes: Buffer, options: Sending & { digest?: string } = {}) {
  const { digest = digestOf(bytes), ...sending } = options
  return registry.send('POST', `/v2/${name}/blobs/uploads/?digest=${digest}`, { ...sending, body: bytes })
}

export async function putManifest(
  registry: Registry,
  name: string,
  reference: string,
  { bytes, mediaType }: { bytes: Buffer | string; mediaType: string },
  sending: Sending = {},
) {
  const headers = { 'content-type': mediaType, ...sending.headers }
  return registry.send('PUT', `/v2/${name}/manifests/${reference}`, { ...sending, headers, body: bytes })
}

/** Pushes all of an image, and tags it. */
export async function pushImage(registry: Registry, name: string, image: Image, tag?: string, sending: Sending = {}) {
  for (const [digest, bytes] of image.blobs) expectStatus(await pushBlob(registry, name, bytes, { ...sending, digest }), 201)
  for (const [digest, manifest] of image.manifests)
    expectStatus(await putManifest(registry, name, digest, manifest, sending), 201)
  if (tag !== undefined) expectStatus(await putManifest(registry, name, tag, image.manifests.get(image.digest)!, sending), 201)
}

export function expectStatus({ status, bytes }: Answer, expected: number): void {
  if (status !== expected) throw new Error(`${status} instead of ${expected}: ${bytes.toString().slice(0, 500)}`)
}
