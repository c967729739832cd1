import { execFile } from 'node:child_process'
import { access, constants, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { addSigningService, listSigningServices, removeSigningService, type SigningType } from '../core/signing/services.ts'
import { formats } from '../formats/index.ts'
import { Failure, hasCode } from '../lib/failure.ts'
import { type Db, openDatabase } from '../store/database.ts'
import { command, type Io, WrongUsage } from './command.ts'
import { renderTable } from './table.ts'

const options = {
  data: { type: 'string', default: './var', value: 'DIR', about: "The server's data directory; it may be running." },
  class: {
    type: 'string',
    default: 'asc',
    value: 'asc|container',
    about: "What the script makes: signatures of metadata, or of images. Pulp's names of these are taken, too.",
  },
  gnupghome: {
    type: 'string',
    value: 'DIR',
    about: 'Where GnuPG has the key, also for the script. Else $GNUPGHOME, or its usual place.',
  },
  keyring: { type: 'string', value: 'FILE', about: 'The keyring that has the public key.' },
} as const

/** What an administrator may have sign. It works on the server's database, whether that runs or not: nobody can do so over the network. */
export const signingService = command({
  usage: 'signing-service add NAME SCRIPT KEY | list | remove NAME [--data DIR]',
  about: 'The scripts that sign metadata and images, each with its key.',
  options,
  words: 4,
  async run({ positionals: [act = '', ...words], values }, io) {
    const expected = { add: 3, list: 0, remove: 1 }[act]
    if (expected === undefined || words.length !== expected)
      throw new WrongUsage('Say "add NAME SCRIPT KEY", "list" or "remove NAME". See "signalbox signing-service --help".')
    const [name = '', script = '', key = ''] = words
    const type = parseClass(values.class)
    const db = await openServersDatabase(values.data, io)
    try {
      if (act === 'list') await list(db, io)
      else if (act === 'remove') await remove(db, name, io)
      else await add(db, { name, script, key, type }, { ...values, gnupghome: values.gnupghome ?? io.env['GNUPGHOME'] }, io)
    } finally {
      await db.destroy()
    }
    return 0
  },
})

const classes: Readonly<Record<string, SigningType>> = {
  asc: 'core.detached',
  'core:AsciiArmoredDetachedSigningService': 'core.detached',
  container: 'core.attached',
  'container:ManifestSigningService': 'core.attached',
}

function parseClass(text: string): SigningType {
  const type = Object.hasOwn(classes, text) ? classes[text] : undefined
  if (type) return type
  throw new Failure('invalid', `--class takes asc, for metadata, or container, for images, not "${text}".`)
}

/** Never makes one: a wrong directory would get a database that nobody looks at. */
async function openServersDatabase(data: string, { env }: Io): Promise<Db> {
  const named = env['SIGNALBOX_DATABASE']
  if (named?.startsWith('postgres')) return openDatabase(named)
  const path = named ?? join(data, 'signalbox.db')
  try {
    await access(path, constants.W_OK)
  } catch (cause) {
    throw new Failure(
      'not_found',
      `No server has its database at ${path}, or it cannot be written: name the data directory with --data, and be the server's user.`,
      { cause },
    )
  }
  return openDatabase(path)
}

async function list(db: Db, { out }: Io): Promise<void> {
  const shown: Record<string, string> = { 'core.detached': 'asc', 'core.attached': 'container' }
  const services = await listSigningServices(db)
  out.write(renderTable(services.map(({ name, type, fingerprint, script }) => [name, shown[type] ?? type, fingerprint, script])))
}

async function remove(db: Db, name: string, { out }: Io): Promise<void> {
  await removeSigningService({ db, formats }, name)
  out.write(`Removed the signing service ${name}.\n`)
}

async function add(
  db: Db,
  { name, script, key, type }: { name: string; script: string; key: string; type: SigningType },
  { gnupghome, keyring }: { gnupghome?: string | undefined; keyring?: string | undefined },
  { out }: Io,
): Promise<void> {
  const home = gnupghome === undefined ? null : resolve(gnupghome)
  const found = await findKey(key, home, keyring)
  const path = await findScript(script)
  await addSigningService(db, { name, type, script: path, gnupg_home: home, ...found })
  out.write(`Added the signing service ${name} for the key ${found.fingerprint}.\n`)
}

async function findScript(script: string): Promise<string> {
  try {
    const path = await realpath(script)
    await access(path, constants.X_OK)
    return path
  } catch (cause) {
    if (!hasCode(cause, 'ENOENT', 'ENOTDIR', 'EACCES')) throw cause
    throw new Failure('invalid', `${script} is no script that can be executed (chmod +x).`, { cause })
  }
}

/** The one public key that GnuPG has under this name, id or fingerprint. */
async function findKey(key: string, home: string | null, keyring: string | undefined) {
  const gpg = async (...words: string[]) => {
    const chosen = [
      ...(home === null ? [] : ['--homedir', home]),
      ...(keyring ? ['--no-default-keyring', '--keyring', resolve(keyring)] : []),
    ]
    try {
      return (await promisify(execFile)('gpg', ['--batch', ...chosen, ...words, '--', key], { encoding: 'utf8' })).stdout
    } catch (cause) {
      if (hasCode(cause, 'ENOENT'))
        throw new Failure('invalid', 'gpg is not installed here: it is what reads the public key.', { cause })
      const { stderr = '' } = cause as { stderr?: string }
      throw new Failure('not_found', `gpg has no public key ${key}: ${stderr.trim()}`, { cause })
    }
  }
  const records = (await gpg('--with-colons', '--fingerprint')).split('\n').map((line) => line.split(':'))
  const keys = records.filter(([kind]) => kind === 'pub')
  if (keys.length !== 1) throw new Failure('invalid', `There are ${keys.length} keys for ${key}: name one by its fingerprint.`)
  const fingerprint = records.find(([kind]) => kind === 'fpr')?.[9]
  if (!fingerprint) throw new Failure('invalid', `gpg does not tell the fingerprint of ${key}.`)
  return { fingerprint, public_key: await gpg('--armor', '--export') }
}
