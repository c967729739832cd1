import { type ParseArgsConfig, type ParseArgsOptionDescriptor, parseArgs } from 'node:util'
import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'

/** What a command may touch of the process it runs in. */
export interface Io {
  readonly out: NodeJS.WritableStream & { isTTY?: boolean; columns?: number }
  readonly err: NodeJS.WritableStream & { isTTY?: boolean; columns?: number }
  readonly env: NodeJS.ProcessEnv
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal
}

/** 0 done; 1 refused or failed; 2 wrong usage; 3 nothing to do, where --check asks; 4 the server cannot be reached. */
export type ExitCode = 0 | 1 | 2 | 3 | 4

export interface Command {
  /** Runs with the words after the command's name. */
  run(words: readonly string[], io: Io): Promise<ExitCode>
}

/** The user typed something that the command does not take: exit code 2. */
export class WrongUsage extends Failure {
  constructor(message: string) {
    super('invalid', message)
  }
}

/** An option of parseArgs, with the sentence that --help prints for it. */
type Options = Record<string, ParseArgsOptionDescriptor & { about: string; value?: string }>
type Parsed<O extends Options> = ReturnType<typeof parseArgs<{ options: O; allowPositionals: true; strict: true }>>

interface Declared<O extends Options> {
  /** As in `sync [FILTER...] [--jobs N]`. */
  usage: string
  about: string
  options: O
  /** How many words may follow; none when absent. */
  words?: number
  run(parsed: Parsed<O>, io: Io): Promise<ExitCode>
}

const always = {
  help: { type: 'boolean', short: 'h', default: false, about: 'Print this.' },
  debug: { type: 'boolean', default: false, about: 'Print where an error comes from.' },
} as const satisfies Options

/** A command whose options are inferred from what it declares. */
export function command<const O extends Options>(declared: Declared<O>): Command {
  const options = { ...declared.options, ...always }
  return {
    async run(words, io) {
      if (words.includes('--help') || words.includes('-h')) {
        io.out.write(renderHelp(declared.usage, declared.about, options))
        return 0
      }
      return declared.run(parse({ ...declared, options }, words) as Parsed<O>, io)
    },
  }
}

function parse(declared: { usage: string; options: Options; words?: number }, words: readonly string[]) {
  const name = declared.usage.split(' ')[0]!
  const help = `See "signalbox ${name} --help".`
  const parsed = parseStrictly({ args: [...words], options: declared.options, allowPositionals: true }, help)
  const most = declared.words ?? 0
  if (parsed.positionals.length > most)
    throw new WrongUsage(`signalbox ${name} does not take "${parsed.positionals[most]}". ${help}`)
  return parsed
}

function parseStrictly(config: ParseArgsConfig & { args: string[]; options: Options }, help: string) {
  // A look without strictness first finds the unknown options, to say what was meant.
  for (const token of parseArgs({ ...config, strict: false, tokens: true }).tokens ?? []) {
    if (token.kind === 'option' && config.options[token.name] === undefined)
      throw new WrongUsage(
        `There is no option ${token.rawName}.${hint(token.name, Object.keys(config.options)).replace('"', '"--')} ${help}`,
      )
  }
  try {
    return parseArgs(config)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new WrongUsage(`${error.message.split('. To specify')[0]!.replace(/\.$/, '')}. ${help}`)
  }
}

function renderHelp(usage: string, about: string, options: Options): string {
  const left = Object.entries(options).map(
    ([name, { type, short, value }]) =>
      `  ${short ? `-${short}, ` : ''}--${name}${type === 'string' ? ` ${value ?? 'VALUE'}` : ''}`,
  )
  const width = Math.max(...left.map((each) => each.length)) + 2
  const lines = Object.values(options).map((option, index) => {
    const { about: sentence, default: preset } = option
    return `${left[index]!.padEnd(width)}${sentence}${typeof preset === 'string' ? ` Default: ${preset}.` : ''}`
  })
  return `${about}\n\nUsage: signalbox ${usage}\n\n${lines.join('\n')}\n`
}
