/** The members of a JSON object; none of what is no object, or no JSON at all. */
export function parseMembers(text: string): Record<string, unknown> {
  try {
    return membersOf(JSON.parse(text))
  } catch (error) {
    if (error instanceof SyntaxError) return {}
    throw error
  }
}

/** The members of what may be an object; none of what is none. */
export function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
