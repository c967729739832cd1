/* Tags of images: `<line>-<stamp>`, or `<line>-<distribution>-<stamp>` where a base distribution has builds of its own. */

/** What a tag of a line looks like. */
export function tagPattern(line: string, distribution?: string): RegExp {
  const head = distribution === undefined ? line : `${line}-${distribution}`
  return new RegExp(`^${head.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}-\\d{8}T\\d{6}$`)
}

/** The stamp at the end of a tag; undefined where it has none. */
export function stampOfTag(tag: string): string | undefined {
  return /(?:^|-)(\d{8}T\d{6})$/.exec(tag)?.[1]
}

/** A pinned image: a tag, and the digest that it must have where one is given. */
export interface TagPin {
  readonly tag: string
  readonly digest: string | undefined
}

const pinPattern = /^(\w[\w.-]{0,127})(?:@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$/

export function isTagPin(text: string): boolean {
  return pinPattern.test(text)
}

/** Reads `<tag>` or `<tag>@<digest>`. */
export function parseTagPin(text: string): TagPin {
  const [, tag, digest] = pinPattern.exec(text) ?? []
  if (tag === undefined) throw new Error(`not a tag: ${text}`)
  return { tag, digest }
}
