import type { Migration } from 'kysely/migration'
import * as first from './001-first.ts'

/** In the order they are applied. A released migration never changes; later versions add to the list. */
export const migrations: Record<string, Migration> = { '001-first': first }
