import type { Api } from '../api/client.ts'
import type { ServerStatus } from '../api/resources.ts'
import { findGuards } from '../train/apply.ts'
import { imagesOfLine, pathAt, type TagsByPath } from '../train/images.ts'
import { loadPins } from '../train/pins.ts'
import { findServedImages, readTags } from '../train/served-images.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { type FailingSync, findFailingSyncs, lineStatus, type LineStatus } from '../train/status.ts'
import { firstStage, lastStage, type Train } from '../train/train.ts'
import { command, type Io } from './command.ts'
import { renderTable } from './table.ts'
import { openTrain, trainOptions } from './train-session.ts'
import { tryAgain } from './sync.ts'
import { countInWords, sign, sizeInWords, stampInWords, timeInWords } from './words.ts'

export const status = command({
  usage: 'status',
  about: 'Says where each line stands, what is failing and what waits for a person.',
  options: trainOptions,
  async run({ values }, io) {
    const { train, api } = await openTrain(values, io)
    const [snapshots, guards, failing, tags, storage] = await Promise.all([
      findSnapshots(api, train.repositories),
      findGuards(api),
      findFailingSyncs(api, train),
      readImages(api, train),
      api.get<ServerStatus>('status/').then((server) => server.storage),
    ])
    const releaseGuard = guards.get(lastStage(train))
    const lines: LineStatus[] = []
    for (const line of train.lines)
      lines.push(lineStatus(train, line, await loadPins(train, line), snapshots, releaseGuard, tags))

    if (values.json) io.out.write(`${JSON.stringify({ train: train.name, server: api.url, lines, failing, storage })}\n`)
    else
      io.out.write(
        renderLines(lines, lastStage(train), train.stages[0]!) + renderFailing(io, failing) + renderStorage(io, storage),
      )
    return 0
  },
})

/** Tags of all images of all lines, where they begin and where clients pull them. */
async function readImages(api: Api, train: Train): Promise<TagsByPath> {
  const { images } = train
  if (!images) return new Map()
  const names = train.lines.flatMap((line) => imagesOfLine(images, line))
  const paths = names.flatMap((name) => [firstStage(train), lastStage(train)].map((stage) => pathAt(images, stage, name)!))
  return paths.length === 0 ? new Map() : readTags(api, await findServedImages(api), paths)
}

function renderLines(lines: readonly LineStatus[], last: string, first: string): string {
  const now = new Date()
  const rows = lines.flatMap(
    ({ line, released, newest, behind, repositories, images, imagesBehind, waiting: [first = '-', ...others] }) => [
      [
        line,
        stampInWords(released, now),
        stampInWords(newest, now),
        behindInWords(behind, repositories, imagesBehind, images),
        first,
      ],
      ...others.map((each) => ['', '', '', '', each]),
    ],
  )
  return renderTable([['line', last, first, 'behind', 'waiting for'], ...rows])
}

/** `2 of 43`, `2 of 43, images 1 of 99`, `images 1 of 99`. */
function behindInWords(behind: number, repositories: number, imagesBehind: number, images: number): string {
  if (images === 0) return `${behind} of ${repositories}`
  const ofImages = `images ${imagesBehind} of ${images}`
  return repositories === 0 ? ofImages : `${behind} of ${repositories}, ${ofImages}`
}

function renderFailing(io: Io, failing: readonly FailingSync[]): string {
  if (failing.length === 0) return ''
  const now = new Date()
  const rows = failing.map(({ repository, reason, since, times }) => [
    `${sign(io, 'wrong')} ${repository}`,
    `since ${timeInWords(since, now)}${times > 1 ? `, ${countInWords(times)} times` : ''}`,
    reason.split('\n')[0]!.replace(/\.$/, ''),
  ])
  return `\nfailing\n${renderTable(rows, { indent: '  ' })}${tryAgain(failing.map(({ repository }) => repository))}`
}

/** Below this part of the disk somebody should look. */
const scarce = 0.1

function renderStorage(io: Io, storage: ServerStatus['storage']): string {
  if (!storage) return ''
  const { free, total } = storage
  const note = free < total * scarce ? `${sign(io, 'wrong')} ` : ''
  return `\ndisk   ${note}${sizeInWords(free)} of ${sizeInWords(total)} free\n`
}
