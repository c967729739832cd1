import { sql } from 'kysely'
import { idRows } from '../../store/bulk.ts'
import type { Db } from '../../store/database.ts'
import type { Place } from '../../store/packs.ts'
import type { Row } from '../../store/schema.ts'
import type { ListedUnit } from '../format.ts'
import { contentOf, diffVersions } from '../versions.ts'
import { compareMembers, type Member, type Stretch } from './plan.ts'

/** What a version has of a type, by slot. */
export async function readMembers(db: Db, version: Row<'version'>, type: string): Promise<Member[]> {
  const rows = await contentOf(db, version).select(['content.id', 'content.slot']).where('content.type', '=', type).execute()
  return rows.sort(compareMembers)
}

/** What came of a type, by slot, and what went of any, since another version of the same repository. */
export async function readChange(db: Db, { repository_id, number }: Row<'version'>, since: number, type: string) {
  const { added, removed } = await diffVersions(db, repository_id, since, number)
  const came = await db
    .selectFrom('content')
    .select(['id', 'slot'])
    .where('id', 'in', sql<number>`(select id from ${idRows(db, added)} as i)`)
    .where('type', '=', type)
    .execute()
  return { came: came.sort(compareMembers), gone: new Set(removed) }
}

/** A unit and where its entry lies. */
export type Listed = ListedUnit & { place: Place | undefined }

const pageSize = 2000

/** The units of a stretch, by slot. */
export async function* listStretch(
  db: Db,
  { stayed, came }: Exclude<Stretch, { kept: unknown }>,
): AsyncGenerator<Listed, void, undefined> {
  const olds = list(db, stayed)
  let old = await olds.next()
  const news = list(
    db,
    came.map(({ id }) => id),
  )
  for await (const unit of news) {
    for (; !old.done && compareMembers(old.value, unit) < 0; old = await olds.next()) yield old.value
    yield unit
  }
  for (; !old.done; old = await olds.next()) yield old.value
}

/** Units in the order of their ids, some thousand read at a time. */
async function* list(db: Db, ids: readonly number[]): AsyncGenerator<Listed, void, undefined> {
  for (let at = 0; at < ids.length; at += pageSize) {
    const page = ids.slice(at, at + pageSize)
    const { rows } = await sql<ListedRow>`
      select c.id, c.key, c.slot, c.pack_id, c.entry_at, c.entry_length, f.id as file_id, f.path, b.sha256
      from ${idRows(db, page)} as i cross join content c
      left join file f on f.content_id = c.id left join blob b on b.id = f.blob_id where c.id = i.id`.execute(db)
    const byId = Map.groupBy(rows, ({ id }) => id)
    for (const id of page) {
      const ofUnit = byId.get(id)
      if (ofUnit) yield listed(ofUnit)
    }
  }
}

type ListedRow = Pick<Row<'content'>, 'id' | 'key' | 'slot' | 'pack_id' | 'entry_at' | 'entry_length'> & {
  file_id: number | null
  path: string | null
  sha256: string | null
}

/** A unit out of its rows, one for each of its files. */
function listed(rows: ListedRow[]): Listed {
  const { id, key, slot, pack_id: packId, entry_at: at, entry_length: length } = rows[0]!
  const files = rows
    .sort((a, b) => (a.file_id ?? 0) - (b.file_id ?? 0))
    .flatMap(({ path, sha256 }) => (path === null ? [] : [{ path, sha256 }]))
  return { id, key, slot, files, place: packId === null ? undefined : { packId, at, length } }
}
