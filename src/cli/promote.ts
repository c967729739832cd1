import { Failure } from '../lib/failure.ts'
import type { ImageMove } from '../train/images.ts'
import { type LinePromotion, planLinePromotion } from '../train/line-promotion.ts'
import { getLine } from '../train/load.ts'
import { loadPins, pinsFile } from '../train/pins.ts'
import { isNothing, promote as promoteAll, type Refusal } from '../train/promote.ts'
import type { Snapshot } from '../train/snapshots.ts'
import { lastStage } from '../train/train.ts'
import { command, type Io } from './command.ts'
import { longestTable, renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { countedInWords, durationInWords, several, sign } from './words.ts'

export const promote = command({
  usage: 'promote [LINE] [--to STAGE] [--dry-run]',
  about:
    'Puts every snapshot that a line is pinned to behind the guard of a stage, and every tag of an image into its namespace: all in one transaction or none.',
  words: 1,
  options: {
    ...trainOptions,
    ...dryRunOptions,
    to: { type: 'string', value: 'STAGE', about: 'The stage; the last one when absent. An earlier one takes a promotion back.' },
    'one-by-one': {
      type: 'boolean',
      default: false,
      about: 'For a plain Pulp: change one thing after another. A failure leaves it half done.',
    },
  },
  async run({ values, positionals }, io) {
    const { train, api } = await openTrain(values, io)
    const line = getLine(train, positionals[0])
    const stage = values.to ?? lastStage(train)
    const pins = await loadPins(train, line)
    if (pins.repositories.size + pins.images.size + pins.kolla.size === 0)
      throw new Failure(
        'not_found',
        `${pinsFile(train, line.name)} pins nothing. Run "signalbox pin${train.lines.length > 1 ? ` --line ${line.name}` : ''}".`,
      )
    const plan = await planLinePromotion(api, train, line, stage, pins)
    if ('refused' in plan) return refuse(io, plan.refused, values.json)

    const dry = values['dry-run'] || values.check
    const started = performance.now()
    if (!dry) await promoteAll(api, plan.change, plan.guard, values['one-by-one'])
    const seconds = Math.round(performance.now() - started) / 1000
    io.out.write(
      values.json
        ? `${JSON.stringify(describe(plan, dry, seconds))}\n`
        : render(io, plan, { dry, seconds, file: pinsFile(train, line.name) }),
    )
    return values.check && isNothing(plan.change) ? 3 : 0
  },
})

function refuse(io: Io, refused: readonly Refusal[], json: boolean): 1 {
  if (json) io.out.write(`${JSON.stringify({ refused })}\n`)
  else {
    io.err.write(
      `${sign({ out: io.err, env: io.env }, 'wrong')} not promoted: ${several(refused.length, 'pin')} cannot be promoted\n`,
    )
    for (const each of refused) io.err.write(`  ${'image' in each ? each.image : each.repository}: ${each.reason}\n`)
    io.err.write('Nothing changed.\n')
  }
  return 1
}

function render(io: Io, plan: LinePromotion, { dry, seconds, file }: { dry: boolean; seconds: number; file: string }): string {
  const { line, stage, change, there, images, unpinned } = plan
  const notes = notPinned(unpinned.repositories, unpinned.images)
    .map((name) => `  ${sign(io, 'waiting')} ${name} not pinned in ${file}: left as it is\n`)
    .join('')
  const thereInWords = countedInWords(there.length, imagesIn(images.there))
  if (isNothing(change)) return `${notes}Nothing to do: ${thereInWords} of line ${line} at ${stage} already.\n`
  const already = there.length + images.there.length > 0 ? ` (${thereInWords} already there)` : ''
  const table = renderTable(
    [
      ...change.snapshots.map(({ repository, stamp, path }) => [repository, stamp, path]),
      ...change.move.map(({ image, tag, digest, to }) => [image, tag, `${to}:${tag}${digest === undefined ? '' : `@${digest}`}`]),
      ...change.untag.map(({ image, tag, path }) => [image, tag, `no longer ${path}:${tag}`]),
    ],
    { indent: '  ' },
  )
  const what = countedInWords(change.snapshots.length, imagesIn([...change.move, ...change.untag]))
  if (dry) return `${table}${notes}${what}${already} would be promoted to ${stage}.\n`
  // What is done is in short when it is much: a preview names it all.
  const shown = table.split('\n').length > longestTable ? '' : table
  return `${shown}${notes}${sign(io, 'good')} ${what} → ${stage}   ${durationInWords(seconds)}${already}\n`
}

/** An image counts once, however many tags of it there are. */
function imagesIn(tags: readonly { readonly image: string }[]): number {
  return new Set(tags.map(({ image }) => image)).size
}

/** One line each for a few, one for many. */
function notPinned(repositories: readonly string[], images: readonly string[]): string[] {
  const all = [...repositories, ...images]
  return all.length <= 5 ? all.map((name) => `${name} is`) : [`${countedInWords(repositories.length, images.length)} are`]
}

function describe({ line, stage, change, there, images, unpinned }: LinePromotion, dry: boolean, seconds: number) {
  const brief = ({ repository, stamp, path }: Snapshot) => ({ repository, stamp, path })
  const briefly = ({ image, tag, digest, to }: ImageMove) => ({ image, tag, ...(digest !== undefined && { digest }), path: to })
  const planned = [...change.snapshots.map(brief), ...change.move.map(briefly)]
  return {
    line,
    stage,
    promoted: dry ? [] : planned,
    planned,
    unchanged: [...there.map(brief), ...images.there.map(briefly)],
    untagged: change.untag,
    unpinned: [...unpinned.repositories, ...unpinned.images],
    seconds,
  }
}
