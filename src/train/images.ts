import { tagsOfImages } from './kolla.ts'
import type { Pins } from './pins.ts'
import { nearestStamps } from './stamp.ts'
import { parseTagPin, stampOfTag } from './tags.ts'
import type { Line, Train, TrainImages } from './train.ts'

/* Which images a line is pinned to, and what a promotion does with them. Pure; served-images.ts reads what the server has. */

/** A tag of an image that a line is pinned to. */
export interface WantedImage {
  readonly image: string
  readonly tag: string
  /** What the tag must stand for; undefined when any will do. */
  readonly digest: string | undefined
}

export interface ImageRefusal {
  readonly image: string
  readonly reason: string
}

export interface WantedImages {
  readonly wanted: readonly WantedImage[]
  readonly refused: readonly ImageRefusal[]
  readonly unpinned: readonly string[]
}

/** Resolves the pins of a line to tags of images. */
export function wantedImages(images: TrainImages | undefined, line: Line, pins: Pins): WantedImages {
  const single = [...pins.images].map(([image, pin]) => ({ image, ...parseTagPin(pin) }))
  const unpinned = line.images.filter((each) => !pins.images.has(each))
  if (!images || line.distributions.length === 0) return { wanted: single, refused: [], unpinned }
  if (pins.kolla.size === 0) return { wanted: single, refused: [], unpinned: [...unpinned, ...images.names] }

  const wanted = new Map<string, WantedImage>()
  const refused: ImageRefusal[] = []
  for (const { image, distribution, tags } of tagsOfImages(images.names, line.distributions, pins.kolla, images.unbuildable))
    for (const tag of tags)
      if (tag === undefined) refused.push({ image, reason: `no tag for ${distribution}: kolla_image_tags.openstack has none.` })
      else wanted.set(`${image}:${tag}`, { image, tag, digest: undefined })
  return { wanted: [...wanted.values(), ...single], refused, unpinned }
}

/** How many images a line has, in words that are counted: with a map, those that a distribution of the line has. */
export function imagesOfLine(images: TrainImages | undefined, { images: single, distributions }: Line): string[] {
  const mapped = (images?.names ?? []).filter((image) =>
    distributions.some((distribution) => !images!.unbuildable.get(distribution)?.includes(image)),
  )
  return [...mapped, ...single]
}

/** `example-dev/nova-api`: where an image is at a stage; undefined where the stage has no namespace. */
export function pathAt(images: TrainImages, stage: string, image: string): string | undefined {
  const namespace = images.namespaces.get(stage)
  return namespace === undefined ? undefined : `${namespace}/${image}`
}

/** The manifest that each tag stands for, by the path of the image. */
export type TagsByPath = ReadonlyMap<string, ReadonlyMap<string, string>>

export interface ImageMove extends WantedImage {
  readonly from: string
  readonly to: string
}

export interface Untag {
  readonly image: string
  readonly path: string
  readonly tag: string
}

export interface ImagePlan {
  /** Tags that the stage gets. */
  readonly move: readonly ImageMove[]
  /** Tags that it has already. */
  readonly there: readonly ImageMove[]
  /** Tags that later stages lose: a promotion to an earlier stage takes back. */
  readonly untag: readonly Untag[]
  readonly refused: readonly ImageRefusal[]
}

/** What a promotion to a stage does with images. */
export function planImages(
  { images, stages }: Pick<Train, 'images' | 'stages'>,
  stage: string,
  wanted: readonly WantedImage[],
  tags: TagsByPath,
): ImagePlan {
  const plan = { move: [] as ImageMove[], there: [] as ImageMove[], untag: [] as Untag[], refused: [] as ImageRefusal[] }
  if (!images) return plan
  for (const each of wanted) {
    const { image, tag } = each
    const from = pathAt(images, stages[0]!, image)!
    for (const later of stages.slice(stages.indexOf(stage) + 1)) {
      const path = pathAt(images, later, image)
      if (path !== undefined && tags.get(path)?.has(tag)) plan.untag.push({ image, path, tag })
    }
    const manifest = tags.get(from)?.get(tag)
    const to = stage === stages[0] ? undefined : pathAt(images, stage, image)
    if (manifest === undefined) plan.refused.push({ image, reason: missing(from, tag, [...(tags.get(from)?.keys() ?? [])]) })
    else if (to !== undefined) plan[tags.get(to)?.get(tag) === manifest ? 'there' : 'move'].push({ ...each, from, to })
  }
  return plan
}

function missing(path: string, tag: string, existing: readonly string[]): string {
  const nearest = nearestTags(tag, existing)
  if (nearest.length === 0)
    return `no tag ${tag} in ${path}${existing.length > 0 ? '' : ', nor any other'}. Push it, or pin another.`
  return `no tag ${tag} in ${path} (nearest: ${nearest.join(', ')}). Push it, or pin the nearest.`
}

/** Tags of the same kind from before and after it. */
function nearestTags(tag: string, existing: readonly string[]): string[] {
  const stamp = stampOfTag(tag)
  if (stamp === undefined) return existing.slice(0, 2)
  const head = tag.slice(0, -stamp.length)
  const stamps = existing.filter((each) => each.startsWith(head)).flatMap((each) => stampOfTag(each) ?? [])
  return nearestStamps(stamp, stamps).map((each) => `${head}${each}`)
}
