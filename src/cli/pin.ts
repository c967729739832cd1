import type { Api } from '../api/client.ts'
import { type ImagePinChange, pinnedTag, planImagePins } from '../train/image-pins.ts'
import { pathAt } from '../train/images.ts'
import { getLine } from '../train/load.ts'
import { loadPins, pinsFile, sections, writePins } from '../train/pins.ts'
import { planPins } from '../train/plan-pins.ts'
import { selectOfLine } from '../train/select-of-line.ts'
import { findServedImages, readTags } from '../train/served-images.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { parseAt } from '../train/stamp.ts'
import { firstStage, type Train } from '../train/train.ts'
import { command, WrongUsage } from './command.ts'
import { longestTable, renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { countedInWords, several, sign } from './words.ts'

export const pin = command({
  usage: 'pin [FILTER...] [--latest | --at TIME] [--line LINE]',
  about:
    'Writes which snapshot of each repository and which tag of each image a line is at into pins/<line>.yaml, keeping its comments and order.',
  words: Infinity,
  options: {
    ...trainOptions,
    ...dryRunOptions,
    line: { type: 'string', value: 'LINE', about: 'The line; needed when the train has several.' },
    latest: { type: 'boolean', default: false, about: 'Pin the newest snapshots and tags. This is the default.' },
    at: {
      type: 'string',
      value: 'TIME',
      about: 'Pin the newest at or before this day, time or stamp (UTC; a day counts to its end).',
    },
  },
  async run({ values, positionals }, io) {
    if (values.latest && values.at !== undefined) throw new WrongUsage('Use either --latest or --at.')
    const at = values.at === undefined ? undefined : parseAt(values.at)
    const { train, api } = await openTrain(values, io)
    const line = getLine(train, values.line)
    const { repositories, images } = selectOfLine(train, line, positionals)
    const pins = await loadPins(train, line)
    const names = repositories.map(({ name }) => name)
    const changes: readonly Pinned[] = [
      ...planPins(names, pins.repositories, await findSnapshots(api, repositories), at).map(
        ({ repository, from, to }): Pinned => ({ path: [sections.repositories, repository], from, value: to }),
      ),
      ...planImagePins(train, line, images, pins, await findTags(api, train, images), at),
    ]
    const dry = values['dry-run'] || values.check
    const file = pinsFile(train, line.name)
    if (!dry) await writePins(train, line.name, changes)
    if (values.json) {
      const shown = changes.map(describe)
      io.out.write(`${JSON.stringify({ line: line.name, file, changes: shown, written: !dry })}\n`)
    } else if (changes.length === 0)
      io.out.write(
        `Nothing to do: ${countedInWords(repositories.length, images.length)} of line ${line.name} pinned so already.\n`,
      )
    else
      io.out.write(
        `${dry || changes.length <= longestTable ? renderChanges(changes) : ''}${dry ? `${several(changes.length, 'pin')} would be written to ${file}.` : `${sign(io, 'good')} ${several(changes.length, 'pin')} written to ${file}.`}\n`,
      )
    return values.check && changes.length === 0 ? 3 : 0
  },
})

type Pinned = ImagePinChange

/** Tags of images where they begin, and what the tag that is followed of each mirrored one stands for. */
async function findTags(api: Api, train: Train, names: readonly string[]) {
  const digests = new Map<string, string>()
  const { images } = train
  if (!images || names.length === 0) return { tags: new Map(), digests }
  const path = (name: string) => pathAt(images, firstStage(train), name)!
  const tags = await readTags(api, await findServedImages(api), names.map(path))
  for (const mirrored of images.mirrored.filter(({ name }) => names.includes(name))) {
    const manifest = tags.get(path(mirrored.name))?.get(pinnedTag(mirrored))
    if (manifest !== undefined) digests.set(mirrored.name, (await api.get<{ digest: string }>(manifest)).digest)
  }
  return { tags, digests }
}

/** `{"repository": ...}`, `{"image": ...}` or `{"key": ..., "distribution": ...}`. */
function describe({ path: [section, name, distribution], from, value: to }: Pinned) {
  if (section === sections.kolla) return { key: name, distribution, from, to }
  return { [section === sections.images ? 'image' : 'repository']: name, from, to }
}

function renderChanges(changes: readonly Pinned[]): string {
  return renderTable(
    changes.map(({ path: [, name, distribution], from, value }) => [
      distribution === undefined ? name! : `${name} (${distribution})`,
      `${from ?? '(not pinned)'} → ${value}`,
    ]),
    { indent: '  ' },
  )
}
