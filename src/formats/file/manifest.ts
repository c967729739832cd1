import { Failure } from '../../lib/failure.ts'
import { checkPath } from '../../lib/safe-path.ts'

/** One line of a manifest: a path relative to it, the SHA-256 and the size in bytes. */
export interface Entry {
  path: string
  sha256: string
  size: number
}

/** Parses a PULP_MANIFEST: lines of `<relative path>,<sha256>,<size>`; `#` starts a comment. Throws Failure integrity. */
export function parseManifest(text: string): Entry[] {
  const paths = new Set<string>()
  return text.split('\n').flatMap((line, index) => {
    const content = line.trim()
    if (content === '' || content.startsWith('#')) return []
    // A path may hold commas: the last two are the ones that count. They are looked for, because an expression would try every space of a line.
    const last = content.lastIndexOf(',')
    const before = content.lastIndexOf(',', last - 1)
    const [name, digest, size] = [content.slice(0, Math.max(before, 0)), content.slice(before + 1, last), content.slice(last + 1)]
    if (before < 1 || !/^[0-9a-fA-F]{64}$/.test(digest.trim()) || !/^\d{1,15}$/.test(size.trim()))
      throw new Failure(
        'integrity',
        `Line ${index + 1} of the manifest is not "<relative path>,<sha256>,<size>": ${content.slice(0, 100)}`,
      )
    const path = checkPath(name.trimEnd())
    if (paths.has(path)) throw new Failure('integrity', `The manifest names ${path} twice, again in line ${index + 1}.`)
    paths.add(path)
    return [{ path, sha256: digest.trim().toLowerCase(), size: Number(size) }]
  })
}

/** The inverse of parseManifest. */
export function renderManifest(entries: readonly Entry[]): string {
  return entries.map(({ path, sha256, size }) => `${path},${sha256},${size}\n`).join('')
}
