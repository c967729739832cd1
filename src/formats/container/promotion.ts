import type { NamedKind } from '../../core/promote-named.ts'
import { manifestType } from './describe.ts'

/** What promotions need to know of tags. */
export const imageTags: NamedKind = {
  type: 'container.container',
  keyOf: ({ digest }) => String(digest),
  /*
   * Signatures, attestations and lists of packages lie beside an image under tags made of its digest, where a client does not use
   * referrers: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery, and without an end the
   * referrers of old registries: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
   */
  companions: ({ type, key }) =>
    type === manifestType ? ['', '.sig', '.att', '.sbom'].map((end) => `${key.replace(':', '-')}${end}`) : [],
}

const segment = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const pathPattern = new RegExp(`^(?=.{3,255}$)${segment}(?:/${segment})+$`)

/** Whether an image may be at this path: in a namespace, and as registries take it. */
export function isImagePath(path: string): boolean {
  return pathPattern.test(path)
}
