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
    // A path may hold commas: the last two are the ones that count.
    const match = /^(.+?)\s*,\s*([0-9a-fA-F]{64})\s*,\s*(\d{1,15})$/.exec(content)
    if (!match)
      throw new Failure(
        'integrity',
        `Line ${index + 1} of the manifest is not "<relative path>,<sha256>,<size>": ${content.slice(0, 100)}`,
      )
    const path = checkPath(match[1]!)
    if (paths.has(path)) throw new Failure('integrity', `The manifest names ${path} twice, again in line ${index + 1}.`)
    paths.add(path)
    return [{ path, sha256: match[2]!.toLowerCase(), size: Number(match[3]) }]
  })
}

/** The inverse of parseManifest. */
export function renderManifest(entries: readonly Entry[]): string {
  return entries.map(({ path, sha256, size }) => `${path},${sha256},${size}\n`).join('')
}
