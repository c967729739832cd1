import { sql } from 'kysely'
import type { User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { namespaceIn } from '../../core/access/namespaces.ts'
import { insertResource, isNameTaken } from '../../core/resources.ts'
import { hasCode } from '../../lib/failure.ts'
import { transact, type Tx } from '../../store/database.ts'
import { OciFailure } from './failures.ts'
import { containerType, type Guarded, guardedOf, namespacePrnOf, namespaceType, pushType } from './rights.ts'
import type { Held } from './manifests.ts'
import type { HeldBlob } from './blobs.ts'

/** What a name of the registry stands for: a distribution and what it serves, as of a change. */
export interface Place extends Guarded {
  readonly name: string
  readonly repository: { readonly id: number; readonly type: string; readonly settings: Record<string, unknown> }
  /** The version that is served. */
  readonly version: { readonly repository_id: number; readonly number: number }
  /** Whether the distribution serves this version for ever, not the repository's latest. */
  readonly isPinned: boolean
  /** Where it is fetched from what it does not have. */
  readonly pulled: { readonly remoteId: number } | undefined
  readonly contents: Contents
}

/** What was found in a version. It never changes, so it is remembered however much else does. */
export interface Contents {
  /** By tag and by digest. */
  readonly manifests: Map<string, Held>
  readonly blobs: Map<string, HeldBlob>
}

export interface Places {
  /** The place with this name; undefined also when its distribution serves nothing. */
  find(name: string): Promise<Place | undefined>
  /** What stands where no place is, as of the last look: private, and nobody has a role on it. Rights are asked of it as of a place, which takes as long. */
  absence(name: string): Guarded
  /** As find, from memory alone. Undefined also when it would have to look. */
  recall(name: string): Place | undefined
}

const mostPlaces = 20_000
const mostVersions = 5_000

/** Finds places, and remembers them while ctx.changes does not move. */
export function openPlaces(ctx: Ctx): Places {
  let places = new Map<string, Place>()
  let absences = new Map<string, Guarded>()
  let seen = ctx.changes.current()
  const versions = new Map<string, Contents>()

  function memory(): Map<string, Place> {
    const change = ctx.changes.current()
    if (change !== seen || places.size > mostPlaces) {
      places = new Map()
      absences = new Map()
      seen = change
    }
    // Anybody can ask for names that are not there.
    if (absences.size > mostPlaces) absences = new Map()
    return places
  }

  function contentsOf(repositoryId: number, number: number): Contents {
    const key = `${repositoryId} ${number}`
    const contents = versions.get(key) ?? { manifests: new Map(), blobs: new Map() }
    versions.delete(key)
    versions.set(key, contents)
    if (versions.size > mostVersions) versions.delete(versions.keys().next().value!)
    return contents
  }

  return {
    recall: (name) => memory().get(name),
    absence: (name) => absences.get(name) ?? absent(name, undefined),
    async find(name) {
      const known = memory()
      const remembered = known.get(name)
      if (remembered || absences.has(name)) return remembered
      const found = await readPlace(ctx, name)
      if (!('version' in found)) {
        if (known === memory()) absences.set(name, found)
        return undefined
      }
      const { repository_id, number } = found.version
      const place = { ...found, contents: contentsOf(repository_id, number) }
      // What was looked up meanwhile may be of before a change.
      if (known === memory()) known.set(name, place)
      return place
    },
  }
}

/** Sets what was found in a version, within bounds. */
export function rememberIn<V>(map: Map<string, V>, key: string, value: V): void {
  if (map.size >= 20_000) map.clear()
  map.set(key, value)
}

function absent(name: string, namespacePrn: string | undefined): Guarded {
  return { prn: `absent ${name}`, namespacePrn, isPrivate: true }
}

/** Looks for what is there and for what is not in the same way. */
async function readPlace({ db, formats }: Pick<Ctx, 'db' | 'formats'>, name: string): Promise<Omit<Place, 'contents'> | Guarded> {
  const row = await db
    .selectFrom(sql<{ name: string }>`(select cast(${name} as text) as name)`.as('asked'))
    .leftJoin('distribution', (join) =>
      join.onRef('distribution.base_path', '=', 'asked.name').on('distribution.type', '=', containerType),
    )
    .leftJoin('version as pinned', 'pinned.id', 'distribution.version_id')
    .leftJoin('repository', (join) =>
      join.on('repository.id', '=', ({ fn }) => fn.coalesce('distribution.repository_id', 'pinned.repository_id')),
    )
    .leftJoin('namespace', (join) => join.on('namespace.type', '=', namespaceType).on('namespace.name', '=', namespaceIn(name)))
    .leftJoin('distribution as maker', 'maker.id', 'distribution.made_by_id')
    .select(['distribution.remote_id as remoteId', 'maker.uuid as makerUuid'])
    .select(['distribution.uuid', 'distribution.settings', 'distribution.version_id', 'repository.id', 'repository.type'])
    .select(['repository.settings as repositorySettings', 'namespace.uuid as namespaceUuid'])
    .select(({ fn }) =>
      fn
        .coalesce('pinned.number', sql<number>`(select max(number) from version where version.repository_id = repository.id)`)
        .as('number'),
    )
    .executeTakeFirstOrThrow()
  const { id, uuid, type, settings, repositorySettings, namespaceUuid, remoteId, makerUuid } = row
  const namespace = namespaceUuid === null ? undefined : { uuid: namespaceUuid }
  if (id === null || uuid === null || type === null || settings === null || repositorySettings === null || row.number === null)
    return absent(name, namespace && namespacePrnOf(formats, namespace))
  const maker = makerUuid === null ? undefined : { uuid: makerUuid }
  return {
    name,
    ...guardedOf(formats, { uuid, settings }, namespace, maker),
    pulled: maker && remoteId !== null ? { remoteId } : undefined,
    repository: { id, type, settings: JSON.parse(repositorySettings) },
    version: { repository_id: id, number: Number(row.number) },
    isPinned: row.version_id !== null,
  }
}

/**
 * Makes what a first push needs: namespace, repository and distribution, private, and the pusher owns what is new. Nothing happens when
 * somebody else just made it. Throws OciFailure DENIED when the name is taken by something that cannot be pushed to.
 */
export async function beginPlace(ctx: Ctx, name: string, user: User): Promise<void> {
  await madeOnce(() => transact(ctx.db, (tx) => insertPlace(tx, ctx.formats, name, user)))
  ctx.changes.bump()
}

/** On PostgreSQL two may make the same place at once: the later one, told that it is there, looks again and finds what the other has made. */
export async function madeOnce(make: () => Promise<void>): Promise<void> {
  await make().catch((error: unknown) => {
    // Whether the database says it or the look before depends on when the other one committed.
    if (!hasCode(error, '23505', 'invalid')) throw error
    return make()
  })
}

async function insertPlace(tx: Tx, formats: Ctx['formats'], name: string, user: User): Promise<void> {
  const there = await tx.selectFrom('distribution').select('type').where('base_path', '=', name).executeTakeFirst()
  if (there?.type === containerType) return
  if (there || (await isNameTaken(tx, 'distribution', name, -1)) || (await isNameTaken(tx, 'repository', name, -1)))
    throw new OciFailure('DENIED', `${name} cannot be pushed to: the name is taken by something else.`)
  // One version, as in Pulp: what a tag was before is not kept.
  const repository = await insertResource(tx, formats, 'repository', pushType, { name, retain_versions: 1 }, null)
  const values = { name, base_path: name, repository_id: repository.id, settings: { private: true } }
  await insertResource(tx, formats, 'distribution', containerType, values, user.id)
}
