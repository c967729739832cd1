import type { ContentType, Field } from '../../core/format.ts'
import { blobType, manifestType } from './describe.ts'
import { dockerFirst, dockerList, dockerManifest, ociIndex, ociManifest } from './media-types.ts'

const text = (description: string): Field => ({ type: 'string', required: true, description })
const link = (description: string): Field => ({ type: 'string', format: 'uri', required: true, description })
const links = (description: string): Field => ({
  type: 'array',
  required: true,
  items: { type: 'string', format: 'uri' },
  description,
})

/** What clients may ask for, as Pulp has it: Docker's signed ones are not among them. */
export const mediaTypes = [dockerFirst, dockerManifest, dockerList, ociManifest, ociIndex]
const mediaTypeFilter = { enum: mediaTypes, several: 'repeated' } as const

const blobs: ContentType = {
  name: 'blob',
  model: 'Blob',
  path: 'blobs',
  files: 'one',
  fields: { digest: text('sha256 of the Blob file') },
  showsDigests: false,
  filters: { digest: { lookups: ['exact', 'in'], index: true } },
  ordering: ['digest'],
  view: ({ meta }) => ({ digest: meta['digest'] }),
}

const manifests: ContentType = {
  name: 'manifest',
  model: 'Manifest',
  path: 'manifests',
  files: 'none',
  fields: {
    digest: text('sha256 of the Manifest file'),
    schema_version: { type: 'integer', format: 'int64', required: true, description: 'Manifest schema version' },
    media_type: text('Manifest media type of the file'),
    listed_manifests: links('Manifests that are referenced by this Manifest List'),
    config_blob: { ...link('Blob that contains configuration for this Manifest'), required: false },
    blobs: links('Blobs that are referenced by this Manifest'),
    annotations: { type: 'object', readOnly: true, description: 'What the manifest says of itself.' },
    labels: { type: 'object', readOnly: true, description: 'What the configuration says of the image.' },
    is_bootable: { type: 'boolean', default: false, description: 'Whether one can boot from it.' },
    is_flatpak: { type: 'boolean', default: false, description: 'Whether it is a Flatpak application.' },
    type: { type: 'string', description: 'What it is for: image, index, artifact, helm, ...' },
    architecture: { type: 'string', description: 'The CPU architecture which the image is built to run on.' },
    os: { type: 'string', description: 'The operating system which the image is built to run on.' },
    compressed_image_size: { type: 'integer', format: 'int64', description: 'Bytes of all layers.' },
  },
  filters: {
    digest: { lookups: ['exact', 'in'], index: true },
    media_type: { lookups: ['exact'], ...mediaTypeFilter },
    is_bootable: { lookups: ['exact'], type: 'boolean' },
    is_flatpak: { lookups: ['exact'], type: 'boolean' },
  },
  ordering: ['digest', 'schema_version', 'media_type', 'type', 'architecture', 'os', 'is_bootable', 'is_flatpak'],
  ignoredOrdering: ['annotations', 'compressed_image_size', 'data', 'labels'],
  links: {
    listed_manifests: { type: manifestType, member: 'listed_digests', many: true },
    config_blob: { type: blobType, member: 'config_digest' },
    blobs: { type: blobType, member: 'blob_digests', many: true },
  },
  view: ({ meta }) => ({
    digest: meta['digest'],
    schema_version: meta['schema_version'],
    media_type: meta['media_type'],
    annotations: meta['annotations'],
    labels: meta['labels'],
    is_bootable: meta['is_bootable'],
    is_flatpak: meta['is_flatpak'],
    type: meta['type'],
    architecture: meta['architecture'],
    os: meta['os'],
    compressed_image_size: meta['compressed_image_size'],
  }),
}

const tags: ContentType = {
  name: 'tag',
  model: 'Tag',
  path: 'tags',
  files: 'none',
  fields: { name: text('Tag name'), tagged_manifest: link('Manifest that is tagged') },
  filters: {
    name: { lookups: ['exact', 'in'], index: true },
    digest: { lookups: ['exact'], index: true, several: 'joined' },
    media_type: { lookups: ['exact'], through: 'tagged_manifest', ...mediaTypeFilter },
  },
  ordering: ['name'],
  links: { tagged_manifest: { type: manifestType, member: 'digest' } },
  view: ({ meta }) => ({ name: meta['name'] }),
}

/** Signatures beside an image, as Red Hat's registries have them. Others are artifacts of their own. */
const signatures: ContentType = {
  name: 'signature',
  model: 'ManifestSignature',
  path: 'signatures',
  files: 'none',
  fields: {
    name: text('Signature name in the format of `digest_algo:manifest_digest@random_32_chars`'),
    digest: text('sha256 digest of the signature blob'),
    type: text("Container signature type, e.g. 'atomic'"),
    key_id: text('Signing key ID'),
    timestamp: { type: 'integer', format: 'int64', required: true, description: 'Timestamp of a signature' },
    creator: text('Signature creator'),
    signed_manifest: link('Manifest that is signed'),
  },
  filters: {
    name: { lookups: ['exact', 'contains', 'icontains', 'iexact', 'in', 'iregex', 'istartswith', 'regex', 'startswith'] },
    digest: { lookups: ['exact', 'in'], index: true },
    key_id: { lookups: ['exact', 'in'] },
    manifest: { lookups: ['exact'], as: 'signed_digest', several: 'joined' },
  },
  ordering: ['name', 'digest', 'type', 'key_id', 'timestamp', 'creator'],
  ignoredOrdering: ['data'],
  links: { signed_manifest: { type: manifestType, member: 'signed_digest' } },
  view: ({ meta: { name, digest, type, key_id, timestamp, creator } }) => ({ name, digest, type, key_id, timestamp, creator }),
}

export const contentTypes: readonly ContentType[] = [blobs, manifests, tags, signatures]
