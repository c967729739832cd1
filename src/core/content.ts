import { sql } from 'kysely'
import { now } from '../lib/time.ts'
import { newUuid, newUuids } from '../lib/uuid.ts'
import type { Digests } from '../store/blobs.ts'
import { idRows, insertMany, lockRows, textRows } from '../store/bulk.ts'
import { type Db, engineOf, transact, type Tx } from '../store/database.ts'
import { openPackReader, type PackReader, writeEntries } from '../store/packs.ts'
import type { Row } from '../store/schema.ts'
import type { Ctx } from './ctx.ts'
import type { Described, DescribedFile, Unit } from './format.ts'

const hour = 3_600_000_000

/** A remote that described files come from: they can be fetched from it whenever they are asked for. */
interface Origin {
  id: number
  url: string
}

/**
 * Stores what of these units is not stored yet, without their upstream files' bytes. Returns their ids, in order.
 * What is among `settled` is left alone: it is held by a version and its sources are known. `lookups` are from before.
 */
export async function saveContent(
  ctx: Ctx,
  units: readonly Described[],
  origin?: Origin,
  settled: ReadonlySet<number> = new Set(),
  lookups?: Lookups,
): Promise<number[]> {
  const known = await findContent(ctx.db, units, lookups)
  const fresh = units.filter((unit) => !known.has(nameOf(unit)))
  let isFresh: ReadonlySet<Described> = new Set()
  if (fresh.length > 0) {
    await keepFiles(ctx, fresh)
    isFresh = await transact(ctx.db, (tx) => insertContent(tx, fresh, known, origin))
  }
  const old = units.filter((unit) => !isFresh.has(unit) && !settled.has(known.get(nameOf(unit))!))
  if (old.length > 0) await refresh(ctx, old, known, origin)
  return units.map((unit) => known.get(nameOf(unit))!)
}

/**
 * As saveContent, inside a transaction and for what has no upstream: files name blobs that are stored already. What was known without
 * its bytes has them from now on, and is marked as just asked for.
 */
export async function putContent(tx: Tx, units: readonly Described[]): Promise<number[]> {
  const known = await findContent(tx, units)
  const old = units.flatMap((unit) => known.get(nameOf(unit)) ?? [])
  const fresh = units.filter((unit) => !known.has(nameOf(unit)))
  if (fresh.length > 0) await insertContent(tx, fresh, known, undefined)
  if (old.length > 0) await touchContent(tx, old)
  const wasKnown = new Set(old)
  for (const unit of units)
    for (const { path, sha256 } of unit.files)
      if (sha256 !== undefined && wasKnown.has(known.get(nameOf(unit))!))
        await tx
          .updateTable('file')
          .set({ blob_id: tx.selectFrom('blob').select('id').where('sha256', '=', sha256) })
          .where('content_id', '=', known.get(nameOf(unit))!)
          .where('path', '=', path)
          .where('blob_id', 'is', null)
          .execute()
  return units.map((unit) => known.get(nameOf(unit))!)
}

/** Marks content as just asked for, so that it is not collected soon. */
async function touchContent(tx: Tx, ids: readonly number[]): Promise<void> {
  await lockRows(tx, 'content', ids)
  await tx
    .updateTable('content')
    .set({ touched: now() })
    .where('id', 'in', sql<number>`(select id from ${idRows(tx, ids)} as i)`)
    .execute()
}

/** What was found when content was looked up, by type and key, so that nothing is looked up twice. Others may have stored more since. */
export type Lookups = Map<string, readonly StoredVariant[]>

interface StoredVariant {
  id: number
  variant: string
  /** Whether the latest version of the repository holds it. */
  held: boolean
}

const none: readonly StoredVariant[] = []

/** The variant of each of these keys that the latest version of a repository holds. */
export async function heldVariants(
  db: Db,
  repositoryId: number,
  type: string,
  keys: readonly string[],
  lookups: Lookups,
): Promise<(string | undefined)[]> {
  const { rows } = await sql<{ key: string; id: number; variant: string; member: number | null }>`
    select c.key, c.id, c.variant, m.content_id as member from ${textRows(db, new Set(keys))} as k cross join content c
    left join membership m on m.repository_id = ${repositoryId} and m.content_id = c.id and m.removed_in is null
    where c.type = ${type} and c.key = k.text`.execute(db)
  const found = new Map<string, StoredVariant[]>()
  for (const { key, id, variant, member } of rows) {
    const stored = { id, variant, held: member !== null }
    const variants = found.get(key)
    if (variants) variants.push(stored)
    else found.set(key, [stored])
  }
  for (const key of keys) lookups.set(`${type}\n${key}`, found.get(key) ?? none)
  return keys.map((key) => found.get(key)?.findLast(({ held }) => held)?.variant)
}

/** The ids of what heldVariants told of; undefined when it was not asked for all of these. */
export function heldIds(type: string, keys: readonly string[], lookups: Lookups): number[] | undefined {
  const ids = keys.flatMap((key) => lookups.get(`${type}\n${key}`)?.findLast(({ held }) => held)?.id ?? [])
  return ids.length === keys.length ? ids : undefined
}

/** What the latest version of a repository holds of these keys, and what it holds that is about each. */
export async function heldUnits(
  db: Db,
  repositoryId: number,
  type: string,
  keys: readonly string[],
): Promise<({ id: number; meta: Record<string, any>; about: readonly { type: string; key: string }[] } | undefined)[]> {
  if (keys.length === 0) return []
  const held = await sql<{ id: number; key: string; meta: string }>`
    select c.id, c.key, c.meta from ${textRows(db, keys)} as k cross join content c cross join membership m
    where c.type = ${type} and c.key = k.text
      and m.repository_id = ${repositoryId} and m.content_id = c.id and m.removed_in is null`.execute(db)
  const about = await sql<{ key: string; type: string; about: string }>`
    select r.key, c.type, c.key as about from ${textRows(db, keys)} as k cross join reference r cross join content c cross join membership m
    where r.type = ${type} and r.key = k.text and r.about = 1 and c.id = r.content_id
      and m.repository_id = ${repositoryId} and m.content_id = c.id and m.removed_in is null`.execute(db)
  const abouts = Map.groupBy(about.rows, ({ key }) => key)
  const units = new Map(
    held.rows.map(({ id, key, meta }) => {
      const told = (abouts.get(key) ?? []).map((each) => ({ type: each.type, key: each.about }))
      return [key, { id, meta: JSON.parse(meta), about: told }]
    }),
  )
  return keys.map((key) => units.get(key))
}

/** Stores a staged or already stored blob's row and returns its id. Call it after the bytes are durable. */
export async function saveBlob(db: Db, digests: Digests, size: number): Promise<number> {
  const at = now()
  const { id } = await db
    .insertInto('blob')
    .values({
      uuid: newUuid(),
      sha256: digests.sha256,
      size,
      md5: digests.md5 ?? null,
      sha1: digests.sha1 ?? null,
      sha224: digests.sha224 ?? null,
      sha384: digests.sha384 ?? null,
      sha512: digests.sha512 ?? null,
      created: at,
      updated: at,
      touched: at,
    })
    .onConflict((conflict) => conflict.column('sha256').doUpdateSet({ touched: at }))
    .returning('id')
    .executeTakeFirstOrThrow()
  return id
}

/** Rows of content as units: entries are unpacked and files read only where asked for. In the order of `rows`. */
export async function unitsOf(db: Db, rows: readonly Row<'content'>[], packs: PackReader = openPackReader(db)): Promise<Unit[]> {
  const files = Map.groupBy(
    await filesOf(
      db,
      rows.map(({ id }) => id),
    ),
    ({ content_id }) => content_id,
  )
  return rows.map((row) => ({
    id: row.id,
    uuid: row.uuid,
    type: row.type,
    key: row.key,
    slot: row.slot,
    meta: JSON.parse(row.meta),
    entry: entryOf(packs, row),
    files: files.get(row.id) ?? [],
  }))
}

function entryOf(
  packs: PackReader,
  { pack_id: packId, entry_at: at, entry_length: length }: Pick<Row<'content'>, 'pack_id' | 'entry_at' | 'entry_length'>,
): Unit['entry'] {
  return () => (packId === null ? Promise.resolve(Buffer.alloc(0)) : packs.read({ packId, at, length }))
}

const pageSize = 2000

/** Units in the order of their ids, some thousand read at a time. */
export async function* unitsById(db: Db, ids: readonly number[], packs: PackReader = openPackReader(db)): AsyncGenerator<Unit> {
  for (let at = 0; at < ids.length; at += pageSize) {
    const page = ids.slice(at, at + pageSize)
    const rows = await db
      .selectFrom('content')
      .selectAll()
      .where('id', 'in', sql<number>`(select id from ${idRows(db, page)} as i)`)
      .execute()
    const byId = new Map(rows.map((row) => [row.id, row]))
    yield* await unitsOf(
      db,
      page.flatMap((id) => byId.get(id) ?? []),
      packs,
    )
  }
}

async function filesOf(db: Db, contentIds: readonly number[]) {
  return db
    .selectFrom('file')
    .leftJoin('blob', 'blob.id', 'file.blob_id')
    .select(['file.id', 'file.content_id', 'file.path', 'file.checksum', 'blob.sha256'])
    .select(({ fn }) => fn.coalesce('blob.size', 'file.size').as('size'))
    .where('content_id', 'in', sql<number>`(select id from ${idRows(db, contentIds)} as i)`)
    .orderBy('file.id')
    .execute()
}

function compare<T extends string | number>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function nameOf({ type, key, variant = '' }: Pick<Described, 'type' | 'key' | 'variant'>): string {
  return `${type}\n${key}\n${variant}`
}

async function findContent(db: Db, units: readonly Described[], lookups?: Lookups): Promise<Map<string, number>> {
  const known = new Map<string, number>()
  const unasked = units.filter(({ type, key, variant = '' }) => {
    const stored = lookups?.get(`${type}\n${key}`)
    const same = stored?.find((each) => each.variant === variant)
    if (same?.held) known.set(nameOf({ type, key, variant }), same.id)
    // What no version holds may have been collected since.
    return stored === undefined || same?.held === false
  })
  for (const [type, ofType] of Map.groupBy(unasked, (unit) => unit.type)) {
    const keys = textRows(db, new Set(ofType.map(({ key }) => key)))
    const { rows } = await sql<{ id: number; key: string; variant: string }>`
      select c.id, c.key, c.variant from ${keys} as k cross join content c where c.type = ${type} and c.key = k.text`.execute(db)
    for (const { id, key, variant } of rows) known.set(nameOf({ type, key, variant }), id)
  }
  return known
}

/** Makes staged files part of the blob store, and replaces them by their digests. */
async function keepFiles(ctx: Ctx, units: readonly Described[]): Promise<void> {
  for (const { files } of units)
    for (const file of files as DescribedFile[])
      if (file.staged) {
        await file.staged.keep()
        await saveBlob(ctx.db, file.staged.digests, file.staged.size)
        file.sha256 = file.staged.digests.sha256
      }
}

/** Returns those that were not stored by somebody else in between; theirs has its files already. */
async function insertContent(
  tx: Tx,
  units: readonly Described[],
  known: Map<string, number>,
  origin: Origin | undefined,
): Promise<ReadonlySet<Described>> {
  const withEntry = units.filter(({ entry, packed }) => packed ?? (entry && entry.length > 0))
  const written = await writeEntries(
    tx,
    withEntry.map(({ entry, packed }) => packed ?? entry!),
  )
  const places = new Map(withEntry.map((unit, index) => [unit, written[index]!]))
  const at = now()
  const uuids = newUuids(units.length)
  const rows = units.map((unit, index) => ({
    uuid: uuids[index]!,
    type: unit.type,
    key: unit.key,
    variant: unit.variant ?? '',
    slot: unit.name ?? unit.slot ?? unit.key,
    name: unit.name ?? null,
    meta: JSON.stringify(unit.meta),
    pack_id: places.get(unit)?.packId ?? null,
    entry_at: places.get(unit)?.at ?? 0,
    entry_length: places.get(unit)?.length ?? 0,
    labels: '{}',
    created: at,
    updated: at,
    touched: at,
  }))
  // As in lockRows: two who store the same wait for each other, and must not do so crosswise.
  if (engineOf(tx) === 'postgres') rows.sort((a, b) => compare(nameOf(a), nameOf(b)))
  const inserted = await insertMany(tx, 'content', contentColumns, rows, ['id', 'type', 'key', 'variant'])
  const ids = new Map(inserted.map((row) => [nameOf(row as unknown as Described), Number(row['id'])]))
  const stored = units.filter((unit) => ids.has(nameOf(unit)))
  await insertFiles(tx, stored, ids, origin)
  await insertReferences(tx, stored, ids)
  for (const [name, id] of ids) known.set(name, id)
  if (ids.size < units.length) for (const [name, id] of await findContent(tx, units)) known.set(name, id)
  return new Set(stored)
}

async function insertFiles(
  tx: Tx,
  units: readonly Described[],
  ids: Map<string, number>,
  origin: Origin | undefined,
): Promise<void> {
  const described = units.flatMap((unit) => unit.files.map((file) => ({ file, contentId: ids.get(nameOf(unit))! })))
  const blobs = await findBlobs(
    tx,
    described.map(({ file }) => digestOf(file)),
  )
  const rows = described.map(({ file, contentId }) => ({
    content_id: contentId,
    path: file.path,
    name: file.path.slice(file.path.lastIndexOf('/') + 1),
    blob_id: blobs.get(digestOf(file) ?? '') ?? null,
    size: file.size ?? null,
    checksum: file.checksum ?? null,
  }))
  const inserted = await insertMany(tx, 'file', fileColumns, rows, ['id', 'content_id', 'path'])
  if (!origin) return
  const urls = new Map(described.map(({ file, contentId }) => [`${contentId}\n${file.path}`, file.urls?.[0]]))
  await insertSources(
    tx,
    origin,
    inserted.flatMap((row) => {
      const url = urls.get(`${row['content_id']}\n${row['path']}`)
      return url ? [{ fileId: Number(row['id']), url }] : []
    }),
  )
}

async function insertReferences(tx: Tx, units: readonly Described[], ids: Map<string, number>): Promise<void> {
  const rows = units.flatMap((unit) =>
    (unit.refers ?? []).map(({ type, key, about }) => ({ content_id: ids.get(nameOf(unit))!, type, key, about: about ? 1 : 0 })),
  )
  await insertMany(tx, 'reference', { content_id: 'bigint', type: 'text', key: 'text', about: 'bigint' }, rows)
}

async function insertSources(tx: Tx, origin: Origin, sources: readonly { fileId: number; url: URL }[]): Promise<void> {
  const base = origin.url.endsWith('/') ? origin.url : `${origin.url}/`
  const rows = sources.map(({ fileId, url }) => ({
    file_id: fileId,
    remote_id: origin.id,
    url: url.href.startsWith(base) ? url.href.slice(base.length) : url.href,
  }))
  rows.sort((a, b) => compare(a.file_id, b.file_id))
  await insertMany(tx, 'source', { file_id: 'bigint', remote_id: 'bigint', url: 'text' }, rows)
}

/** Blob ids by SHA-256. */
async function findBlobs(db: Db, digests: readonly (string | undefined)[]): Promise<Map<string, number>> {
  const wanted = new Set(digests.filter((digest) => digest !== undefined))
  if (wanted.size === 0) return new Map()
  const { rows } = await sql<{ id: number; sha256: string }>`
    select b.id, b.sha256 from ${textRows(db, wanted)} as k cross join blob b where b.sha256 = k.text`.execute(db)
  return new Map(rows.map(({ id, sha256 }) => [sha256, id]))
}

function digestOf({ sha256, checksum }: DescribedFile): string | undefined {
  return sha256 ?? (checksum?.startsWith('sha256:') ? checksum.slice(7) : undefined)
}

/** What was known already: keeps it from being collected, and remembers that this remote has its files too. */
async function refresh(
  ctx: Ctx,
  units: readonly Described[],
  known: Map<string, number>,
  origin: Origin | undefined,
): Promise<void> {
  const ids = units.map((unit) => known.get(nameOf(unit))!)
  const at = now()
  const stale = await ctx.db
    .selectFrom('content')
    .select('id')
    .where('id', 'in', sql<number>`(select id from ${idRows(ctx.db, ids)} as i)`)
    .where('touched', '<', at - hour)
    .execute()
  const files = new Map((await filesOf(ctx.db, ids)).map((file) => [`${file.content_id}\n${file.path}`, file]))
  const sources = units.flatMap((unit) =>
    unit.files.flatMap((file) => {
      const stored = files.get(`${known.get(nameOf(unit))}\n${file.path}`)
      return stored && file.urls?.[0] ? [{ fileId: stored.id, url: file.urls[0] }] : []
    }),
  )
  const missing = origin ? await withoutSource(ctx.db, origin.id, sources) : []
  const given = units.flatMap((unit) =>
    unit.files.flatMap((file) => {
      const stored = files.get(`${known.get(nameOf(unit))}\n${file.path}`)
      return stored && stored.sha256 === null && (file.staged || file.sha256) ? [{ file, id: stored.id }] : []
    }),
  )
  // Nobody can tell whose size is right before the bytes are here: they are known by their checksum alone from now on.
  const disputed = units.flatMap((unit) =>
    unit.files.flatMap((file) => {
      const stored = files.get(`${known.get(nameOf(unit))}\n${file.path}`)
      const differs = stored && stored.sha256 === null && stored.size !== null && stored.checksum !== null
      return differs && file.size !== undefined && file.size !== stored.size ? [stored.id] : []
    }),
  )
  if (given.length > 0) await keepFiles(ctx, units)
  if (stale.length + missing.length + given.length + disputed.length === 0) return
  await transact(ctx.db, async (tx) => {
    if (stale.length > 0)
      await touchContent(
        tx,
        stale.map(({ id }) => id),
      )
    if (origin) await insertSources(tx, origin, missing)
    if (disputed.length > 0)
      await tx
        .updateTable('file')
        .set({ size: null })
        .where('id', 'in', sql<number>`(select id from ${idRows(tx, disputed)} as i)`)
        .where('blob_id', 'is', null)
        .execute()
    const blobs = await findBlobs(
      tx,
      given.map(({ file }) => file.sha256),
    )
    for (const { file, id } of given)
      await tx
        .updateTable('file')
        .set({ blob_id: blobs.get(file.sha256!)! })
        .where('id', '=', id)
        .execute()
  })
}

async function withoutSource<T extends { fileId: number }>(db: Db, remoteId: number, sources: readonly T[]): Promise<T[]> {
  if (sources.length === 0) return []
  const ids = idRows(
    db,
    sources.map(({ fileId }) => fileId),
  )
  const rows = await db
    .selectFrom('source')
    .select('file_id')
    .where('file_id', 'in', sql<number>`(select id from ${ids} as i)`)
    .where('remote_id', '=', remoteId)
    .execute()
  const have = new Set(rows.map(({ file_id }) => file_id))
  return sources.filter(({ fileId }) => !have.has(fileId))
}

const contentColumns = {
  uuid: 'text',
  type: 'text',
  key: 'text',
  variant: 'text',
  slot: 'text',
  name: 'text',
  meta: 'jsonb',
  pack_id: 'bigint',
  entry_at: 'bigint',
  entry_length: 'bigint',
  labels: 'jsonb',
  created: 'bigint',
  updated: 'bigint',
  touched: 'bigint',
} as const

const fileColumns = {
  content_id: 'bigint',
  path: 'text',
  name: 'text',
  blob_id: 'bigint',
  size: 'bigint',
  checksum: 'text',
} as const
