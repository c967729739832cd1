import v8 from 'node:v8'

const longest = 1000

/**
 * A regular expression of somebody else's, on V8's engine without backtracking: it takes time in proportion to the text, whatever the pattern.
 * Throws SyntaxError for a pattern that is none, and for what that engine does not do: backreferences, lookahead, and many repetitions.
 */
export function linearRegExp(pattern: string, { ignoreCase = false } = {}): { test(text: string): boolean } {
  if (pattern.length > longest) throw new SyntaxError(`The pattern is longer than ${longest} characters.`)
  // Only makes the flag `l` known; other expressions are not touched.
  v8.setFlagsFromString('--enable-experimental-regexp-engine')
  // oxlint-disable-next-line no-invalid-regexp -- V8's own, for as long as it is an experiment
  const expression = new RegExp(ignoreCase ? folded(pattern) : pattern, 'l')
  return { test: (text) => expression.test(ignoreCase ? text.toLowerCase() : text) }
}

/** In small letters, but for what follows a backslash: that engine has no flag `i`. */
function folded(pattern: string): string {
  return pattern.replace(/\\.|[^\\]+/gsu, (part) => (part.startsWith('\\') ? part : part.toLowerCase()))
}
