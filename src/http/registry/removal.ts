import { sql } from 'kysely'
import { endLeases } from '../../core/leases.ts'
import { findHeld, findNamed } from '../../core/named-content.ts'
import { leavingAbout, leavingReferences } from '../../core/references.ts'
import { commitVersion, latestVersion, lockRepository } from '../../core/versions.ts'
import { manifestType, signatureType, tagType } from '../../formats/container/describe.ts'
import { isDigest } from '../../formats/container/digest.ts'
import { idRows } from '../../store/bulk.ts'
import { type Db, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { findBlob, leaseKey } from './blobs.ts'
import { type Desk, type Exchange, getWritable, sendEmpty } from './desk.ts'
import { OciFailure } from './failures.ts'
import { isImmutable } from '../../core/immutable-names.ts'
import type { Place } from './places.ts'

/*
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md#content-management. A tag goes alone; a manifest goes with its tags
 * and with what nothing else needs. What something in the repository is made of is not deleted: nothing dangles.
 */

/** DELETE of a tag, or of a manifest by its digest. */
export async function deleteManifest(desk: Desk, exchange: Exchange, name: string, reference: string): Promise<void> {
  const place = await getWritable(desk, exchange, name, 'delete')
  const remove = isDigest(reference) ? removeManifest : removeTag
  await transact(desk.ctx.db, async (tx) => {
    await lockRepository(tx, place.repository.id)
    await remove(tx, place, await latestVersion(tx, place.repository.id), reference)
  })
  desk.ctx.changes.bump()
  sendEmpty(exchange.res, 202, [])
}

/** DELETE of a blob that was pushed and that no manifest names. */
export async function deleteBlob(desk: Desk, exchange: Exchange, name: string, digest: string): Promise<void> {
  const place = await getWritable(desk, exchange, name, 'delete')
  const found = await findBlob(desk.ctx.db, place, digest)
  if (!found) throw new OciFailure('BLOB_UNKNOWN', `${name} has no blob ${digest}.`)
  if (!found.leased) throw new OciFailure('UNSUPPORTED', `${digest} is part of a manifest of ${name}: delete that.`)
  desk.leased.delete(leaseKey(place, found.row.id))
  await endLeases(desk.ctx.db, place.repository.id, [found.row.id])
  sendEmpty(exchange.res, 202, [])
}

async function removeTag(tx: Tx, place: Place, version: Row<'version'>, tag: string): Promise<void> {
  const row = await findNamed(tx, version, tag)
  if (row?.type !== tagType) throw new OciFailure('MANIFEST_UNKNOWN', `${place.name} has no tag ${tag}.`)
  requireDeletable(place, tag)
  await commitVersion(tx, { repositoryId: place.repository.id, add: [], remove: [row.id] })
}

async function removeManifest(tx: Tx, place: Place, version: Row<'version'>, digest: string): Promise<void> {
  const [row] = await findHeld(tx, version, manifestType, [digest])
  if (!row) throw new OciFailure('MANIFEST_UNKNOWN', `${place.name} has no manifest ${digest}.`)
  const holders = await findHolders(tx, version, digest)
  const list = holders.find(({ type }) => type !== tagType)
  if (list) throw new OciFailure('UNSUPPORTED', `${digest} is listed by ${list.key} in ${place.name}: delete that.`)
  for (const { name } of holders) requireDeletable(place, name!)
  const ids = [row.id, ...holders.map(({ id }) => id)]
  const gone = [...ids, ...(await leavingReferences(tx, ids, version))]
  const signatures = await findSignatures(tx, version, gone)
  await commitVersion(tx, { repositoryId: place.repository.id, add: [], remove: [...gone, ...signatures] })
}

/** Signatures beside these manifests, which nobody can ask for without them. Referrers stay, as the specification has it. */
async function findSignatures(tx: Tx, version: Row<'version'>, gone: readonly number[]): Promise<number[]> {
  const about = idRows(tx, await leavingAbout(tx, gone, version))
  const rows = await tx
    .selectFrom('content')
    .select('id')
    .where('id', 'in', sql<number>`(select id from ${about} as i)`)
    .where('type', '=', signatureType)
    .execute()
  return rows.map(({ id }) => id)
}

function requireDeletable({ name, repository }: Place, tag: string): void {
  if (isImmutable(repository.settings, tag)) throw new OciFailure('DENIED', `The tag ${tag} of ${name} is immutable.`)
}

/** What in a version is made of a manifest: its tags, and the lists that it is in. */
async function findHolders(db: Db, { repository_id, number }: Row<'version'>, digest: string) {
  const rows = await db
    .selectFrom('reference')
    .innerJoin('content', 'content.id', 'reference.content_id')
    .innerJoin('membership', 'membership.content_id', 'content.id')
    .select(['content.id', 'content.type', 'content.key', 'content.name'])
    .where('reference.type', '=', manifestType)
    .where('reference.key', '=', digest)
    .where('reference.about', '=', 0)
    .where('membership.repository_id', '=', repository_id)
    .where('membership.added_in', '<=', number)
    .where(sql<boolean>`(membership.removed_in is null or membership.removed_in > ${number})`)
    .execute()
  return rows
}
