import { Failure } from './failure.ts'

const segmentLimit = 255
const pathLimit = 4096

/**
 * Returns a relative path as it came, once it is known to mean the same thing to everyone who will read it: hrefs and names from
 * upstreams (`code` integrity) and users (invalid). Odd but legal names pass: spaces, `+`, `~`, `^`, `%20`, any writing system.
 */
export function checkPath(path: string, code: 'invalid' | 'integrity' = 'invalid'): string {
  const fault = findFault(path) ?? findFault(decoded(path))
  if (fault) throw new Failure(code, `The path ${JSON.stringify(path.slice(0, 200))} ${fault}.`)
  return path
}

const faults: readonly [pattern: RegExp, fault: string][] = [
  [/^$/, 'is empty'],
  [/\p{Cc}/u, 'has a control character'],
  [/\\/, 'has a backslash'],
  [/^[A-Za-z]:/, 'begins with a drive letter'],
  [/^[A-Za-z][\w+.-]*:\/\//, 'is a URL instead of a relative path'],
  [/^\//, 'is absolute'],
  [/(^|\/)\.\.?(\/|$)/, 'has a . or .. segment'],
  [/\/(\/|$)/, 'has an empty segment'],
  // A server, proxy or client further on may decode these and see another path.
  [/%(2f|5c|2e|00)/i, 'has an encoded slash, backslash, dot or NUL'],
]

function findFault(path: string): string | undefined {
  const known = faults.find(([pattern]) => pattern.test(path))
  if (known) return known[1]
  if (!path.isWellFormed()) return 'is not valid Unicode'
  // Two spellings of one name would be one file on some systems and two on others.
  if (path.normalize('NFC') !== path) return 'is not in Unicode normal form C'
  if (Buffer.byteLength(path) > pathLimit) return `is longer than ${pathLimit} bytes`
  if (path.split('/').some((segment) => Buffer.byteLength(segment) > segmentLimit))
    return `has a segment of more than ${segmentLimit} bytes`
  return undefined
}

/** Decoded once, as the next program would; a stray % is just a character. */
function decoded(path: string): string {
  return path.replace(/(?:%[\da-f]{2})+/gi, (run) => {
    try {
      return decodeURIComponent(run)
    } catch {
      return run
    }
  })
}
