import { spawn } from 'node:child_process'
import { glob } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startPostgres } from './postgres.ts'

/*
 * npm test [-- FILE...]: all tests, or those in the files named, with a PostgreSQL of their own beside SQLite. Words that start with a
 * dash go to node --test (`--test-name-pattern=...`).
 */

const root = fileURLToPath(new URL('../', import.meta.url))
process.chdir(root)
const words = process.argv.slice(2)
const named = words.filter((word) => !word.startsWith('-'))
const files = named.length > 0 ? named : await findTests()

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

await using postgres = process.env['DATABASE_URL'] ? undefined : await startPostgres()
if (!postgres && !process.env['DATABASE_URL']) {
  console.log('PostgreSQL is not installed (apt-get install postgresql): tests run on SQLite only.')
  if (process.env['CI'] === 'true') throw new Error('With CI=true nothing is skipped.')
}
process.exitCode = await runTests(files)

async function findTests(): Promise<string[]> {
  const found: string[] = []
  for await (const file of glob(['src/**/*.test.ts', 'tests/**/*.test.ts'])) found.push(file)
  return found.toSorted()
}

function runTests(tests: readonly string[]): Promise<number> {
  const flags = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-concurrency=${availableParallelism()}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(root, 'tests/summary.ts')}`,
    '--test-reporter-destination=stdout',
  ]
  // Clients that bin/setup put beside the packages come first: their versions are pinned.
  const clients = join(root, 'node_modules/.cache/clients/bin')
  const env = {
    ...process.env,
    PATH: `${clients}${delimiter}${process.env['PATH']}`,
    ...(postgres && { DATABASE_URL: postgres.url }),
  }
  const child = spawn(process.execPath, [...flags, ...words.filter((word) => word.startsWith('-')), ...tests], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env,
  })
  stop.signal.addEventListener('abort', () => child.kill('SIGINT'))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}
