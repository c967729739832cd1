import { type RawBuilder, sql } from 'kysely'
import type { Micros } from '../../lib/time.ts'
import { type Db, engineOf } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Directory } from './directories.ts'

/*
 * A checkpoint distribution serves every checkpoint of its repository, each in a directory named by the second in which it was published:
 * `20250212T194653Z/`. Any other second up to now leads to the last checkpoint before it.
 */

export function servesCheckpoints({ settings }: Pick<Row<'distribution'>, 'settings'>): boolean {
  return JSON.parse(settings)['checkpoint'] === true
}

/** The same in a query of distributions: 1 or 0. */
export const isCheckpoint = (db: Db): RawBuilder<number> =>
  engineOf(db) === 'postgres'
    ? sql`case when distribution.settings ->> 'checkpoint' = 'true' then 1 else 0 end`
    : sql`coalesce(json_extract(distribution.settings, '$.checkpoint'), 0)`

/** The directories of a checkpoint distribution, oldest first. */
export async function listCheckpoints(db: Db, repositoryId: number): Promise<Directory> {
  const rows = await db
    .selectFrom('publication')
    .select('created')
    .where('repository_id', '=', repositoryId)
    .where('checkpoint', '=', 1)
    .orderBy('created')
    .execute()
  const times = new Map(rows.map(({ created }) => [`${renderSecond(created)}/`, created]))
  return [...times].map(([name, modified]) => ({ name, size: undefined, modified }))
}

/** The last checkpoint of a repository that is not after a time. */
export async function findCheckpoint(db: Db, repositoryId: number, until: Micros): Promise<Row<'publication'> | undefined> {
  return db
    .selectFrom('publication')
    .selectAll()
    .where('repository_id', '=', repositoryId)
    .where('checkpoint', '=', 1)
    .where('created', '<=', until)
    .orderBy('created', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
}

interface CheckpointPath {
  /** The end of the second that the path names: a checkpoint of that second counts. */
  until: Micros
  /** What follows its directory; undefined when not even the slash is there. */
  rest: string | undefined
}

/** Reads a path below a checkpoint distribution. Undefined when it names no second, or one that is still to come. */
export function parseCheckpointPath(path: string, at: Micros): CheckpointPath | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z(?:\/(.*))?$/s.exec(path)
  if (!match) return undefined
  const [, year, month, day, hour, minute, second, rest] = match
  const start = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) * 1000
  // The 31st of a month with 30 days is read as the 1st of the next one.
  if (Number.isNaN(start) || start > at || !path.startsWith(renderSecond(start))) return undefined
  return { until: start + 999_999, rest }
}

/** `20250212T194653Z` */
export function renderSecond(micros: Micros): string {
  return `${new Date(Math.floor(micros / 1000)).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
}
