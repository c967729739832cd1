import { Failure } from '../lib/failure.ts'
import { getLine } from '../train/load.ts'
import { loadPins, pinsFile } from '../train/pins.ts'
import { getStageGuard, planPromotion, type PromotionPlan, promoteSnapshots, type Refusal } from '../train/promote.ts'
import { findSnapshots } from '../train/snapshots.ts'
import { lastStage } from '../train/train.ts'
import { command, type Io } from './command.ts'
import { renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { durationInWords, several, sign } from './words.ts'

export const promote = command({
  usage: 'promote [LINE] [--to STAGE] [--dry-run]',
  about: 'Puts every snapshot that a line is pinned to behind the guard of a stage, all in one transaction or none.',
  words: 1,
  options: {
    ...trainOptions,
    ...dryRunOptions,
    to: { type: 'string', value: 'STAGE', about: 'The stage; the last one when absent. An earlier one takes a promotion back.' },
    'one-by-one': {
      type: 'boolean',
      default: false,
      about: 'For a plain Pulp: change one distribution after another. A failure leaves it half done.',
    },
  },
  async run({ values, positionals }, io) {
    const { train, api } = await openTrain(values, io)
    const line = getLine(train, positionals[0])
    const stage = values.to ?? lastStage(train)
    const guard = await getStageGuard(api, train, stage)
    const pins = await loadPins(train, line)
    if (pins.size === 0)
      throw new Failure(
        'not_found',
        `${pinsFile(train, line.name)} pins nothing. Run "signalbox pin${train.lines.length > 1 ? ` --line ${line.name}` : ''}".`,
      )
    const pinned = train.repositories.filter(({ name }) => pins.has(name))
    const plan = planPromotion(line, stage, guard, pins, await findSnapshots(api, pinned))
    if ('refused' in plan) return refuse(io, plan.refused, values.json)

    const dry = values['dry-run'] || values.check
    const started = performance.now()
    if (!dry) await promoteSnapshots(api, plan.promote, guard, values['one-by-one'])
    const seconds = Math.round(performance.now() - started) / 1000
    io.out.write(
      values.json
        ? `${JSON.stringify(describe(plan, dry, seconds))}\n`
        : render(io, plan, { dry, seconds, file: pinsFile(train, line.name) }),
    )
    return values.check && plan.promote.length === 0 ? 3 : 0
  },
})

function refuse(io: Io, refused: readonly Refusal[], json: boolean): 1 {
  if (json) io.out.write(`${JSON.stringify({ refused })}\n`)
  else {
    io.err.write(
      `${sign({ out: io.err, env: io.env }, 'wrong')} not promoted: ${several(refused.length, 'pin')} cannot be promoted\n`,
    )
    for (const { repository, reason } of refused) io.err.write(`  ${repository}: ${reason}\n`)
    io.err.write('Nothing changed.\n')
  }
  return 1
}

function render(
  io: Io,
  { line, stage, promote: changing, there, unpinned }: PromotionPlan,
  { dry, seconds, file }: { dry: boolean; seconds: number; file: string },
): string {
  const notes = unpinned.map((name) => `  ${sign(io, 'waiting')} ${name} is not pinned in ${file}: left as it is\n`).join('')
  if (changing.length === 0)
    return `${notes}Nothing to do: ${several(there.length, 'repository')} of line ${line} at ${stage} already.\n`
  const what = several(changing.length, 'repository')
  const already = there.length > 0 ? ` (${there.length} already there)` : ''
  const table = renderTable(
    changing.map(({ repository, stamp, path }) => [repository, stamp, path]),
    { indent: '  ' },
  )
  if (dry) return `${table}${notes}${what}${already} would be promoted to ${stage}.\n`
  return `${table}${notes}${sign(io, 'good')} ${what} → ${stage}   ${durationInWords(seconds)}${already}\n`
}

function describe({ line, stage, promote: changing, there, unpinned }: PromotionPlan, dry: boolean, seconds: number) {
  const brief = ({ repository, stamp, path }: PromotionPlan['promote'][number]) => ({ repository, stamp, path })
  return {
    line,
    stage,
    promoted: dry ? [] : changing.map(brief),
    planned: changing.map(brief),
    unchanged: there.map(brief),
    unpinned,
    seconds,
  }
}
