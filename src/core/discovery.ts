import { Readable } from 'node:stream'
import { sql } from 'kysely'
import type { Staged } from '../store/blobs.ts'
import { idRows } from '../store/bulk.ts'
import type { Db } from '../store/database.ts'
import type { Row } from '../store/schema.ts'
import { heldIds, heldUnits, heldVariants, type Lookups, saveContent } from './content.ts'
import type { Ctx } from './ctx.ts'
import type { Described, Discovered, Progress, SyncOptions } from './format.ts'
import { leaseContent } from './leases.ts'
import { findHeld } from './named-content.ts'
import { accessOf } from './fetch/remotes.ts'

/* What a format finds upstream, stored as content. No version has it yet. */

export interface Found {
  ids: Set<number>
  /** Whether anything was described, instead of being held already. */
  described: boolean
  fingerprint: string | undefined
  verbatim: { path: string; staged: Staged }[]
  paths: { id: number; path: string }[]
  mirrors: readonly URL[]
}

export interface Search {
  repository: Row<'repository'>
  remote: Row<'remote'>
  latest: Row<'version'>
  settings: Record<string, unknown>
  unchanged?: string | undefined
  /** Whether the repository is as the last sync from there left it. */
  settled?: boolean
  lookups: Lookups
  progress: Progress
  signal: AbortSignal
}

export function optionsOf(ctx: Ctx, search: Search): SyncOptions {
  const { repository, remote, latest, settings, unchanged, settled = false, lookups, progress, signal } = search
  return {
    settings,
    repository: { name: repository.name, settings: JSON.parse(repository.settings) },
    policy: remote.policy as SyncOptions['policy'],
    access: accessOf(remote),
    unchanged,
    allowedChecksums: ctx.config.allowedChecksums,
    remote: JSON.parse(remote.settings),
    known: (type, keys) => heldVariants(ctx.db, repository.id, type, keys, lookups),
    settled,
    held: (type, keys) => heldUnits(ctx.db, repository.id, type, keys),
    recall: (type, key) => recall(ctx, latest, type, key),
    stage: (bytes) => ctx.blobs.stage(Readable.from([bytes])),
    progress,
    signal,
  }
}

/** What format.ts says of SyncOptions.recall. */
async function recall({ db, blobs }: Ctx, place: Row<'version'>, type: string, key: string): Promise<Buffer | undefined> {
  const [unit] = await findHeld(db, place, type, [key], { leased: true })
  const file =
    unit &&
    (await db
      .selectFrom('file')
      .innerJoin('blob', 'blob.id', 'file.blob_id')
      .select('blob.sha256')
      .where('file.content_id', '=', unit.id)
      .executeTakeFirst())
  return file && Buffer.concat(await (await blobs.open(file.sha256)).toArray())
}

interface Collecting extends Pick<Search, 'repository' | 'remote' | 'signal' | 'lookups'> {
  /** Content that needs no look: it is held, and where it is is known. */
  settled?: ReadonlySet<number>
  /** Whether the upstream's own paths are wanted. */
  complete?: boolean
}

/** Stores what a format yields. Undefined when it says that everything is as the last time. */
export async function collect(
  ctx: Ctx,
  items: AsyncIterable<Discovered>,
  { repository, remote, signal, lookups, settled, complete = false }: Collecting,
): Promise<Found | undefined> {
  const found: Found = { ids: new Set(), described: false, fingerprint: undefined, verbatim: [], paths: [], mirrors: [] }
  const elsewhere: { type: string; key: string; path: string }[] = []
  let waiting: Described[] = []

  /** Stores what waits: in few, larger transactions, because each ends with a write that is waited for. */
  async function store(): Promise<void> {
    const batch = waiting
    waiting = []
    const read = batch.map(({ files }) => files.some(({ staged }) => staged))
    const ids = await saveContent(ctx, batch, remote, settled, lookups)
    // Should this sync be interrupted, the next one need not read them again.
    const leased = ids.filter((_, index) => read[index])
    if (leased.length > 0) await leaseContent(ctx.db, repository.id, leased)
    for (const id of ids) found.ids.add(id)
    if (complete) found.paths.push(...(await movedPaths(ctx.db, batch, ids)))
  }

  for await (const item of items) {
    signal.throwIfAborted()
    if (item.kind === 'content') {
      found.described = true
      for (const each of item.batch) waiting.push(each)
      // What the format has staged goes with it: it is kept before the format is asked for more.
      const isStaged = item.batch.some(({ files }) => files.some(({ staged }) => staged))
      if (isStaged || waiting.length >= storedTogether) await store()
    } else if (item.kind === 'kept') {
      const asked = heldIds(item.type, item.keys, lookups)
      const ids = asked ?? (await heldUnits(ctx.db, repository.id, item.type, item.keys)).flatMap((unit) => unit?.id ?? [])
      for (const id of ids) found.ids.add(id)
    } else if (item.kind === 'mirrors') found.mirrors = item.bases
    else if (item.kind === 'verbatim') found.verbatim.push(item)
    else if (item.kind === 'verbatim-path') elsewhere.push(item)
    else {
      found.fingerprint = item.value
      if (item.unchanged) return undefined
    }
  }
  await store()
  for (const { type, key, path } of elsewhere) found.paths.push({ id: await idOf(ctx.db, type, key, found.ids), path })
  return found
}

/** The one of these ids that has this key. */
async function idOf(db: Db, type: string, key: string, ids: ReadonlySet<number>): Promise<number> {
  const rows = await db.selectFrom('content').select('id').where('type', '=', type).where('key', '=', key).execute()
  return rows.find(({ id }) => ids.has(id))!.id
}

const storedTogether = 2000

/** Where this upstream has files that are stored under other paths: the same content came from elsewhere before. */
async function movedPaths(db: Db, batch: readonly Described[], ids: readonly number[]): Promise<Found['paths']> {
  const rows = await db
    .selectFrom('file')
    .select(['content_id', 'path'])
    .where('content_id', 'in', sql<number>`(select id from ${idRows(db, ids)} as i)`)
    .execute()
  const stored = new Map(rows.map(({ content_id, path }) => [content_id, path]))
  return batch.flatMap(({ files }, index) => {
    const id = ids[index]!
    const [file] = files
    return file && files.length === 1 && stored.get(id) !== file.path ? [{ id, path: file.path }] : []
  })
}
