/* Media types of images: https://github.com/opencontainers/image-spec/blob/main/media-types.md and Docker's of before. */

export const ociManifest = 'application/vnd.oci.image.manifest.v1+json'
export const ociIndex = 'application/vnd.oci.image.index.v1+json'
export const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json'
export const dockerList = 'application/vnd.docker.distribution.manifest.list.v2+json'
/** Docker's first manifests, JSON or signed JSON. They are read from upstreams, but not pushed any more. */
export const dockerFirst = 'application/vnd.docker.distribution.manifest.v1+json'
export const dockerFirstSigned = 'application/vnd.docker.distribution.manifest.v1+prettyjws'

const imageConfigs = new Set(['application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json'])

export const manifestTypes = [ociManifest, ociIndex, dockerManifest, dockerList, dockerFirst, dockerFirstSigned] as const

export const isManifestType = (mediaType: string) => (manifestTypes as readonly string[]).includes(mediaType)
export const isList = (mediaType: string) => mediaType === ociIndex || mediaType === dockerList
export const isFirst = (mediaType: string) => mediaType === dockerFirst || mediaType === dockerFirstSigned
export const isImageConfig = (mediaType: string) => imageConfigs.has(mediaType)

/** A layer that may be left where it is, by its licence: it is not pushed, and clients fetch it from the URLs that its descriptor names. */
export const isForeign = ({ mediaType }: { mediaType: string }) =>
  mediaType.includes('.nondistributable.') || mediaType.includes('.foreign.')
