import { done, get, type Group, password, post, type Step } from '../step.ts'
import { absent } from './answers.ts'

/*
 * What no list by hand would ever be complete in: every filter and every order of every list, and every field of every request with values
 * that it does not take. Which there are, the OpenAPI document says.
 */

type Document = Record<string, any>

export function fromDocument(document: Document): Group[] {
  return [
    ...lists.map(({ of, make, ...list }) => ({ name: `lists of ${of}`, steps: [...make, ...filters(document, list)] })),
    ...synced.map(({ of, remote, keys }) => ({
      name: `lists of content in ${of}`,
      steps: [
        post(`remotes/${of}/`, { name: nameOf(`synced/${of}`), ...remote }, { save: { remote: 'pulp_href' } }),
        post(`repositories/${of}/`, { name: nameOf(`synced/${of}`), remote: '{remote}' }, { save: { repository: 'pulp_href' } }),
        done(post('{repository}sync/', {}), { version: 'created_resources.0' }),
        ...Object.entries(keys).flatMap(([path, key]) => filters(document, { path, key, ...ofVersion })),
      ],
    })),
    ...wrongBodies(document),
  ]
}

interface List {
  /** As in the document, below the API's root. */
  path: string
  /** The query that picks items of this run. */
  mine: string
  /** The field by which they are told apart. */
  key: string
  /** They come in no order. */
  sorted?: boolean
  /** For filters that are called like no field of an item. */
  values?: Record<string, string>
}

const letters = ['b', 'c', 'a']
const url = 'http://localhost/'
const ofVersion = {
  mine: 'repository_version={version}',
  sorted: true,
  values: { repository_version_added: '{version}', repository_version_removed: '{version}', orphaned_for: '0' },
}

/** Names that no other group has. */
const nameOf = (path: string) => `{run}-${path.replaceAll(/\W+/g, '-')}`
const mine = (path: string) => `name__startswith=${nameOf(path)}`

/** Three of these, the second of which has more than the others. */
function three(path: string, all: object, more: object = {}): Step[] {
  return letters.map((letter) => post(path, { name: nameOf(path) + letter, ...all, ...(letter === 'c' && more) }))
}

/** The list of what is made at the same path. */
function list(path: string, all: object, more: object = {}): List & { of: string; make: Step[] } {
  return { of: path, make: three(path, all, more), path, mine: mine(path), key: 'name' }
}

function published(format: string, more: object): Omit<List, 'path' | 'key'> & { of: string; make: Step[] } {
  const publish = (fields: object) => done(post(`publications/${format}/`, { repository: '{repository}', ...fields }))
  return {
    of: `publications of ${format}`,
    make: [
      post(
        `repositories/${format}/`,
        { name: nameOf(`published/${format}`) },
        { save: { repository: 'pulp_href', version: 'latest_version_href' } },
      ),
      publish({}),
      publish(more),
    ],
    mine: 'repository={repository}',
    values: { repository_version: '{version}' },
  }
}

const repositoryFields = { description: 'third', retain_repo_versions: 3, pulp_labels: { a: 'b' } }
const remoteFields = { max_retries: 3, total_timeout: 5, rate_limit: 7, policy: 'on_demand', pulp_labels: { a: 'b' } }

const lists: readonly (List & { of: string; make: readonly Step[] })[] = [
  ...['rpm/rpm', 'file/file', 'container/container'].map((format) => list(`repositories/${format}/`, {}, repositoryFields)),
  {
    of: 'all repositories',
    make: letters.map((letter) => post('repositories/file/file/', { name: `{run}-all-${letter}` })),
    path: 'repositories/',
    mine: 'name__startswith={run}-all-',
    key: 'name',
  },
  ...[
    ['rpm/rpm', 'rpm_rpm_repository_href'],
    ['file/file', 'file_file_repository_href'],
    ['container/container', 'container_container_repository_href'],
  ].map(([format, href]) => ({
    of: `versions of ${format}`,
    make: [post(`repositories/${format}/`, { name: nameOf(`versions/${format}`) }, { save: { [href!]: 'pulp_href' } })],
    path: `{${href}}versions/`,
    mine: 'limit=9',
    key: 'number',
  })),
  list('remotes/rpm/rpm/', { url }, remoteFields),
  list('remotes/file/file/', { url }, remoteFields),
  list('remotes/container/container/', { url, upstream_name: 'x' }, remoteFields),
  list('remotes/container/pull-through/', { url }, { max_retries: 3, total_timeout: 5 }),
  {
    of: 'all remotes',
    make: letters.map((letter) => post('remotes/file/file/', { name: `{run}-all-${letter}`, url })),
    path: 'remotes/',
    mine: 'name__startswith={run}-all-',
    key: 'name',
  },
  { ...published('rpm/rpm', { checksum_type: 'sha512' }), path: 'publications/rpm/rpm/', key: 'checksum_type' },
  { ...published('file/file', { manifest: 'M' }), path: 'publications/file/file/', key: 'manifest' },
  ...['distributions/rpm/rpm/', 'distributions/file/file/', 'distributions/container/container/'].map((path) => ({
    ...list(path, {}),
    make: letters.map((letter) => {
      const more = letter === 'c' && { hidden: true, pulp_labels: { a: 'b' } }
      return done(post(path, { name: nameOf(path) + letter, base_path: `${nameOf(path)}/${letter}`, ...more }))
    }),
  })),
  list('contentguards/core/rbac/', {}, { description: 'third' }),
  list('contentguards/core/composite/', {}, { description: 'third' }),
  list('contentguards/core/content_redirect/', {}, { description: 'third' }),
  list('contentguards/core/header/', { header_name: 'a', header_value: 'b' }, { header_value: 'c' }),
  {
    of: 'users',
    make: letters.map((letter) =>
      post('users/', {
        username: `{run}-users-${letter}`,
        password,
        first_name: `first ${letter}`,
        email: `${letter}@example.org`,
      }),
    ),
    path: 'users/',
    mine: 'username__startswith={run}-users-',
    key: 'username',
  },
  list('groups/', {}),
  {
    ...list('roles/', { permissions: ['core.view_task'] }, { description: 'third' }),
    values: { contains_permission: 'core.view_task' },
  },
  list('pulp_container/namespaces/', {}),
  {
    of: 'uploads',
    make: [
      post('uploads/', { size: 77 }, { save: { one: 'pulp_href' } }),
      post('uploads/', { size: 78 }, { save: { two: 'pulp_href' } }),
    ],
    path: 'uploads/',
    mine: 'pulp_href__in={one},{two}',
    key: 'size',
  },
  {
    of: 'tasks',
    make: [
      post('repositories/file/file/', { name: '{run}-tasks-of' }, { save: { repository: 'pulp_href' } }),
      done(post('{repository}modify/', { remove_content_units: ['*'] })),
      done(post('publications/file/file/', { repository: '{repository}' })),
    ],
    path: 'tasks/',
    mine: 'reserved_resources={repository}',
    key: 'name',
  },
  { of: 'workers', make: [], path: 'workers/', mine: 'name=nosuch', key: 'name' },
  {
    of: 'access policies',
    make: [],
    path: 'access_policies/',
    mine: 'viewset_name__startswith=repositories/file',
    key: 'viewset_name',
  },
]

/** What is synced, and the lists of what comes of it. */
const synced = [
  {
    of: 'rpm/rpm',
    remote: { url: '{upstream}/lists/' },
    keys: {
      'content/rpm/packages/': 'location_href',
      'content/rpm/advisories/': 'id',
      'content/rpm/modulemds/': 'name',
      'content/rpm/modulemd_defaults/': 'module',
      'content/rpm/modulemd_obsoletes/': 'message',
      'content/rpm/packagegroups/': 'id',
      'content/rpm/packagecategories/': 'id',
      'content/rpm/packageenvironments/': 'id',
      'content/rpm/packagelangpacks/': 'matches',
      'content/rpm/repo_metadata_files/': 'data_type',
      'content/rpm/distribution_trees/': 'release_name',
    },
  },
  {
    of: 'file/file',
    remote: { url: '{upstream}/lists-files/PULP_MANIFEST' },
    keys: { 'content/file/files/': 'relative_path', 'artifacts/': 'size' },
  },
  {
    of: 'container/container',
    remote: { url: '{upstream}/', upstream_name: 'lists-{run}' },
    keys: {
      'content/container/tags/': 'name',
      'content/container/manifests/': 'digest',
      'content/container/blobs/': 'digest',
      'content/container/signatures/': 'name',
    },
  },
]

/** Of the page and of the form of an answer, not of the items. */
const plain = new Set(['limit', 'offset', 'fields', 'exclude_fields', 'ordering', 'q'])

/** Orders that say nothing about what was first. */
const random = /^-?(pk|pulp_id|logging_cid)$/

/** Every filter with what the first item has, all of them with nonsense and with nothing, and every order. */
function filters(document: Document, { path, mine, key, sorted = false, values = {} }: List): Step[] {
  const { operation, item } = listOf(document, path)
  const parameters: { name: string; schema: Document }[] = operation.parameters.filter((each: Document) => each['in'] === 'query')
  const names = parameters.map(({ name }) => name).filter((name) => !plain.has(name) && !mine.includes(`${name}=`))
  const orders: string[] = parameters.find(({ name }) => name === 'ordering')?.schema['items']?.enum ?? []
  const fields = Object.keys(item['properties'])
  const ask = (query: string, isRandom = sorted) => get(`${path}?${mine}&fields=${key}&${query}`, { sorted: isRandom })
  const all = (value: string) => ask(names.map((name) => `${name}=${value}`).join('&'))
  return [
    // In no order, the first is the one that both servers take for it.
    get(sorted ? `${path}?${mine}` : `${path}?${mine}&limit=1&ordering=${orders.includes(key) ? key : ''}`, {
      sorted,
      save: Object.fromEntries(fields.map((field) => [`its_${field}`, `results.0.${field}`])),
      only: ['count'],
    }),
    ...names.map((name) => ask(`${name}=${valueOf(name, fields, values)}`)),
    all('nonsense'),
    all(''),
    all('-1'),
    ...orders.map((order) => ask(`ordering=${order}`, sorted || random.test(order))),
  ]
}

function listOf(document: Document, path: string): { operation: Document; item: Document } {
  const operation = document['paths'][path.startsWith('{') ? path : `/pulp/api/v3/${path}`]['get']
  const resolve = (ref: string): Document => document['components'].schemas[ref.split('/').at(-1)!]
  const page = resolve(operation.responses['200'].content['application/json'].schema.$ref)
  return { operation, item: resolve(page['properties'].results.items.$ref) }
}

function valueOf(name: string, fields: readonly string[], values: Record<string, string>): string {
  const [field = '', lookup] = name.split('__')
  if (lookup === 'isnull') return 'true'
  const value = values[name] ?? (fields.includes(field) ? `{its_${field}}` : 'nonsense')
  return lookup === 'range' ? `${value},${value}` : value
}

/** One thing of each kind, called like the document's word for its href, so that the paths of the document find it. */
const objects: readonly Step[] = (
  [
    ['repositories/file/file/', { name: '{run}-wrong-f' }, 'file_file_repository_href'],
    ['repositories/rpm/rpm/', { name: '{run}-wrong-r' }, 'rpm_rpm_repository_href'],
    ['repositories/container/container/', { name: '{run}-wrong-c' }, 'container_container_repository_href'],
    ['remotes/file/file/', { name: '{run}-wrong-f', url }, 'file_file_remote_href'],
    ['remotes/rpm/rpm/', { name: '{run}-wrong-r', url }, 'rpm_rpm_remote_href'],
    ['remotes/container/container/', { name: '{run}-wrong-c', url, upstream_name: 'x' }, 'container_container_remote_href'],
    ['remotes/container/pull-through/', { name: '{run}-wrong-p', url }, 'container_container_pull_through_remote_href'],
    ['contentguards/core/rbac/', { name: '{run}-wrong-b' }, 'r_b_a_c_content_guard_href'],
    ['contentguards/core/composite/', { name: '{run}-wrong-c' }, 'composite_content_guard_href'],
    ['contentguards/core/content_redirect/', { name: '{run}-wrong-r' }, 'content_redirect_content_guard_href'],
    ['contentguards/core/header/', { name: '{run}-wrong-h', header_name: 'a', header_value: 'b' }, 'header_content_guard_href'],
    ['users/', { username: '{run}-wrong', password }, 'auth_user_href'],
    ['groups/', { name: '{run}-wrong' }, 'group_href'],
    ['roles/', { name: '{run}.wrong', permissions: [] }, 'role_href'],
    ['pulp_container/namespaces/', { name: '{run}-wrong' }, 'container_container_namespace_href'],
    ['uploads/', { size: 5 }, 'upload_href'],
    ['distributions/file/file/', { name: '{run}-wrong-f', base_path: '{run}-wrong-f' }, 'file_file_distribution_href'],
    ['distributions/rpm/rpm/', { name: '{run}-wrong-r', base_path: '{run}-wrong-r' }, 'rpm_rpm_distribution_href'],
    [
      'distributions/container/container/',
      { name: '{run}-wrong-c', base_path: '{run}-wrong/c' },
      'container_container_distribution_href',
    ],
  ] as const
).map(([path, body, href]) => {
  const made = post(path, body, { save: { [href]: 'pulp_href' } })
  return path.startsWith('distributions/') ? done(made, { [href]: 'created_resources.0' }) : made
})

/** What some field takes; together with a field that nothing has, no request is right. */
const wrong: readonly unknown[] = [
  null,
  '',
  'x',
  ' x ',
  5,
  -1,
  1.5,
  1e20,
  true,
  [],
  ['x'],
  [5],
  [null],
  {},
  { a: 'b' },
  { a: 5 },
  'a\0b',
  'x'.repeat(3000),
  `/pulp/api/v3/content/file/files/${absent}/`,
]

/** What acts on everything there is, on the one who asks, or on uploads, of which there is one only once. */
const spared =
  /^\/pulp\/api\/v3\/(login|repair|orphans|tasks\/purge|repositories\/reclaim_space)|commit\/$|_version_href|^\{upload_href\}$/

/** Every request that changes something, with each of the wrong values in all of its fields at once: a group for each collection or thing. */
function wrongBodies(document: Document): Group[] {
  const groups = new Map<string, Step[]>()
  for (const [path, operations] of Object.entries<Document>(document['paths'])) {
    const [, href] = /^\{(\w+)\}/.exec(path) ?? []
    const object = objects.find(({ save }) => save && href !== undefined && href in save)
    if (spared.test(path) || (href && !object)) continue
    const of = href ?? path
    const steps = groups.get(of) ?? (object ? [object] : [])
    for (const [method, { requestBody }] of Object.entries<Document>(operations)) {
      const schema = requestBody && Object.values<Document>(requestBody.content)[0]?.['schema']
      if (!schema?.$ref) continue
      const fields = Object.keys(document['components'].schemas[schema.$ref.split('/').at(-1)].properties ?? {})
      const ask = `${method.toUpperCase()} ${path}`
      for (const value of wrong)
        steps.push({ ask, json: { bogus: 1, ...Object.fromEntries(fields.map((field) => [field, value])) } })
    }
    if (steps.length > 1) groups.set(of, steps)
  }
  return [...groups].map(([of, steps]) => ({ name: `wrong bodies for ${of}`, steps }))
}
