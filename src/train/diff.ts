import type { Api } from '../api/client.ts'
import type { Version } from '../api/resources.ts'
import { forEach } from '../lib/for-each.ts'
import { findGuards } from './apply.ts'
import { type Difference, readDifference } from './difference.ts'
import { pathAt } from './images.ts'
import type { Pins } from './pins.ts'
import { findPublished, hrefsAtATime } from './published.ts'
import { findServedImages, readTags } from './served-images.ts'
import { findSnapshots } from './snapshots.ts'
import { snapshotIn, stageOf, type StandingTag, type State, tagsIn } from './state.ts'
import type { Line, Train, TrainRepository } from './train.ts'

/** What is compared. */
export interface Comparison {
  readonly from: State
  readonly to: State
  readonly repositories: readonly TrainRepository[]
  /** The line whose images and pins count; undefined when neither does. */
  readonly line: { readonly line: Line; readonly pins: Pins; readonly images: readonly string[] } | undefined
}

/** A repository that is not the same on both sides. A side without a snapshot has no stamp. */
export interface RepositoryDiff {
  readonly repository: string
  readonly from: string | undefined
  readonly to: string | undefined
  /** Undefined where one side has no snapshot: then all of the other is new or gone. */
  readonly difference: Difference | undefined
  /** How much the only side has. */
  readonly units: number
}

/** An image that is not the same on both sides. */
export interface ImageDiff {
  readonly image: string
  readonly distribution: string | undefined
  readonly from: { readonly tag: string; readonly digest: string } | undefined
  readonly to: { readonly tag: string; readonly digest: string } | undefined
}

export interface Diff {
  readonly repositories: readonly RepositoryDiff[]
  readonly images: readonly ImageDiff[]
  /** What was looked at in all. */
  readonly compared: { readonly repositories: number; readonly images: number }
}

/** Repositories that are compared at a time. */
const atATime = 4

/** Compares two states of a train, as the server has them. `done` hears how many of how many repositories were read. */
export async function readDiff(
  api: Api,
  train: Train,
  comparison: Comparison,
  done: (count: number, of: number) => void,
): Promise<Diff> {
  const sides = await findSides(api, train, comparison)
  const differing = sides.filter(({ from, to }) => from?.publication !== to?.publication)
  const versions = await findVersions(api, differing)
  const found = new Map<string, RepositoryDiff>()
  let read = 0
  await forEach(differing, atATime, async ({ repository, from, to }) => {
    const [older, newer] = [from, to].map((side) => (side?.publication ? versions.get(side.publication) : undefined))
    const named = { repository: repository.name, from: from?.stamp, to: to?.stamp }
    if (older !== newer) found.set(repository.name, { ...named, ...(await compareVersions(api, repository, older, newer)) })
    done(++read, differing.length)
  })
  const { line } = comparison
  return {
    repositories: sides.flatMap(({ repository }) => found.get(repository.name) ?? []),
    images: line ? await readImages(api, train, comparison, line) : [],
    compared: { repositories: sides.filter(({ from, to }) => from ?? to).length, images: line?.images.length ?? 0 },
  }
}

async function findSides(api: Api, train: Train, { from, to, repositories, line }: Comparison) {
  const [snapshots, found] = await Promise.all([findSnapshots(api, repositories), findGuards(api)])
  const guards = train.stages.map((stage) => found.get(stage))
  return repositories.flatMap((repository) => {
    const { name } = repository
    const pin = line?.pins.repositories.get(name)
    const known = { name, snapshots: snapshots.get(name) ?? [], pin }
    const [before, after] = [from, to].map((state) => snapshotIn(state, train, known, guards))
    return isPinned(from, pin) && isPinned(to, pin) ? [{ repository, from: before, to: after }] : []
  })
}

/** What a line does not pin stays as it is: it differs from nothing. */
function isPinned(state: State, pinned: unknown): boolean {
  return state.kind !== 'pins' || pinned !== undefined
}

/** The version of each publication, by their hrefs. */
async function findVersions(api: Api, sides: Awaited<ReturnType<typeof findSides>>): Promise<Map<string, string>> {
  const versions = new Map<string, string>()
  for (const [format, own] of Map.groupBy(sides, ({ repository }) => repository.format)) {
    const hrefs = own.flatMap(({ from, to }) => [from?.publication ?? [], to?.publication ?? []].flat())
    for (const [href, version] of await findPublished(api, format, hrefs)) versions.set(href, version)
  }
  return versions
}

async function compareVersions(api: Api, { format }: TrainRepository, older: string | undefined, newer: string | undefined) {
  if (older !== undefined && newer !== undefined && format !== 'container')
    return { difference: await readDifference(api, format, older, newer), units: 0 }
  const only = await api.get<Version>((older ?? newer)!)
  const counts = Object.entries(only.content_summary.present).filter(([type]) => /\.(?:package|file)$/.test(type))
  return { difference: undefined, units: counts.reduce((sum, [, { count }]) => sum + count, 0) }
}

async function readImages(
  api: Api,
  train: Train,
  { from, to }: Comparison,
  { line, pins, images: chosen }: NonNullable<Comparison['line']>,
): Promise<ImageDiff[]> {
  const { images } = train
  if (!images || chosen.length === 0) return []
  const stages = [from, to].map((state) => stageOf(state, train, images))
  const paths = chosen.flatMap((image) => stages.map((stage) => pathAt(images, stage, image)!))
  const tags = await readTags(api, await findServedImages(api), paths)
  const tagsOf = (state: State) => tagsIn(state, train, line, chosen, pins, tags)
  const [had, has] = [tagsOf(from), tagsOf(to)]
  const differing = [...new Set([...had.keys(), ...has.keys()])].filter((key) => {
    const [before, after] = [had.get(key), has.get(key)]
    return isPinned(from, before) && isPinned(to, after) && (before?.manifest !== after?.manifest || before?.tag !== after?.tag)
  })
  const digests = await findDigests(
    api,
    differing.flatMap((key) => [had.get(key) ?? [], has.get(key) ?? []].flat()),
  )
  const shown = (standing: StandingTag | undefined) =>
    standing && { tag: standing.tag, digest: digests.get(standing.manifest) ?? '' }
  return differing.map((key) => {
    const { image, distribution } = (has.get(key) ?? had.get(key))!
    return { image, distribution, from: shown(had.get(key)), to: shown(has.get(key)) }
  })
}

async function findDigests(api: Api, standing: readonly StandingTag[]): Promise<Map<string, string>> {
  const digests = new Map<string, string>()
  const hrefs = [...new Set(standing.map(({ manifest }) => manifest))]
  for (let at = 0; at < hrefs.length; at += hrefsAtATime) {
    const query = { pulp_href__in: hrefs.slice(at, at + hrefsAtATime), fields: 'pulp_href,digest' }
    for await (const { pulp_href, digest } of api.list<{ pulp_href: string; digest: string }>(
      'content/container/manifests/',
      query,
    ))
      digests.set(pulp_href, digest)
  }
  return digests
}
