import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '../lib/failure.ts'

/**
 * Makes this process the only one that serves a data directory, until it is disposed or the process ends, however it ends.
 * Throws Failure conflict when another one does.
 */
export function lockDirectory(directory: string): Disposable {
  // An exclusive transaction of SQLite is a lock that the system gives back when the process dies, on every platform.
  const lock = new DatabaseSync(join(directory, 'lock'), { timeout: 0 })
  try {
    lock.exec('begin exclusive')
  } catch (error) {
    lock.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === 5)
      throw new Failure(
        'conflict',
        `Another server is using the data directory ${directory}. Stop it, or choose another with --data.`,
      )
    throw error
  }
  return { [Symbol.dispose]: () => lock.close() }
}
