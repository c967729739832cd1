import { createHash } from 'node:crypto'
import { Failure } from '../lib/failure.ts'
import { Unreachable } from './client.ts'

/* A small client of the registry: https://github.com/opencontainers/distribution-spec/blob/main/spec.md */

/** An image as bytes: blobs, and manifests each after those that it names. */
export interface ImageBytes {
  readonly blobs: readonly Uint8Array[]
  readonly manifests: readonly ManifestBytes[]
}

export interface ManifestBytes {
  readonly mediaType: string
  readonly bytes: Uint8Array
}

export interface RegistryClient {
  /** Pushes all of an image that is not there yet; the tag stands for its last manifest then. Returns the digest of that. */
  push(path: string, tag: string, image: ImageBytes): Promise<string>
  /** Pulls all of an image and checks every byte of it. Returns its digest. Throws Failure denied or not_found, as the registry says. */
  pull(path: string, reference: string): Promise<string>
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** Opens a client. Nothing is asked of the registry yet. */
export function connectRegistry({
  url,
  username,
  password,
}: {
  url: string
  username: string
  password: string
}): RegistryClient {
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

  async function ask(
    method: string,
    path: string,
    { headers = {}, body }: { headers?: Record<string, string>; body?: Uint8Array } = {},
  ) {
    let response: Response
    try {
      const sent = body ? { body: body as Uint8Array<ArrayBuffer> } : {}
      response = await fetch(new URL(path, url), { method, headers: { authorization, ...headers }, ...sent })
    } catch (cause) {
      throw new Unreachable(`${url} cannot be reached.`, { cause })
    }
    const bytes = Buffer.from(await response.arrayBuffer())
    return { status: response.status, headers: response.headers, bytes }
  }

  async function expect(status: number, method: string, path: string, sending: Parameters<typeof ask>[2] = {}) {
    const answer = await ask(method, path, sending)
    if (answer.status !== status) throw refusal(answer.status, answer.bytes, `${method} ${path}`)
    return answer
  }

  async function pushBlob(path: string, bytes: Uint8Array): Promise<void> {
    const digest = digestOf(bytes)
    if ((await ask('HEAD', `/v2/${path}/blobs/${digest}`)).status === 200) return
    const begun = await expect(202, 'POST', `/v2/${path}/blobs/uploads/`)
    const at = new URL(begun.headers.get('location')!, url)
    at.searchParams.set('digest', digest)
    await expect(201, 'PUT', `${at.pathname}${at.search}`, {
      headers: { 'content-type': 'application/octet-stream' },
      body: bytes,
    })
  }

  async function pullManifest(path: string, reference: string): Promise<string> {
    const headers = { accept: manifestTypes }
    const { bytes } = await expect(200, 'GET', `/v2/${path}/manifests/${reference}`, { headers })
    const digest = check(bytes, reference, path)
    const { manifests = [], config, layers = [] } = JSON.parse(bytes.toString()) as Partial<Record<string, any>>
    for (const each of manifests) await pullManifest(path, each.digest)
    for (const each of [...(config ? [config] : []), ...layers])
      check((await expect(200, 'GET', `/v2/${path}/blobs/${each.digest}`)).bytes, each.digest, path)
    return digest
  }

  return {
    async push(path, tag, { blobs, manifests }) {
      for (const bytes of blobs) await pushBlob(path, bytes)
      for (const [index, { mediaType, bytes }] of manifests.entries()) {
        const reference = index === manifests.length - 1 ? tag : digestOf(bytes)
        await expect(201, 'PUT', `/v2/${path}/manifests/${reference}`, { headers: { 'content-type': mediaType }, body: bytes })
      }
      return digestOf(manifests.at(-1)!.bytes)
    },
    pull: pullManifest,
  }
}

export const ociTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const

const manifestTypes = [
  ociTypes.index,
  ociTypes.manifest,
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')

/** The digest of bytes, which must be the one that they were asked for by. */
function check(bytes: Uint8Array, reference: string, path: string): string {
  const digest = digestOf(bytes)
  if (reference.startsWith('sha256:') && reference !== digest)
    throw new Failure('integrity', `${path} has other bytes than ${reference} promises.`)
  return digest
}

function refusal(status: number, bytes: Buffer, what: string): Failure {
  const code = status === 401 || status === 403 ? 'denied' : status === 404 ? 'not_found' : 'upstream'
  return new Failure(code, `The registry answered ${status} to ${what}: ${saying(bytes) || 'without a reason'}`)
}

function saying(bytes: Buffer): string {
  try {
    const { errors } = JSON.parse(bytes.toString()) as { errors: { code: string; message?: string }[] }
    return errors.map(({ code, message }) => message || code).join(' ')
  } catch {
    return ''
  }
}
