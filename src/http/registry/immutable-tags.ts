import type { RepositorySettings } from '../../core/format.ts'

/** Whether a repository's setting `immutable_tags` (all, none, or those that fit one of some globs) keeps a tag as it is once it is there. */
export function isImmutable(settings: RepositorySettings['settings'], tag: string): boolean {
  const which = settings['immutable_tags']
  return Array.isArray(which) ? which.some((glob) => typeof glob === 'string' && fits(glob, tag)) : which === true
}

/** `*` is any number of characters, `?` is one; all others are themselves. */
function fits(glob: string, text: string): boolean {
  const pattern = glob
    .replace(/\*+/g, '*')
    .replace(/[.+^${}()|[\]\\*?]/g, (each) => (each === '*' ? '.*' : each === '?' ? '.' : `\\${each}`))
  return new RegExp(`^${pattern}$`).test(text)
}
