import type { IncomingMessage, ServerResponse } from 'node:http'
import { leaseContent } from '../../core/leases.ts'
import { findHeld } from '../../core/named-content.ts'
import { blobType } from '../../formats/container/describe.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { sql } from 'kysely'
import { type Db, isReferenced } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { type Blob, type Head, sendFromMemory, sendRemote } from '../content/files.ts'
import { sendStored } from '../content/lost.ts'
import { always, type Desk, type Exchange, getReadable } from './desk.ts'
import { OciFailure } from './failures.ts'
import { type Place, rememberIn } from './places.ts'
import { mayPush, pushType } from './rights.ts'

/** A blob that a place has and whose bytes are here. */
export interface HeldBlob {
  readonly contentId: number
  readonly blob: Blob
  readonly head: Head
}

/** GET and HEAD of a blob. */
export async function sendHeldBlob(desk: Desk, exchange: Exchange, name: string, digest: string): Promise<void> {
  const { req, res } = exchange
  const place = await getReadable(desk, exchange, name)
  const known = place.contents.blobs.get(digest)
  const row = known ? undefined : await findBlob(desk.ctx.db, place, digest)
  const contentId = known?.contentId ?? row?.row.id
  if (contentId === undefined) throw new OciFailure('BLOB_UNKNOWN', `${name} has no blob ${digest}.`)
  if (req.method === 'HEAD') await holdForPusher(desk, exchange, place, contentId)
  if (known) return sendStored(desk, req, res, known, true)
  const { sha256, size, fileId, checksum, modified } = await fileOf(desk.ctx.db, contentId)
  const headers = Object.fromEntries(pairs([...always, 'Docker-Content-Digest', digest]))
  if (sha256 === null)
    return sendRemote(desk.onDemand, req, res, { kind: 'remote', path: digest, fileId, size, checksum, headers })
  const blob: Blob = { kind: 'blob', path: digest, sha256, size: size!, modified: modified!, headers }
  const held = { contentId, blob, head: headOf(digest, size!) }
  // What is only held for a while may be gone tomorrow.
  if (!row!.leased) rememberIn(place.contents.blobs, digest, held)
  return sendStored(desk, req, res, held, false)
}

/** Answers at once when everything is in memory and nothing special is asked for. */
export function sendBlobFast({ stock }: Desk, req: IncomingMessage, res: ServerResponse, place: Place, digest: string): boolean {
  const held = req.method === 'GET' ? place.contents.blobs.get(digest) : undefined
  const body = held && stock.small.find(held.blob.sha256)
  return body !== undefined && sendFromMemory(req, res, held!.head, body)
}

/** A blob of a place: of its version, or one that its repository holds for a while. */
export async function findBlob(
  db: Db,
  { version }: Pick<Place, 'version'>,
  digest: string,
): Promise<{ row: Row<'content'>; leased: boolean } | undefined> {
  if (!isDigest(digest)) return undefined
  const [row] = await findHeld(db, version, blobType, [digest])
  if (row) return { row, leased: false }
  const [leased] = await findHeld(db, version, blobType, [digest], { leased: true })
  return leased && { row: leased, leased: true }
}

interface BlobFile {
  fileId: number
  size: number | null
  checksum: string | null
  sha256: string | null
  modified: number | null
}

export async function fileOf(db: Db, contentId: number): Promise<BlobFile> {
  return db
    .selectFrom('file')
    .leftJoin('blob', 'blob.id', 'file.blob_id')
    .select(['file.id as fileId', 'file.checksum', 'blob.sha256', 'blob.created as modified'])
    .select(sql<number | null>`coalesce(blob.size, file.size)`.as('size'))
    .where('file.content_id', '=', contentId)
    .orderBy('file.id')
    .limit(1)
    .executeTakeFirstOrThrow()
}

function headOf(digest: string, size: number): Head {
  const etag = `"${digest}"`
  const headers = [...always, 'Content-Type', 'application/octet-stream', 'Docker-Content-Digest', digest, 'ETag', etag]
  return {
    etag,
    lastModified: undefined,
    size,
    always: headers,
    whole: [...headers, 'Accept-Ranges', 'bytes', 'Content-Length', String(size)],
  }
}

function* pairs(list: readonly string[]): Generator<[string, string]> {
  for (let at = 0; at < list.length; at += 2) yield [list[at]!, list[at + 1]!]
}

/** Milliseconds for which a lease that was given is not given again. */
const freshFor = 3_600_000

/** A client that pushes is told "it is here" and does not send it: it must still be here when its manifest comes. Readers cause no writes. */
async function holdForPusher({ ctx, leased }: Desk, { caller }: Exchange, place: Place, contentId: number): Promise<void> {
  if (!caller.user || place.repository.type !== pushType || place.isPinned) return
  const key = leaseKey(place, contentId)
  if (leased.get(key)! > performance.now() - freshFor || !(await mayPush(ctx, caller.user, place))) return
  await leaseContent(ctx.db, place.repository.id, [contentId]).catch((error: unknown) => {
    // On PostgreSQL it may have been collected since it was found.
    if (isReferenced(error)) throw new OciFailure('BLOB_UNKNOWN', `${place.name} has no such blob any more.`)
    throw error
  })
  noteLease(leased, key)
}

export function leaseKey({ repository }: Pick<Place, 'repository'>, contentId: number): string {
  return `${repository.id} ${contentId}`
}

export function noteLease(leased: Map<string, number>, key: string): void {
  if (leased.size > 50_000) leased.clear()
  leased.set(key, performance.now())
}
