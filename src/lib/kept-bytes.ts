/** Bytes that never change, by name: those asked for last, up to a bound. */
export interface KeptBytes {
  find(name: string): Buffer | undefined
  keep(name: string, bytes: Buffer): void
}

/** `most` is how many bytes are kept. */
export function openKeptBytes(most: number): KeptBytes {
  const kept = new Map<string, Buffer>()
  let weight = 0
  return {
    find(name) {
      const bytes = kept.get(name)
      if (bytes && weight > most / 2) {
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
