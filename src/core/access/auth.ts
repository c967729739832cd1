import { hash, randomBytes } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import type { Db } from '../../store/database.ts'
import type { Ctx } from '../ctx.ts'
import { type Hasher, openHasher } from './passwords.ts'
import { isAbout, sortPermissions } from './roles.ts'

export { addRole, removeRole, rolesOf } from './assignments.ts'

/*
 * Who somebody is, and what they may do. Both are remembered, and what is remembered counts only while ctx.changes stands where it stood
 * when the database was asked: the first request after any change asks again. That costs a query, not a hash: a password that was
 * verified less than a minute ago still holds when the user's row still has the same hash.
 */

export interface User {
  readonly id: number
  readonly username: string
  readonly isSuperuser: boolean
}

type Ask = Pick<Ctx, 'db' | 'changes'>

const rememberFor = 60_000
const rememberedAtMost = 10_000
const attemptsIn = 60_000
const attemptsAtMost = 10

interface Memory {
  readonly hasher: Hasher
  /** Drawn at start: what is remembered is worth nothing outside this process. */
  readonly key: string
  /** By digest of the Authorization header. */
  readonly verified: Map<string, Verified>
  /** Checks under way, so that requests which come together cost one hash. */
  readonly pending: Map<string, Promise<User | undefined>>
  /** When the last attempts failed (or are still being checked), by digest of address and username. */
  readonly attempts: Map<string, number[]>
  readonly rights: Map<number, Rights>
  /** Ids of roles that carry a permission, as of `change`. */
  roles: { change: number; carrying: Map<string, number[]> }
}

interface Verified {
  readonly user: User
  /** The hash that the password fitted. */
  readonly stored: string
  readonly until: number
  readonly change: number
}

/** What a user holds; filled as it is asked for. */
interface Rights {
  readonly change: number
  everywhere: ReadonlySet<string> | undefined
  readonly on: Map<string, ReadonlySet<string>>
}

const memories = new WeakMap<Ctx['changes'], Memory>()

/** What one process remembers: it lives as long as its ctx.changes. */
function memoryOf({ changes }: Pick<Ctx, 'changes'>): Memory {
  let memory = memories.get(changes)
  if (!memory) {
    memory = {
      hasher: openHasher(),
      key: randomBytes(32).toString('base64url'),
      verified: new Map(),
      pending: new Map(),
      attempts: new Map(),
      rights: new Map(),
      roles: { change: -1, carrying: new Map() },
    }
    memories.set(changes, memory)
  }
  return memory
}

/** The hasher that all password work of a process goes through. */
export function hasherOf(ctx: Pick<Ctx, 'changes'>): Hasher {
  return memoryOf(ctx).hasher
}

/**
 * Who an Authorization header stands for; undefined when it is absent, not Basic, or wrong.
 * Throws Failure denied after too many wrong passwords, conflict when too many are being checked.
 */
export async function authenticate(ctx: Ask, header: string | undefined, address = ''): Promise<User | undefined> {
  const known = remembered(ctx, header)
  if (known) return known
  const credentials = parseBasic(header)
  if (!credentials || header === undefined) return undefined
  const memory = memoryOf(ctx)
  const digest = digestOf(memory, header)
  // Only with a check that began after the last change: an older one may have read what no longer holds.
  const key = `${ctx.changes.current()} ${digest}`
  let check = memory.pending.get(key)
  if (!check) {
    check = verify(ctx, memory, digest, credentials, address).finally(() => memory.pending.delete(key))
    memory.pending.set(key, check)
  }
  return check
}

/** As authenticate, from memory alone. Undefined also when it would have to look. */
export function remembered(ctx: Pick<Ctx, 'changes'>, header: string | undefined): User | undefined {
  const memory = header === undefined ? undefined : memories.get(ctx.changes)
  if (!memory || header === undefined) return undefined
  const entry = memory.verified.get(digestOf(memory, header))
  return entry && entry.change === ctx.changes.current() && entry.until > performance.now() ? entry.user : undefined
}

/** What a 401 says of a header that names nobody, in Pulp's words. */
export function refusalOf(header: string | undefined): string {
  if (!header || !/^basic(\s|$)/i.test(header)) return 'Authentication credentials were not provided.'
  const parts = header.trim().split(/\s+/)
  if (parts.length === 1) return 'Invalid basic header. No credentials provided.'
  if (parts.length > 2) return 'Invalid basic header. Credentials string should not contain spaces.'
  return parseBasic(header) ? 'Invalid username/password.' : 'Invalid basic header. Credentials not correctly base64 encoded.'
}

/** Whether a user holds a permission: on everything or, when `prn` is given, on that object. */
export async function isAllowed(ctx: Ask, user: User, permission: string, prn?: string): Promise<boolean> {
  if (user.isSuperuser) return true
  const rights = rightsOf(ctx, user)
  rights.everywhere ??= await findRights(ctx.db, user, null)
  if (rights.everywhere.has(permission)) return true
  if (prn === undefined) return false
  let onObject = rights.on.get(prn)
  if (!onObject) {
    onObject = await findRights(ctx.db, user, prn)
    remember(rights.on, prn, onObject)
  }
  return onObject.has(permission)
}

/** As isAllowed, from memory alone. Undefined when it would have to look. */
export function isAllowedFast(ctx: Pick<Ctx, 'changes'>, user: User, permission: string, prn: string): boolean | undefined {
  if (user.isSuperuser) return true
  const rights = memories.get(ctx.changes)?.rights.get(user.id)
  if (!rights || rights.change !== ctx.changes.current()) return undefined
  if (rights.everywhere?.has(permission)) return true
  return rights.everywhere && rights.on.get(prn)?.has(permission)
}

/** The objects on which a user holds a permission, as PRNs; `all` when it is held on everything. */
export async function scopeOf(ctx: Ask, user: User, permission: string): Promise<'all' | readonly string[]> {
  if (await isAllowed(ctx, user, permission)) return 'all'
  const roles = await rolesCarrying(ctx, permission)
  if (roles.length === 0) return []
  const held = await heldBy(ctx.db, user)
    .select('role_assignment.object')
    .distinct()
    .where('role_assignment.role_id', 'in', roles)
    .where('role_assignment.object', 'is not', null)
    .execute()
  return held.flatMap(({ object }) => (object !== null && isAbout(permission, object) ? [object] : []))
}

/** Gives whoever made an object their roles on it, in the transaction that makes it. Bump ctx.changes after it. */
export async function grantToCreator(
  tx: Db,
  userId: number | null | undefined,
  roleNames: readonly string[],
  prn: string,
): Promise<void> {
  if (userId === null || userId === undefined || roleNames.length === 0) return
  const roles = await tx
    .selectFrom('role')
    .select(['id', 'name'])
    .where('name', 'in', [...roleNames])
    .execute()
  const created = now()
  const rows = roleNames.flatMap((name) => {
    const role = roles.find((each) => each.name === name)
    return role ? [{ uuid: newUuid(), role_id: role.id, user_id: userId, group_id: null, object: prn, created }] : []
  })
  if (rows.length > 0) await tx.insertInto('role_assignment').values(rows).execute()
}

/** Forgets who had which role on an object, in the transaction that deletes it. */
export async function forgetObject(tx: Db, prn: string): Promise<void> {
  await tx.deleteFrom('role_assignment').where('object', '=', prn).execute()
}

/** What a user may do with an object through roles on that object, as Pulp's my_permissions says it. */
export async function myPermissions(ctx: Pick<Ctx, 'db'>, user: User, prn: string): Promise<string[]> {
  const held = await findRights(ctx.db, user, prn)
  return sortPermissions([...held].filter((permission) => isAbout(permission, prn)))
}

interface Credentials {
  username: string
  password: string
}

function parseBasic(header: string | undefined): Credentials | undefined {
  const match = /^basic +([\w+/]+={0,2})\s*$/i.exec(header ?? '')
  if (!match) return undefined
  const bytes = Buffer.from(match[1]!, 'base64')
  const text = decode(bytes)
  const colon = text.indexOf(':')
  return colon < 0 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

/** UTF-8 where it is; some clients send Latin-1. */
function decode(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  return text.includes('\ufffd') ? bytes.toString('latin1') : text
}

/** Under a key that only this process has, so that what is remembered says nothing of passwords. */
function digestOf({ key }: Memory, header: string): string {
  return hash('sha256', key + header, 'base64url')
}

async function verify(
  ctx: Ask,
  memory: Memory,
  digest: string,
  credentials: Credentials,
  address: string,
): Promise<User | undefined> {
  // Read before the row: what changes while we look makes our answer old, not wrong.
  const change = ctx.changes.current()
  const row = await ctx.db
    .selectFrom('user')
    .select(['id', 'username', 'password', 'is_active', 'is_superuser'])
    .where('username', '=', credentials.username)
    .executeTakeFirst()
  const active = row?.is_active ? row : undefined
  const before = memory.verified.get(digest)
  memory.verified.delete(digest)
  const fits = before !== undefined && before.until > performance.now() && before.stored === active?.password
  if (!fits && !(await checkPassword(memory, credentials, active?.password, address))) return undefined
  if (!active) return undefined
  const user: User = { id: active.id, username: active.username, isSuperuser: active.is_superuser === 1 }
  const until = fits ? before.until : performance.now() + rememberFor
  remember(memory.verified, digest, { user, stored: active.password, until, change })
  return user
}

async function checkPassword(
  memory: Memory,
  { username, password }: Credentials,
  stored: string | undefined,
  address: string,
): Promise<boolean> {
  const who = digestOf(memory, `${address} ${username}`)
  const at = performance.now()
  const attempts = (memory.attempts.get(who) ?? []).filter((time) => time > at - attemptsIn)
  if (attempts.length >= attemptsAtMost)
    throw new Failure('denied', 'Too many wrong passwords for this user; try again in a minute.')
  // Counted before it is known to be wrong, so that many at once are not more than many in a row.
  attempts.push(at)
  remember(memory.attempts, who, attempts)
  const forget = () => {
    const left = (memory.attempts.get(who) ?? []).filter((time) => time !== at)
    if (left.length > 0) memory.attempts.set(who, left)
    else memory.attempts.delete(who)
  }
  try {
    const right = await memory.hasher.verify(password, stored)
    if (right) forget()
    return right
  } catch (error) {
    forget()
    throw error
  }
}

/** Sets a key, dropping the oldest when there are too many. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > rememberedAtMost) map.delete(map.keys().next().value!)
}

function rightsOf(ctx: Ask, user: User): Rights {
  const { rights } = memoryOf(ctx)
  const change = ctx.changes.current()
  let entry = rights.get(user.id)
  if (entry?.change !== change) {
    if (rights.size >= rememberedAtMost) rights.clear()
    entry = { change, everywhere: undefined, on: new Map() }
    rights.set(user.id, entry)
  }
  return entry
}

/** What a user holds on one object, or on everything. */
async function findRights(db: Db, user: User, prn: string | null): Promise<Set<string>> {
  const roles = await heldBy(db, user)
    .innerJoin('role', 'role.id', 'role_assignment.role_id')
    .select('role.permissions')
    .where('role_assignment.object', prn === null ? 'is' : '=', prn)
    .execute()
  return new Set(roles.flatMap(({ permissions }) => JSON.parse(permissions) as string[]))
}

/** What is assigned to a user or to a group that they are in. */
function heldBy(db: Db, { id }: User) {
  const groups = db.selectFrom('group_member').select('group_id').where('user_id', '=', id)
  return db
    .selectFrom('role_assignment')
    .where((row) => row.or([row('role_assignment.user_id', '=', id), row('role_assignment.group_id', 'in', groups)]))
}

async function rolesCarrying(ctx: Ask, permission: string): Promise<number[]> {
  const memory = memoryOf(ctx)
  const change = ctx.changes.current()
  if (memory.roles.change !== change) memory.roles = { change, carrying: new Map() }
  const { carrying } = memory.roles
  let ids = carrying.get(permission)
  if (!ids) {
    const roles = await ctx.db.selectFrom('role').select(['id', 'permissions']).execute()
    ids = roles.filter(({ permissions }) => (JSON.parse(permissions) as string[]).includes(permission)).map(({ id }) => id)
    remember(carrying, permission, ids)
  }
  return ids
}
