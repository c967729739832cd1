import type { Descriptor } from './manifest.ts'

/*
 * What is said about an image is tied to its digest, by tags that are made of it (cosign's `sha256-<hex>.sig`, `.att`, `.sbom`; the
 * `sha256-<hex>` of registries without an API of referrers), or by manifests that name it as their subject.
 */

const pattern = /^(sha256)-([0-9a-f]{64})(\.[\w.-]+)?$|^(sha512)-([0-9a-f]{128})(\.[\w.-]+)?$/

/** The digest that a tag says something about. */
export function subjectOf(tag: string): string | undefined {
  const match = pattern.exec(tag)
  return match ? `${match[1] ?? match[4]}:${match[2] ?? match[5]}` : undefined
}

/** The tags among these that say something about a digest, by that. */
export function companionsOf(tags: readonly string[]): ReadonlyMap<string, readonly string[]> {
  return Map.groupBy(
    tags.filter((tag) => subjectOf(tag) !== undefined),
    (tag) => subjectOf(tag)!,
  )
}

/** Whether a tag that is about an image is cosign's signature of it. */
export const isSignatureTag = (tag: string) => subjectOf(tag) !== undefined && tag.endsWith('.sig')

/** Whether what names an image as its subject is a signature of it: of cosign, sigstore or notation. Whose it is, is for clients to verify. */
export function isSignature({ artifactType = '', annotations = {} }: Pick<Descriptor, 'artifactType' | 'annotations'>): boolean {
  if (artifactType === 'application/vnd.cncf.notary.signature') return true
  if (artifactType === 'application/vnd.dev.cosign.artifact.sig.v1+json') return true
  // A bundle holds a signature of the image, or a signed statement about it.
  if (!artifactType.startsWith('application/vnd.dev.sigstore.bundle')) return false
  const predicate = annotations['dev.sigstore.bundle.predicateType']
  return predicate === undefined || predicate === 'https://sigstore.dev/cosign/sign/v1'
}
