/*
 * How things are written for people: sizes, counts, times, signs. Colour is for state only and never alone.
 */

const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** `412 MB`, `1.2 GB`. */
export function sizeInWords(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

/** `1,331`. */
export function countInWords(count: number): string {
  return count.toLocaleString('en-US')
}

/** `1 package`, `9 packages`, `2 repositories`. */
export function several(count: number, what: string): string {
  const plural = what.endsWith('y') ? `${what.slice(0, -1)}ies` : `${what}s`
  return `${countInWords(count)} ${count === 1 ? what : plural}`
}

/** `43 repositories, 99 images`: what there is none of is left out. */
export function countedInWords(repositories: number, images: number): string {
  if (images === 0) return several(repositories, 'repository')
  return [...(repositories > 0 ? [several(repositories, 'repository')] : []), several(images, 'image')].join(', ')
}

/** `0.01 s`, `3.2 s`, `41 s`, `2:07`. */
export function durationInWords(seconds: number): string {
  if (seconds < 1) return `${Math.max(seconds, 0.01).toFixed(2)} s`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  return seconds < 60 ? `${Math.round(seconds)} s` : clock(seconds)
}

/** `0:21`. */
export function clock(seconds: number): string {
  const whole = Math.round(seconds)
  const minutes = String(Math.floor(whole / 60) % 60)
  const rest = `:${String(whole % 60).padStart(2, '0')}`
  return whole < 3600 ? `${minutes}${rest}` : `${Math.floor(whole / 3600)}:${minutes.padStart(2, '0')}${rest}`
}

/** `20261107T020000 (16 d)`, `20261123T020000 (today)`: a stamp, whole, as it is a name, and as people count. */
export function stampInWords(stamp: string | undefined, now: Date): string {
  if (stamp === undefined) return '-'
  const day = (text: string) => Date.UTC(Number(text.slice(0, 4)), Number(text.slice(4, 6)) - 1, Number(text.slice(6, 8)))
  const days = Math.round((day(now.toISOString().replaceAll('-', '')) - day(stamp)) / 86_400_000)
  return `${stamp} (${days <= 0 ? 'today' : `${days} d`})`
}

/** `today 02:13`, `yesterday 02:13`, `2026-11-07 02:13`, in UTC as stamps are. */
export function timeInWords(iso: string, now: Date): string {
  const day = iso.slice(0, 10)
  const yesterday = new Date(now.getTime() - 86_400_000).toISOString().slice(0, 10)
  const name = day === now.toISOString().slice(0, 10) ? 'today' : day === yesterday ? 'yesterday' : day
  return `${name} ${iso.slice(11, 16)}`
}

export type Mood = 'good' | 'waiting' | 'wrong'

const signs: Readonly<Record<Mood, string>> = { good: '✓', waiting: '…', wrong: '✗' }
const colours: Readonly<Record<Mood, number>> = { good: 32, waiting: 33, wrong: 31 }

interface Screen {
  out: { isTTY?: boolean }
  env: NodeJS.ProcessEnv
}

/** `✓`, `…` or `✗`, coloured on a terminal. */
export function sign({ out, env }: Screen, mood: Mood): string {
  const colourful = out.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  return colourful ? `\u001b[${colours[mood]}m${signs[mood]}\u001b[0m` : signs[mood]
}
