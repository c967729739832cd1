import type { IncomingMessage, ServerResponse } from 'node:http'
import { findHeld, findNamed } from '../../core/named-content.ts'
import { manifestType, tagType } from '../../formats/container/describe.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { dockerFirstSigned, isFirst } from '../../formats/container/media-types.ts'
import { hasDigest } from '../../formats/container/signed-first.ts'
import { openKeptBytes } from '../../lib/kept-bytes.ts'
import type { Db } from '../../store/database.ts'
import { openPackReader } from '../../store/packs.ts'
import { type Body, bodyOf, endWith } from '../content/body.ts'
import { decideWish } from '../content/conditions.ts'
import { always, type Desk, type Exchange, getReadable } from './desk.ts'
import { OciFailure } from './failures.ts'
import { type Place, rememberIn } from './places.ts'
import { isTag } from './target.ts'

/** A manifest that a version has. Its bytes are what was pushed or synced, never converted. */
export interface Held {
  readonly id: number
  readonly digest: string
  readonly mediaType: string
  readonly size: number
  readonly packed: { packId: number; at: number; length: number }
  readonly etag: string
  /** Headers of an answer with the whole. */
  readonly head: string[]
}

/** Bytes of manifests, those asked for last. */
export interface ManifestBodies {
  recall(digest: string): Body | undefined
  read(held: Held): Promise<Body>
}

const most = 64 * 1024 * 1024

export function openManifestBodies(db: Db): ManifestBodies {
  const kept = openKeptBytes<Body>(most)

  async function read({ digest, packed }: Held): Promise<Body> {
    const bytes = await openPackReader(db).read(packed)
    if (!hasDigest(bytes, digest)) throw new Error(`the manifest ${digest} is damaged`)
    // A copy: what is unpacked may be a small part of much.
    const body = bodyOf(Buffer.from(bytes))
    kept.keep(digest, body)
    return body
  }
  return { recall: kept.find, read }
}

/** The manifest that a tag or a digest names in a place. */
export async function findManifest({ ctx }: Pick<Desk, 'ctx'>, place: Place, reference: string): Promise<Held | undefined> {
  const { manifests } = place.contents
  const known = manifests.get(reference)
  if (known) return known
  const digest = isDigest(reference) ? reference : await findTagged(ctx.db, place, reference)
  const [row] = digest === undefined ? [] : await findHeld(ctx.db, place.version, manifestType, [digest])
  if (!row || row.pack_id === null) return undefined
  const held = heldOf(row, row.pack_id)
  rememberIn(manifests, reference, held)
  return held
}

/** The digest of the manifest that has a tag. */
export async function findTagged(db: Db, { version }: Pick<Place, 'version'>, tag: string): Promise<string | undefined> {
  const row = isTag(tag) ? await findNamed(db, version, tag) : undefined
  return row?.type === tagType ? JSON.parse(row.meta)['digest'] : undefined
}

interface Packed {
  id: number
  key: string
  meta: string
  entry_at: number
  entry_length: number
}

function heldOf({ id, key, meta, entry_at, entry_length }: Packed, packId: number): Held {
  const stored: string = JSON.parse(meta)['media_type']
  // Docker's first manifests are signed inside; clients know them by this name.
  const mediaType = isFirst(stored) ? dockerFirstSigned : stored
  const etag = `"${key}"`
  const head = [...always, 'Content-Type', mediaType, 'Docker-Content-Digest', key, 'ETag', etag]
  return {
    id,
    digest: key,
    mediaType,
    size: entry_length,
    packed: { packId, at: entry_at, length: entry_length },
    etag,
    head: [...head, 'Content-Length', String(entry_length)],
  }
}

/** GET and HEAD of a manifest. */
export async function sendManifest(desk: Desk, exchange: Exchange, name: string, reference: string): Promise<void> {
  const { req, res } = exchange
  const place = await getReadable(desk, exchange, name)
  const held = await findManifest(desk, place, reference)
  if (!held || !isAccepted(req, reference, held))
    throw new OciFailure('MANIFEST_UNKNOWN', `${name} has no manifest ${reference} of a kind that is asked for.`)
  const wish = decideWish(req.headers, { etag: held.etag, lastModified: undefined, size: undefined })
  if (wish.status === 304 || wish.status === 412) {
    res.writeHead(wish.status, [...always, 'Docker-Content-Digest', held.digest, 'ETag', held.etag])
    res.end()
    return
  }
  const body = req.method === 'HEAD' ? undefined : (desk.bodies.recall(held.digest) ?? (await desk.bodies.read(held)))
  res.writeHead(200, held.head)
  endWith(res, body)
}

/** Answers at once when everything is in memory and nothing special is asked for. */
export function sendHeldFast(
  { bodies }: Desk,
  req: IncomingMessage,
  res: ServerResponse,
  place: Place,
  reference: string,
): boolean {
  const held = place.contents.manifests.get(reference)
  const { headers } = req
  if (!held || headers['if-none-match'] !== undefined || headers['if-match'] !== undefined) return false
  if (!isAccepted(req, reference, held)) return false
  const body = req.method === 'HEAD' ? undefined : bodies.recall(held.digest)
  if (body === undefined && req.method !== 'HEAD') return false
  res.writeHead(200, held.head)
  endWith(res, body)
  return true
}

/**
 * Whether a client takes this kind of manifest. Only of tags it is asked, as in Pulp: there another kind could be meant. Docker's first
 * kind goes out whatever is asked for.
 */
function isAccepted({ headers: { accept } }: IncomingMessage, reference: string, { mediaType }: Held): boolean {
  if (accept === undefined || reference.includes(':') || mediaType === dockerFirstSigned) return true
  // Most name it as it is.
  if (!accept.includes(mediaType) && !accept.includes('*')) return false
  return accept.split(',').some((each) => {
    const range = each.split(';', 1)[0]!.trim()
    return range === mediaType || range === '*/*' || range === 'application/*'
  })
}
