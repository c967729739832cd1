import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test, type TestContext } from 'node:test'
import { assignRole } from '../../src/core/access/assignments.ts'
import { updateUser } from '../../src/core/access/users.ts'
import { formats } from '../../src/formats/index.ts'
import { describeApi } from '../../src/http/pulp/register.ts'
import type { Db } from '../../src/store/database.ts'
import { forEachDatabase } from '../databases.ts'
import { addPushed, makeImage } from '../images.ts'
import { addUser, api, openPulp, type Pulp, work } from '../pulp.ts'

/*
 * Who may do what in the REST API, as a table that is written down here and not taken from the code: every route of the route table, every
 * kind of caller, an object that is there and one that is not. A route that the table does not know fails the test.
 */

// ---- Who asks. Roles are Pulp's built-in ones, on each object of the stage or on everything.

interface Held {
  onObjects?: readonly string[]
  everywhere?: readonly string[]
}

const people = {
  admin: {},
  plain: {},
  viewer: { onObjects: ['viewer', 'consumer'] },
  owner: { onObjects: ['owner'] },
  reader: { everywhere: ['viewer', 'consumer'] },
  keeper: { everywhere: ['owner'] },
  maker: { everywhere: ['creator'] },
  labeler: {},
} as const satisfies Record<string, Held>

type Person = keyof typeof people
type Asker = Person | 'nobody'
const askers: readonly Asker[] = ['nobody', ...(Object.keys(people) as Person[])]
/** Whose answers differ where nothing is. */
const askAbsent = new Set<Asker>(['nobody', 'plain', 'owner', 'labeler', 'admin'])

// ---- What a route is for, and so what everybody gets: `ok` is anything but a refusal.

type Outcome = 'ok' | 'body' | 401 | 403 | 404

interface Policy {
  /** Of what is there. */
  here(asker: Asker): Outcome
  /** Of what is not. */
  absent(asker: Asker): Outcome
}

const sees: ReadonlySet<Asker> = new Set(['admin', 'viewer', 'owner', 'reader', 'keeper'])
const owns: ReadonlySet<Asker> = new Set(['admin', 'owner', 'keeper'])
const logged = (outcome: (asker: Asker) => Outcome) => (asker: Asker) => (asker === 'nobody' ? 401 : outcome(asker))
const always = (outcome: (asker: Asker) => Outcome): Policy => ({ here: logged(outcome), absent: logged(outcome) })
const only = (some: readonly Asker[]) => always((asker) => (some.includes(asker) ? 'ok' : 403))

const policies = {
  /** No log-in. */
  open: { here: () => 'ok', absent: () => 'ok' },
  /** Whoever is logged in; lists hold what they see. */
  member: { here: logged(() => 'ok'), absent: logged(() => 404) },
  /** Administrators. Others are not told whether it is there. */
  admin: {
    here: logged((asker) => (asker === 'admin' ? 'ok' : 403)),
    absent: logged((asker) => (asker === 'admin' ? 404 : 403)),
  },
  never: { here: logged(() => 403), absent: logged((asker) => (asker === 'admin' ? 404 : 403)) },
  create: only(['admin', 'maker']),
  see: { here: logged((asker) => (sees.has(asker) ? 'ok' : 404)), absent: logged(() => 404) },
  own: {
    here: logged((asker) => (owns.has(asker) ? 'ok' : sees.has(asker) ? 403 : 404)),
    absent: logged(() => 404),
  },
  /** What no built-in role gives. */
  nobodys: {
    here: logged((asker) => (asker === 'admin' ? 'ok' : sees.has(asker) ? 403 : 404)),
    absent: logged(() => 404),
  },
  /** Whoever may label content, if they see it: nobody else is told whether it is there. */
  label: {
    here: logged((asker) => (asker === 'admin' ? 'ok' : asker === 'labeler' ? 404 : 403)),
    absent: logged((asker) => (asker === 'admin' || asker === 'labeler' ? 404 : 403)),
  },
  /** What the body names decides; without one it is refused. */
  body: always(() => 'body'),
} as const satisfies Record<string, Policy>

// ---- The table: what may be done with each collection, by method and what follows its path.

type Rules = Readonly<Record<string, keyof typeof policies>>

const roles = {
  'GET :item/list_roles/': 'own',
  'POST :item/add_role/': 'own',
  'POST :item/remove_role/': 'own',
  'GET :item/my_permissions/': 'see',
} as const satisfies Rules
const labels = { 'POST :item/set_label/': 'own', 'POST :item/unset_label/': 'own' } as const satisfies Rules
const readable = { 'GET ': 'member', 'GET :item/': 'see' } as const satisfies Rules
const changing = { 'PUT :item/': 'own', 'PATCH :item/': 'own' } as const satisfies Rules
const usual = { ...readable, ...changing, ...roles, 'POST ': 'create', 'DELETE :item/': 'own' } as const satisfies Rules
const labeled = { ...usual, ...labels } as const satisfies Rules
const placed = { ...labeled, 'POST ': 'body' } as const satisfies Rules
const published = { ...readable, ...roles, 'POST ': 'create', 'DELETE :item/': 'own' } as const satisfies Rules
const synced = { ...labeled, 'POST :item/sync/': 'own' } as const satisfies Rules
const versions = { ...readable, 'GET ': 'see', 'DELETE :item/': 'own', 'POST :item/repair/': 'own' } as const satisfies Rules
const content = { ...readable, 'POST :item/set_label/': 'label', 'POST :item/unset_label/': 'label' } as const satisfies Rules
const made = { ...content, 'POST ': 'body' } as const satisfies Rules
const administered = {
  'GET ': 'admin',
  'POST ': 'admin',
  'GET :item/': 'admin',
  'PUT :item/': 'admin',
  'PATCH :item/': 'admin',
  'DELETE :item/': 'admin',
} as const satisfies Rules
const assigned = { 'GET ': 'admin', 'POST ': 'admin', 'GET :item/': 'admin', 'DELETE :item/': 'admin' } as const satisfies Rules
const list = { 'GET ': 'member' } as const satisfies Rules
const acting = (...names: string[]): Rules => Object.fromEntries(names.map((name) => [`POST :item/${name}/`, 'own']))

const table: Readonly<Record<string, Rules>> = {
  'repositories/file/file/': { ...synced, ...acting('modify') },
  'repositories/rpm/rpm/': { ...synced, ...acting('modify') },
  'repositories/container/container/': {
    ...synced,
    ...acting('add', 'remove', 'copy_tags', 'copy_manifests', 'tag', 'untag', 'sign', 'build_image'),
  },
  'repositories/container/container-push/': {
    ...readable,
    ...changing,
    ...(Object.fromEntries(Object.keys(roles).map((rule) => [rule, 'nobodys'])) as Rules),
    'GET :item/my_permissions/': 'see',
    ...acting('tag', 'untag', 'remove_image', 'remove_signatures', 'sign'),
  },
  'repositories/file/file/:parent/versions/': versions,
  'repositories/rpm/rpm/:parent/versions/': versions,
  'repositories/container/container/:parent/versions/': versions,
  'repositories/container/container-push/:parent/versions/': {
    ...versions,
    'DELETE :item/': 'admin',
    'POST :item/repair/': 'admin',
  },
  'remotes/file/file/': labeled,
  'remotes/rpm/rpm/': labeled,
  'remotes/container/container/': labeled,
  'remotes/container/pull-through/': labeled,
  'publications/file/file/': published,
  'publications/rpm/rpm/': published,
  'distributions/file/file/': labeled,
  'distributions/rpm/rpm/': labeled,
  'distributions/container/container/': placed,
  'distributions/container/pull-through/': placed,
  'pulp_container/namespaces/': { ...published, 'POST ': 'body' },
  'content/file/files/': made,
  'content/rpm/packages/': made,
  'content/rpm/advisories/': made,
  'content/rpm/modulemds/': made,
  'content/rpm/modulemd_defaults/': made,
  'content/rpm/modulemd_obsoletes/': made,
  'content/rpm/packagegroups/': content,
  'content/rpm/packagecategories/': content,
  'content/rpm/packageenvironments/': content,
  'content/rpm/packagelangpacks/': content,
  'content/rpm/distribution_trees/': content,
  'content/rpm/repo_metadata_files/': content,
  'content/container/blobs/': content,
  'content/container/manifests/': content,
  'content/container/tags/': content,
  'content/container/signatures/': content,
  'contentguards/core/rbac/': usual,
  'contentguards/core/header/': usual,
  'contentguards/core/composite/': usual,
  'contentguards/core/content_redirect/': usual,
  'artifacts/': { ...assigned, 'DELETE :item/': 'never' },
  'uploads/': {
    ...published,
    'PUT :item/': 'own',
    'POST :item/commit/': 'own',
  },
  'tasks/': {
    ...readable,
    ...roles,
    'PATCH :item/': 'own',
    'DELETE :item/': 'own',
    'GET :item/profile_artifacts/': 'own',
    'POST purge/': 'member',
  },
  'task-groups/': { ...readable, 'PATCH :item/': 'own' },
  'workers/': { 'GET ': 'admin', 'GET :item/': 'admin' },
  'signing-services/': { 'GET ': 'admin', 'GET :item/': 'admin' },
  'users/': administered,
  'users/:parent/roles/': assigned,
  'groups/': usual,
  'groups/:parent/users/': { 'GET ': 'see', 'POST ': 'own', 'DELETE :item/': 'own' },
  'groups/:parent/roles/': assigned,
  'roles/': administered,
  'access_policies/': {
    'GET ': 'admin',
    'GET :item/': 'admin',
    'PUT :item/': 'admin',
    'PATCH :item/': 'admin',
    'POST :item/reset/': 'admin',
  },
  'domains/': readable,
  'task-schedules/': { ...readable, ...roles },
  'repositories/': { ...list, 'POST reclaim_space/': 'admin' },
  'repository_versions/': list,
  'remotes/': list,
  'publications/': list,
  'distributions/': list,
  'content/': list,
  'contentguards/': list,
  'orphans/': { 'DELETE ': 'admin', 'POST cleanup/': 'admin' },
  'repair/': { 'POST ': 'admin' },
  'rpm/': { 'POST comps/': 'body', 'POST prune/': 'body', 'POST copy/': 'body' },
  'signalbox/': { 'POST promotions/': 'body' },
  'login/': { 'GET ': 'member', 'POST ': 'member', 'DELETE ': 'member' },
  'status/': { 'GET ': 'open' },
  'livez/': { 'GET ': 'open' },
  'docs/': { 'GET api.json': 'open', 'GET api.yaml': 'open' },
  '': { 'GET ': 'member' },
}

// ---- The routes of the code, with the policies of the table.

interface Route {
  method: string
  /** Below the API's root, with `:item` and `:parent`. */
  path: string
  collection: string
  policy: Policy
}

/** `unknown`: routes without a policy; `unused`: policies without a route. */
function matchRoutes() {
  const collections = Object.keys(table).toSorted((a, b) => b.length - a.length)
  const used = new Set<string>()
  const unknown: string[] = []
  const routes: Route[] = []
  for (const { method, url } of describeApi({ formats }).endpoints) {
    const path = url.slice(api.length)
    const collection = collections.find((each) => path.startsWith(each) && table[each]![`${method} ${path.slice(each.length)}`])
    if (collection === undefined) {
      unknown.push(`${method} ${path}`)
      continue
    }
    const rule = `${method} ${path.slice(collection.length)}`
    used.add(`${collection} ${rule}`)
    routes.push({ method, path, collection, policy: policies[table[collection]![rule]!] })
  }
  const unused = Object.entries(table).flatMap(([collection, rules]) =>
    Object.keys(rules).flatMap((rule) => (used.has(`${collection} ${rule}`) ? [] : [`${collection}: ${rule}`])),
  )
  return { routes, unknown, unused }
}

// ---- The stage: one object of every collection that can have one, by its path with `:item` filled in.

interface Stage extends Pulp {
  /** Hrefs by collection. */
  objects: Map<string, string>
}

async function setTheStage(t: TestContext, db: Db): Promise<Stage> {
  const pulp = await openPulp(t, db)
  const { ctx, call } = pulp
  const objects = new Map<string, string>()
  const keep = (collection: string, href: string) => void objects.set(collection, href)
  const make = async (collection: string, body: unknown) => {
    const { status, body: made, text } = await call('POST', collection, body)
    assert.ok(status === 201, `${collection}: ${status} ${text}`)
    keep(collection, made.pulp_href)
    return made.pulp_href as string
  }
  const makeByTask = async (collection: string, body: unknown) => {
    const { created_resources: created, error } = await pulp.task('POST', collection, body)
    assert.ok(created?.length > 0, `${collection}: ${JSON.stringify(error)}`)
    keep(collection, created.find((href: string) => href.includes(`/${collection}`)) ?? created[0])
  }
  for (const person of [...Object.keys(people), 'disabled']) if (person !== 'admin') await addUser(ctx, person)
  const url = { url: 'http://localhost/', name: 'one' }
  await make('remotes/file/file/', { name: 'file', url: 'http://localhost/PULP_MANIFEST' })
  await make('remotes/rpm/rpm/', { ...url, name: 'rpm' })
  await make('remotes/container/container/', { ...url, name: 'container', upstream_name: 'a' })
  const through = await make('remotes/container/pull-through/', { ...url, name: 'through' })
  for (const type of ['file/file', 'rpm/rpm', 'container/container']) {
    const repository = await make(`repositories/${type}/`, { name: type })
    keep(`repositories/${type}/:parent/versions/`, `${repository}versions/0/`)
    if (type === 'container/container') continue
    await makeByTask(`publications/${type}/`, { repository })
    await makeByTask(`distributions/${type}/`, { name: type, base_path: type, repository })
  }
  await makeByTask('distributions/container/pull-through/', {
    name: 'team/hub',
    base_path: 'team/hub',
    remote: through,
    private: true,
  })
  await addPushed(ctx, 'team/app', { one: await makeImage(ctx, ['one']) })
  ctx.changes.bump()
  for (const collection of [
    'repositories/container/container-push/',
    'distributions/container/container/',
    'pulp_container/namespaces/',
    'content/container/blobs/',
    'content/container/manifests/',
    'content/container/tags/',
    'tasks/',
    'access_policies/',
    'domains/',
  ])
    keep(collection, (await call('GET', collection)).body.results[0].pulp_href)
  const pushed = objects.get('repositories/container/container-push/')!
  keep('repositories/container/container-push/:parent/versions/', (await call('GET', pushed)).body.latest_version_href)
  const form = '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nbytes\r\n--b--\r\n'
  const artifact = await call('POST', 'artifacts/', form, { headers: { 'content-type': 'multipart/form-data; boundary=b' } })
  keep('artifacts/', artifact.body.pulp_href)
  const repository = objects.get('repositories/file/file/')!
  await makeByTask('content/file/files/', { repository, relative_path: 'a', artifact: artifact.body.pulp_href })
  await make('contentguards/core/rbac/', { name: 'rbac' })
  await make('contentguards/core/header/', { name: 'header', header_name: 'a', header_value: 'b' })
  await make('contentguards/core/composite/', { name: 'composite' })
  await make('contentguards/core/content_redirect/', { name: 'redirect' })
  await make('uploads/', { size: 3 })
  const { body: pruned } = await call('POST', 'rpm/prune/', { repo_hrefs: [objects.get('repositories/rpm/rpm/')] })
  keep('task-groups/', pruned.task_group)
  const group = await make('groups/', { name: 'group' })
  await make('roles/', { name: 'role', permissions: ['core.view_group'] })
  const user = await make('users/', { username: 'somebody' })
  await call('POST', `${group}users/`, { username: 'somebody' })
  keep('groups/:parent/users/', `${group}users/${await idOf(db, 'somebody')}/`)
  for (const [holder, place] of [
    [user, 'users/:parent/roles/'],
    [group, 'groups/:parent/roles/'],
  ] as const)
    keep(place, (await call('POST', `${holder}roles/`, { role: 'core.task_viewer', content_object: null })).body.pulp_href)
  await work(ctx)
  await cast({ ...pulp, objects })
  const disabled = await db.selectFrom('user').selectAll().where('username', '=', 'disabled').executeTakeFirstOrThrow()
  await updateUser(ctx, disabled, { is_active: false })
  return { ...pulp, objects }
}

async function idOf(db: Db, username: string): Promise<number> {
  return (await db.selectFrom('user').select('id').where('username', '=', username).executeTakeFirstOrThrow()).id
}

/** Gives everybody their roles, on each object or on everything. */
async function cast({ ctx, call, objects }: Stage): Promise<void> {
  const known = new Map((await ctx.db.selectFrom('role').selectAll().execute()).map((role) => [role.name, role]))
  const give = async (person: Person, role: string, prn: string | null) =>
    void (await assignRole(ctx, { user: await idOf(ctx.db, person) }, known.get(role)!, prn))
  const prns: string[] = []
  for (const href of [...objects.values(), ...(await tasksOf(call, objects))])
    prns.push((await call('GET', href)).body?.prn ?? '')
  for (const [person, { onObjects = [], everywhere = [] }] of Object.entries(people) as [Person, Held][]) {
    for (const name of known.keys()) if (everywhere.some((each) => name.endsWith(`_${each}`))) await give(person, name, null)
    for (const prn of new Set(prns))
      for (const each of onObjects) {
        const role = `${prn.split(':')[1]}_${each}`
        if (known.has(role)) await give(person, role, prn)
      }
  }
  await give('labeler', 'core.content_labeler', null)
}

/** Those of the group: who sees one sees the group. */
async function tasksOf(call: Pulp['call'], objects: ReadonlyMap<string, string>): Promise<string[]> {
  const { body } = await call('GET', objects.get('task-groups/')!)
  return body.tasks.map(({ pulp_href }: { pulp_href: string }) => pulp_href)
}

/** A URL for what is there, where the stage has one, or for what is not. */
function urlOf({ path, collection }: Route, objects: ReadonlyMap<string, string>, isHere: boolean): string | undefined {
  if (!path.includes(':')) return isHere ? `${api}${path}` : undefined
  const [head, tail = ''] = path.split(':item/')
  const nested = collection.includes(':parent')
  const href = objects.get(collection)
  if (isHere) {
    if (href === undefined) return undefined
    return path.includes(':item') ? `${href}${tail}` : href.replace(/[^/]+\/$/, '')
  }
  const number = /^(?:users|groups)\//.test(path)
  const key = number ? '99999' : randomUUID()
  if (nested)
    return `${api}${path.replace(':parent', key).replace(':item', number ? '99999' : collection.endsWith('versions/') ? '0' : randomUUID())}`
  return `${api}${head}${key}/${tail}`
}

function fits(outcome: Outcome, status: number): boolean {
  if (outcome === 'ok') return status < 500 && ![401, 403, 404, 405].includes(status)
  return outcome === 'body' ? status === 400 || status === 403 : status === outcome
}

type Answered = Awaited<ReturnType<Pulp['call']>>

/** All of an answer that its reader sees, but for what they asked for and when. */
function seen({ status, headers, text }: Answered): unknown {
  const { date: _, 'correlation-id': __, ...rest } = headers
  return { status, headers: rest, text }
}

forEachDatabase((engine, open) => {
  test(`${engine}: every route has a policy, and every policy a route`, () => {
    const { unknown, unused } = matchRoutes()
    assert.deepEqual([unknown, unused], [[], []])
  })

  test(`${engine}: every caller gets of every route what the table says, of what is there and of what is not`, async (t) => {
    const stage = await setTheStage(t, await open(t))
    const { call, objects } = stage
    const { routes } = matchRoutes()
    // Whose rights are the same get the same answers: on the second engine one of each will do.
    const callers = engine === 'SQLite' ? askers : (['nobody', 'plain', 'viewer', 'owner'] as const)
    const wrong: string[] = []
    let cells = 0
    const ask = (asker: Asker, method: string, url: string) =>
      call(method, url, method === 'GET' || method === 'DELETE' ? undefined : {}, { as: asker === 'nobody' ? null : asker })
    // What deletes comes last, what lies within something before that, and only whoever is asked last may do it: the administrator.
    const turn = ({ method, path }: Route) => (method !== 'DELETE' ? 0 : path.includes(':parent') ? 1 : 2)
    for (const route of routes.toSorted((a, b) => turn(a) - turn(b)))
      for (const asker of callers.toSorted((a, b) => Number(a === 'admin') - Number(b === 'admin')))
        for (const isHere of [true, false]) {
          const url = urlOf(route, objects, isHere)
          if (url === undefined || !(isHere || askAbsent.has(asker))) continue
          const outcome = isHere ? route.policy.here(asker) : route.policy.absent(asker)
          if (turn(route) > 0 && outcome === 'ok' && asker !== 'admin' && route.path.includes(':')) continue
          const { status, text } = await ask(asker, route.method, url)
          cells++
          const what = `${asker}: ${route.method} ${route.path} (${isHere ? 'there' : 'absent'})`
          if (!fits(outcome, status)) wrong.push(`${what}: ${status}, not ${outcome} ${text.slice(0, 80)}`)
        }
    t.diagnostic(`${cells} requests`)
    assert.deepEqual(wrong.slice(0, 40), [], `${wrong.length} of ${cells}`)
  })

  test(`${engine}: what is hidden from a caller looks as what is absent, in all of the answer`, async (t) => {
    const { call, objects } = await setTheStage(t, await open(t))
    const { routes } = matchRoutes()
    for (const route of routes) {
      const [here, absent] = [urlOf(route, objects, true), urlOf(route, objects, false)]
      if (here === undefined || absent === undefined || route.policy.here('plain') === 'ok') continue
      for (const method of route.method === 'GET' ? ['GET', 'HEAD'] : [route.method]) {
        const body = ['POST', 'PUT', 'PATCH'].includes(method) ? {} : undefined
        const hidden: Answered = await call(method, here, body, { as: 'plain' })
        const nothing: Answered = await call(method, absent, body, { as: 'plain' })
        assert.deepEqual(seen(hidden), seen(nothing), `${method} ${route.path}`)
      }
    }
    for (const path of ['repositories/', 'status/', 'login/', objects.get('repositories/file/file/')!, 'orphans/cleanup/'])
      assert.equal((await call('GET', path, undefined, { as: 'disabled' })).status, path === 'status/' ? 200 : 401, path)
    // Of all that there is, lists show a stranger what is his.
    for (const { method, path } of routes)
      if (method === 'GET' && !path.includes(':') && !['domains/', ''].includes(path)) {
        const { status, body } = await call('GET', path, undefined, { as: 'plain' })
        if (status === 200 && body && 'count' in body) assert.equal(body.count, 0, path)
      }
  })
})
