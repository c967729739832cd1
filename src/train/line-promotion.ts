import type { Api } from '../api/client.ts'
import { type ImagePlan, pathAt, planImages, type TagsByPath, type WantedImage, wantedImages } from './images.ts'
import type { Pins } from './pins.ts'
import { getStageGuard, planPromotion, type Promotable, type Refusal } from './promote.ts'
import { findServedImages, readTags } from './served-images.ts'
import { findSnapshots, type Snapshot } from './snapshots.ts'
import type { Line, Train } from './train.ts'

/** What it takes for a stage to have all that a line is pinned to. */
export interface LinePromotion {
  readonly line: string
  readonly stage: string
  /** Href of the stage's guard. */
  readonly guard: string
  readonly change: Promotable
  /** What is at the stage already. */
  readonly there: readonly Snapshot[]
  readonly images: ImagePlan
  /** What of the line stays as it is. */
  readonly unpinned: { readonly repositories: readonly string[]; readonly images: readonly string[] }
}

/** Compares the pins of a line with the server. Throws Failure not_found when the train was not applied yet. */
export async function planLinePromotion(
  api: Api,
  train: Train,
  line: Line,
  stage: string,
  pins: Pins,
): Promise<LinePromotion | { refused: readonly Refusal[] }> {
  const guard = await getStageGuard(api, train, stage)
  const pinned = train.repositories.filter(({ name }) => pins.repositories.has(name))
  const snapshots = planPromotion(line, stage, guard, pins.repositories, await findSnapshots(api, pinned))
  const { wanted, unpinned, refused } = wantedImages(train.images, line, pins)
  const images = planImages(train, stage, wanted, await readWanted(api, train, wanted))
  const all = [...('refused' in snapshots ? snapshots.refused : []), ...refused, ...images.refused]
  if ('refused' in snapshots || all.length > 0) return { refused: all }
  const { move, untag } = images
  return {
    line: line.name,
    stage,
    guard,
    change: { snapshots: snapshots.promote, move, untag, private: train.images?.private ?? true },
    there: snapshots.there,
    images,
    unpinned: { repositories: snapshots.unpinned, images: unpinned },
  }
}

/** The tags of these images at every stage. */
async function readWanted(api: Api, { images, stages }: Train, wanted: readonly WantedImage[]): Promise<TagsByPath> {
  if (!images || wanted.length === 0) return new Map()
  const paths = wanted.flatMap(({ image }) => stages.map((stage) => pathAt(images, stage, image)))
  return readTags(
    api,
    await findServedImages(api),
    paths.filter((path) => path !== undefined),
  )
}
