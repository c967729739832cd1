/** Microseconds since 1970 in UTC: how every time is stored. Safe in a number until the year 2255. */
export type Micros = number

/** Now, to the microsecond. */
export function now(): Micros {
  return Math.round((performance.timeOrigin + performance.now()) * 1000)
}

/** `2026-11-23T06:29:47.796941Z`: how the Pulp API writes times. */
export function renderTime(micros: Micros): string {
  const milliseconds = Math.floor(micros / 1000)
  return `${new Date(milliseconds).toISOString().slice(0, -1)}${String(micros - milliseconds * 1000).padStart(3, '0')}Z`
}

/** The inverse of renderTime; takes any ISO 8601 time (UTC when it names no zone). Undefined when it is none. */
export function parseTime(text: string): Micros | undefined {
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,6})\d*)?)?(Z|[+-]\d\d:?\d\d)?$/.exec(text.trim())
  if (!match) return undefined
  const [, day, clock = '00:00:00', fraction = '', zone = 'Z'] = match
  const milliseconds = Date.parse(`${day}T${clock.length === 5 ? `${clock}:00` : clock}${zone}`)
  return Number.isNaN(milliseconds) ? undefined : milliseconds * 1000 + Number(fraction.padEnd(6, '0'))
}

/** `20261123T062947`: a snapshot's stamp (train.md). */
export function renderStamp(micros: Micros): string {
  return new Date(Math.floor(micros / 1000)).toISOString().slice(0, 19).replace(/[-:]/g, '')
}
