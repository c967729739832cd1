/*
 * A listing is written in pieces: some dozens of units whose text is compressed alone, for gzip and zstd allow members and frames one after
 * the other. A piece ends behind a unit whose slot says so, whatever the others are: what comes and goes changes the piece it is in, and all
 * others are copied, compressed as they are, from the listing before.
 */

/** A piece as it is remembered. */
export interface Piece {
  /** The slot of its last unit. */
  last: string
  /** The ids of its units, by slot. */
  ids: readonly number[]
  /** A digest of what is written of them, where that may become another: units that are not settled. Otherwise ''. */
  digest: string
  /** In each of the files: its length, and its length before compression; in bytes. */
  lengths: readonly (readonly [length: number, openLength: number])[]
}

export interface Member {
  id: number
  slot: string
}

/** A piece that stays as it is; or pieces that have to be looked at: what is left of their units and those that came, each by slot, are to be cut anew. */
export type Stretch<P extends Piece = Piece> = { kept: P } | { looked: P[]; stayed: number[]; came: Member[] }

/** By slot; upstreams that are kept as they are may have several units in one. */
export function compareMembers(a: Member, b: Member): number {
  return a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : a.id - b.id
}

/** What of an older listing can stay. `came` is by slot. The result is cut as if there were no older listing. */
export function planStretches<P extends Piece>(
  pieces: readonly P[],
  came: readonly Member[],
  gone: ReadonlySet<number>,
): Stretch<P>[] {
  const stretches: Stretch<P>[] = []
  let next = 0
  // Whether a piece ends here in the new listing, too.
  let aligned = true
  for (const [index, piece] of pieces.entries()) {
    const from = next
    const isLast = index === pieces.length - 1
    for (; next < came.length; next++) if (!isLast && came[next]!.slot > piece.last) break
    const untouched = aligned && next === from && piece.digest === '' && !piece.ids.some((id) => gone.has(id))
    if (untouched) {
      stretches.push({ kept: piece })
      continue
    }
    const stayed = piece.ids.filter((id) => !gone.has(id))
    const before = stretches.at(-1)
    const stretch = !aligned && before && 'came' in before ? before : { looked: [], stayed: [], came: [] }
    if (stretch !== before) stretches.push(stretch)
    stretch.looked.push(piece)
    stretch.stayed.push(...stayed)
    stretch.came.push(...came.slice(from, next))
    const lastStayed = stayed.at(-1) === piece.ids.at(-1) && came[next - 1]?.slot !== piece.last
    aligned = lastStayed && endsPiece(piece.last)
  }
  if (next < came.length) stretches.push({ looked: [], stayed: [], came: came.slice(next) })
  return stretches
}

const usualUnits = 64
const mostBytes = 4 * 1024 * 1024
/** What a small unit counts for, so that a piece has no more than some hundred. */
const leastBytes = 16 * 1024

/** Tells behind which units a piece ends. To be given the units of a stretch, one after another. */
export function openCutter() {
  let size = 0
  return ({ slot, length }: { slot: string; length: number }): boolean => {
    size += leastBytes + length
    const ends = size >= mostBytes || endsPiece(slot)
    if (ends) size = 0
    return ends
  }
}

/** Decides by the name alone, so that what comes and goes elsewhere moves no cut. FNV-1a: quick, and even enough. */
function endsPiece(slot: string): boolean {
  let hash = 0x811c9dc5
  for (let at = 0; at < slot.length; at++) hash = Math.imul(hash ^ slot.charCodeAt(at), 0x01000193)
  // The high bits are the better mixed ones.
  return (hash >>> 16) % usualUnits === 0
}
