import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import { newUuid } from '../../lib/uuid.ts'
import { type Db, transact, type Tx } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import type { Ctx } from '../ctx.ts'
import { keyIn, prnOf } from '../names.ts'
import { signAttached, signDetached } from './sign.ts'

/**
 * What a service makes: `core.detached` an ASCII-armored signature beside a file (of metadata), `core.attached` a signed message (about an
 * image).
 */
export type SigningType = 'core.detached' | 'core.attached'

export type NewSigningService = Pick<Row<'signing_service'>, 'name' | 'public_key' | 'fingerprint' | 'script' | 'gnupg_home'> & {
  type: SigningType
}

/** Makes a signing service, once its script has signed something and that verifies. Throws Failure invalid for a name that is taken, and as sign.ts. */
export async function addSigningService(db: Db, service: NewSigningService): Promise<Row<'signing_service'>> {
  await requireFree(db, service.name)
  await tryOut(service)
  const at = now()
  return transact(db, async (tx) => {
    await requireFree(tx, service.name)
    return tx
      .insertInto('signing_service')
      .values({ ...service, uuid: newUuid(), created: at, updated: at })
      .returningAll()
      .executeTakeFirstOrThrow()
  })
}

export async function listSigningServices(db: Db): Promise<Row<'signing_service'>[]> {
  return db.selectFrom('signing_service').selectAll().orderBy('name').execute()
}

/** Throws Failure not_found; conflict while repositories sign with it, naming them. */
export async function removeSigningService({ db, formats }: Pick<Ctx, 'db' | 'formats'>, name: string): Promise<void> {
  await transact(db, async (tx) => {
    const row = await tx.selectFrom('signing_service').selectAll().where('name', '=', name).executeTakeFirst()
    if (!row) throw new Failure('not_found', `There is no signing service ${name}.`)
    const users = await namesOfUsers(tx, prnOf(formats, 'signing_service', row))
    if (users.length > 0)
      throw new Failure(
        'conflict',
        `The signing service ${name} signs for ${users.join(', ')}: let them sign with another, or not at all, first.`,
      )
    await tx.deleteFrom('signing_service').where('id', '=', row.id).execute()
  })
}

/** The signing service that a setting names. Throws Failure not_found. */
export async function getSigningService(db: Db, prn: string): Promise<Row<'signing_service'>> {
  const row = await db.selectFrom('signing_service').selectAll().where('uuid', '=', keyIn(prn)).executeTakeFirst()
  if (!row) throw new Failure('not_found', 'The signing service was removed.')
  return row
}

async function requireFree(db: Db, name: string): Promise<void> {
  const other = await db.selectFrom('signing_service').select('id').where('name', '=', name).executeTakeFirst()
  if (other) throw new Failure('invalid', `There is a signing service ${name} already: remove it first, or choose another name.`)
}

async function tryOut(service: NewSigningService): Promise<void> {
  if (service.type === 'core.detached') await signDetached(service, { name: 'test', bytes: Buffer.from('arbitrary data') })
  else await signAttached(service, { name: 'manifest.json', bytes: Buffer.from(JSON.stringify(testManifest)) }, 'test')
}

const empty = 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'

const testManifest = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: empty, size: 2 },
  layers: [{ mediaType: 'application/vnd.oci.empty.v1+json', digest: empty, size: 2 }],
}

/** Repositories are few, so all are looked at. */
async function namesOfUsers(tx: Tx, prn: string): Promise<string[]> {
  const rows = await tx.selectFrom('repository').select(['name', 'settings']).orderBy('name').execute()
  return rows.filter(({ settings }) => Object.values(JSON.parse(settings)).includes(prn)).map(({ name }) => name)
}
