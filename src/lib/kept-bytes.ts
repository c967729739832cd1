/** Bytes (or text with a character for each) that never change, by name: those asked for last, up to a bound. */
export interface KeptBytes<Bytes> {
  find(name: string): Bytes | undefined
  keep(name: string, bytes: Bytes): void
}

/** `most` is how many bytes are kept. */
export function openKeptBytes<Bytes extends { readonly length: number }>(most: number): KeptBytes<Bytes> {
  const kept = new Map<string, Bytes>()
  let weight = 0
  return {
    find(name) {
      const bytes = kept.get(name)
      if (bytes !== undefined && weight > most / 2) {
        // What is asked for moves to the end; while there is much room its place does not matter.
        kept.delete(name)
        kept.set(name, bytes)
      }
      return bytes
    },
    keep(name, bytes) {
      if (kept.has(name)) return
      kept.set(name, bytes)
      weight += bytes.length
      for (const [oldest, { length }] of kept) {
        if (weight <= most) break
        kept.delete(oldest)
        weight -= length
      }
    },
  }
}
