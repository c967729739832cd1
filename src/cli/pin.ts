import { selectRepositories } from '../train/filter.ts'
import { getLine } from '../train/load.ts'
import { loadPins, pinsFile, writePins } from '../train/pins.ts'
import { type PinChange, planPins } from '../train/plan-pins.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { parseAt } from '../train/stamp.ts'
import { command, WrongUsage } from './command.ts'
import { renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { several, sign } from './words.ts'

export const pin = command({
  usage: 'pin [FILTER...] [--latest | --at TIME] [--line LINE]',
  about: 'Writes which snapshot of each repository a line is at into pins/<line>.yaml, keeping its comments and order.',
  words: Infinity,
  options: {
    ...trainOptions,
    ...dryRunOptions,
    line: { type: 'string', value: 'LINE', about: 'The line; needed when the train has several.' },
    latest: { type: 'boolean', default: false, about: 'Pin the newest snapshots. This is the default.' },
    at: {
      type: 'string',
      value: 'TIME',
      about: 'Pin the newest snapshots at or before this day, time or stamp (UTC; a day counts to its end).',
    },
  },
  async run({ values, positionals }, io) {
    if (values.latest && values.at !== undefined) throw new WrongUsage('Use either --latest or --at.')
    const at = values.at === undefined ? undefined : parseAt(values.at)
    const { train, api } = await openTrain(values, io)
    const line = getLine(train, values.line)
    const ofLine = train.repositories.filter(({ name }) => line.repositories.includes(name))
    const repositories = selectRepositories(ofLine, positionals)
    const pins = await loadPins(train, line)
    const changes = planPins(
      repositories.map(({ name }) => name),
      pins,
      await findSnapshots(api, repositories),
      at,
    )
    const dry = values['dry-run'] || values.check
    const file = pinsFile(train, line.name)
    if (!dry) await writePins(train, line.name, new Map(changes.map(({ repository, to }) => [repository, to])))
    if (values.json) io.out.write(`${JSON.stringify({ line: line.name, file, changes, written: !dry })}\n`)
    else if (changes.length === 0)
      io.out.write(`Nothing to do: ${several(repositories.length, 'repository')} of line ${line.name} pinned so already.\n`)
    else
      io.out.write(
        `${renderChanges(changes)}${dry ? `${several(changes.length, 'pin')} would be written to ${file}.` : `${sign(io, 'good')} ${several(changes.length, 'pin')} written to ${file}.`}\n`,
      )
    return values.check && changes.length === 0 ? 3 : 0
  },
})

function renderChanges(changes: readonly PinChange[]): string {
  return renderTable(
    changes.map(({ repository, from, to }) => [repository, `${from ?? '(not pinned)'} → ${to}`]),
    { indent: '  ' },
  )
}
