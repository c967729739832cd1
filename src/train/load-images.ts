import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { selectRepositories } from './filter.ts'
import { loadMirroredImage } from './load-repository.ts'
import type { Line, MirroredImage, TrainImages } from './train.ts'
import { fields, flag, isList, listOf, members, name, oneOf, type Place, wrong } from './yaml-document.ts'

const known = ['registry', 'mirrored', 'builders', 'private', 'map', 'distributions', 'unbuildable'] as const

/** Reads `images:`. Its other keys are stages, with the namespace of each. */
export function loadImages(place: Place, stages: readonly string[], defaults: ReadonlyMap<string, Place>): TrainImages {
  const found = fields(place, [...known, ...stages])
  const namespaces = loadNamespaces(place, found, stages)
  const first = namespaces.get(stages[0]!)!
  const registry = found.get('registry')
  const names = registry ? listOf(imageName)(registry) : []
  const repeated = names.find((each, index) => names.indexOf(each) !== index)
  if (repeated !== undefined) throw wrong(registry!, `"${repeated}" is named twice.`)

  const mirrored = found.has('mirrored') ? loadMirrored(found.get('mirrored')!, names, first, defaults) : []
  if (names.length + mirrored.length === 0)
    throw wrong(place, '"registry" (images that are pushed) or "mirrored" (images that are synced) is missing.')
  return {
    names,
    mirrored,
    namespaces,
    builders: found.has('builders') ? listOf(name)(found.get('builders')!) : ['builders'],
    private: found.has('private') ? flag(found.get('private')!) : true,
    ...loadMap(place, found, names),
  }
}

/** Names as registries take them: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests */
const segment = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const imagePattern = new RegExp(`^${segment}(?:/${segment})*$`)
const namespacePattern = new RegExp(`^${segment}$`)

function imageName(place: Place): string {
  const image = name(place)
  checkImageName(place, image)
  return image
}

function checkImageName(place: Place, image: string): void {
  if (!imagePattern.test(image))
    throw wrong(place, `"${image}" cannot be the name of an image: small letters, digits, ".", "_", "-" and "/".`)
}

function loadNamespaces(place: Place, found: ReadonlyMap<string, Place>, stages: readonly string[]): Map<string, string> {
  const namespaces = new Map<string, string>()
  for (const stage of stages) {
    const at = found.get(stage)
    if (!at) continue
    const namespace = name(at)
    if (!namespacePattern.test(namespace))
      throw wrong(at, `"${namespace}" cannot be a namespace: one segment of small letters, digits, ".", "_" and "-".`)
    const other = [...namespaces].find(([, taken]) => taken === namespace)
    // Whoever may pull from the one could pull from the other.
    if (other) throw wrong(at, `namespace ${namespace} is already that of ${other[0]}.`)
    namespaces.set(stage, namespace)
  }
  for (const stage of [stages[0]!, stages.at(-1)!])
    if (!namespaces.has(stage)) throw wrong(place, `"${stage}" is missing: the namespace of the images at this stage.`)
  return namespaces
}

function loadMirrored(
  place: Place,
  names: readonly string[],
  namespace: string,
  defaults: ReadonlyMap<string, Place>,
): MirroredImage[] {
  return members(place).map(([key, at]) => {
    checkImageName(at, key)
    if (names.includes(key)) throw wrong(at, `"${key}" is pushed already: it is below registry.`)
    return loadMirroredImage(key, at, `${namespace}/${key}`, defaults)
  })
}

function loadMap(place: Place, found: ReadonlyMap<string, Place>, names: readonly string[]) {
  const map = found.has('map') ? oneOf('kolla')(found.get('map')!) : undefined
  for (const key of ['distributions', 'unbuildable'] as const)
    if (map === undefined && found.has(key)) throw wrong(found.get(key)!, 'this goes with "map: kolla".')
  if (map === undefined) return { map, distributions: [], unbuildable: new Map<string, string[]>() }

  const at = found.get('distributions')
  if (!at) throw wrong(place, '"distributions" is missing: the base distributions that tags name, as in [rocky-9].')
  const distributions = listOf((item) => {
    const distribution = name(item)
    if (!/^[a-z][\w.]*(-[\w.]+)*$/.test(distribution))
      throw wrong(item, `"${distribution}" is not a distribution, as in rocky-9.`)
    return distribution
  })(at)
  const unbuildable = new Map<string, string[]>()
  for (const [distribution, list] of found.has('unbuildable') ? members(found.get('unbuildable')!) : []) {
    if (!distributions.includes(distribution))
      throw wrong(list, `"${distribution}" is not among the distributions.${hint(distribution, distributions)}`)
    const images = listOf((item) => {
      const image = name(item)
      if (!names.includes(image)) throw wrong(item, `there is no image "${image}" below registry.${hint(image, names)}`)
      return image
    })(list)
    unbuildable.set(distribution, images)
  }
  return { map, distributions, unbuildable }
}

/** Reads `images:` of a line: names or filters of images; with a map, base distributions and mirrored images. */
export function loadLineImages(place: Place, images: TrainImages | undefined): Pick<Line, 'images' | 'distributions'> {
  if (!images) throw wrong(place, 'the train declares no images.')
  const mapped = images.map !== undefined
  const single = [...(mapped ? [] : images.names), ...images.mirrored.map((each) => each.name)]
  const selectable = single.map((each) => ({ name: each, group: 'images' }))
  const distributions = new Set<string>()
  const chosen = new Set<string>()
  const read = (item: Place) => {
    const word = name(item)
    if (images.distributions.includes(word)) {
      distributions.add(word)
      return
    }
    try {
      for (const each of selectRepositories(selectable, [word], 'image')) chosen.add(each.name)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      if (mapped) throw wrong(item, `"${word}" is no base distribution${mirroredToo(images)}.${hint(word, images.distributions)}`)
      throw wrong(item, error.message)
    }
  }
  if (isList(place)) listOf(read)(place)
  else read(place)
  return {
    images: single.filter((each) => chosen.has(each)),
    distributions: images.distributions.filter((each) => distributions.has(each)),
  }
}

function mirroredToo({ mirrored }: TrainImages): string {
  return mirrored.length > 0 ? ' and no mirrored image' : ''
}
