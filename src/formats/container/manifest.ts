import { Failure } from '../../lib/failure.ts'
import { digestOf, isDigest } from './digest.ts'
import { dockerFirst, isFirst, isList, manifestTypes, ociIndex, ociManifest } from './media-types.ts'

/** What a manifest says of another thing: https://github.com/opencontainers/image-spec/blob/main/descriptor.md */
export interface Descriptor {
  mediaType: string
  digest: string
  /** Bytes. */
  size: number
  urls?: readonly string[]
  annotations?: Readonly<Record<string, string>>
  platform?: { architecture?: string; os?: string; variant?: string }
  artifactType?: string
}

/** A manifest of an image or an artifact, or a list of manifests. */
export interface Manifest {
  mediaType: string
  schemaVersion: 1 | 2
  /** Undefined in lists and in Docker's first manifests. */
  config: Descriptor | undefined
  layers: readonly Descriptor[]
  /** Of a list. */
  manifests: readonly Descriptor[]
  /** What this manifest is about: a signature's image. */
  subject: Descriptor | undefined
  artifactType: string | undefined
  annotations: Readonly<Record<string, string>>
  /** What Docker's first manifests say of the platform themselves. */
  architecture: string | undefined
}

/** Largest manifest that is taken: what the specification asks of registries. */
export const manifestLimit = 4 * 1024 * 1024
const mostChildren = 10_000

/**
 * Reads a manifest that came as `mediaType`. https://github.com/opencontainers/image-spec/blob/main/manifest.md and image-index.md
 * Throws Failure invalid, saying what is wrong with it.
 */
export function parseManifest(bytes: Uint8Array, mediaType: string | undefined): Manifest {
  if (bytes.length > manifestLimit) throw wrong(`it has ${bytes.length} bytes; ${manifestLimit} are allowed`)
  const body = parseJson(bytes)
  const own = body['mediaType']
  if (own !== undefined && typeof own !== 'string') throw wrong('its mediaType is not a text')
  const type = chooseType(body, own, mediaType)
  if (type === 'unknown') throw wrong(`its media type ${JSON.stringify(own ?? mediaType ?? '')} is not one of a manifest`)
  return isFirst(type) ? parseFirst(body, type) : parseSecond(body, type)
}

/** The body's own media type counts, and must be the one it came as: two readers must never see two things in it. */
function chooseType(body: Json, own: string | undefined, given: string | undefined): string {
  const named = given?.split(';', 1)[0]!.trim()
  if (own !== undefined && named !== undefined && own !== named && !(isFirst(own) && isFirst(named)))
    throw wrong(`it came as ${named} and calls itself ${own}`)
  const type = own ?? named ?? guessType(body)
  return (manifestTypes as readonly string[]).includes(type) ? type : 'unknown'
}

function guessType(body: Json): string {
  if (body['schemaVersion'] === 1) return dockerFirst
  return Array.isArray(body['manifests']) ? ociIndex : ociManifest
}

function parseSecond(body: Json, mediaType: string): Manifest {
  if (body['schemaVersion'] !== 2) throw wrong('its schemaVersion is not 2')
  const list = isList(mediaType)
  if (list && ('layers' in body || 'config' in body)) throw wrong('a list has no layers and no config')
  if (!list && 'manifests' in body) throw wrong('an image has no list of manifests')
  return {
    mediaType,
    schemaVersion: 2,
    config: list ? undefined : descriptor(body['config'], 'config'),
    layers: list ? [] : descriptors(body['layers'], 'layers'),
    manifests: list ? descriptors(body['manifests'], 'manifests') : [],
    subject: body['subject'] === undefined || body['subject'] === null ? undefined : descriptor(body['subject'], 'subject'),
    artifactType: optionalText(body['artifactType'], 'artifactType'),
    annotations: texts(body['annotations'], 'annotations'),
    architecture: undefined,
  }
}

/** https://distribution.github.io/distribution/spec/deprecated-schema-v1/ */
function parseFirst(body: Json, mediaType: string): Manifest {
  if (body['schemaVersion'] !== 1) throw wrong('its schemaVersion is not 1')
  const layers = array(body['fsLayers'], 'fsLayers').map((each, at) => {
    const digest = isObject(each) ? each['blobSum'] : undefined
    if (!isDigest(digest)) throw wrong(`fsLayers[${at}] has no digest of SHA-256 or SHA-512`)
    return { mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip', digest, size: -1 }
  })
  return {
    mediaType,
    schemaVersion: 1,
    config: undefined,
    layers,
    manifests: [],
    subject: undefined,
    artifactType: undefined,
    annotations: {},
    architecture: optionalText(body['architecture'], 'architecture'),
  }
}

type Json = Record<string, unknown>

function parseJson(bytes: Uint8Array): Json {
  let body: unknown
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw wrong('it is not JSON', error)
  }
  if (!isObject(body)) throw wrong('it is not a JSON object')
  return body
}

function descriptors(value: unknown, where: string): Descriptor[] {
  return array(value, where).map((each, at) => descriptor(each, `${where}[${at}]`))
}

function descriptor(value: unknown, where: string): Descriptor {
  if (!isObject(value)) throw wrong(`${where} is not a descriptor`)
  const { mediaType, digest, size, data, urls, platform, artifactType } = value
  if (typeof mediaType !== 'string' || mediaType === '') throw wrong(`${where} has no mediaType`)
  if (!isDigest(digest)) throw wrong(`${where} has no digest of SHA-256 or SHA-512`)
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw wrong(`${where} has no size`)
  if (data !== undefined) checkData(data, digest, size as number, where)
  return {
    mediaType,
    digest,
    size: size as number,
    ...(Array.isArray(urls) && { urls: urls.filter((url) => typeof url === 'string') }),
    ...(isObject(value['annotations']) && { annotations: texts(value['annotations'], `${where}.annotations`) }),
    ...(isObject(platform) && { platform }),
    ...(typeof artifactType === 'string' && { artifactType }),
  }
}

/** Bytes that a descriptor carries with it must be those that it names. */
function checkData(data: unknown, digest: string, size: number, where: string): void {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'base64') : undefined
  const algorithm = digest.startsWith('sha512:') ? 'sha512' : 'sha256'
  if (!bytes || bytes.length !== size || digestOf(bytes, algorithm) !== digest)
    throw wrong(`the data of ${where} is not what its digest names`)
}

function array(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw wrong(`${where} is not a list`)
  if (value.length > mostChildren) throw wrong(`${where} has ${value.length} members; ${mostChildren} are allowed`)
  return value
}

function texts(value: unknown, where: string): Record<string, string> {
  if (value === undefined || value === null) return {}
  if (!isObject(value) || !Object.values(value).every((each) => typeof each === 'string'))
    throw wrong(`${where} are not texts by name`)
  return value as Record<string, string>
}

function optionalText(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw wrong(`its ${where} is not a text`)
  return value
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function wrong(what: string, cause?: unknown): Failure {
  return new Failure('invalid', `The manifest is refused: ${what}.`, { cause })
}
