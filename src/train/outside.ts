import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Failure, hasCode } from '../lib/failure.ts'
import type { OutsideValues } from './plan.ts'
import { type Outside, syncedRepositories, type Train } from './train.ts'

/** Reads what train.yaml keeps in environment variables and files. Throws Failure not_found, naming the repository and the field. */
export async function readOutside(train: Train, env: NodeJS.ProcessEnv): Promise<OutsideValues> {
  const values = new Map<string, Record<string, string>>()
  for (const { name, outside } of syncedRepositories(train)) {
    const own: Record<string, string> = {}
    for (const [field, where] of Object.entries(outside)) own[field] = await read(where, `${name}: ${field}`)
    values.set(name, own)
  }
  return values

  async function read(where: Outside, what: string): Promise<string> {
    if ('value' in where) return where.value
    if ('env' in where) {
      const value = env[where.env]
      if (!value) throw new Failure('not_found', `${what} is in the environment variable ${where.env}, which is not set.`)
      return value
    }
    const file = resolve(dirname(train.file), where.file)
    try {
      return (await readFile(file, 'utf8')).trim()
    } catch (cause) {
      if (!hasCode(cause, 'ENOENT', 'EACCES')) throw cause
      throw new Failure('not_found', `${what} is in ${file}, which cannot be read.`, { cause })
    }
  }
}
