import { sql } from 'kysely'
import { Failure } from '../lib/failure.ts'
import { idRows, jsonRows, textRows } from '../store/bulk.ts'
import type { Db, Tx } from '../store/database.ts'
import type { Ctx } from './ctx.ts'
import { leavingAbout, leavingReferences, withReferencesEach } from './references.ts'
import { insertResource } from './resources.ts'
import { commitVersion } from './versions.ts'

/*
 * What has a name (a tag of an image) is brought from one served repository to another, with all that belongs to it: nothing is copied
 * but rows. Part of a transaction: what is missing throws, and then nothing of it happens.
 */

/** What the core needs to know of names of a format. */
export interface NamedKind {
  /** Of the distributions, and of the repositories that names are brought to: `container.container`. */
  readonly type: string
  /** The key of what a name stands for (a digest), from the meta of its unit. */
  keyOf(meta: Record<string, unknown>): string
  /** Other names under which something is kept about a unit, where the format has no better way (signatures). */
  companions(unit: { type: string; key: string }): readonly string[]
}

export interface NamedCopy {
  /** Base paths. */
  readonly from: string
  readonly to: string
  readonly name: string
  /** What the name must stand for, when that matters. */
  readonly key?: string | undefined
}

export interface NamedRemoval {
  readonly path: string
  readonly name: string
}

export interface NamedPromotion {
  readonly kind: NamedKind
  readonly copies: readonly NamedCopy[]
  readonly removals: readonly NamedRemoval[]
  /** Whether what is made takes a permission to read, and what is there must. */
  readonly private: boolean
  /** Paths at which a repository and a distribution may be made. */
  readonly mayMake: ReadonlySet<string>
  readonly userId: number | null
}

export interface Copied {
  readonly to: string
  readonly name: string
  readonly key: string
  readonly changed: boolean
}

/** A repository as it is served at a path. */
export interface ServedNames {
  readonly path: string
  readonly distribution: { uuid: string; type: string }
  readonly repository: { id: number; uuid: string; type: string }
  readonly number: number
  readonly private: boolean
  /** The latest version is served, whichever that is. */
  readonly latest: boolean
}

interface Named {
  id: number
  key: string
}

/** What is served at these paths, of those where something is. */
export async function findServedNames(
  db: Db,
  kind: Pick<NamedKind, 'type'>,
  paths: Iterable<string>,
): Promise<Map<string, ServedNames>> {
  const { rows } = await sql<{
    path: string
    uuid: string
    type: string
    settings: string
    version_id: number | null
    repository_id: number
    repository_uuid: string
    repository_type: string
    number: number
  }>`
    select d.base_path as path, d.uuid, d.type, d.settings, d.version_id,
      r.id as repository_id, r.uuid as repository_uuid, r.type as repository_type, v.number
    from ${textRows(db, new Set(paths))} as p cross join distribution d
    left join version pinned on pinned.id = d.version_id
    join repository r on r.id = coalesce(pinned.repository_id, d.repository_id)
    join version v on v.id = coalesce(d.version_id,
      (select latest.id from version latest where latest.repository_id = r.id order by latest.number desc limit 1))
    where d.base_path = p.text and d.type = ${kind.type}`.execute(db)
  return new Map(
    rows.map(({ path, uuid, type, settings, version_id, repository_id, repository_uuid, repository_type, number }) => [
      path,
      {
        path,
        distribution: { uuid, type },
        repository: { id: repository_id, uuid: repository_uuid, type: repository_type },
        number,
        private: JSON.parse(settings)['private'] === true,
        latest: version_id === null,
      },
    ]),
  )
}

/** Brings names along. Throws Failure invalid, naming what is missing and where; conflict for what may not be made. */
export async function promoteNamed(tx: Tx, formats: Ctx['formats'], promotion: NamedPromotion): Promise<Copied[]> {
  const { kind, copies } = promotion
  const served = await findServedNames(
    tx,
    kind,
    copies.flatMap(({ from, to }) => [from, to]),
  )
  const found = await findCopied(tx, kind, copies, served)
  const before = await findNames(
    tx,
    kind,
    copies.map(({ to, name }) => ({ served: served.get(to), name })),
  )

  const groups = [...Map.groupBy(found, ({ copy }) => `${copy.to}\n${copy.from}`).values()].map((members) => ({
    from: members[0]!.copy.from,
    to: members[0]!.copy.to,
    names: members.map(({ copy }) => copy.name),
    tags: members.map(({ unit }) => unit.id),
    all: [] as number[],
  }))
  const wholes = await wholesOf(
    tx,
    kind,
    groups.map(({ tags, from }) => ({ ids: tags, from: served.get(from)! })),
  )
  for (const [at, group] of groups.entries()) group.all = wholes[at]!
  await refuseIncomplete(tx, groups, served)

  for (const group of groups) if (!served.has(group.to)) served.set(group.to, await makeTarget(tx, formats, promotion, group.to))
  refuseWrongTargets(
    groups.map(({ to }) => served.get(to)!),
    promotion,
  )
  const lacking = await findLacking(
    tx,
    groups.map(({ to, all }) => ({ all, repositoryId: served.get(to)!.repository.id })),
  )
  // Always in the same order: two promotions at a time must not wait for one another.
  for (const { all, repositoryId } of lacking.toSorted((a, b) => a.repositoryId - b.repositoryId))
    await commitVersion(tx, { repositoryId, add: all, remove: [] })
  return found.map(({ copy: { to, name }, unit }, index) => ({ to, name, key: unit.key, changed: before[index]?.id !== unit.id }))
}

/** Takes names away again, with what nothing else needs. Returns how many were there. */
export async function removeNamed(tx: Tx, { kind, removals }: Pick<NamedPromotion, 'kind' | 'removals'>): Promise<number> {
  const served = await findServedNames(
    tx,
    kind,
    removals.map(({ path }) => path),
  )
  refuseAny(
    removals
      .filter(({ path }) => served.has(path) && !served.get(path)!.latest)
      .map(({ path }) => `${path} serves a fixed version.`),
  )
  const units = await findNames(
    tx,
    kind,
    removals.map(({ path, name }) => ({ served: served.get(path), name })),
  )
  const there = removals.flatMap(({ path }, index) => (units[index] ? [{ place: served.get(path)!, unit: units[index] }] : []))
  const byRepository = [...Map.groupBy(there, ({ place }) => place.repository.id)].toSorted(([a], [b]) => a - b)
  for (const [repositoryId, members] of byRepository) {
    const { place: from } = members[0]!
    const gone = await leavingWith(
      tx,
      kind,
      members.map(({ unit }) => unit.id),
      from,
    )
    await commitVersion(tx, { repositoryId, add: [], remove: gone })
  }
  return there.length
}

/** These units, what only they needed, and what is said of nothing but that. */
async function leavingWith(tx: Tx, kind: NamedKind, ids: readonly number[], from: ServedNames): Promise<number[]> {
  const gone = new Set(ids)
  for (let last = ids; last.length > 0; ) {
    const all = [...gone]
    const more = [
      ...(await leavingReferences(tx, all, placeOf(from))),
      ...(await leavingAbout(tx, all, placeOf(from))),
      ...(await companionsOf(tx, kind, [{ ids: all, from }]))[0]!,
    ]
    last = more.filter((id) => !gone.has(id))
    for (const id of last) gone.add(id)
  }
  return [...gone]
}

async function findCopied(
  db: Db,
  kind: NamedKind,
  copies: readonly NamedCopy[],
  served: ReadonlyMap<string, ServedNames>,
): Promise<{ copy: NamedCopy; unit: Named }[]> {
  const units = await findNames(
    db,
    kind,
    copies.map(({ from, name }) => ({ served: served.get(from), name })),
  )
  refuseAny(
    copies.flatMap(({ from, name, key }, index) => {
      const unit = units[index]
      if (!served.has(from)) return `There is no ${from}, so no ${from}:${name}.`
      if (!unit) return `There is no tag ${name} in ${from}.`
      return key !== undefined && unit.key !== key ? `${from}:${name} is ${unit.key}, not ${key}.` : []
    }),
  )
  return copies.map((copy, index) => ({ copy, unit: units[index]! }))
}

/** The units that have these names where they are served, in order. */
async function findNames(
  db: Db,
  { keyOf }: NamedKind,
  wanted: readonly { served: ServedNames | undefined; name: string }[],
): Promise<(Named | undefined)[]> {
  const asked = wanted.flatMap(({ served, name }, at) =>
    served ? [{ at, name, repository_id: served.repository.id, number: served.number }] : [],
  )
  const table = jsonRows(db, asked, { at: 'bigint', name: 'text', repository_id: 'bigint', number: 'bigint' })
  const { rows } = await sql<{ at: number; id: number; meta: string }>`
    select w.at, c.id, c.meta from ${table} as w cross join membership m cross join content c
    where m.repository_id = w.repository_id and m.name = w.name and c.id = m.content_id
      and m.added_in <= w.number and (m.removed_in is null or m.removed_in > w.number)`.execute(db)
  const found: (Named | undefined)[] = wanted.map(() => undefined)
  for (const { at, id, meta } of rows) found[at] = { id, key: keyOf(JSON.parse(meta)) }
  return found
}

interface Source {
  ids: readonly number[]
  from: ServedNames
}

const placeOf = ({ repository, number }: ServedNames) => ({ repository_id: repository.id, number })

/** Names and all that belongs to them: what they are made of, what is said of that, and what is said under names of its own. */
async function wholesOf(db: Db, kind: NamedKind, sources: readonly Source[]): Promise<number[][]> {
  const places = sources.map(({ from }) => placeOf(from))
  const wholes = await withReferencesEach(
    db,
    sources.map(({ ids }, at) => ({ ids, place: places[at]! })),
  )
  const companions = await companionsOf(
    db,
    kind,
    sources.map(({ from }, at) => ({ from, ids: wholes[at]! })),
  )
  if (companions.every((ids) => ids.length === 0)) return wholes
  return withReferencesEach(
    db,
    wholes.map((ids, at) => ({ ids: [...ids, ...companions[at]!], place: places[at]! })),
  )
}

async function companionsOf(db: Db, kind: NamedKind, sources: readonly Source[]): Promise<number[][]> {
  const units = sources.flatMap(({ ids }, at) => ids.map((id) => ({ at, id })))
  const { rows } = await sql<{ at: number; type: string; key: string }>`
    select i.at, c.type, c.key from ${jsonRows(db, units, { at: 'bigint', id: 'bigint' })} as i cross join content c
    where c.id = i.id and c.name is null`.execute(db)
  const wanted = rows.flatMap(({ at, ...unit }) => kind.companions(unit).map((name) => ({ at, served: sources[at]!.from, name })))
  const found = await findNames(db, kind, wanted)
  const companions: number[][] = sources.map(() => [])
  for (const [index, unit] of found.entries()) if (unit) companions[wanted[index]!.at]!.push(unit.id)
  return companions
}

interface Group {
  readonly from: string
  readonly names: readonly string[]
  readonly all: readonly number[]
}

/** Nothing is brought along in part: all that is named must be in the version, and its bytes here or to be fetched. */
async function refuseIncomplete(db: Db, groups: readonly Group[], served: ReadonlyMap<string, ServedNames>): Promise<void> {
  const units = groups.flatMap(({ from, all }, at) => {
    const place = placeOf(served.get(from)!)
    return all.map((id) => ({ at, id, ...place }))
  })
  const table = jsonRows(db, units, { at: 'bigint', id: 'bigint', repository_id: 'bigint', number: 'bigint' })
  const missing = await sql<{ at: number; key: string }>`
    select i.at, r.key from ${table} as i cross join reference r
    where r.content_id = i.id and r.about = 0 and not exists (
      select 1 from content c cross join membership m
      where c.type = r.type and c.key = r.key and m.repository_id = i.repository_id and m.content_id = c.id
        and m.added_in <= i.number and (m.removed_in is null or m.removed_in > i.number))`.execute(db)
  const problems = missing.rows.map(
    ({ at, key }) => `${groups[at]!.from}:${groups[at]!.names.join(', ')} is not complete: ${key} is missing.`,
  )
  const owner = new Map(groups.flatMap((group) => group.all.map((id) => [id, group] as const)))
  const { rows } = await sql<{ id: number; path: string }>`
    select f.content_id as id, f.path from ${idRows(db, owner.keys())} as i cross join file f
    where f.content_id = i.id and f.blob_id is null and not exists (select 1 from source s where s.file_id = f.id)`.execute(db)
  for (const { id, path } of rows)
    problems.push(`${owner.get(id)!.from}:${owner.get(id)!.names.join(', ')} is not complete: the bytes of ${path} are not here.`)
  refuseAny(problems)
}

/** Those that lack something of what they are to have: most images stay what they are from one promotion to the next. */
async function findLacking<T extends { all: readonly number[]; repositoryId: number }>(
  db: Db,
  wanted: readonly T[],
): Promise<T[]> {
  const units = wanted.flatMap(({ all, repositoryId }, at) => all.map((id) => ({ at, id, repository_id: repositoryId })))
  const table = jsonRows(db, units, { at: 'bigint', id: 'bigint', repository_id: 'bigint' })
  const { rows } = await sql<{ at: number }>`
    select distinct i.at from ${table} as i where not exists (
      select 1 from membership m where m.repository_id = i.repository_id and m.content_id = i.id and m.removed_in is null)`.execute(
    db,
  )
  return rows.map(({ at }) => wanted[at]!)
}

/** A repository and a distribution for what has none yet. Nobody may read it who could not read what lies beside it. */
async function makeTarget(
  tx: Tx,
  formats: Ctx['formats'],
  { kind, userId, mayMake, private: isPrivate }: NamedPromotion,
  path: string,
): Promise<ServedNames> {
  if (!mayMake.has(path)) throw new Failure('conflict', `${path} was deleted meanwhile.`, { field: 'images' })
  const repository = await insertResource(tx, formats, 'repository', kind.type, { name: path }, userId)
  const settings = { private: isPrivate }
  const values = { name: path, base_path: path, repository_id: repository.id, settings }
  const distribution = await insertResource(tx, formats, 'distribution', kind.type, values, userId)
  return { path, distribution, repository, number: 0, private: isPrivate, latest: true }
}

function refuseWrongTargets(targets: readonly ServedNames[], { kind, private: isPrivate }: NamedPromotion): void {
  refuseAny(
    targets.flatMap((target) => {
      if (target.repository.type !== kind.type) return `${target.path} is filled by pushes: nothing is promoted to it.`
      if (!target.latest) return `${target.path} serves a fixed version: nothing is promoted to it.`
      return isPrivate && !target.private ? `${target.path} can be pulled by anyone: make it private first.` : []
    }),
  )
}

function refuseAny(problems: readonly string[]): void {
  if (problems.length === 0) return
  const more = problems.length > 5 ? ` (and ${problems.length - 5} more)` : ''
  throw new Failure('invalid', `${problems.slice(0, 5).join(' ')}${more}`, { field: 'images' })
}
