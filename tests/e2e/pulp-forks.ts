import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { realpath } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { run, temporaryDirectory } from './run.ts'
import { exitOf, type Scope } from './server.ts'

interface PulpCall {
  words: readonly string[]
  cwd: string
  env: Readonly<Record<string, string>>
}

export type CallPulp = (call: PulpCall) => Promise<{ code: number; stdout: string; stderr: string }>

/** Loads pulp-cli once, and calls it as often as asked, each time in a process of its own. */
export async function openPulpForks(t: Scope): Promise<CallPulp> {
  const home = await temporaryDirectory(t)
  const socket = join(home, 'socket')
  const pulp = await realpath((await run('sh', ['-c', 'command -v pulp'])).stdout.trim())
  const child = spawn(join(dirname(pulp), 'python3'), [fileURLToPath(new URL('pulp-forks.py', import.meta.url)), socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Nothing of whoever runs the tests.
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, LC_ALL: 'C.UTF-8' },
  })
  t.after(async () => {
    child.kill()
    await exitOf(child)
  })
  await Promise.race([once(child.stdout, 'data'), endedEarly(exitOf(child))])
  return async (call) => {
    const connection = connect(socket)
    connection.write(`${JSON.stringify(call)}\n`)
    return JSON.parse(await text(connection))
  }
}

async function endedEarly(exit: Promise<number | null>): Promise<never> {
  throw new Error(`pulp-forks.py ended with ${await exit} before it was ready.`)
}
