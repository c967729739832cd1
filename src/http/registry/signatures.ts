import { putContent } from '../../core/content.ts'
import { findHeld } from '../../core/named-content.ts'
import { commitVersion, contentOf, latestVersion, lockRepository } from '../../core/versions.ts'
import { manifestType, signatureType } from '../../formats/container/describe.ts'
import { describeSignature, largestSignature } from '../../formats/container/signature.ts'
import { parseMembers } from '../../lib/json.ts'
import { type Db, transact } from '../../store/database.ts'
import { openPackReader } from '../../store/packs.ts'
import { type Desk, type Exchange, getReadable, getWritable, readBody, sendEmpty, sendJson } from './desk.ts'
import { OciFailure } from './failures.ts'
import type { Place } from './places.ts'
import { requireDigest } from './uploads.ts'

/*
 * Signatures beside images, by an extension that skopeo, podman and the like speak where answers have X-Registry-Supports-Signatures:
 * https://github.com/containers/image/blob/main/docs/signature-protocols.md#openshift-docker-registry-api-extension
 */

/** Bytes of signatures in one list: clients read no more than 4 MB of text. */
const largestList = 2 * 1024 * 1024
/** Base64 is a third longer, and there is a little around it. */
const largestBody = 2 * largestSignature

/** The signatures of a manifest, the newest first. */
export async function sendSignatures(desk: Desk, exchange: Exchange, name: string, digest: string): Promise<void> {
  requireDigest(digest)
  const place = await getReadable(desk, exchange, name)
  const { db } = desk.ctx
  await requireManifest(db, place, place.version, digest)
  const packs = openPackReader(db)
  const signatures = []
  let left = largestList
  for (const { meta, pack_id, entry_at: at, entry_length: length } of await findSignatures(db, place, digest)) {
    left -= length
    if (pack_id === null || left < 0) break
    const content = (await packs.read({ packId: pack_id, at, length })).toString('base64')
    const { name: called, type } = JSON.parse(meta)
    signatures.push({ schemaVersion: 2, type, name: called, content })
  }
  sendJson(exchange.res, { signatures })
}

/** PUT of one more signature of a manifest that is here: the next version of the repository. */
export async function putSignature(desk: Desk, exchange: Exchange, name: string, digest: string): Promise<void> {
  requireDigest(digest)
  const place = await getWritable(desk, exchange, name)
  const bytes = parseBody(await readBody(exchange.req, largestBody, 'SIGNATURE_INVALID'), digest)
  const described = await describeSignature(bytes)
  if (!described) throw wrong(digest, 'The content is no signature of an image, or a very large one.')
  if (described.meta['signed_digest'] !== digest)
    throw wrong(digest, `This is a signature of ${String(described.meta['signed_digest'])}.`)
  const repositoryId = place.repository.id
  await transact(desk.ctx.db, async (tx) => {
    await lockRepository(tx, repositoryId)
    await requireManifest(tx, place, await latestVersion(tx, repositoryId), digest)
    await commitVersion(tx, { repositoryId, add: await putContent(tx, [described]), remove: [] })
  })
  desk.ctx.changes.bump()
  sendEmpty(exchange.res, 201, ['Location', `/extensions/v2/${name}/signatures/${digest}`])
}

async function requireManifest(db: Db, place: Place, version: Place['version'], digest: string): Promise<void> {
  const [row] = await findHeld(db, version, manifestType, [digest])
  if (!row) throw new OciFailure('MANIFEST_UNKNOWN', `${place.name} has no manifest ${digest}.`)
}

function parseBody(body: Buffer, digest: string): Buffer {
  const { schemaVersion, type, content } = parseMembers(body.toString('utf8'))
  if (schemaVersion === 2 && type === 'atomic' && typeof content === 'string' && /^[A-Za-z0-9+/]+={0,2}$/.test(content))
    return Buffer.from(content, 'base64')
  throw wrong(digest, 'A signature is sent as {"schemaVersion": 2, "type": "atomic", "name": "…", "content": "<base64>"}.')
}

function wrong(digest: string, message: string): OciFailure {
  return new OciFailure('SIGNATURE_INVALID', message, { details: [{ manifest_digest: digest }] })
}

async function findSignatures(db: Db, { version }: Place, digest: string) {
  return contentOf(db, version)
    .innerJoin('reference', 'reference.content_id', 'content.id')
    .select(['content.meta', 'content.pack_id', 'content.entry_at', 'content.entry_length'])
    .where('content.type', '=', signatureType)
    .where('reference.type', '=', manifestType)
    .where('reference.key', '=', digest)
    .where('reference.about', '=', 1)
    .orderBy('content.id', 'desc')
    .execute()
}
