export const contentRoot = '/pulp/content/'

/** What a request target names below /pulp/content/: decoded, without query; undefined when no well-behaved client sends such a target. */
export function parseTarget(target: string): string | undefined {
  const query = target.indexOf('?')
  const raw = target.slice(contentRoot.length, query < 0 ? undefined : query)
  // A slash that is encoded, or a segment that goes nowhere or up, is a trick: two readers may understand two different paths.
  if (/%2f|%5c|\\/i.test(raw)) return undefined
  let path: string
  try {
    path = raw.includes('%') ? decodeURIComponent(raw) : raw
  } catch {
    return undefined
  }
  // oxlint-disable-next-line no-control-regex
  if (/[\0-\x1f\x7f]|^\/|\/\/|(?:^|\/)\.\.?(?:\/|$)/.test(path)) return undefined
  return path
}
