import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import type { Scope } from './server.ts'
import { promisify } from 'node:util'

interface Finished {
  code: number
  stdout: string
  stderr: string
}

interface RunOptions {
  cwd?: string
  env?: Record<string, string>
  /** Milliseconds. */
  timeout?: number
  /** An exit code other than 0 is an answer, not an error. */
  mayFail?: boolean
}

/** Runs a program without a shell. Throws with all it printed when it fails, unless it may. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { cwd, env, timeout = 120_000, mayFail = false } = options
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, {
      cwd,
      timeout,
      maxBuffer: 64 * 1024 * 1024,
      env: { ...process.env, LC_ALL: 'C.UTF-8', ...env },
    })
    return { code: 0, stdout, stderr }
  } catch (error) {
    const {
      code,
      stdout = '',
      stderr = '',
      killed,
    } = error as Error & { code?: number | string; stdout?: string; stderr?: string; killed?: boolean }
    if (mayFail && typeof code === 'number') return { code, stdout, stderr }
    throw new Error(`${program} ${args.join(' ')} ${killed ? 'took too long' : `failed (${code})`}:\n${stdout}\n${stderr}`, {
      cause: error,
    })
  }
}

/** A directory of its own, removed after the test. */
export async function temporaryDirectory(t: Scope): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-test-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Why a test cannot run here: the first of these programs that is missing. In CI nothing may be missing. */
export async function missing(...programs: string[]): Promise<string | false> {
  for (const program of programs) {
    const found = await run('sh', ['-c', `command -v ${program}`], {
      mayFail: true,
      env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    })
    if (found.code !== 0) {
      if (process.env['CI'] === 'true') throw new Error(`${program} is not installed, and CI must not skip what needs it.`)
      return `${program} is not installed`
    }
  }
  return false
}

/** Why nothing can be built, signed and installed here. */
export async function cannotInstall(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'dnf installs only for root'
  return missing('dnf', 'rpmbuild', 'rpmsign', 'createrepo_c', 'modifyrepo_c', 'gpg', 'nginx')
}

/** Why the system calls of a process cannot be watched here. */
export async function cannotTrace(): Promise<string | false> {
  if (process.platform !== 'linux') return 'strace is of Linux'
  const none = await missing('strace')
  if (none) return none
  const { code } = await run('strace', ['-o', '/dev/null', 'true'], { mayFail: true })
  return code === 0 ? false : 'strace may not trace here'
}

/** What ends with the whole test file, the last first. To be opened at the top of the file: hooks cannot add hooks. */
export function openFileScope(): Scope {
  const cleanings: (() => Promise<void> | void)[] = []
  after(async () => {
    for (const clean of cleanings.toReversed()) await clean()
  })
  return { after: (clean) => void cleanings.push(clean) }
}
