import { Unreachable } from '../api/client.ts'
import { Failure } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { type ExitCode, type Io, WrongUsage } from './command.ts'
import { commands } from './index.ts'
import { renderTable } from './table.ts'
import { readVersion } from './version.ts'
import { sign } from './words.ts'

/** Runs one command line (without node and script) and says how it ended. Never throws. */
export async function runCommandLine(words: readonly string[], io: Io): Promise<ExitCode> {
  try {
    return await dispatch(words, io)
  } catch (error) {
    return report(error, words, io)
  }
}

async function dispatch([name, ...rest]: readonly string[], io: Io): Promise<ExitCode> {
  if (name === '--version' || name === 'version') {
    io.out.write(`signalbox ${await readVersion()}\n`)
    return 0
  }
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const [topic] = rest
    if (topic === undefined) {
      io.out.write(renderOverview())
      return 0
    }
    return dispatch([topic, '--help'], io)
  }
  const listed = commands[name]
  if (!listed)
    throw new WrongUsage(`There is no command ${name}.${hint(name, Object.keys(commands))} "signalbox help" lists them.`)
  return (await listed.load()).run(rest, io)
}

function renderOverview(): string {
  const table = renderTable(
    Object.entries(commands).map(([name, { about }]) => [name, about]),
    { indent: '  ' },
  )
  return `Signalbox, a release train for software content.\n\nUsage: signalbox COMMAND [OPTIONS]\n\n${table}\n"signalbox help COMMAND" tells more about one.\n`
}

function report(error: unknown, words: readonly string[], io: Io): ExitCode {
  if (io.signal.aborted) return 1
  const failure = error instanceof Failure
  const message = error instanceof Error ? error.message : String(error)
  const debug = words.includes('--debug')
  io.err.write(
    `${sign({ out: io.err, env: io.env }, 'wrong')} ${failure ? message : `This is a defect of Signalbox: ${message}`}\n`,
  )
  if (debug && error instanceof Error)
    io.err.write(`${error.stack}\n${error.cause instanceof Error ? `caused by ${error.cause.stack}\n` : ''}`)
  else if (!failure) io.err.write('  Run it again with --debug and report what it prints.\n')
  if (words.includes('--json')) io.out.write(`${JSON.stringify({ error: { code: failure ? error.code : 'defect', message } })}\n`)
  if (error instanceof WrongUsage) return 2
  return error instanceof Unreachable ? 4 : 1
}
