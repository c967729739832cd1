import { createHash, randomUUID } from 'node:crypto'
import { exportJWK, generateKeyPair, importJWK, type JWK } from 'jose'
import { type Micros, now } from '../../lib/time.ts'
import { type Db, transact } from '../../store/database.ts'

/** Only this, whatever a token says of itself. */
export const algorithm = 'ES256'
/** Seconds. */
export const tokenLife = 300

export type Key = Awaited<ReturnType<typeof importJWK>>

/** The keys that tokens are signed with: the same in every process, the newest signs, and the one before is good until its tokens ended. */
export interface TokenKeys {
  signing(): Promise<{ kid: string; key: Key }>
  /** The public half of a key of our own; undefined when there is none of this name. */
  verifying(kid: string): Promise<Key | undefined>
}

interface StoredKey {
  kid: string
  /** With its private half. */
  jwk: JWK
  created: Micros
}

const setting = 'registry_token_keys'
const second: Micros = 1_000_000
const rotateAfter = 30 * 86_400 * second
/** A key is good for tokens that were signed just before the next one was known everywhere. */
const overlap = 2 * tokenLife * second
/** Milliseconds between two looks for a key that is not known: anybody can make a name up. */
const lookAgain = 5_000

export function openTokenKeys(db: Db): TokenKeys {
  let stored: StoredKey[] = []
  let looked = Number.NEGATIVE_INFINITY
  const imported = new Map<string, Promise<Key>>()

  function importOnce(name: string, jwk: JWK): Promise<Key> {
    let key = imported.get(name)
    if (!key) {
      key = importJWK(jwk, algorithm)
      imported.set(name, key)
    }
    return key
  }

  return {
    async signing() {
      let newest = stored.at(-1)
      if (!newest || newest.created < now() - rotateAfter) {
        stored = await rotate(db)
        newest = stored.at(-1)!
      }
      return { kid: newest.kid, key: await importOnce(`private ${newest.kid}`, newest.jwk) }
    },
    async verifying(kid) {
      const find = () => stored.find((each) => each.kid === kid)
      if (!find() && performance.now() > looked + lookAgain) {
        looked = performance.now()
        stored = await readKeys(db)
      }
      const found = find()
      return found && importOnce(kid, publicHalf(found.jwk))
    },
  }
}

function publicHalf({ kty, crv, x, y }: JWK): JWK {
  return { kty: kty!, crv: crv!, x: x!, y: y! }
}

async function readKeys(db: Db): Promise<StoredKey[]> {
  const row = await db.selectFrom('setting').select('value').where('key', '=', setting).executeTakeFirst()
  return row ? JSON.parse(row.value) : []
}

/** Adds a key when the newest is old, in one transaction: of two processes one makes it, and both have it then. */
async function rotate(db: Db): Promise<StoredKey[]> {
  const fresh = await makeKey()
  return transact(db, async (tx) => {
    await tx
      .insertInto('setting')
      .values({ key: setting, value: '[]' })
      .onConflict((conflict) => conflict.doNothing())
      .execute()
    // An update that changes nothing makes the others wait.
    const row = await tx
      .updateTable('setting')
      .set(({ ref }) => ({ value: ref('value') }))
      .where('key', '=', setting)
      .returning('value')
      .executeTakeFirstOrThrow()
    const keys: StoredKey[] = JSON.parse(row.value)
    const newest = keys.at(-1)
    if (newest && newest.created >= now() - rotateAfter) return keys
    // A key is superseded when the one after it was made.
    const good = keys.filter((_, index) => (keys[index + 1]?.created ?? now()) > now() - overlap)
    const next = [...good, fresh]
    await tx
      .updateTable('setting')
      .set({ value: JSON.stringify(next) })
      .where('key', '=', setting)
      .execute()
    return next
  })
}

async function makeKey(): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { kid: createHash('sha256').update(randomUUID()).digest('hex').slice(0, 24), jwk, created: now() }
}
