import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Api, connect } from '../api/client.ts'
import { Failure, hasCode } from '../lib/failure.ts'
import { loadTrain } from '../train/load.ts'
import type { Train } from '../train/train.ts'
import type { Io } from './command.ts'

/** Options of every command that works on a train. */
export const trainOptions = {
  config: { type: 'string', value: 'FILE', default: 'train.yaml', about: 'The train; pins lie in pins/ beside it.' },
  server: {
    type: 'string',
    value: 'URL',
    about: "The server. Else $SIGNALBOX_SERVER, the train's own, or http://127.0.0.1:8080.",
  },
  data: {
    type: 'string',
    value: 'DIR',
    default: 'var',
    about: 'Where a server on this machine keeps admin-password, used when $SIGNALBOX_PASSWORD is not set.',
  },
  json: { type: 'boolean', default: false, about: 'Print one JSON object for programs (docs/commands.md).' },
} as const

export const dryRunOptions = {
  'dry-run': { type: 'boolean', default: false, about: 'Say what would be done, and do nothing.' },
  check: { type: 'boolean', default: false, about: 'Like --dry-run; exit with 3 when there is nothing to do.' },
} as const

export interface Session {
  readonly train: Train
  readonly api: Api
}

/** Reads the train and connects to its server, as the options say. */
export async function openTrain(values: { config: string; server?: string | undefined; data: string }, io: Io): Promise<Session> {
  const train = await loadTrain(values.config)
  const url = values.server ?? io.env['SIGNALBOX_SERVER'] ?? train.server ?? 'http://127.0.0.1:8080'
  if (!URL.canParse(url)) throw new Failure('invalid', `"${url}" is not the URL of a server.`)
  const username = io.env['SIGNALBOX_USERNAME'] ?? 'admin'
  const password = io.env['SIGNALBOX_PASSWORD'] ?? (await readPassword(values.data))
  return { train, api: connect({ url, username, password }) }
}

async function readPassword(data: string): Promise<string> {
  try {
    return (await readFile(join(data, 'admin-password'), 'utf8')).trim()
  } catch (cause) {
    if (!hasCode(cause, 'ENOENT', 'EACCES', 'ENOTDIR')) throw cause
    const message = `No password for the server: set SIGNALBOX_PASSWORD, or name the server's data directory with --data (no ${join(data, 'admin-password')} here).`
    throw new Failure('denied', message, { cause })
  }
}
