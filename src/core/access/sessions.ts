import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { type Micros, now } from '../../lib/time.ts'
import type { Db } from '../../store/database.ts'
import type { User } from './auth.ts'

/*
 * A session stands for a user who has shown a password: whoever holds its token is that user until it expires, is ended, or the password
 * is another one. Only digests are stored, so that nobody who reads the database can go on with somebody's session.
 */

/** Two weeks, as in Pulp. */
export const sessionSeconds = 14 * 86_400

/** Begins a session. Returns its token. */
export async function openSession(db: Db, { id }: Pick<User, 'id'>, at: Micros = now()): Promise<string> {
  await db.deleteFrom('session').where('expires', '<=', at).execute()
  const { password } = await db.selectFrom('user').select('password').where('id', '=', id).executeTakeFirstOrThrow()
  const token = randomBytes(32).toString('base64url')
  const expires = at + sessionSeconds * 1_000_000
  await db
    .insertInto('session')
    .values({ digest: digest(token), user_id: id, password_digest: digest(password), expires })
    .execute()
  return token
}

/** Whose session it is. Undefined when it is nobody's (any more). */
export async function findSession(db: Db, token: string, at: Micros = now()): Promise<User | undefined> {
  const row = await db
    .selectFrom('session')
    .innerJoin('user', 'user.id', 'session.user_id')
    .select(['user.id', 'user.username', 'user.password', 'user.is_superuser', 'session.password_digest'])
    .where('session.digest', '=', digest(token))
    .where('session.expires', '>', at)
    .where('user.is_active', '=', 1)
    .executeTakeFirst()
  if (!row || row.password_digest !== digest(row.password)) return undefined
  return { id: row.id, username: row.username, isSuperuser: row.is_superuser === 1 }
}

export async function endSession(db: Db, token: string): Promise<void> {
  await db.deleteFrom('session').where('digest', '=', digest(token)).execute()
}

/**
 * What a page of ours sends along with a request that changes something. It reads it from a cookie, which no other site's page can,
 * and it fits this session alone.
 */
export function csrfToken(token: string): string {
  return createHmac('sha256', token).update('csrf').digest('base64url').slice(0, 32)
}

export function fitsSession(token: string, csrf: string): boolean {
  const [wanted, given] = [Buffer.from(csrfToken(token)), Buffer.from(csrf)]
  return wanted.length === given.length && timingSafeEqual(wanted, given)
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
