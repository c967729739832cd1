/** Epoch, version and release: what orders packages of one name. */
export interface Evr {
  epoch: string
  version: string
  release: string
}

/** Orders two EVRs as rpm does; a missing epoch is 0. Negative when `a` is older. */
export function compareEvr(a: Evr, b: Evr): number {
  return (
    Number(a.epoch || 0) - Number(b.epoch || 0) || compareVersions(a.version, b.version) || compareVersions(a.release, b.release)
  )
}

/** Orders two version strings as rpm's `rpmvercmp` does: https://rpm-software-management.github.io/rpm/man/rpm-version.7 */
export function compareVersions(a: string, b: string): number {
  if (a === b) return 0
  const left = a.match(segment) ?? []
  const right = b.match(segment) ?? []
  for (let i = 0; ; i++) {
    const order = compareSegments(left[i], right[i])
    if (order !== 0) return order
    if (left[i] === undefined) return 0
  }
}

// Anything that is no letter, digit, tilde or caret only separates.
const segment = /[0-9]+|[a-zA-Z]+|~|\^/g

function compareSegments(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0
  // A tilde sorts before everything, even the end; a caret after the end but before anything else.
  if (a === '~' || b === '~') return a === '~' ? -1 : 1
  if (a === undefined || b === undefined) return a === undefined ? -1 : 1
  if (a === '^' || b === '^') return a === '^' ? -1 : 1
  const aDigits = isDigits(a)
  if (aDigits !== isDigits(b)) return aDigits ? 1 : -1
  return aDigits ? compareNumbers(a, b) : a < b ? -1 : 1
}

function compareNumbers(a: string, b: string): number {
  const left = a.replace(/^0+/, '')
  const right = b.replace(/^0+/, '')
  if (left.length !== right.length) return left.length - right.length
  return left < right ? -1 : left > right ? 1 : 0
}

function isDigits(text: string): boolean {
  return text.charCodeAt(0) >= 48 && text.charCodeAt(0) <= 57
}
