import { type Diff, type ImageDiff, readDiff, type RepositoryDiff } from '../train/diff.ts'
import type { Advisory, Difference, UnitChange } from '../train/difference.ts'
import { selectRepositories } from '../train/filter.ts'
import { getLine } from '../train/load.ts'
import { loadPins } from '../train/pins.ts'
import { selectOfLine } from '../train/select-of-line.ts'
import { parseState, type State } from '../train/state.ts'
import { firstStage, lastStage, type Train } from '../train/train.ts'
import { command } from './command.ts'
import { openProgress } from './progress.ts'
import { renderTable } from './table.ts'
import { openTrain, trainOptions } from './train-session.ts'
import { countedInWords, countInWords, several, sizeInWords } from './words.ts'

export const diff = command({
  usage: 'diff [FILTER...] [--from STATE] [--to STATE] [--line LINE] [--full]',
  about: `Says what differs between two states of a line: packages, files and images that come, go and change.
A STATE is a stage (its newest snapshots), "pins" (what pins/<line>.yaml says), or a day, time or stamp (the newest snapshots then).`,
  words: Infinity,
  options: {
    ...trainOptions,
    from: { type: 'string', value: 'STATE', about: 'The one side; the last stage when absent.' },
    to: { type: 'string', value: 'STATE', about: 'The other side; the first stage, which has all that is new, when absent.' },
    line: {
      type: 'string',
      value: 'LINE',
      about: 'The line. When the train has several and none is named: all repositories, no images.',
    },
    full: { type: 'boolean', default: false, about: 'List everything that changed.' },
    check: { type: 'boolean', default: false, about: 'Exit with 3 when nothing differs.' },
  },
  async run({ values, positionals }, io) {
    const { train, api } = await openTrain(values, io)
    const { from = lastStage(train), to = firstStage(train) } = values
    const states = { from: parseState(train, from), to: parseState(train, to) }
    const selected = await select(train, values.line, positionals, Object.values(states))
    const progress = openProgress(io, { quiet: true })
    const found = await readDiff(api, train, { ...states, ...selected }, (done, of) =>
      progress.tally(`${countInWords(done)} of ${several(of, 'repository')} compared`),
    ).finally(() => progress.close())
    const title = { ...(selected.line && { line: selected.line.line.name }), from, to }
    io.out.write(values.json ? `${JSON.stringify(describe(title, found))}\n` : render(title, found, values.full))
    return values.check && found.repositories.length + found.images.length === 0 ? 3 : 0
  },
})

/** What filters choose of a line; of all repositories when no line is named and there are several. */
async function select(train: Train, named: string | undefined, filters: readonly string[], states: readonly State[]) {
  const needsLine = named !== undefined || train.lines.length === 1 || states.some(({ kind }) => kind === 'pins')
  if (!needsLine) return { repositories: selectRepositories(train.repositories, filters), line: undefined }
  const line = getLine(train, named)
  const { repositories, images } = selectOfLine(train, line, filters)
  return { repositories, line: { line, pins: await loadPins(train, line), images } }
}

interface Title {
  readonly line?: string
  readonly from: string
  readonly to: string
}

function describe(title: Title, { repositories, images, compared }: Diff) {
  const ofRepository = ({ difference, units, ...stamps }: RepositoryDiff) => ({ ...stamps, ...(difference ?? { units }) })
  return { ...title, repositories: repositories.map(ofRepository), images, compared }
}

/** What is listed of one repository unless all is asked for. */
const few = 10
/** Past this many repositories only what needs attention is listed. */
const fewRepositories = 5

function render(title: Title, { repositories, images, compared }: Diff, full: boolean): string {
  const isBrief = repositories.length > fewRepositories
  const heads = renderTable(repositories.map(renderHead)).split('\n')
  const blocks = repositories.map(({ difference }, at) => {
    const all = difference ? [...difference.advisories.flatMap(renderAdvisory), ...difference.changes.map(renderChange)] : []
    const listed = full ? all : all.filter(({ isAlarming }) => isAlarming || !isBrief).slice(0, few)
    const rows = renderTable(
      listed.map(({ cells }) => cells),
      { indent: '  ' },
    )
    const left = all.length - listed.length
    return { text: `${heads[at]}\n${rows}${left > 0 && listed.length > 0 ? `  … and ${countInWords(left)} more\n` : ''}`, left }
  })
  const { text: ofImages, left } = renderImages(images, full)
  const isShort = left > 0 || blocks.some((block) => block.left > 0)
  return [
    `${title.line === undefined ? '' : `line ${title.line}: `}${title.from} → ${title.to}\n`,
    ...blocks.map(({ text }) => text),
    ofImages,
    renderSummary(repositories, images, compared),
    isShort ? '--full lists all; a FILTER looks at some.\n' : '',
  ].join('')
}

function renderHead({ repository, from, to, difference, units }: RepositoryDiff): string[] {
  const stamps = `${from ?? '(none)'} → ${to ?? '(none)'}`
  if (!difference) return [repository, stamps, `${countInWords(units)} ${from === undefined ? 'new' : 'gone'}`]
  const { bytes } = difference
  const words = countsInWords(countChanges([difference])) || 'nothing that clients see'
  return [repository, stamps, words, bytes ? sizeInWords(bytes) : '']
}

interface Item {
  readonly cells: string[]
  /** What nobody may overlook. */
  readonly isAlarming: boolean
}

function renderChange({ change, name, arch, from, to }: UnitChange): Item {
  const isAlarming = change === 'downgraded' || change === 'changed'
  const both = from !== undefined && to !== undefined
  const [before, after] = [from, to].map((each) => (each && arch === undefined ? `sha256:${each.slice(0, 12)}…` : each))
  const versions = both ? (before === after ? `${after} (other bytes)` : `${before} → ${after}`) : (after ?? before)!
  return { cells: [signs[change], arch === undefined ? name : `${name}.${arch}`, versions], isAlarming }
}

const signs = { added: '+', removed: '-', upgraded: '↑', downgraded: '↓', changed: '~' } as const

function renderAdvisory({ id, type, severity, title }: Advisory): Item[] {
  return type === 'security'
    ? [{ cells: ['!', id, `${severity ? `${severity.toLowerCase()}: ` : ''}${title}`], isAlarming: false }]
    : []
}

type Counts = Record<UnitChange['change'] | 'advisories', number>

function countChanges(differences: readonly Difference[]): Counts {
  const counts = { added: 0, removed: 0, upgraded: 0, downgraded: 0, changed: 0, advisories: 0 }
  for (const { changes, advisories } of differences) {
    for (const { change } of changes) counts[change]++
    counts.advisories += advisories.filter(({ type }) => type === 'security').length
  }
  return counts
}

/** In the words of `signalbox sync`: `1 new, 1 upgraded, 2 gone`. */
function countsInWords({ added, removed, upgraded, downgraded, changed, advisories }: Counts): string {
  const words: [number, string][] = [
    [added, 'new'],
    [upgraded, 'upgraded'],
    [downgraded, 'downgraded'],
    [changed, 'changed'],
    [removed, 'gone'],
    [advisories, advisories === 1 ? 'security advisory' : 'security advisories'],
  ]
  return words
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${countInWords(count)} ${what}`)
    .join(', ')
}

function renderImages(images: readonly ImageDiff[], full: boolean): { text: string; left: number } {
  const nameOf = ({ image, distribution }: ImageDiff) => (distribution === undefined ? image : `${image} (${distribution})`)
  const moveOf = ({ from, to }: ImageDiff) => {
    const same = from?.digest === to?.digest ? '   the same image' : ''
    const digest = from?.tag === to?.tag ? (each: typeof to) => `@${each?.digest.slice(0, 19)}…` : () => ''
    return `${from ? `${from.tag}${digest(from)}` : '(none)'} → ${to ? `${to.tag}${digest(to)}` : '(none)'}${same}`
  }
  if (full || images.length <= few) return { text: renderTable(images.map((each) => [nameOf(each), moveOf(each)])), left: 0 }
  // Most images of a night were built together.
  const groups = [...Map.groupBy(images, moveOf)].map(([move, own]) => [
    own.length <= 3 ? own.map(nameOf).join(', ') : several(own.length, 'image'),
    move,
  ])
  return { text: renderTable(groups), left: images.length - groups.length }
}

function renderSummary(
  repositories: readonly RepositoryDiff[],
  images: readonly ImageDiff[],
  compared: Diff['compared'],
): string {
  const words = countsInWords(countChanges(repositories.flatMap(({ difference }) => difference ?? [])))
  const ofImages = new Set(images.map(({ image }) => image)).size
  if (repositories.length + images.length === 0)
    return `Nothing differs: ${countedInWords(compared.repositories, compared.images)} compared.\n`
  const parts = [
    ...(compared.repositories > 0
      ? [`${countInWords(repositories.length)} of ${several(compared.repositories, 'repository')}`]
      : []),
    ...(compared.images > 0 ? [`${countInWords(ofImages)} of ${several(compared.images, 'image')}`] : []),
  ]
  return `${parts.join(' and ')} differ${words ? `: ${words}` : ''}.\n`
}
