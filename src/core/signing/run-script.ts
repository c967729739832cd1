import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Failure, hasCode } from '../../lib/failure.ts'

/*
 * The contract is Pulp's, so that its scripts work as they are: the script gets a file's path as its only argument and what it needs to
 * know in its environment, and prints a JSON object that tells where the signature is, relative to its working directory.
 * https://pulpproject.org/pulpcore/docs/dev/learn/other/metadata-signing/
 */

/** What runs. */
export interface Script {
  /** An absolute path. */
  readonly script: string
  readonly fingerprint: string
  readonly gnupgHome: string | null
}

export interface Signing {
  /** The file that is signed: a name without slashes, and its bytes. */
  readonly name: string
  readonly bytes: Uint8Array
  /** Whatever caused it, for the script's log. */
  readonly cid?: string | undefined
  /** More of the environment; `directory` is the script's own, which goes away afterwards. */
  readonly variables?: ((directory: string) => Record<string, string>) | undefined
  /** The member of the script's answer that names the file with the signature. */
  readonly member: string
  readonly signal?: AbortSignal | undefined
}

/** Milliseconds. */
const patience = 60_000
const largestAnswer = 64 * 1024
const largestSignature = 1024 * 1024
/** How much of what a script complains about is shown. */
const shown = 1000

/** Lets a script sign a file. Returns the bytes of the signature, which nobody has verified. Throws Failure upstream. */
export async function runScript(script: Script, signing: Signing): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-signing-'))
  try {
    const file = join(directory, signing.name)
    await writeFile(file, signing.bytes)
    const printed = await run(script, file, directory, signing)
    const path = parseAnswer(printed, signing.member, script)
    return await readSignature(resolve(directory, path), script)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function run(script: Script, file: string, directory: string, { variables, cid, signal }: Signing): Promise<string> {
  // Files instead of pipes: an agent that the script leaves running would hold a pipe open.
  const [out, err] = [join(directory, '.stdout'), join(directory, '.stderr')]
  await using stdout = await open(out, 'wx+')
  await using stderr = await open(err, 'wx+')
  const env = { ...environmentOf(script), CORRELATION_ID: cid ?? '', ...variables?.(directory) }
  // A group of its own: what the script has started ends with it.
  const child = spawn(script.script, [file], { cwd: directory, env, detached: true, stdio: ['ignore', stdout.fd, stderr.fd] })
  const limit = AbortSignal.any([AbortSignal.timeout(patience), ...(signal ? [signal] : [])])
  const end = () => killGroup(child.pid)
  if (limit.aborted) end()
  else limit.addEventListener('abort', end, { once: true })
  try {
    const [code] = (await once(child, 'exit')) as [number | null]
    signal?.throwIfAborted()
    if (limit.aborted) throw failed(script, `did not end within ${patience / 1000} seconds`)
    if (code === 0) return (await readStart(stdout, largestAnswer)).toString('utf8')
    const complaint = (await readStart(stderr, largestAnswer)).toString('utf8').trim().slice(-shown)
    throw failed(script, `failed${code === null ? '' : ` with code ${code}`}${complaint === '' ? '' : `: ${complaint}`}`)
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EACCES', 'ENOEXEC')) throw error
    throw failed(
      script,
      `cannot be run (${(error as NodeJS.ErrnoException).code}): the server's user must be able to execute it`,
      error,
    )
  } finally {
    limit.removeEventListener('abort', end)
  }
}

/** What a program may need of the server's environment. Everything else may be secret. */
const harmless = /^(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|GNUPGHOME|XDG_\w+)$/

function environmentOf({ fingerprint, gnupgHome }: Script): Record<string, string> {
  const inherited = Object.entries(process.env).filter(([name]) => harmless.test(name)) as [string, string][]
  return {
    ...Object.fromEntries(inherited),
    ...(gnupgHome !== null && { GNUPGHOME: gnupgHome }),
    PULP_SIGNING_KEY_FINGERPRINT: fingerprint,
  }
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch (error) {
    // It has just ended by itself.
    if (!hasCode(error, 'ESRCH')) throw error
  }
}

function parseAnswer(printed: string, member: string, script: Script): string {
  let answer: unknown
  try {
    answer = JSON.parse(printed)
  } catch (cause) {
    throw failed(
      script,
      `printed ${printed.trim() === '' ? 'nothing' : 'something that is not JSON'}; it must print {"${member}": "PATH"}`,
      cause,
    )
  }
  const path = (answer as Record<string, unknown> | null)?.[member]
  if (typeof path === 'string' && path !== '') return path
  throw failed(script, `did not say where the signature is; it must print {"${member}": "PATH"}`)
}

async function readSignature(path: string, script: Script): Promise<Buffer> {
  try {
    const about = await stat(path)
    if (!about.isFile() || about.size === 0 || about.size > largestSignature)
      throw failed(
        script,
        `names ${path} as the signature, which is ${about.isFile() ? `a file of ${about.size} bytes` : 'no file'}`,
      )
    await using file = await open(path)
    return await readStart(file, about.size)
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error
    throw failed(script, `names ${path} as the signature, which cannot be read`, error)
  }
}

async function readStart(file: Awaited<ReturnType<typeof open>>, most: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(most), 0, most, 0)
  return buffer.subarray(0, bytesRead)
}

function failed({ script }: Script, what: string, cause?: unknown): Failure {
  return new Failure('upstream', `The signing script ${script} ${what}.`, { cause })
}
