import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

/* A registry for tests to sync from: as much of the distribution specification as clients use to read, with whims that can be switched on. */

export const types = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  empty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  foreign: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  firstSigned: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
}

export interface TestDescriptor {
  mediaType: string
  digest: string
  size: number
  [more: string]: unknown
}

/** Answers a request instead of the registry; says whether it did. */
export type Whim = (request: IncomingMessage, response: ServerResponse, path: string) => boolean | Promise<boolean>

interface Image {
  tags: Map<string, string>
  manifests: Map<string, { bytes: Buffer; type: string }>
  blobs: Map<string, Buffer>
}

export interface TestRegistry {
  url: string
  /** `GET /v2/...`, in the order in which they came. */
  requests: string[]
  /** The Authorization of each of them. */
  authorizations: (string | undefined)[]
  images: Map<string, Image>
  /** How many tags a page has. */
  pageSize: number | undefined
  hasReferrers: boolean
  tellsDigests: boolean
  answersHead: boolean
  auth: { kind: 'basic' | 'token'; username: string; password: string; realm?: string; life?: number } | undefined
  /** Whether everybody gets a token. */
  isPublic: boolean
  whim: Whim | undefined
  tokens: string[]
  /** Signatures beside manifests, by digest: at `/sigstore/` and, where it says so, by the extension of the API. */
  signatures: Map<string, Buffer[]>
  supportsSignatures: boolean
  image(name: string): Image
  addBlob(name: string, bytes: Buffer | string, mediaType?: string): TestDescriptor
  /** Stores a manifest, and gives it a tag. */
  addManifest(name: string, body: Record<string, unknown>, tag?: string): TestDescriptor
  /** An image of one layer that is made of `text`. */
  addImage(name: string, tag: string | undefined, text: string, more?: Record<string, unknown>): TestDescriptor
  addIndex(
    name: string,
    tag: string | undefined,
    manifests: readonly TestDescriptor[],
    more?: Record<string, unknown>,
  ): TestDescriptor
  /** What says something about a manifest. */
  addReferrer(name: string, subject: TestDescriptor, artifactType: string, tag?: string): TestDescriptor
}

export const digestOf = (bytes: Buffer | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

export async function startRegistry(t: TestContext): Promise<TestRegistry> {
  const registry: TestRegistry = {
    url: '',
    requests: [],
    authorizations: [],
    images: new Map(),
    pageSize: undefined,
    hasReferrers: false,
    tellsDigests: true,
    answersHead: true,
    auth: undefined,
    isPublic: false,
    whim: undefined,
    tokens: [],
    signatures: new Map(),
    supportsSignatures: false,
    image(name) {
      const image = registry.images.get(name) ?? { tags: new Map(), manifests: new Map(), blobs: new Map() }
      registry.images.set(name, image)
      return image
    },
    addBlob(name, given, mediaType = types.layer) {
      const bytes = Buffer.from(given)
      const digest = digestOf(bytes)
      registry.image(name).blobs.set(digest, bytes)
      return { mediaType, digest, size: bytes.length }
    },
    addManifest(name, body, tag) {
      const bytes = Buffer.from(JSON.stringify(body))
      const digest = digestOf(bytes)
      const mediaType = String(body['mediaType'])
      registry.image(name).manifests.set(digest, { bytes, type: mediaType })
      if (tag !== undefined) registry.image(name).tags.set(tag, digest)
      return { mediaType, digest, size: bytes.length }
    },
    addImage(name, tag, text, more = {}) {
      const config = registry.addBlob(
        name,
        JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Labels: { text } } }),
        types.config,
      )
      const layers = [registry.addBlob(name, `layer of ${text}`)]
      return registry.addManifest(name, { schemaVersion: 2, mediaType: types.manifest, config, layers, ...more }, tag)
    },
    addIndex(name, tag, manifests, more = {}) {
      return registry.addManifest(name, { schemaVersion: 2, mediaType: types.index, manifests, ...more }, tag)
    },
    addReferrer(name, { mediaType, digest, size }, artifactType, tag) {
      const config = registry.addBlob(name, '{}', types.empty)
      const layers = [registry.addBlob(name, `${artifactType} of ${digest}`, artifactType)]
      const subject = { mediaType, digest, size }
      return registry.addManifest(
        name,
        { schemaVersion: 2, mediaType: types.manifest, artifactType, config, layers, subject },
        tag,
      )
    },
  }
  const server = createServer((request, response) => {
    answer(registry, request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  registry.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return registry
}

async function answer(registry: TestRegistry, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url!, registry.url)
  registry.requests.push(`${request.method} ${request.url}`)
  registry.authorizations.push(request.headers.authorization)
  if (await registry.whim?.(request, response, pathname)) return
  if (pathname === '/token') return giveToken(registry, request, response, searchParams)
  if (registry.supportsSignatures) response.setHeader('X-Registry-Supports-Signatures', '1')
  const stored = /^\/sigstore\/.+@(sha256)=(\w+)\/signature-(\d+)$/.exec(pathname)
  const signature = stored && registry.signatures.get(`${stored[1]}:${stored[2]}`)?.[Number(stored[3]) - 1]
  if (signature) return void response.writeHead(200).end(signature)
  const extended = /^\/extensions\/v2\/(.+)\/signatures\/(.+)$/.exec(pathname)
  if (extended && registry.supportsSignatures) {
    if (!isAllowed(registry, request, extended[1]!)) return challenge(registry, response, extended[1]!)
    const signatures = (registry.signatures.get(extended[2]!) ?? []).map((each, at) => {
      return { schemaVersion: 2, type: 'atomic', name: `${extended[2]}@${at}`, content: each.toString('base64') }
    })
    return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ signatures }))
  }
  const match = /^\/v2\/(.+)\/(tags|manifests|blobs|referrers)\/(.+)$/.exec(pathname)
  if (!match) return void response.writeHead(404).end()
  const [, name = '', kind, reference = ''] = match
  if (!isAllowed(registry, request, name)) return challenge(registry, response, name)
  const image = registry.images.get(name)
  if (!image) return refuse(response, 404, 'NAME_UNKNOWN')
  if (kind === 'tags') return listTags(registry, image, name, response, searchParams)
  if (kind === 'manifests') return giveManifest(registry, image, reference, request, response)
  if (kind === 'referrers') return giveReferrers(registry, image, reference, response)
  const blob = image.blobs.get(reference)
  if (!blob) return refuse(response, 404, 'BLOB_UNKNOWN')
  response.writeHead(200, { 'content-length': blob.length, 'content-type': 'application/octet-stream', etag: `"${reference}"` })
  response.end(request.method === 'HEAD' ? undefined : blob)
}

function refuse(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}): void {
  response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify({ errors: [{ code, message: code }] }))
}

const basic = (username: string, password: string) => `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

function isAllowed({ auth, tokens }: TestRegistry, { headers }: IncomingMessage, name: string): boolean {
  if (!auth) return true
  if (auth.kind === 'basic') return headers.authorization === basic(auth.username, auth.password)
  return tokens.some(
    (token) => headers.authorization === `Bearer ${token}` && token.endsWith(`.${Buffer.from(name).toString('hex')}`),
  )
}

function challenge({ auth, url }: TestRegistry, response: ServerResponse, name: string): void {
  const bearer = `Bearer realm="${auth?.realm ?? `${url}/token`}",service="test",scope="repository:${name}:pull"`
  refuse(response, 401, 'UNAUTHORIZED', { 'www-authenticate': auth?.kind === 'basic' ? 'Basic realm="test"' : bearer })
}

function giveToken(registry: TestRegistry, { headers }: IncomingMessage, response: ServerResponse, query: URLSearchParams): void {
  const { auth, tokens, isPublic } = registry
  const known = auth && headers.authorization === basic(auth.username, auth.password)
  if (headers.authorization ? !known : !isPublic) return refuse(response, 401, 'UNAUTHORIZED')
  const name = /^repository:(.+):pull$/.exec(query.get('scope') ?? '')?.[1] ?? ''
  const token = `token${tokens.length}.${Buffer.from(name).toString('hex')}`
  tokens.push(token)
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ token, ...(auth?.life !== undefined && { expires_in: auth.life }) }))
}

function listTags(
  { pageSize }: TestRegistry,
  { tags }: Image,
  name: string,
  response: ServerResponse,
  query: URLSearchParams,
): void {
  const after = query.get('last') ?? ''
  const rest = [...tags.keys()].sort().filter((tag) => tag > after)
  const page = rest.slice(0, pageSize)
  const link = page.length < rest.length && { link: `</v2/${name}/tags/list?last=${page.at(-1)}&n=${pageSize}>; rel="next"` }
  response.writeHead(200, { 'content-type': 'application/json', ...link }).end(JSON.stringify({ name, tags: page }))
}

function giveManifest(
  { tellsDigests, answersHead }: TestRegistry,
  { tags, manifests }: Image,
  reference: string,
  { method }: IncomingMessage,
  response: ServerResponse,
): void {
  if (method === 'HEAD' && !answersHead) return refuse(response, 405, 'UNSUPPORTED')
  const digest = tags.get(reference) ?? reference
  const manifest = manifests.get(digest)
  if (!manifest) return refuse(response, 404, 'MANIFEST_UNKNOWN')
  response.writeHead(200, {
    'content-type': manifest.type,
    'content-length': manifest.bytes.length,
    ...(tellsDigests && { 'docker-content-digest': digest }),
  })
  response.end(method === 'HEAD' ? undefined : manifest.bytes)
}

function giveReferrers({ hasReferrers }: TestRegistry, { manifests }: Image, subject: string, response: ServerResponse): void {
  if (!hasReferrers) return refuse(response, 404, 'UNSUPPORTED')
  const found = [...manifests].flatMap(([digest, { bytes, type }]) => {
    const body = JSON.parse(bytes.toString())
    if (body.subject?.digest !== subject) return []
    return [
      {
        mediaType: type,
        digest,
        size: bytes.length,
        artifactType: body.artifactType ?? body.config?.mediaType,
        annotations: body.annotations,
      },
    ]
  })
  response.writeHead(200, { 'content-type': types.index })
  response.end(JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests: found }))
}
