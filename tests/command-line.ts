import { PassThrough } from 'node:stream'
import { runCommandLine } from '../src/cli/run.ts'

export interface Ran {
  code: number
  out: string
  err: string
}

/** Runs a command line in this process, as a pipe would see it. */
export async function runCli(
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
  signal = new AbortController().signal,
): Promise<Ran> {
  const [out, err] = [new PassThrough(), new PassThrough()]
  const texts = Promise.all([out.setEncoding('utf8').toArray(), err.setEncoding('utf8').toArray()])
  const code = await runCommandLine(words, { out, err, env, signal })
  out.end()
  err.end()
  const [outText, errText] = await texts
  return { code, out: outText.join(''), err: errText.join('') }
}
