import type { Scene } from './play.ts'

const hour = 3_600_000

/** A value in which everything that two servers cannot agree upon has a word instead: hrefs, ids, times of this hour, origins. */
export function normalize(scene: Scene, value: unknown): unknown {
  if (typeof value === 'string') return normalizeText(scene, value)
  if (Array.isArray(value)) return value.map((each) => normalize(scene, each))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([name, each]): [string, unknown] => [
    normalizeText(scene, name),
    name === 'id' && typeof each === 'number' ? '<id>' : normalize(scene, each),
  ])
  return Object.fromEntries(entries)
}

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g

function normalizeText({ server, variables }: Scene, text: string): string {
  let result = text.replaceAll(server.url, '<origin>').replaceAll(new URL(server.url).host, '<host>')
  for (const [name, value] of variables)
    if (/\/(users|groups)\/\d+\/$/.test(value)) result = result.replaceAll(value, `<${name}>`)
  const names = new Map([...variables].map(([name, value]) => [idOf(value), name]))
  return (
    result
      .replace(uuid, (id) => `<${names.get(id) ?? 'uuid'}>`)
      .replace(/\/(users|groups|roles)\/\d+\//g, '/$1/<id>/')
      .replace(/prn:(auth|core)\.(\w+):\d+(?![\w-])/g, 'prn:$1.$2:<id>')
      .replace(/\b[0-9a-f]{32}\b/g, '<32 hex digits>')
      .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?/g, (time, fraction: string, zone: string) =>
        Math.abs(Date.parse(zone ? time : `${time}Z`) - Date.now()) < hour ? `<now, ${fraction?.length ?? 0}${zone}>` : time,
      )
      .replace(/\d{8}T\d{6}Z/g, '<second>')
      .replace(/\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d/g, '<now>')
      // Directories have no size of their own.
      .replace(/(\/<\/a>)[^\n]+/g, '$1')
      .replace(/<\/html>\n$/, '</html>')
  )
}

/** The uuid that an href or a PRN ends with. */
function idOf(value: string): string | undefined {
  return /([0-9a-f]{8}-[0-9a-f-]{27})\/?$/.exec(value)?.[1]
}
