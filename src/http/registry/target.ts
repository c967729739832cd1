/** What a request target below /v2/ or /extensions/v2/ names. Names and references are as they came: whoever uses them looks at what they are. */
export type Target =
  | { kind: 'root' | 'catalog' | 'unknown' }
  | { kind: 'tags'; name: string }
  | { kind: 'manifest'; name: string; reference: string }
  | { kind: 'blob'; name: string; digest: string }
  | { kind: 'uploads'; name: string }
  | { kind: 'upload'; name: string; uuid: string }
  | { kind: 'referrers'; name: string; digest: string }
  | { kind: 'signatures'; name: string; digest: string }

export const registryRoot = '/v2/'
/** https://github.com/containers/image/blob/main/docs/signature-protocols.md#openshift-docker-registry-api-extension */
export const extensionsRoot = '/extensions/v2/'

/** https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints */
export function parseTarget(url: string): { target: Target; query: URLSearchParams } {
  // Nothing is called so, and PostgreSQL takes no such text.
  if (url.includes('%00')) return { target: { kind: 'unknown' }, query: new URLSearchParams() }
  const mark = url.indexOf('?')
  const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1))
  const path = decodePath(mark < 0 ? url : url.slice(0, mark))
  return { target: path === undefined ? { kind: 'unknown' } : parsePath(path), query }
}

/** A slash that is encoded is a trick: two readers may understand two different paths. */
function decodePath(path: string): string | undefined {
  if (!path.includes('%')) return path
  if (/%2f|%5c/i.test(path)) return undefined
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}

function parsePath(path: string): Target {
  if (path === '/v2' || path === registryRoot) return { kind: 'root' }
  if (path === '/v2/_catalog') return { kind: 'catalog' }
  if (path.startsWith(extensionsRoot)) return parseExtension(path.slice(extensionsRoot.length))
  // Names may have any number of segments, so what is asked of them is read from the end.
  const segments = path.slice(registryRoot.length).split('/')
  const [third, second, last = ''] = [segments.at(-3), segments.at(-2), segments.at(-1)]
  const before = (count: number) => segments.slice(0, -count).join('/')
  const target = targetOf(third, second, last, before)
  return 'name' in target && target.name === '' ? { kind: 'unknown' } : target
}

function parseExtension(path: string): Target {
  const [, name, digest] = /^(.+)\/signatures\/([^/]+)$/.exec(path) ?? []
  return name !== undefined && digest !== undefined ? { kind: 'signatures', name, digest } : { kind: 'unknown' }
}

function targetOf(
  third: string | undefined,
  second: string | undefined,
  last: string,
  before: (count: number) => string,
): Target {
  if (second === 'tags' && last === 'list') return { kind: 'tags', name: before(2) }
  if (second === 'blobs' && last === 'uploads') return { kind: 'uploads', name: before(2) }
  if (third === 'blobs' && second === 'uploads')
    return last === '' ? { kind: 'uploads', name: before(3) } : { kind: 'upload', name: before(3), uuid: last }
  if (last === '') return { kind: 'unknown' }
  if (second === 'manifests') return { kind: 'manifest', name: before(2), reference: last }
  if (second === 'blobs') return { kind: 'blob', name: before(2), digest: last }
  if (second === 'referrers') return { kind: 'referrers', name: before(2), digest: last }
  return { kind: 'unknown' }
}

const namePattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const tagPattern = /^\w[\w.-]{0,127}$/

/** Whether a repository may be called so. */
export const isName = (text: string) => text.length <= 255 && namePattern.test(text)
export const isTag = (text: string) => tagPattern.test(text)
