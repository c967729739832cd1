import type { Described } from '../../core/format.ts'
import { isForeign, isImageConfig, isList } from './media-types.ts'
import type { Manifest } from './manifest.ts'

/*
 *   container.tag ──refers──> container.manifest ──refers──> container.manifest (of a list), container.blob (config and layers)
 *                                     └──about──> container.manifest (its subject: what a signature signs)
 *
 * Manifests are kept as entries, byte for byte; blobs as files.
 */

export const blobType = 'container.blob'
export const manifestType = 'container.manifest'
export const tagType = 'container.tag'
export const signatureType = 'container.signature'

/** What a manifest's config says of the image: https://github.com/opencontainers/image-spec/blob/main/config.md */
export interface Config {
  architecture?: unknown
  os?: unknown
  config?: { Labels?: unknown } | undefined
}

/** A blob by its digest; `sha256` says that the store has its bytes under that. */
export function describeBlob(digest: string, size: number, sha256?: string): Described {
  const file = { path: digest, size, checksum: digest, ...(sha256 !== undefined && { sha256 }) }
  return { type: blobType, key: digest, meta: { digest, size }, files: [file] }
}

export function describeTag(name: string, digest: string): Described {
  return {
    type: tagType,
    key: `${digest} ${name}`,
    name,
    refers: [{ type: manifestType, key: digest }],
    meta: { name, digest },
    files: [],
  }
}

/** A manifest and its bytes; `config` where its config is that of an image and was read. */
export function describeManifest(digest: string, manifest: Manifest, bytes: Uint8Array, config: Config = {}): Described {
  const { config: configDescriptor, layers, manifests, subject } = manifest
  const held = layers.filter((layer) => !isForeign(layer))
  return {
    type: manifestType,
    key: digest,
    refers: [
      ...manifests.map((each) => ({ type: manifestType, key: each.digest })),
      ...(configDescriptor ? [{ type: blobType, key: configDescriptor.digest }] : []),
      ...held.map((each) => ({ type: blobType, key: each.digest })),
      ...(subject ? [{ type: manifestType, key: subject.digest, about: true }] : []),
    ],
    meta: metaOf(digest, manifest, bytes.length, config),
    entry: bytes,
    files: [],
  }
}

function metaOf(digest: string, manifest: Manifest, size: number, config: Config): Record<string, unknown> {
  const { mediaType, schemaVersion, annotations, layers, manifests, subject } = manifest
  const labels = isTexts(config.config?.Labels) ? config.config.Labels : {}
  return {
    digest,
    size,
    media_type: mediaType,
    schema_version: schemaVersion,
    annotations,
    labels,
    architecture: textOr(config.architecture, manifest.architecture),
    os: textOr(config.os),
    type: kindOf(manifest, labels),
    is_bootable: isTrue(annotations['containers.bootc']) || isTrue(labels['containers.bootc']),
    is_flatpak: 'org.flatpak.ref' in labels,
    config_digest: manifest.config?.digest ?? null,
    blob_digests: layers.filter((layer) => !isForeign(layer)).map((layer) => layer.digest),
    listed_digests: manifests.map((each) => each.digest),
    compressed_image_size: isList(mediaType) ? null : sizeOf(layers),
    artifact_type: artifactTypeOf(manifest),
    subject: subject?.digest ?? null,
  }
}

/** Docker's first manifests have no sizes. */
function sizeOf(layers: Manifest['layers']): number | null {
  return layers.every((layer) => layer.size >= 0) ? layers.reduce((sum, layer) => sum + layer.size, 0) : null
}

/** What clients may choose referrers by: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers */
function artifactTypeOf({ artifactType, config }: Manifest): string | null {
  return artifactType ?? config?.mediaType ?? null
}

/** Pulp's words for what an image is for. */
function kindOf({ config, manifests, layers, mediaType }: Manifest, labels: Readonly<Record<string, string>>): string | null {
  if (manifests.length > 0 || mediaType.includes('index') || mediaType.includes('.list.')) return 'index'
  if (isTrue(labels['containers.bootc'])) return 'bootable'
  if ('org.flatpak.ref' in labels) return 'flatpak'
  const type = config?.mediaType ?? ''
  if (type === 'application/vnd.cncf.helm.config.v1+json') return 'helm'
  if (layers.some((layer) => layer.mediaType === 'application/vnd.dev.cosign.simplesigning.v1+json')) return 'cosign'
  if (type === '' || isImageConfig(type)) return 'image'
  return 'artifact'
}

const isTrue = (value: string | undefined) => value === '1' || value?.toLowerCase() === 'true'

function textOr(...values: unknown[]): string | null {
  for (const value of values) if (typeof value === 'string' && value !== '') return value
  return null
}

function isTexts(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && Object.values(value).every((each) => typeof each === 'string')
}
