import { findGuards } from '../train/apply.ts'
import { loadPins } from '../train/pins.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { type FailingSync, findFailingSyncs, lineStatus, type LineStatus } from '../train/status.ts'
import { lastStage } from '../train/train.ts'
import { command, type Io } from './command.ts'
import { renderTable } from './table.ts'
import { openTrain, trainOptions } from './train-session.ts'
import { sign, stampInWords, timeInWords } from './words.ts'

export const status = command({
  usage: 'status',
  about: 'Says where each line stands, what is failing and what waits for a person.',
  options: trainOptions,
  async run({ values }, io) {
    const { train, api } = await openTrain(values, io)
    const [snapshots, guards, failing] = await Promise.all([
      findSnapshots(api, train.repositories),
      findGuards(api),
      findFailingSyncs(api, train),
    ])
    const releaseGuard = guards.get(lastStage(train))
    const lines: LineStatus[] = []
    for (const line of train.lines) lines.push(lineStatus(train, line, await loadPins(train, line), snapshots, releaseGuard))

    if (values.json) io.out.write(`${JSON.stringify({ train: train.name, server: api.url, lines, failing })}\n`)
    else io.out.write(renderLines(lines, lastStage(train), train.stages[0]!) + renderFailing(io, failing))
    return 0
  },
})

function renderLines(lines: readonly LineStatus[], last: string, first: string): string {
  const now = new Date()
  const rows = lines.map(({ line, released, newest, behind, repositories, waiting }) => [
    line,
    stampInWords(released, now),
    stampInWords(newest, now),
    `${behind} of ${repositories}`,
    waiting.join(', ') || '-',
  ])
  return renderTable([['line', last, first, 'behind', 'waiting for'], ...rows])
}

function renderFailing(io: Io, failing: readonly FailingSync[]): string {
  if (failing.length === 0) return ''
  const now = new Date()
  const rows = failing.map(({ repository, reason, since, times }) => [
    `${sign(io, 'wrong')} ${repository}`,
    `${reason.split('\n')[0]!.replace(/\.$/, '')} since ${timeInWords(since, now)}${times > 1 ? ` (${times} times)` : ''}`,
    `signalbox sync ${repository}`,
  ])
  return `\nfailing\n${renderTable(rows, { indent: '  ' })}`
}
