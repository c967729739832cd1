import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure, hasCode } from '../lib/failure.ts'
import { makeTree } from './disk.ts'
import { sqliteCode } from './sqlite.ts'

/** Makes a data directory, or finds it. Throws Failure invalid when this user cannot write there. */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await makeTree(directory)
    await access(directory, constants.W_OK | constants.X_OK)
  } catch (cause) {
    if (!hasCode(cause, 'EACCES', 'EPERM', 'EROFS', 'EEXIST', 'ENOTDIR')) throw cause
    throw unusable(directory, (cause as NodeJS.ErrnoException).code, cause)
  }
}

/**
 * Makes this process the only one that serves a data directory, until it is disposed or the process ends, however it ends.
 * Throws Failure conflict when another one does.
 */
export function lockDirectory(directory: string): Disposable {
  // An exclusive transaction of SQLite is a lock that the system gives back when the process dies, on every platform.
  const lock = openLock(directory)
  try {
    lock.exec('begin exclusive')
  } catch (error) {
    lock.close()
    if (sqliteCode(error) === busy)
      throw new Failure(
        'conflict',
        `Another server is using the data directory ${directory}. Stop it, or choose another with --data.`,
      )
    if (sqliteCode(error) === readOnly) throw unusable(directory, 'a file in it is read-only', error)
    throw error
  }
  return { [Symbol.dispose]: () => lock.close() }
}

const busy = 5
const readOnly = 8
const cannotOpen = 14

function openLock(directory: string): DatabaseSync {
  const file = join(directory, 'lock')
  try {
    return new DatabaseSync(file, { timeout: 0 })
  } catch (error) {
    if (sqliteCode(error) === cannotOpen) throw unusable(directory, `${file} cannot be opened`, error)
    throw error
  }
}

function unusable(directory: string, why: string | undefined, cause: unknown): Failure {
  const message = `The data directory ${directory} cannot be written (${why}). Give it to the user who runs the server, or choose another with --data.`
  return new Failure('invalid', message, { cause })
}
