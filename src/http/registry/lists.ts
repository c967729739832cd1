import { sql } from 'kysely'
import { listNames } from '../../core/named-content.ts'
import { contentOf } from '../../core/versions.ts'
import { manifestType } from '../../formats/container/describe.ts'
import { ociIndex } from '../../formats/container/media-types.ts'
import { type Db, engineOf } from '../../store/database.ts'
import { type Desk, type Exchange, getReadable, sendJson } from './desk.ts'
import { OciFailure } from './failures.ts'
import { containerType, guardedOf, namespaceType, pullable } from './rights.ts'
import { requireDigest } from './uploads.ts'

/* Lists come in pages: `n` at most, after `last`, with a Link to the next one. */

const mostTags = 10_000
const mostNames = 1_000
const usualNames = 100
const mostReferrers = 500
/** Bytes: a list of referrers is an index, which clients read no more of. */
const largestIndex = 3 * 1024 * 1024

/** The tags of a repository, in the order of their bytes. */
export async function sendTags(desk: Desk, exchange: Exchange, name: string): Promise<void> {
  const place = await getReadable(desk, exchange, name)
  const limit = Math.min(parseCount(exchange.query) ?? mostTags, mostTags)
  const after = exchange.query.get('last') ?? undefined
  // One more than asked for tells whether there are more.
  const names = limit === 0 ? [] : await listNames(desk.ctx.db, place.version, { after, limit: limit + 1 })
  const tags = names.slice(0, limit)
  const link = names.length > limit ? nextPage(`/v2/${name}/tags/list`, { n: limit, last: tags.at(-1)! }) : []
  sendJson(exchange.res, { name, tags }, link)
}

/** The repositories that the caller may pull from, in the order of their bytes. */
export async function sendCatalog({ ctx }: Desk, exchange: Exchange): Promise<void> {
  const { caller, query, res } = exchange
  if (caller.access && !caller.access.some(({ type, name }) => type === 'registry' && name === 'catalog'))
    throw new OciFailure('UNAUTHORIZED', 'The token is not one to list repositories with.', { token: 'insufficient_scope' })
  const limit = Math.min(parseCount(query) ?? usualNames, mostNames)
  const allowed = await pullable(ctx, caller.user)
  const names: string[] = []
  let last = query.get('last') ?? ''
  for (let more = limit > 0; more && names.length <= limit; ) {
    const rows = await pageOfNames(ctx.db, last, mostNames)
    for (const row of rows) {
      const guarded = guardedOf(ctx.formats, row, row.namespaceUuid === null ? undefined : { uuid: row.namespaceUuid })
      const { prn, namespacePrn, isPrivate } = guarded
      if (!isPrivate || allowed === 'all' || allowed.has(prn) || (namespacePrn !== undefined && allowed.has(namespacePrn)))
        names.push(row.base_path)
    }
    more = rows.length === mostNames
    last = rows.at(-1)?.base_path ?? last
  }
  const repositories = names.slice(0, limit)
  const link = names.length > limit ? nextPage('/v2/_catalog', { n: limit, last: repositories.at(-1)! }) : []
  sendJson(res, { repositories }, link)
}

async function pageOfNames(db: Db, after: string, limit: number) {
  const path = engineOf(db) === 'postgres' ? sql<string>`base_path collate "C"` : sql<string>`base_path`
  return db
    .selectFrom('distribution')
    .leftJoin('namespace', (join) =>
      join
        .on('namespace.type', '=', namespaceType)
        .on(sql<boolean>`(base_path = namespace.name or ${firstSegment(db)} = namespace.name)`),
    )
    .select(['distribution.uuid', 'distribution.settings', 'distribution.base_path', 'namespace.uuid as namespaceUuid'])
    .where('distribution.type', '=', containerType)
    .where(({ or, eb }) => or([eb('repository_id', 'is not', null), eb('version_id', 'is not', null)]))
    .where(sql<boolean>`${path} > ${after}`)
    .orderBy(path)
    .limit(limit)
    .execute()
}

function firstSegment(db: Db) {
  return engineOf(db) === 'postgres'
    ? sql`split_part(base_path, '/', 1)`
    : sql`substr(base_path, 1, instr(base_path || '/', '/') - 1)`
}

/**
 * The manifests of a repository that are about one with this digest, as an index. There may be none, and the one that they are about need
 * not be there; nor must anybody learn by this whether the repository is.
 */
export async function sendReferrers(desk: Desk, exchange: Exchange, name: string, subject: string): Promise<void> {
  requireDigest(subject)
  const { query, res, caller } = exchange
  const place = await getReadable(desk, exchange, name).catch((error: unknown) => {
    if (error instanceof OciFailure && error.oci === 'NAME_UNKNOWN' && caller.user) return undefined
    throw error
  })
  // Media types have no spaces: one comes of a plus that a client did not escape.
  const artifactType = query.get('artifactType')?.replaceAll(' ', '+')
  const limit = Math.min(parseCount(query) ?? mostReferrers, mostReferrers)
  const found = place ? await findReferrers(desk.ctx.db, place.version, subject, artifactType, query.get('last') ?? '') : []
  const page = firstBytes(found, limit)
  const filters: string[] = artifactType === undefined ? [] : ['OCI-Filters-Applied', 'artifactType']
  const more = found.length > page.length && page.length > 0
  const asked = { ...(artifactType !== undefined && { artifactType }), n: limit, last: String(page.at(-1)?.['digest']) }
  const link = more ? nextPage(`/v2/${name}/referrers/${subject}`, asked) : []
  sendJson(res, { schemaVersion: 2, mediaType: ociIndex, manifests: page }, [...filters, ...link], ociIndex)
}

type Entry = Record<string, unknown>

function firstBytes(entries: readonly Entry[], limit: number): Entry[] {
  let size = 0
  return entries.slice(0, limit).filter((entry, index) => {
    size += JSON.stringify(entry).length
    return size <= largestIndex || index === 0
  })
}

/** One more than a page may have. */
async function findReferrers(
  db: Db,
  version: { repository_id: number; number: number },
  subject: string,
  artifactType: string | undefined,
  after: string,
): Promise<Entry[]> {
  let rows = contentOf(db, version)
    .innerJoin('reference', 'reference.content_id', 'content.id')
    .select(['content.key', 'content.meta'])
    .where('content.type', '=', manifestType)
    .where('reference.type', '=', manifestType)
    .where('reference.key', '=', subject)
    .where('reference.about', '=', 1)
    .where('content.key', '>', after)
  if (artifactType !== undefined) {
    const stored =
      engineOf(db) === 'postgres' ? sql`content.meta ->> 'artifact_type'` : sql`json_extract(content.meta, '$.artifact_type')`
    rows = rows.where(sql<boolean>`${stored} = ${artifactType}`)
  }
  const page = await rows
    .orderBy('content.key')
    .limit(mostReferrers + 1)
    .execute()
  return page.map(({ key, meta }) => {
    const { media_type, size, artifact_type, annotations } = JSON.parse(meta)
    return {
      mediaType: media_type,
      digest: key,
      size,
      ...(artifact_type && { artifactType: artifact_type }),
      ...(annotations && Object.keys(annotations).length > 0 && { annotations }),
    }
  })
}

function parseCount(query: URLSearchParams): number | undefined {
  const text = query.get('n')
  if (text === null || text === '') return undefined
  if (!/^\d{1,9}$/.test(text)) throw new OciFailure('SIZE_INVALID', `n is how many to list, not ${JSON.stringify(text)}.`)
  return Number(text)
}

function nextPage(path: string, query: Record<string, string | number>): string[] {
  const asked = Object.entries(query).map(([name, value]) => [name, String(value)])
  return ['Link', `<${path}?${new URLSearchParams(asked).toString()}>; rel="next"`]
}
