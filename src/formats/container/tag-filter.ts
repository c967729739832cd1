/** What a remote says of tags: patterns with `*`, `?` and `[...]`, as of a shell. */
export interface TagFilter {
  /** Everything when there are none. */
  include: readonly string[]
  /** Counts after `include`. */
  exclude: readonly string[]
}

export interface TagChoice {
  isIncluded(tag: string): boolean
  isExcluded(tag: string): boolean
}

export function openTagFilter({ include, exclude }: TagFilter): TagChoice {
  const wanted = include.map(patternOf)
  const unwanted = exclude.map(patternOf)
  const isExcluded = (tag: string) => unwanted.some((pattern) => pattern.test(tag))
  return {
    isExcluded,
    isIncluded: (tag) => (wanted.length === 0 || wanted.some((pattern) => pattern.test(tag))) && !isExcluded(tag),
  }
}

/** A pattern of a shell as a regular expression. An open bracket without its end stands for itself. */
function patternOf(glob: string): RegExp {
  const parts = glob.match(/\[!?\]?[^\]]*\]|[\s\S]/g) ?? []
  const source = parts.map((part) => {
    if (part === '*') return '.*'
    if (part === '?') return '.'
    if (part.length === 1) return escape(part)
    const inverse = part[1] === '!'
    const members = part.slice(inverse ? 2 : 1, -1).replace(/[\\\][^]/g, '\\$&')
    return `[${inverse ? '^' : ''}${members}]`
  })
  try {
    return new RegExp(`^${source.join('')}$`, 's')
  } catch {
    // A range that goes backwards: nothing is between its ends.
    return /(?!)/
  }
}

function escape(character: string): string {
  return character.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&')
}
