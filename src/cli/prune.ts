import { selectRepositories } from '../train/filter.ts'
import { loadPins } from '../train/pins.ts'
import { getStageGuard } from '../train/promote.ts'
import { planPrune, prune as pruneAll } from '../train/prune.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { firstStage, type Train } from '../train/train.ts'
import { renderStamp } from '../lib/time.ts'
import { command, WrongUsage } from './command.ts'
import { openProgress } from './progress.ts'
import { renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { countInWords, several, sign } from './words.ts'

export const prune = command({
  usage: 'prune [FILTER...] --older-than DAYS [--yes]',
  about: `Deletes snapshots that are older and that nobody needs, and frees their space. Says what it would delete, and does it with --yes.
What stays: the newest of each repository, what a line is pinned to, and what went on from the first stage to a later one.`,
  words: Infinity,
  options: {
    ...trainOptions,
    ...dryRunOptions,
    'older-than': { type: 'string', value: 'DAYS', about: 'How many days a snapshot must be old.' },
    yes: { type: 'boolean', default: false, about: 'Delete. Without it, this is a preview.' },
  },
  async run({ values, positionals }, io) {
    const before = stampBefore(values['older-than'])
    const { train, api } = await openTrain(values, io)
    const repositories = selectRepositories(train.repositories, positionals)
    const snapshots = await findSnapshots(api, repositories)
    const needed = { firstGuard: await getStageGuard(api, train, firstStage(train)), pinned: await pinnedStamps(train) }
    const unneeded = planPrune(snapshots, needed, before)
    const kept = [...snapshots.values()].flat().length - unneeded.length

    const dry = !values.yes || values['dry-run'] || values.check
    if (!dry) {
      const display = openProgress(io, { quiet: true })
      const done = (count: number) => display.tally(`${countInWords(count)} of ${several(unneeded.length, 'snapshot')} deleted`)
      await pruneAll(api, repositories, unneeded, done).finally(() => display.close())
    }
    const shown = unneeded.map(({ repository, stamp, path }) => ({ repository, stamp, path }))
    if (values.json) io.out.write(`${JSON.stringify({ snapshots: shown, kept, deleted: !dry })}\n`)
    else if (unneeded.length === 0) io.out.write(`Nothing to do: ${several(kept, 'snapshot')} kept.\n`)
    else if (!dry)
      io.out.write(`${sign(io, 'good')} ${several(unneeded.length, 'snapshot')} deleted, ${countInWords(kept)} kept.\n`)
    else {
      const rows = Map.groupBy(unneeded, ({ repository }) => repository)
      const table = renderTable(
        [...rows].map(([repository, own]) => [repository, several(own.length, 'snapshot'), rangeOf(own)]),
        {
          indent: '  ',
        },
      )
      io.out.write(
        `${table}${several(unneeded.length, 'snapshot')} would be deleted, ${countInWords(kept)} kept. Delete them with --yes.\n`,
      )
    }
    return values.check && unneeded.length === 0 ? 3 : 0
  },
})

function stampBefore(days: string | undefined): string {
  if (days === undefined) throw new WrongUsage('Say how old a snapshot must be: --older-than DAYS.')
  if (!/^\d{1,5}$/.test(days)) throw new WrongUsage(`--older-than takes a number of days, not "${days}".`)
  return renderStamp((Date.now() - Number(days) * 86_400_000) * 1000)
}

async function pinnedStamps(train: Train): Promise<Map<string, Set<string>>> {
  const pinned = new Map<string, Set<string>>()
  for (const line of train.lines)
    for (const [repository, stamp] of (await loadPins(train, line)).repositories)
      pinned.set(repository, (pinned.get(repository) ?? new Set()).add(stamp))
  return pinned
}

function rangeOf(own: readonly { readonly stamp: string }[]): string {
  const [first, last] = [own[0]!.stamp, own.at(-1)!.stamp]
  return first === last ? first : `${first} … ${last}`
}
