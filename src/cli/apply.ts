import { applyPlan, readServer } from '../train/apply.ts'
import { readOutside } from '../train/outside.ts'
import { type Plan, planApply, type Step } from '../train/plan.ts'
import { command, type Io } from './command.ts'
import { openProgress } from './progress.ts'
import { longestTable, renderTable } from './table.ts'
import { dryRunOptions, openTrain, trainOptions } from './train-session.ts'
import { countInWords, several, sign } from './words.ts'

export const apply = command({
  usage: 'apply [--dry-run] [--secrets]',
  about: 'Makes the server match train.yaml: guards, groups, remotes, repositories, and what images need.',
  options: {
    ...trainOptions,
    ...dryRunOptions,
    secrets: {
      type: 'boolean',
      default: false,
      about: 'Send upstream passwords again: the server does not show them, so a changed one cannot be seen.',
    },
  },
  async run({ values }, io) {
    const { train, api } = await openTrain(values, io)
    const server = await readServer(api, train)
    const plan = planApply(train, server, await readOutside(train, io.env), values.secrets)
    const dry = values['dry-run'] || values.check

    if (!values.json) io.out.write(renderPlan(io, plan, dry))
    let done = 0
    const display = openProgress(io, { quiet: true })
    const progress = () => display.tally(`${countInWords(++done)} of ${several(plan.steps.length, 'change')}`)
    if (!dry) await applyPlan(api, plan, server, progress).finally(() => display.close())
    if (values.json) io.out.write(`${JSON.stringify({ ...describe(plan), applied: done })}\n`)
    else if (done > 0) io.out.write(`${sign(io, 'good')} ${several(done, 'change')} applied to ${api.url}.\n`)
    return values.check && plan.steps.length === 0 ? 3 : 0
  },
})

const verbs = { add: '+', change: '~', grant: '+', revoke: '-' } as const

function renderPlan(io: Io, { steps, drift }: Plan, dry: boolean): string {
  const notes = drift.map((sentence) => `${sign(io, 'waiting')} ${sentence}\n`).join('')
  if (steps.length === 0) return `${notes}Nothing to do: the server matches the train.\n`
  // What is done is in short when it is much: a preview names it all.
  const whole = dry || steps.length <= longestTable
  const kinds = Map.groupBy(steps, ({ act, what }) => (act === 'grant' || act === 'revoke' ? act : `${act} ${what}`))
  const rows = whole
    ? steps.map((step) => [verbs[step.act], step.what, step.name, ...details(step)])
    : [...kinds.values()].map(inShort)
  const table = renderTable(rows)
  return `${table}${notes}${dry ? `${several(steps.length, 'change')} would be applied.\n` : ''}`
}

/** `+   200 repositories`, `+   5 rights`: steps of one kind. */
function inShort(steps: readonly Step[]): string[] {
  const { act, what } = steps[0]!
  return [verbs[act], several(steps.length, act === 'grant' || act === 'revoke' ? 'right' : what)]
}

function details(step: Step): string[] {
  if (step.act === 'grant') return [`group ${step.group} may ${rightIn(step)}`]
  if (step.act === 'revoke') return [`group ${step.group} may no longer ${rightIn(step)}`]
  if (step.act === 'change') return [step.changes.map(({ field, from, to }) => `${field}: ${from} → ${to}`).join(', ')]
  if (step.what === 'image') return [step.private ? 'private' : 'anyone may pull']
  return 'format' in step ? [String(step.what === 'remote' ? step.body['url'] : step.format)] : []
}

function rightIn(step: Extract<Step, { group: string }>): string {
  if (step.what === 'guard') return 'read'
  return step.role === 'consumer' ? 'pull' : 'push'
}

/** For --json: bodies may hold secrets and stay here. */
function describe({ steps, drift }: Plan) {
  const shown = steps.map((step) => ({
    act: step.act,
    what: step.what,
    name: step.name,
    ...('group' in step && { group: step.group }),
    ...('role' in step && { role: step.role }),
    ...('changes' in step && { changes: step.changes }),
  }))
  return { steps: shown, drift }
}
