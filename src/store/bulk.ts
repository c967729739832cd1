import { type RawBuilder, sql } from 'kysely'
import { type Db, engineOf, type Tx } from './database.ts'
import type { Schema } from './schema.ts'

/*
 * Many rows in one statement: they travel as one JSON parameter and the database unpacks them. That is a few times
 * faster than a statement for each row, needs no thousands of placeholders, and is the same on both engines.
 */

export type ColumnType = 'text' | 'bigint' | 'jsonb'
type Cell = string | number | null

/** Rows as a table to select from or join: `from ${jsonRows(db, rows, { id: 'bigint' })} as r`. */
export function jsonRows<C extends string>(
  db: Db,
  rows: readonly Record<C, Cell>[],
  columns: Record<C, ColumnType>,
): RawBuilder<unknown> {
  const names = Object.keys(columns) as C[]
  const json = JSON.stringify(rows.map((row) => names.map((name) => row[name])))
  const cells = names.map((name, index) =>
    engineOf(db) === 'postgres'
      ? sql`(value ->> ${sql.lit(index)}::int)::${sql.raw(columns[name])} as ${sql.ref(name)}`
      : sql`json_extract(value, ${sql.lit(`$[${index}]`)}) as ${sql.ref(name)}`,
  )
  const source = engineOf(db) === 'postgres' ? sql`jsonb_array_elements(${json}::jsonb) as value` : sql`json_each(${json})`
  return sql`(select ${sql.join(cells)} from ${source})`
}

/** Inserts many rows; those that would break a unique constraint are left out. Returns the named columns of what was inserted. */
export async function insertMany<T extends keyof Schema, C extends keyof Schema[T] & string>(
  db: Db,
  table: T,
  columns: Record<C, ColumnType>,
  rows: readonly Record<C, Cell>[],
  returning: readonly string[] = [],
): Promise<Record<string, string | number>[]> {
  if (rows.length === 0) return []
  const names = sql.join(Object.keys(columns).map((name) => sql.ref(name)))
  const back = returning.length > 0 ? sql`returning ${sql.join(returning.map((name) => sql.ref(name)))}` : sql``
  const query = sql<
    Record<string, string | number>
  >`insert into ${sql.table(table)} (${names}) select * from ${jsonRows(db, rows, columns)} as r where true on conflict do nothing ${back}`
  return (await query.execute(db)).rows
}

/**
 * Takes rows in the order of their ids. On PostgreSQL two transactions that change the same rows, each in its own order, may each come to
 * wait for what the other one has, and the database ends one of them. On SQLite there is one writer anyway.
 */
export async function lockRows(tx: Tx, table: 'content' | 'distribution' | 'task', ids: Iterable<number>): Promise<void> {
  if (engineOf(tx) === 'sqlite') return
  const these = sql`(select id from ${idRows(tx, ids)} as i)`
  await sql`select id from ${sql.table(table)} where id in ${these} order by id for no key update`.execute(tx)
}

/** Takes those of these rows that nobody else has, in order to delete them: who is about to use one does not wait, and is not waited for. */
export async function lockUnused(tx: Tx, table: 'content' | 'blob', ids: readonly number[]): Promise<readonly number[]> {
  if (engineOf(tx) === 'sqlite') return ids
  const these = sql`(select id from ${idRows(tx, ids)} as i)`
  const { rows } = await sql<{ id: number }>`
    select id from ${sql.table(table)} where id in ${these} order by id for update skip locked`.execute(tx)
  return rows.map(({ id }) => id)
}

/** Numbers as a table with the one column `id`, for `where x in (select id from ...)` with any number of them. */
export function idRows(db: Db, ids: Iterable<number>): RawBuilder<unknown> {
  const json = JSON.stringify([...ids])
  return engineOf(db) === 'postgres'
    ? sql`(select value::bigint as id from jsonb_array_elements_text(${json}::jsonb))`
    : sql`(select value as id from json_each(${json}))`
}

/** Texts as a table with the one column `text`. */
export function textRows(db: Db, texts: Iterable<string>): RawBuilder<unknown> {
  const json = JSON.stringify([...texts])
  return engineOf(db) === 'postgres'
    ? sql`(select value as text from jsonb_array_elements_text(${json}::jsonb))`
    : sql`(select value as text from json_each(${json}))`
}
