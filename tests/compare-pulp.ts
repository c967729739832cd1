import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { serve } from '../src/serve.ts'
import { differences } from './compare/differences.ts'
import { access } from './compare/groups/access.ts'
import { answers } from './compare/groups/answers.ts'
import { containers } from './compare/groups/containers.ts'
import { checkpoints } from './compare/groups/checkpoints.ts'
import { fileContent, uploads } from './compare/groups/files.ts'
import { fromDocument } from './compare/groups/from-document.ts'
import { guarded } from './compare/groups/guarded.ts'
import { remotes } from './compare/groups/remotes.ts'
import { repositories } from './compare/groups/repositories.ts'
import { rpms } from './compare/groups/rpms.ts'
import { tasks } from './compare/groups/tasks.ts'
import { known } from './compare/known.ts'
import { basic, clean, cleanContent, play, type Scene, type Server } from './compare/play.ts'
import type { Group, Step } from './compare/step.ts'
import { openUpstream } from './compare/upstream.ts'
import { buildRpms } from './e2e/rpms.ts'
import { startPostgres } from './postgres.ts'

/*
 * npm run compare-pulp -- URL [--username admin --password password] [--all] [--group WORD] [--postgres]: makes the same calls to the Pulp at URL
 * and to a server of its own (with --postgres: on a PostgreSQL of its own), and prints what they answer differently. Everything it makes on the Pulp has a name of this run and is
 * deleted at the end, all but the records of its tasks. Needs a Pulp whose data nobody minds (artifacts that nothing holds go too), and
 * which reaches this machine's loopback.
 */

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    username: { type: 'string', default: 'admin' },
    password: { type: 'string', default: 'password' },
    all: { type: 'boolean', default: false },
    group: { type: 'string', default: '' },
    postgres: { type: 'boolean', default: false },
  },
})
const [pulpUrl] = positionals
if (!pulpUrl) {
  console.error('Which Pulp? npm run compare-pulp -- http://127.0.0.1:24817')
  process.exit(2)
}

const adminPassword = 'a-password-for-comparing'
/** Groups at once: the Pulp has few workers. */
const atOnce = 4

await using stack = new AsyncDisposableStack()
const directory = await mkdtemp(join(tmpdir(), 'signalbox-compare-'))
stack.defer(() => rm(directory, { recursive: true, force: true }))
const run = `cmp${randomBytes(3).toString('hex')}`
const upstream = stack.use(await openUpstream(run))
const postgres = options.postgres ? await startPostgres() : undefined
if (postgres) stack.use(postgres)
else if (options.postgres) throw new Error('PostgreSQL is not installed (apt-get install postgresql).')
const database = postgres?.url
const serving = await serve({
  data: join(directory, 'data'),
  host: '127.0.0.1',
  port: 0,
  database,
  adminPassword,
  logLevel: 'silent',
})
stack.defer(() => serving.close())
const ours: Server = { url: serving.url, admin: () => basic('admin', adminPassword), credentials: ['admin', adminPassword] }
const theirs = await openPulp(pulpUrl.replace(/\/$/, ''), options.username, options.password)

const built = await buildRpms(directory, [
  { name: `${run}-built` },
  { name: `${run}-rich`, epoch: 2, lines: ['Requires: (a or b)', 'Recommends: c'] },
])
const packages = await Promise.all(built.toSorted().map((name) => readFile(join(directory, name))))
const groups: Group[] = [
  ...rpms(run, packages),
  ...fileContent(run),
  ...guarded,
  ...checkpoints,
  ...access,
  ...repositories,
  ...remotes,
  ...containers,
  ...uploads(run),
  ...tasks,
  ...answers,
  ...fromDocument(await getDocument(ours)),
].filter(({ name }) => name.includes(options.group))

const counts = { calls: 0, unexplained: 0, explained: 0 }
const used = new Set<unknown>()
const orphans: string[] = []
const waiting = [...groups]
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    for (let group = waiting.shift(); group; group = waiting.shift()) report(group, await compareGroup(group))
  }),
)
// At the end, because it takes artifacts too that a group may have just uploaded.
if (orphans.length > 0) await cleanContent(openScene(theirs), orphans)
const seconds = Math.round(performance.now() / 1000)
console.log(
  `${counts.unexplained} differences in ${counts.calls} calls, and ${counts.explained} that are known (--all shows them). ${seconds} s.`,
)
if (options.group === '')
  for (const each of known) if (!used.has(each)) console.log(`No longer seen: ${each.where.source}: ${each.reason}`)
process.exitCode = counts.unexplained === 0 ? 0 : 1

/** A session spares the Pulp a password hash per request. */
async function openPulp(url: string, username: string, password: string): Promise<Server> {
  const response = await fetch(`${url}/pulp/api/v3/login/`, { method: 'POST', headers: basic(username, password) })
  if (!response.ok) throw new Error(`${url} does not let ${username} in: ${response.status} ${await response.text()}`)
  const cookies = response.headers.getSetCookie().map((cookie) => cookie.split(';')[0]!)
  const token = cookies.find((cookie) => cookie.startsWith('csrftoken='))?.slice('csrftoken='.length) ?? ''
  const reading = { cookie: cookies.join('; ') }
  const admin = (method: string) => (method === 'GET' || method === 'HEAD' ? reading : { ...reading, 'x-csrftoken': token })
  return { url, admin, credentials: [username, password] }
}

async function getDocument({ url }: Server): Promise<Record<string, any>> {
  return (await (await fetch(`${url}/pulp/api/v3/docs/api.json`)).json()) as Record<string, any>
}

interface Compared {
  step: Step
  found: string[]
}

async function compareGroup({ steps }: Group): Promise<Compared[]> {
  const [ourScene, theirScene] = [openScene(ours), openScene(theirs)]
  const compared: Compared[] = []
  try {
    for (const step of steps) {
      const [a, b] = await Promise.all([play(ourScene, step), play(theirScene, step)])
      compared.push({ step, found: differences(step, a, b, ourScene, theirScene) })
    }
  } finally {
    orphans.push(...(await clean(theirScene)))
  }
  return compared
}

function openScene(server: Server): Scene {
  const variables = new Map([
    ['run', run],
    ['upstream', upstream.url],
  ])
  return { server, variables, made: [] }
}

function report({ name }: Group, compared: readonly Compared[]): void {
  for (const { step, found } of compared) {
    counts.calls++
    const lines = found.flatMap((difference) => describe(`${name} | ${titleOf(step)} | ${difference}`, difference))
    if (lines.length > 0) console.log([`${name} › ${titleOf(step)}`, ...lines].join('\n'))
  }
}

function describe(line: string, difference: string): string[] {
  const explained = known.find(({ where }) => where.test(line))
  if (explained) {
    used.add(explained)
    counts.explained++
    return options.all ? [`  (${difference}: ${explained.reason})`] : []
  }
  counts.unexplained++
  return [`  ${difference}`]
}

function titleOf({ ask, json, form, parts, raw, headers, as }: Step): string {
  const sent = json ?? form ?? (parts && Object.keys(parts)) ?? raw?.bytes
  const said = [
    sent === undefined ? '' : JSON.stringify(sent).slice(0, 200),
    headers ? JSON.stringify(headers) : '',
    as ? `as ${as}` : '',
  ]
  return [ask, ...said.filter(Boolean)].join(' ')
}
