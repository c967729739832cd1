import type { ContentPlace, Unit } from '../../core/format.ts'
import { subjectOf } from './companions.ts'
import { manifestType, signatureType, tagType } from './describe.ts'

interface Unsigned {
  unit: Unit
  reference: string
}

/**
 * The manifests that have tags (these, or all but those that say something about an image), with those that they list: clients verify the one
 * that they run. `path` is where they are pulled from. What one of these keys has signed under the same reference is left out.
 */
export async function findUnsigned(
  place: ContentPlace,
  path: string,
  tags: readonly string[],
  keyIds: ReadonlySet<string>,
): Promise<Unsigned[]> {
  const manifests = await unitsIn(place, manifestType)
  const signed = await signedIn(place, keyIds)
  const found: Unsigned[] = []
  for await (const { meta } of place.read(await place.find(tagType, tags.length > 0 ? { names: tags } : {}))) {
    if (tags.length === 0 && subjectOf(meta['name']) !== undefined) continue
    const reference = `${path}:${meta['name']}`
    for (const unit of treeOf(meta['digest'], manifests))
      if (!signed.has(`${unit.key} ${reference}`)) found.push({ unit, reference })
  }
  return found
}

async function unitsIn(place: ContentPlace, type: string): Promise<Map<string, Unit>> {
  const units = new Map<string, Unit>()
  for await (const unit of place.read(await place.find(type))) units.set(unit.key, unit)
  return units
}

async function signedIn(place: ContentPlace, keyIds: ReadonlySet<string>): Promise<Set<string>> {
  const signatures = [...(await unitsIn(place, signatureType)).values()].filter(({ meta }) => keyIds.has(meta['key_id']))
  return new Set(signatures.map(({ meta }) => `${meta['signed_digest']} ${meta['reference']}`))
}

/** A manifest and all that it lists, as far as that is there: a list need not have all its platforms. */
function treeOf(digest: string, manifests: ReadonlyMap<string, Unit>): Unit[] {
  const found = new Map<string, Unit>()
  for (let level = [digest]; level.length > 0; ) {
    const units = level.flatMap((each) => (found.has(each) ? [] : (manifests.get(each) ?? [])))
    for (const unit of units) found.set(unit.key, unit)
    level = units.flatMap(({ meta }) => meta['listed_digests'] as string[])
  }
  return [...found.values()]
}
