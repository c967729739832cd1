import { beginBlobUpload, endBlobUpload, findBlobUpload } from '../../core/blob-uploads.ts'
import { putContent, saveBlob } from '../../core/content.ts'
import { leaseContent } from '../../core/leases.ts'
import { describeBlob } from '../../formats/container/describe.ts'
import { algorithmOf, isDigest } from '../../formats/container/digest.ts'
import { Failure } from '../../lib/failure.ts'
import { newUuid, uuidPattern } from '../../lib/uuid.ts'
import type { Algorithm, Staged } from '../../store/blobs.ts'
import { isReferenced, transact } from '../../store/database.ts'
import { findBlob, leaseKey, noteLease } from './blobs.ts'
import { type Desk, ensureWritable, type Exchange, findReadable, getWritable, requireAsked, sendEmpty } from './desk.ts'
import { OciFailure } from './failures.ts'
import { findMountable } from './mounts.ts'
import type { Place } from './places.ts'

/*
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs. Bytes first: a blob is durable before its rows are,
 * and the client is told after both. Until a manifest names it, its repository holds it for a while.
 */

/** POST: mounts a blob, takes a whole one, or begins an upload. */
export async function beginUpload(desk: Desk, exchange: Exchange, name: string): Promise<void> {
  const { query, caller, res } = exchange
  const place = await ensureWritable(desk, exchange, name)
  const mount = query.get('mount')
  if (mount !== null && (await mountBlob(desk, exchange, place, mount))) return sendStored(exchange, place, mount)
  const digest = query.get('digest')
  if (digest !== null && mount === null) return takeWhole(desk, exchange, place, digest)
  const also = parseAlgorithm(query.get('digest-algorithm'))
  const upload = await beginBlobUpload(desk.ctx.db, place.repository.id, caller.user!.id)
  sendEmpty(res, 202, progress(place, upload.uuid, 0, also))
}

/** PATCH: adds a chunk, or all there is. */
export async function continueUpload(desk: Desk, exchange: Exchange, name: string, uuid: string): Promise<void> {
  const place = await getUpload(desk, exchange, name, uuid)
  const also = parseAlgorithm(exchange.query.get('digest-algorithm'))
  const from = await desk.ctx.blobs.growing.size(uuid)
  const size = await addBody(desk.ctx, exchange, place, uuid, from, also)
  sendEmpty(exchange.res, 202, progress(place, uuid, size, also))
}

/** PUT: adds the last chunk, if there is one, and makes a blob of the upload. */
export async function finishUpload(desk: Desk, exchange: Exchange, name: string, uuid: string): Promise<void> {
  const place = await getUpload(desk, exchange, name, uuid)
  const digest = requireDigest(exchange.query.get('digest'))
  try {
    await using staged = await takeRest(desk, exchange, place, uuid, digest)
    await store(desk, place, digest, staged, uuid)
  } catch (error) {
    // Bytes that are not what they should be will not become it.
    if (error instanceof Failure && error.code === 'integrity') await endBlobUpload(desk.ctx, uuid)
    throw error
  }
  await desk.ctx.blobs.growing.remove(uuid)
  sendStored(exchange, place, digest)
}

/** GET: how far an upload is. */
export async function sendUploadStatus(desk: Desk, exchange: Exchange, name: string, uuid: string): Promise<void> {
  const place = await getUpload(desk, exchange, name, uuid)
  const also = parseAlgorithm(exchange.query.get('digest-algorithm'))
  sendEmpty(exchange.res, 204, progress(place, uuid, await desk.ctx.blobs.growing.size(uuid), also))
}

/** DELETE: gives an upload up. */
export async function cancelUpload(desk: Desk, exchange: Exchange, name: string, uuid: string): Promise<void> {
  await getUpload(desk, exchange, name, uuid)
  await endBlobUpload(desk.ctx, uuid)
  sendEmpty(exchange.res, 204, [])
}

async function getUpload(desk: Desk, exchange: Exchange, name: string, uuid: string) {
  const place = await getWritable(desk, exchange, name)
  const upload = uuidPattern.test(uuid)
    ? await findBlobUpload(desk.ctx.db, uuid, place.repository.id, exchange.caller.user!.id)
    : undefined
  if (!upload) throw new OciFailure('BLOB_UPLOAD_UNKNOWN', `${name} has no upload ${uuid}: begin another one.`)
  return place
}

/** POST with all there is. */
async function takeWhole(desk: Desk, exchange: Exchange, place: Place, given: string): Promise<void> {
  const digest = requireDigest(given)
  // A name that no row has: should its bytes be left behind, they are tidied.
  const uuid = newUuid()
  try {
    await using staged = await takeRest(desk, exchange, place, uuid, digest)
    await store(desk, place, digest, staged, undefined)
  } finally {
    await desk.ctx.blobs.growing.remove(uuid)
  }
  sendStored(exchange, place, digest)
}

/** Bytes of a body that are few enough to need no file of their own on the way. */
const few = 128 * 1024

/** All bytes of an upload, whose last ones are the body of this request, verified. */
async function takeRest({ ctx }: Desk, exchange: Exchange, place: Place, uuid: string, digest: string): Promise<Staged> {
  const { req } = exchange
  const at = await ctx.blobs.growing.size(uuid)
  if (at === 0 && Number(req.headers['content-length'] ?? few + 1) <= few) {
    checkRange(exchange, place, uuid, 0)
    return ctx.blobs.stage(req, { checksum: digest })
  }
  if (hasBody(exchange)) {
    const algorithm = algorithmOf(digest)
    await addBody(ctx, exchange, place, uuid, at, algorithm === 'sha256' ? undefined : algorithm)
  } else checkRange(exchange, place, uuid, at)
  return ctx.blobs.growing.finish(uuid, { checksum: digest })
}

/** Makes bytes durable, and then known: one transaction, which also ends the upload that they came by. */
async function store(
  { ctx, leased }: Desk,
  place: Place,
  digest: string,
  staged: Staged,
  uuid: string | undefined,
): Promise<void> {
  await staged.keep()
  const contentId = await transact(ctx.db, async (tx) => {
    await saveBlob(tx, staged.digests, staged.size)
    const [id] = await putContent(tx, [describeBlob(digest, staged.size, staged.digests.sha256)])
    await leaseContent(tx, place.repository.id, [id!])
    if (uuid !== undefined) await tx.deleteFrom('blob_upload').where('uuid', '=', uuid).execute()
    return id!
  })
  noteLease(leased, leaseKey(place, contentId))
}

/** Adds the body of a request to an upload that has `from` bytes. Returns how many it has then. */
async function addBody(
  { blobs }: Desk['ctx'],
  exchange: Exchange,
  place: Place,
  uuid: string,
  from: number,
  also: Algorithm | undefined,
): Promise<number> {
  const size = checkRange(exchange, place, uuid, from)
  try {
    return await blobs.growing.append(uuid, exchange.req, { from, size, also, release: freeChunk })
  } catch (error) {
    if (error instanceof Failure && error.code === 'integrity')
      throw new OciFailure('SIZE_INVALID', error.message, { cause: error })
    if (error instanceof Failure && error.code === 'conflict' && !error.cause)
      throw new OciFailure('BLOB_UPLOAD_INVALID', error.message, { status: 409, cause: error })
    throw error
  }
}

/** How many bytes a chunk says to have, if it does. Throws OciFailure with 416 when it does not begin where the last one ended. */
function checkRange({ req }: Exchange, place: Place, uuid: string, at: number): number | undefined {
  const range = req.headers['content-range']
  if (range === undefined) return undefined
  const match = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/.*)?$/.exec(range.trim())
  const [start, end] = [Number(match?.[1]), Number(match?.[2])]
  if (start !== at)
    throw new OciFailure('BLOB_UPLOAD_INVALID', `The upload goes on at byte ${at}, not with ${range}.`, {
      status: 416,
      headers: Object.fromEntries(pairsOf(progress(place, uuid, at, undefined))),
    })
  const size = end - start + 1
  const length = req.headers['content-length']
  if (size < 0 || (length !== undefined && Number(length) !== size))
    throw new OciFailure('SIZE_INVALID', `The range ${range} is not of ${length} bytes.`)
  return size
}

function hasBody({ req }: Exchange): boolean {
  return req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
}

/** Lets a repository hold a blob that the caller may read elsewhere. A token must be for both, whether or not the other is named. */
async function mountBlob({ ctx, places, leased }: Desk, exchange: Exchange, place: Place, digest: string): Promise<boolean> {
  const from = exchange.query.get('from')
  if (from !== null) requireAsked(exchange.caller, from)
  const source = from === null ? undefined : await findReadable({ ctx, places }, exchange.caller, from)
  const contentId =
    (await findBlob(ctx.db, place, digest))?.row.id ??
    (source
      ? (await findBlob(ctx.db, source, digest))?.row.id
      : from === null
        ? await findMountable({ ctx, places }, exchange.caller, digest)
        : undefined)
  if (contentId === undefined) return false
  try {
    await leaseContent(ctx.db, place.repository.id, [contentId])
  } catch (error) {
    // On PostgreSQL it may have been collected since it was found.
    if (isReferenced(error)) return false
    throw error
  }
  noteLease(leased, leaseKey(place, contentId))
  return true
}

function sendStored({ res }: Exchange, { name }: Place, digest: string): void {
  sendEmpty(res, 201, ['Location', `/v2/${name}/blobs/${digest}`, 'Docker-Content-Digest', digest])
}

/** Where an upload goes on. Of none, clients expect `0-0`. */
function progress({ name }: Place, uuid: string, size: number, also: Algorithm | undefined): string[] {
  const query = also ? `?digest-algorithm=${also}` : ''
  const location = `/v2/${name}/blobs/uploads/${uuid}${query}`
  return ['Location', location, 'Range', `0-${Math.max(0, size - 1)}`, 'Docker-Upload-UUID', uuid]
}

function* pairsOf(list: readonly string[]): Generator<[string, string]> {
  for (let at = 0; at < list.length; at += 2) yield [list[at]!, list[at + 1]!]
}

export function requireDigest(text: string | null): string {
  if (text !== null && isDigest(text)) return text
  throw new OciFailure('DIGEST_INVALID', `${JSON.stringify(text ?? '')} is not a digest of SHA-256 or SHA-512.`)
}

function parseAlgorithm(text: string | null): Algorithm | undefined {
  if (text === null || text === 'sha256') return undefined
  if (text === 'sha512') return text
  throw new OciFailure('DIGEST_INVALID', `Digests of kind ${JSON.stringify(text)} are not taken: only sha256 and sha512.`)
}

/**
 * Frees the memory of a chunk of a request's body at once. There is nobody else who has it, and left to the garbage collector such chunks
 * make it look through everything again and again: half of what taking a large blob costs.
 */
function freeChunk({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
