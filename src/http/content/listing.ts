export interface Line {
  name: string
  size?: number | undefined
  /** Microseconds. */
  modified?: number | undefined
}

/** A directory as Pulp shows it, in chunks. `path` is what the title names; the root has no way up. */
export function* renderListing(path: string, lines: Iterable<Line>, isRoot = false): Generator<string> {
  const title = `Index of ${escapeHtml(path)}`
  let chunk = `\n<html>\n<head><title>${title}</title></head>\n<body bgcolor="white">\n<h1>${title}</h1>\n<hr><pre>`
  chunk += isRoot ? '\n' : '<a href="../">../</a>\n'
  for (const line of lines) {
    chunk += renderLine(line)
    if (chunk.length < 32_768) continue
    yield chunk
    chunk = ''
  }
  yield `${chunk}</pre><hr></body>\n</html>\n`
}

function renderLine({ name, size, modified }: Line): string {
  const shown = escapeHtml(name)
  const href = name.endsWith('/') ? `${encodeURIComponent(name.slice(0, -1))}/` : encodeURIComponent(name)
  const padding = ' '.repeat(Math.max(0, 100 - shown.length))
  return `<a href="${href}">${shown}</a>${padding}${modified === undefined ? '' : renderDate(modified)}  ${size === undefined ? '' : renderSize(size)}\n`
}

/** `23-Nov-2026 21:11`, in UTC. */
function renderDate(micros: number): string {
  const [, day, month, year, clock] = /, (\d+) (\w+) (\d+) (\d+:\d+)/.exec(new Date(micros / 1000).toUTCString())!
  return `${day}-${month}-${year} ${clock}`
}

const units = ['kB', 'MB', 'GB', 'TB', 'PB']

/** `1 Byte`, `573 Bytes`, `3.0 kB`: powers of a thousand. */
export function renderSize(bytes: number): string {
  if (bytes < 1000) return bytes === 1 ? '1 Byte' : `${bytes} Bytes`
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length)
  return `${(bytes / 1000 ** power).toFixed(1)} ${units[power - 1]}`
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&#34;')
    .replaceAll("'", '&#39;')
}
