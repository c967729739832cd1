import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { pinnedTag } from './image-pins.ts'
import { imagesOfLine, pathAt, type TagsByPath, wantedImages } from './images.ts'
import type { Pins } from './pins.ts'
import { missingSnapshot, type Snapshot, standsAt } from './snapshots.ts'
import { parseAt } from './stamp.ts'
import { stampOfTag, tagPattern } from './tags.ts'
import type { Line, Train, TrainImages } from './train.ts'

/* One side of a comparison: what stands at a stage, what a line is pinned to, or what there was at a time. Pure. */

export type State =
  | { readonly kind: 'stage'; readonly stage: string }
  | { readonly kind: 'pins' }
  | { readonly kind: 'time'; readonly at: string }

/** Reads a stage, `pins`, or a time. Throws Failure invalid. */
export function parseState(train: Train, text: string): State {
  if (train.stages.includes(text)) return { kind: 'stage', stage: text }
  if (text === 'pins') return { kind: 'pins' }
  if (/^\d{4}/.test(text)) return { kind: 'time', at: parseAt(text) }
  const known = [...train.stages, 'pins']
  throw new Failure(
    'invalid',
    `"${text}" is neither a stage (${train.stages.join(', ')}), nor "pins", nor a time such as 2026-11-23 or a stamp.${hint(text, known)}`,
  )
}

/** What is known of a repository: its snapshots, oldest first, and what a line pins it to. */
interface Known {
  readonly name: string
  readonly snapshots: readonly Snapshot[]
  readonly pin: string | undefined
}

/** The snapshot of a repository in a state. `guards` are hrefs, one for each stage. Throws Failure not_found for a pin without a snapshot. */
export function snapshotIn(
  state: State,
  { stages }: Pick<Train, 'stages'>,
  { name, snapshots, pin }: Known,
  guards: readonly (string | undefined)[],
): Snapshot | undefined {
  if (state.kind === 'time') return snapshots.findLast(({ stamp }) => stamp <= state.at)
  if (state.kind === 'pins') {
    const pinned = snapshots.find(({ stamp }) => stamp === pin)
    if (!pinned && pin !== undefined) throw new Failure('not_found', `${name}: ${missingSnapshot(name, pin, snapshots)}`)
    return pinned
  }
  const at = stages.indexOf(state.stage)
  // Everything is at the first stage; what went on to a later stage is at those before it.
  return at === 0 ? snapshots.at(-1) : standsAt(snapshots, new Set(guards.slice(at)), pin)
}

/** A tag of an image in a state; of each base distribution one, with a map. */
export interface StandingTag {
  readonly image: string
  readonly distribution: string | undefined
  readonly tag: string
  /** Href of what the tag stands for. */
  readonly manifest: string
}

/** The tags of these images of a line in a state, by `<image> <distribution>`. */
export function tagsIn(
  state: State,
  train: Train,
  line: Line,
  chosen: readonly string[],
  pins: Pins,
  tags: TagsByPath,
): Map<string, StandingTag> {
  const { images } = train
  const found = new Map<string, StandingTag>()
  if (!images) return found
  const pinned = Map.groupBy(wantedImages(images, line, pins).wanted, ({ image }) => image)
  const path = (image: string) => pathAt(images, stageOf(state, train, images), image)!
  for (const image of chosen) {
    const there = tags.get(path(image)) ?? new Map<string, string>()
    const own = (pinned.get(image) ?? []).map(({ tag }) => tag)
    for (const { distribution, isMeant } of kindsOfTag(images, line, image)) {
      // What is pinned one by one may be any tag, also one that nothing else says is of this line.
      const pin = distribution === undefined ? own[0] : newest(own.filter(isMeant))
      const tag = tagIn(state, train, [...there.keys()], pin, isMeant)
      const manifest = tag === undefined ? undefined : there.get(tag)
      if (tag !== undefined && manifest !== undefined)
        found.set(`${image} ${distribution ?? ''}`, { image, distribution, tag, manifest })
    }
  }
  return found
}

/** Where tags of a state are looked up: at the stage itself, or at the first one after it that has a namespace. */
export function stageOf(state: State, { stages }: Pick<Train, 'stages'>, images: TrainImages): string {
  const at = state.kind === 'stage' ? stages.indexOf(state.stage) : 0
  return stages.slice(at).find((stage) => images.namespaces.has(stage))!
}

interface KindOfTag {
  readonly distribution: string | undefined
  isMeant(tag: string): boolean
}

/** What tags of an image look like: its own, one kind for each base distribution, or the one that is followed of an upstream's. */
function kindsOfTag(images: TrainImages, line: Line, image: string): KindOfTag[] {
  const mirrored = images.mirrored.find(({ name }) => name === image)
  if (mirrored) return [{ distribution: undefined, isMeant: (tag) => tag === pinnedTag(mirrored) }]
  const like = (pattern: RegExp) => (tag: string) => pattern.test(tag)
  if (line.images.includes(image)) return [{ distribution: undefined, isMeant: like(tagPattern(line.name)) }]
  return line.distributions
    .filter((distribution) => imagesOfLine(images, { ...line, images: [], distributions: [distribution] }).includes(image))
    .map((distribution) => ({ distribution, isMeant: like(tagPattern(line.name, distribution)) }))
}

function tagIn(
  state: State,
  { stages }: Train,
  there: readonly string[],
  pin: string | undefined,
  isMeant: (tag: string) => boolean,
): string | undefined {
  if (state.kind === 'pins') return pin
  // As with snapshots: what is pinned stands at its stage even beside something newer.
  const stands = state.kind === 'stage' && state.stage !== stages[0]
  if (stands && pin !== undefined && there.includes(pin)) return pin
  const isInTime = (tag: string) => state.kind !== 'time' || (stampOfTag(tag) ?? '') <= state.at
  return newest(there.filter((tag) => isMeant(tag) && isInTime(tag)))
}

function newest(tags: readonly string[]): string | undefined {
  return tags.toSorted().at(-1)
}
