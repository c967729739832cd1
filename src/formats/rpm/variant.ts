import { createHash, hash } from 'node:crypto'
import type { PrimaryPackage } from './primary.ts'

/*
 * A checksum names a package's bytes, but what metadata says of them is its upstream's word alone, until the bytes are here and beyond:
 * an upstream may claim the checksum of somebody else's package and invent what it requires or obsoletes. So all that is said of a
 * package belongs to what it is known by. Two upstreams that say the same share one content; one that says otherwise has its own.
 *
 *   variant: <digest of what primary.xml says><digest of the rest>, 22 characters each
 *
 * Where and when it was put there (location, file time) differs between honest upstreams, and harms nobody.
 */

/** What is said of a package beside its element in primary.xml. */
export interface RestOfPackage {
  filelists: Uint8Array
  other: Uint8Array
  /** The name under which its file is published. */
  filename: string
  isModular: boolean
}

/** What tells this description of a package from other ones. */
export function variantOf(found: PrimaryPackage, rest: RestOfPackage): string {
  return digestOfPrimary(found) + digestOfRest(rest)
}

/** Whether a variant's description has this in primary.xml. */
export function saysTheSame(variant: string, found: PrimaryPackage): boolean {
  return variant.startsWith(digestOfPrimary(found))
}

function digestOfPrimary({ before, after }: Pick<PrimaryPackage, 'before' | 'after'>): string {
  const at = before.indexOf('<time ')
  if (at < 0) return shorten(hash('sha256', Buffer.concat([before, after]), 'buffer'))
  const end = before.indexOf('>', at)
  const time = Buffer.from(before.toString('latin1', at, end).replace(/ file="[^"]*"/, ''))
  // In one piece: a hash that is fed piece by piece costs more than these few bytes.
  return shorten(hash('sha256', Buffer.concat([before.subarray(0, at), time, before.subarray(end), after]), 'buffer'))
}

function digestOfRest({ filelists, other, filename, isModular }: RestOfPackage): string {
  const head = JSON.stringify([filelists.length, other.length, filename, isModular])
  return shorten(createHash('sha256').update(head).update(filelists).update(other).digest())
}

/** 128 bits: nobody finds other text for a given one. */
function shorten(digest: Buffer): string {
  return digest.toString('base64url', 0, 16)
}
