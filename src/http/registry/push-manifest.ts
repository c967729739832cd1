import { buffer } from 'node:stream/consumers'
import { putContent } from '../../core/content.ts'
import { findHeld } from '../../core/named-content.ts'
import { commitVersion, latestVersion, lockRepository } from '../../core/versions.ts'
import { blobType, type Config, describeManifest, describeTag, manifestType } from '../../formats/container/describe.ts'
import { algorithmOf, digestOf, isDigest } from '../../formats/container/digest.ts'
import { type Descriptor, type Manifest, manifestLimit, parseManifest } from '../../formats/container/manifest.ts'
import { isFirst, isForeign, isImageConfig } from '../../formats/container/media-types.ts'
import { parseMembers } from '../../lib/json.ts'
import { transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { fileOf, findBlob } from './blobs.ts'
import { type Desk, ensureWritable, type Exchange, readBody, sendEmpty } from './desk.ts'
import { OciFailure } from './failures.ts'
import { findTagged } from './manifests.ts'
import type { Place } from './places.ts'
import { isTag } from './target.ts'
import { isImmutable } from '../../core/immutable-names.ts'

/** Tags that one request may set beside the manifest. */
const mostTags = 100
/** Configs of images are read for what they say of the platform; one that is larger than a manifest may be is no description. */
const largestConfig = manifestLimit

/** PUT of a manifest, by tag or by digest with any number of tags. All of it is one transaction: the next version of the repository. */
export async function putManifest(desk: Desk, exchange: Exchange, name: string, reference: string): Promise<void> {
  const { req, res, query } = exchange
  const place = await ensureWritable(desk, exchange, name)
  const tags = tagsOf(reference, query)
  const bytes = await readBody(req, manifestLimit, 'MANIFEST_INVALID')
  const digest = digestOf(bytes, isDigest(reference) ? algorithmOf(reference) : 'sha256')
  if (isDigest(reference) && digest !== reference)
    throw new OciFailure('DIGEST_INVALID', `The manifest is ${digest}, not ${reference}.`)
  const manifest = parseManifest(bytes, req.headers['content-type'])
  if (isFirst(manifest.mediaType))
    throw new OciFailure('MANIFEST_INVALID', 'Docker’s first kind of manifest is not taken any more: push with a newer client.')
  const config = await readConfig(desk, place, manifest)
  await transact(desk.ctx.db, (tx) =>
    commitManifest(tx, place, tags, describeManifest(digest, manifest, bytes, config), manifest),
  )
  desk.ctx.changes.bump()
  sendEmpty(res, 201, [
    'Location',
    `/v2/${name}/manifests/${digest}`,
    'Docker-Content-Digest',
    digest,
    ...(manifest.subject ? ['OCI-Subject', manifest.subject.digest] : []),
    ...(isDigest(reference) ? tags.flatMap((tag) => ['OCI-Tag', tag]) : []),
  ])
}

function tagsOf(reference: string, query: URLSearchParams): string[] {
  const given = query.getAll('tag')
  const tags = [...new Set(isDigest(reference) ? given : [reference])]
  if (tags.length > mostTags)
    throw new OciFailure('MANIFEST_INVALID', `${tags.length} tags are too many for one request.`, { status: 414 })
  const wrong = tags.find((tag) => !isTag(tag))
  if (wrong === undefined) return tags
  throw wrong.includes(':')
    ? new OciFailure('DIGEST_INVALID', `${JSON.stringify(wrong)} is not a digest of SHA-256 or SHA-512.`)
    : new OciFailure('MANIFEST_INVALID', `${JSON.stringify(wrong)} cannot be a tag.`)
}

/** What an image's config says, where its bytes are here. It is said again of what is shown, so it need not be perfect. */
async function readConfig({ ctx }: Desk, place: Place, { config }: Manifest): Promise<Config> {
  if (!config || !isImageConfig(config.mediaType) || config.size > largestConfig) return {}
  const found = await findBlob(ctx.db, place, config.digest)
  const file = found && (await fileOf(ctx.db, found.row.id))
  if (!file?.sha256 || file.size! > largestConfig) return {}
  return parseMembers((await buffer(await ctx.blobs.open(file.sha256))).toString('utf8'))
}

async function commitManifest(
  tx: Tx,
  place: Place,
  tags: readonly string[],
  described: ReturnType<typeof describeManifest>,
  manifest: Manifest,
): Promise<void> {
  const repositoryId = place.repository.id
  await lockRepository(tx, repositoryId)
  const version = await latestVersion(tx, repositoryId)
  await requireChangeable(tx, place, version, tags, described.key)
  const parts = await findParts(tx, version, manifest)
  const ids = await putContent(tx, [described, ...tags.map((tag) => describeTag(tag, described.key))])
  await commitVersion(tx, { repositoryId, add: [...ids, ...parts], remove: [] })
}

async function requireChangeable(
  tx: Tx,
  place: Place,
  version: Row<'version'>,
  tags: readonly string[],
  digest: string,
): Promise<void> {
  for (const tag of tags) {
    if (!isImmutable(place.repository.settings, tag)) continue
    const before = await findTagged(tx, { version }, tag)
    if (before !== undefined && before !== digest)
      throw new OciFailure('DENIED', `The tag ${tag} of ${place.name} is immutable: it stays ${before}.`)
  }
}

/** Ids of all that a manifest names and needs. It must be here: in the version, or, for blobs, held until this moment. */
async function findParts(tx: Tx, version: Row<'version'>, { manifests, config, layers }: Manifest): Promise<number[]> {
  const blobs = [...(config ? [config] : []), ...layers.filter((layer) => !isForeign(layer))]
  return [...(await findAll(tx, version, blobType, blobs, true)), ...(await findAll(tx, version, manifestType, manifests, false))]
}

async function findAll(
  tx: Tx,
  version: Row<'version'>,
  type: string,
  wanted: readonly Descriptor[],
  leased: boolean,
): Promise<number[]> {
  if (wanted.length === 0) return []
  const rows = await findHeld(tx, version, type, [...new Set(wanted.map(({ digest }) => digest))], { leased })
  const byDigest = new Map(rows.map((row) => [row.key, row]))
  const missing = [...new Set(wanted.map(({ digest }) => digest).filter((digest) => !byDigest.has(digest)))]
  if (missing.length > 0)
    throw new OciFailure('MANIFEST_BLOB_UNKNOWN', 'The manifest names what the repository does not have.', {
      details: missing.map((digest) => ({ digest })),
    })
  for (const { digest, size } of wanted) {
    const stored: unknown = JSON.parse(byDigest.get(digest)!.meta)['size']
    if (typeof stored === 'number' && size >= 0 && stored !== size)
      throw new OciFailure('MANIFEST_INVALID', `${digest} has ${stored} bytes; the manifest says ${size}.`)
  }
  return rows.map(({ id }) => id)
}
