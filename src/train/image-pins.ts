import { Failure } from '../lib/failure.ts'
import { imagesOfLine, pathAt, type TagsByPath } from './images.ts'
import { tagOfContainer, containersOf } from './kolla.ts'
import { planKollaTags } from './kolla-pins.ts'
import { type PinEntry, type Pins, sections } from './pins.ts'
import { stampOfTag, tagPattern } from './tags.ts'
import type { Line, MirroredImage, Train } from './train.ts'

/** A pin that changes; `from` is undefined when there was none. */
export interface ImagePinChange extends PinEntry {
  readonly from: string | undefined
}

interface Found {
  /** Tags of the images of the line, where they are pushed and mirrored to. */
  tags: TagsByPath
  /** What the pinned tag of each mirrored image stands for, by image. */
  digests: ReadonlyMap<string, string>
}

/**
 * The pins that change when these images of a line are pinned to the newest tag that was pushed for it, or the newest at or before `at`.
 * Throws Failure not_found for an image without such a tag: then none is pinned.
 */
export function planImagePins(
  train: Pick<Train, 'images' | 'stages'>,
  line: Line,
  chosen: readonly string[],
  pins: Pins,
  { tags, digests }: Found,
  at?: string,
): ImagePinChange[] {
  const { images, stages } = train
  if (!images) return []
  const newest = (image: string, distribution?: string) => {
    const path = pathAt(images, stages[0]!, image)!
    const found = newestTag([...(tags.get(path)?.keys() ?? [])], tagPattern(line.name, distribution), at)
    if (found === undefined) throw new Failure('not_found', none(image, path, line.name, distribution, at))
    return found
  }
  const single = line.images
    .filter((image) => chosen.includes(image))
    .flatMap((image): ImagePinChange[] => {
      const mirrored = images.mirrored.find((each) => each.name === image)
      const value = mirrored ? `${pinnedTag(mirrored)}@${getDigest(digests, mirrored)}` : newest(image)
      const from = pins.images.get(image)
      return from === value ? [] : [{ path: [sections.images, image], from, value }]
    })
  const mapped = line.distributions.flatMap((distribution) => {
    const wanted = new Map<string, string>()
    for (const image of imagesOfLine(images, { ...line, images: [], distributions: [distribution] })) {
      // What is not chosen stays as it is, if it is anything.
      const now = tagOfContainer(pins.kolla, distribution, containersOf(image)[0]!)
      const tag = chosen.includes(image) ? newest(image, distribution) : now
      if (tag !== undefined) wanted.set(image, tag)
    }
    return planKollaTags(distribution, pins.kolla, wanted).map(
      ({ key, from, to }): ImagePinChange => ({ path: [sections.kolla, key, distribution], from, value: to }),
    )
  })
  return [...single, ...mapped]
}

function newestTag(tags: readonly string[], pattern: RegExp, at: string | undefined): string | undefined {
  return tags
    .filter((tag) => pattern.test(tag) && (at === undefined || stampOfTag(tag)! <= at))
    .toSorted()
    .at(-1)
}

/** Upstream's tags say nothing of time: the train names the one that it follows. */
export function pinnedTag({ name, tags }: MirroredImage): string {
  const [first] = tags
  if (first === undefined || /[*?]/.test(first))
    throw new Failure('invalid', `${name}: put the tag that is to be pinned first in its "tags".`)
  return first
}

function getDigest(digests: ReadonlyMap<string, string>, { name, tags, repository }: MirroredImage): string {
  const digest = digests.get(name)
  if (digest === undefined)
    throw new Failure('not_found', `${name}: no tag ${tags[0]} in ${repository.name} yet. Run "signalbox sync ${name}".`)
  return digest
}

function none(image: string, path: string, line: string, distribution: string | undefined, at: string | undefined): string {
  const like = [line, ...(distribution === undefined ? [] : [distribution]), '<time>'].join('-')
  return `${image}: no tag ${like} in ${path}${at === undefined ? ' yet' : ` at or before ${at}`}.`
}
