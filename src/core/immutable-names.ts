import type { RepositorySettings } from './format.ts'

/** Whether a repository's setting `immutable_tags` (all, none, or those that fit one of some globs) keeps a name as it is once it is there. */
export function isImmutable(settings: RepositorySettings['settings'], name: string): boolean {
  const which = settings['immutable_tags']
  return Array.isArray(which) ? which.some((glob) => typeof glob === 'string' && fits(glob, name)) : which === true
}

/** `*` is any number of characters, `?` is one; all others are themselves. */
function fits(glob: string, text: string): boolean {
  const pattern = glob
    .replace(/\*+/g, '*')
    .replace(/[.+^${}()|[\]\\*?]/g, (each) => (each === '*' ? '.*' : each === '?' ? '.' : `\\${each}`))
  return new RegExp(`^${pattern}$`).test(text)
}
