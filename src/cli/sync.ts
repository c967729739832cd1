import type { Changes } from '../train/changes.ts'
import { selectRepositories } from '../train/filter.ts'
import { getStageGuard } from '../train/promote.ts'
import { type Outcome, type Progress, syncRepositories } from '../train/sync.ts'
import { firstStage, syncedRepositories, type Train, type TrainRepository } from '../train/train.ts'
import { command, type Io, WrongUsage } from './command.ts'
import { openProgress } from './progress.ts'
import { padTo } from './table.ts'
import { openTrain, trainOptions } from './train-session.ts'
import { clock, countInWords, several, sign, sizeInWords } from './words.ts'

export const sync = command({
  usage: 'sync [FILTER...] [--jobs N] [--retries N] [--dry-run]',
  about: `Syncs repositories and mirrored images and makes a snapshot of what is new, at the first stage. What fails does not stop the others.
A FILTER is a name, a glob, an expression between slashes, or group:NAME; without one all are synced.`,
  words: Infinity,
  options: {
    ...trainOptions,
    'dry-run': { type: 'boolean', default: false, about: 'Say what would be synced, and do nothing.' },
    jobs: { type: 'string', value: 'N', default: '4', about: 'Repositories at a time.' },
    retries: { type: 'string', value: 'N', default: '1', about: 'Tries of one repository after the first.' },
  },
  async run({ values, positionals }, io) {
    const options = { jobs: number('--jobs', values.jobs, 1), retries: number('--retries', values.retries, 0), pause: 2000 }
    const { train, api } = await openTrain(values, io)
    const repositories = selectSynced(train, positionals)
    if (values['dry-run']) {
      io.out.write(
        values.json
          ? `${JSON.stringify({ repositories: repositories.map(({ name }) => ({ repository: name })) })}\n`
          : renderDryRun(repositories),
      )
      return 0
    }
    const guard = await getStageGuard(api, train, firstStage(train))
    const display = openProgress(io, { quiet: values.json })
    const width = Math.max(...repositories.map(({ name }) => name.length))
    const started = new Map<string, number>()
    const begun = Date.now()
    let [done, failed] = [0, 0]
    const progress = (each: Progress) => {
      const since = started.get(each.repository) ?? Date.now()
      started.set(each.repository, since)
      if (each.outcome) {
        done++
        if (each.outcome.state === 'failed') failed++
        display.tally(renderTally(done, failed, repositories.length, (Date.now() - begun) / 1000))
        display.finish(each.repository, renderOutcome(io, each.outcome, width))
      } else display.show(each.repository, each.doing, renderProgress(each, (Date.now() - since) / 1000))
    }
    try {
      const outcomes = await syncRepositories(api, train, repositories, guard, { ...options, signal: io.signal, progress })
      io.out.write(values.json ? `${JSON.stringify({ repositories: outcomes })}\n` : renderSummary(io, outcomes))
      return outcomes.some(({ state }) => state === 'failed') ? 1 : 0
    } finally {
      display.close()
    }
  },
})

/** Mirrored images are selected by their own names, as pins name them, or by their paths. */
function selectSynced(train: Train, filters: readonly string[]): TrainRepository[] {
  const images = new Map(train.images?.mirrored.map(({ name, repository }) => [repository, name]))
  const named = syncedRepositories(train).map((repository) => ({
    repository,
    name: images.get(repository) ?? repository.name,
    group: repository.group,
  }))
  const byPath = new Map([...images].map(([repository, name]) => [repository.name, name]))
  const meant = filters.map((filter) => byPath.get(filter) ?? filter)
  return selectRepositories(named, meant).map(({ repository }) => repository)
}

function number(option: string, text: string, least: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least)
    throw new WrongUsage(`${option} takes a whole number of at least ${least}, not "${text}".`)
  return value
}

function renderDryRun(repositories: readonly TrainRepository[]): string {
  const lines = repositories.map(({ name, url }) => `  ${name} from ${url}\n`)
  return `${lines.join('')}${several(repositories.length, 'repository')} would be synced.\n`
}

/** `61 %   812 of 1,331   0:21 left`. */
function renderProgress({ report }: Progress, seconds: number): string {
  if (!report) return ''
  const { total, done, message } = report
  if (!total) return done > 0 ? `${message} (${countInWords(done)})` : message
  const left = done > 0 && done < total ? `   ${clock((seconds / done) * (total - done))} left` : ''
  return `${Math.floor((done / total) * 100)} %   ${message}: ${countInWords(done)} of ${countInWords(total)}${left}`
}

const whatWidth = 24

export function renderOutcome(io: Io, outcome: Outcome, width: number): string {
  const name = `  ${outcome.repository.padEnd(width)}   `
  if (outcome.state === 'failed') {
    const kept = outcome.stamp === undefined ? 'it has no snapshot yet' : `kept ${outcome.stamp}`
    const reason = outcome.reason.replace(/[.\s]+$/, '')
    return `${name}${sign(io, 'wrong')} ${reason}${outcome.tries > 1 ? `, in each of ${outcome.tries} tries` : ''}; ${kept}`
  }
  if (outcome.state === 'unchanged') return `${name}${sign(io, 'good')} ${padTo('unchanged', whatWidth + 8)}     ${outcome.stamp}`
  const { bytes } = outcome.changes
  const size = bytes === undefined ? '' : sizeInWords(bytes)
  return `${name}${sign(io, 'good')} ${padTo(changesInWords(outcome.changes), whatWidth)}${size.padStart(8)}   → ${outcome.stamp}`
}

/** `14 new, 2 gone`; of a first snapshot, how much there is. */
export function changesInWords({ added, upgraded, downgraded, removed, present, others }: Changes): string {
  if (added === present && removed + upgraded + downgraded === 0 && added > 0) return `${countInWords(added)} synced`
  const counts: [number, string][] = [
    [added, 'new'],
    [upgraded, 'upgraded'],
    [downgraded, 'downgraded'],
    [removed, 'gone'],
  ]
  const words = counts.filter(([count]) => count > 0).map(([count, what]) => `${countInWords(count)} ${what}`)
  if (words.length > 0) return words.join(', ')
  const types = Object.keys(others).map((type) => type.replace(/^.*\./, ''))
  return types.length > 0 ? `changed: ${types.join(', ')}` : 'metadata changed'
}

/** `12 of 200 done, 1 failed   3:10 left`: below what is being done. */
function renderTally(done: number, failed: number, of: number, seconds: number): string {
  const left = done < of ? `   ${clock((seconds / done) * (of - done))} left` : ''
  return `${countInWords(done)} of ${countInWords(of)} done${failed > 0 ? `, ${countInWords(failed)} failed` : ''}${left}`
}

/** Past this many lines a failure has scrolled out of sight. */
const screenful = 20

function renderSummary(io: Io, outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ state }) => state === 'failed')
  const fresh = outcomes.filter(({ state }) => state === 'new').length
  if (failed.length === 0)
    return `${several(outcomes.length, 'repository')} done${outcomes.length > 1 ? `: ${countInWords(fresh)} with something new` : ''}.\n`
  const width = Math.max(...failed.map(({ repository }) => repository.length))
  const again = outcomes.length > screenful ? failed.map((each) => `${renderOutcome(io, each, width)}\n`).join('') : ''
  return `${outcomes.length - failed.length} of ${outcomes.length} done, ${failed.length} failed.\n${again}${tryAgain(failed.map(({ repository }) => repository))}`
}

/** What to type to sync these once more; all are synced anyway when they are many. */
export function tryAgain(repositories: readonly string[]): string {
  return `Try again: signalbox sync${repositories.length <= screenful ? ` ${repositories.join(' ')}` : ''}\n`
}
