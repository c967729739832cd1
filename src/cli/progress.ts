import { stripVTControlCharacters } from 'node:util'
import type { Io } from './command.ts'

/** Shows what is being done: on a terminal one line per thing that is repainted, elsewhere one line per change of state. */
export interface ProgressDisplay {
  /** `state` is logged when it changes; `detail` is only painted. */
  show(name: string, state: string, detail?: string): void
  /** How far all is, in one line: painted below the others, and not logged. */
  tally(text: string): void
  /** Takes the thing off the display and prints a line that stays. */
  finish(name: string, line: string): void
  close(): void
}

const repaintEvery = 100

export function openProgress(io: Io, { quiet = false } = {}): ProgressDisplay {
  return io.err.isTTY === true && io.env['TERM'] !== 'dumb' ? paint(io, quiet) : log(io, quiet)
}

function log({ out, err }: Io, quiet: boolean): ProgressDisplay {
  const states = new Map<string, string>()
  return {
    show(name, state) {
      if (states.get(name) === state) return
      states.set(name, state)
      err.write(`${name}: ${state}\n`)
    },
    tally() {},
    finish(_, line) {
      if (!quiet) out.write(`${line}\n`)
    },
    close() {},
  }
}

function paint({ out, err }: Io, quiet: boolean): ProgressDisplay {
  const states = new Map<string, string>()
  let painted = 0
  let widest = 0
  let tally = ''
  const clear = () => {
    err.write(`${painted > 0 ? `\u001b[${painted}A` : ''}\u001b[J`)
    painted = 0
  }
  const repaint = () => {
    // Up over what was painted, then each line anew; what is left below is cleared.
    const width = (err.columns || 80) - 1
    const lines = [...states].map(([name, state]) => `  ${name.padEnd(widest)}   … ${state}`)
    if (tally !== '') lines.push(tally)
    const text = lines.map((line) => `${fit(line, width)}\u001b[K\n`).join('')
    err.write(`${painted > 0 ? `\u001b[${painted}A` : ''}${text}\u001b[J`)
    painted = lines.length
  }
  const timer = setInterval(repaint, repaintEvery)
  return {
    show(name, state, detail = '') {
      widest = Math.max(widest, name.length)
      states.set(name, `${state}${detail ? `   ${detail}` : ''}`)
    },
    tally(text) {
      tally = text
    },
    finish(name, line) {
      states.delete(name)
      clear()
      if (!quiet) out.write(`${line}\n`)
      repaint()
    },
    close() {
      clearInterval(timer)
      states.clear()
      tally = ''
      clear()
    },
  }
}

function fit(line: string, width: number): string {
  return stripVTControlCharacters(line).length <= width ? line : `${stripVTControlCharacters(line).slice(0, width - 1)}…`
}
