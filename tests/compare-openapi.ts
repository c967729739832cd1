import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { formats } from '../src/formats/index.ts'
import { describeApi, documentOf } from '../src/http/pulp/register.ts'

/*
 * Compares our OpenAPI document with that of a real Pulp (core 3.81, rpm 3.30): paths, operation ids, parameters, and the fields of requests
 * and answers. Prints what we lack. `--write` also writes docs/pulp-compatibility.md.
 */

type Json = Record<string, any>

const reference = join(
  import.meta.dirname,
  '../../shared/reference/pulp/openapi-core-3.81-rpm-3.30-deb-3.6-container-2.25.json.gz',
)

/** Why parts of Pulp's API are not there. Each path that has no counterpart falls under the first pattern that fits. */
const leftOut: readonly (readonly [RegExp, string])[] = [
  [/^\/pulp\/api\/v3\/\w+\/deb\/|^\{deb_/, 'Debian repositories: a later release'],
  [/^\/token\//, 'tokens of the registry: not part of this API'],
  [/certguard|_cert_guard_href/, 'certificate guards: a later release'],
  [/exporter|importer|_export_href|_import_href/, 'export and import between servers: not planned'],
  [/upstream.pulp/, 'replication: not planned'],
  [/\/acs\/|alternate_content_source/, 'alternate content sources: not planned'],
  [/openpgp|open_p_g_p/, 'OpenPGP keyrings as content: not planned'],
  [/uln/, 'ULN remotes: not planned'],
  [/^\/pulp\/api\/v3\/domains|^\{domain_href\}/, 'domains other than the default one: not planned'],
  [/artifact_distribution|distributions\/core\/artifacts/, 'artifact distributions: content is served from its own paths'],
]

/** What differs on purpose, or without anybody noticing. */
const tolerated: readonly RegExp[] = [
  // There is one language and one form.
  /^docs_api.* parameter (lang|fields|exclude_fields)/,
  // Pulp's own document is wrong: what it takes is a role.
  /^uploads_(add|remove)_role request: /,
  // Ours also says whether an unchanged upstream is read again, so it is a schema of its own.
  /^repositories_file_file_sync request: schema is /,
  // Debian's copy, whose fields the document gives rpm's copy as well.
  /^copy_content_2 request: structured /,
  // The same path as rpm's, for Debian.
  /^copy_content there is no POST .*deb/,
]

const onPurpose: readonly string[] = [
  'Access policies say what is enforced. They can be set to what they are and reset, to nothing else: rights are given by roles.',
  'Sessions of `login/` have SameSite=Strict; as in Pulp they count for the API, not for content.',
  'A version is published once with the same settings; publishing it again answers with that publication. So it is with checkpoints: the same version is one checkpoint.',
  '`config.repo` of a checkpoint distribution is in each checkpoint, and names its URL.',
  'Images are built elsewhere: `build_image/` says so. Packages are signed elsewhere: no signing service is one for `package_signing_service`.',
  "A signing script sees of the server's environment only what cannot be secret, has a minute, and what it makes is verified before it is used. A service that signs for a repository cannot be removed.",
  '`sign/` leaves out what the same key has signed under the same reference, and refuses a tag that is not there (Pulp signs all then).',
  'A signature of another image than the one it is sent to is refused. A sync keeps the signatures of what it keeps, also with `mirror`.',
  'A repository of images can have tags that never change (`immutable_tags`).',
  'Whoever adds images to a repository, copies them, or lets a distribution serve them, must be allowed to see them. Pulp takes any href.',
  'A distribution of images in a new namespace needs the right to make namespaces, or one called like the user. Pulp makes it while it checks.',
  'What is said of an image (OCI referrers) is added and removed with it.',
  'A guard that guards something cannot be deleted. Pulp deletes it, and opens what it guarded.',
  'Reclaiming space leaves the files that other repositories hold, as Pulp says it does.',
  'An on-demand file is verified before its first byte is sent, or, when it is large, before its last.',
  'A cache on the way is told to ask again about everything but packages and files that are named by their digest, and to keep nothing that a guard let through.',
  'Failed tasks tell a sentence about what is wrong, and with which file, line or upstream.',
  'There are no redirects in the API: an address without its last slash does not exist.',
  'A request that changes something is refused when a browser says that a page of another site started it, also with Basic credentials.',
]

export interface Lack {
  where: string
  what: string
}

/** What Pulp's document has and ours lacks, within what is claimed. */
export function compareDocuments(theirs: Json, ours: Json): { lacks: Lack[]; leftOut: Map<string, string[]>; same: number } {
  const lacks: Lack[] = []
  const missing = new Map<string, string[]>()
  let same = 0
  for (const [path, item] of Object.entries<Json>(theirs['paths'])) {
    for (const [method, operation] of Object.entries<Json>(item)) {
      const counterpart = ours['paths'][path]?.[method]
      if (!counterpart) {
        const reason = leftOut.find(([pattern]) => pattern.test(path))?.[1]
        if (reason) missing.set(reason, [...(missing.get(reason) ?? []), operation['operationId']])
        else lacks.push({ where: operation['operationId'], what: `there is no ${method.toUpperCase()} ${path}` })
        continue
      }
      const found = compareOperations(theirs, ours, operation, counterpart)
      lacks.push(...found.map((what) => ({ where: operation['operationId'], what })))
      if (found.length === 0) same += 1
    }
  }
  return {
    lacks: lacks.filter(({ where, what }) => !tolerated.some((each) => each.test(`${where} ${what}`))),
    leftOut: missing,
    same,
  }
}

function compareOperations(theirs: Json, ours: Json, a: Json, b: Json): string[] {
  return [
    // With Debian's copy beside it, rpm's gets a number.
    ...(a['operationId'].replace(/_2$/, '') === b['operationId'] ? [] : [`is called ${b['operationId']}`]),
    ...compareParameters(a['parameters'] ?? [], b['parameters'] ?? []),
    ...compareBodies(theirs, ours, a['requestBody'], b['requestBody']),
    ...compareResponses(theirs, ours, a['responses'], b['responses']),
    ...(JSON.stringify(a['security']) === JSON.stringify(b['security']) ? [] : ['security differs']),
  ]
}

function compareParameters(theirs: Json[], ours: Json[]): string[] {
  return theirs.flatMap((parameter) => {
    const own = ours.find(({ name }) => name === parameter['name'])
    if (!own) return [`parameter ${parameter['name']} is missing`]
    const differs = ['in', 'explode', 'style', 'required'].filter(
      (key) => (parameter[key] || undefined) !== (own[key] || undefined),
    )
    return [
      ...differs.map((key) => `parameter ${parameter['name']}: ${key} is ${own[key]} instead of ${parameter[key]}`),
      ...compareSchemas({}, {}, parameter['schema'], own['schema'], `parameter ${parameter['name']}`),
    ]
  })
}

function compareBodies(theirs: Json, ours: Json, a: Json | undefined, b: Json | undefined): string[] {
  if (!a) return b ? ['takes a body'] : []
  if (!b) return ['takes no body']
  const types = Object.keys(a['content']).filter((type) => !b['content'][type])
  const [first] = Object.keys(a['content'])
  const schemaA = a['content'][first!].schema
  const schemaB = Object.values<Json>(b['content'])[0]!['schema']
  return [...types.map((type) => `request: no ${type}`), ...compareNamed(theirs, ours, schemaA, schemaB, 'request')]
}

function compareResponses(theirs: Json, ours: Json, a: Json, b: Json): string[] {
  return Object.entries<Json>(a).flatMap(([status, response]) => {
    const own = b[status]
    if (!own) return [`answers ${Object.keys(b).join(', ')} instead of ${status}`]
    const schemaA = response['content']?.['application/json']?.schema
    const schemaB = own['content']?.['application/json']?.schema
    if (!schemaA) return []
    return schemaB ? compareNamed(theirs, ours, schemaA, schemaB, 'answer') : ['answer: no body']
  })
}

function compareNamed(theirs: Json, ours: Json, a: Json, b: Json, where: string): string[] {
  const name = (schema: Json) => schema['$ref']?.split('/').at(-1)
  const names = name(a) === name(b) ? [] : [`${where}: schema is ${name(b)} instead of ${name(a)}`]
  return [...names, ...compareSchemas(theirs, ours, a, b, where)]
}

function compareSchemas(theirs: Json, ours: Json, schemaA: Json, schemaB: Json, where: string): string[] {
  const a = resolve(theirs, schemaA)
  const b = resolve(ours, schemaB)
  const found: string[] = []
  if (a['type'] && a['type'] !== b['type']) found.push(`${where}: type is ${b['type']} instead of ${a['type']}`)
  if (a['format'] && a['format'] !== b['format']) found.push(`${where}: format is ${b['format']} instead of ${a['format']}`)
  for (const flag of ['nullable', 'writeOnly']) if (a[flag] && !b[flag]) found.push(`${where}: is not ${flag}`)
  if (a['enum']) {
    const gone = a['enum'].filter((value: string) => !b['enum']?.includes(value) && !isElsewhere(value))
    if (gone.length > 0) found.push(`${where}: lacks ${[...new Set(gone)].join(', ')}`)
  }
  if (a['items'] && b['items']) found.push(...compareSchemas(theirs, ours, a['items'], b['items'], where))
  for (const [name, member] of Object.entries<Json>(a['properties'] ?? {})) {
    const own = b['properties']?.[name]
    if (own) found.push(...compareSchemas(theirs, ours, member, own, `${where}: ${name}`))
    else if (b['properties'] || !b['type']) found.push(`${where}: ${name} is missing`)
  }
  const required = (b['required'] ?? []).filter((name: string) => a['properties']?.[name] && !a['required']?.includes(name))
  for (const name of required) found.push(`${where}: ${name} is required`)
  return found
}

/** Types of formats that are left out appear among the values of filters. */
function isElsewhere(value: string): boolean {
  return /^(deb|certguard)\.|^core\.(openpgp|artifact|publishedmetadata)|^rpm\.uln$/.test(value)
}

function resolve(document: Json, schema: Json): Json {
  if (schema['allOf']?.length === 1) {
    const { allOf, ...rest } = schema
    return { ...resolve(document, allOf[0]), ...rest }
  }
  const name = schema['$ref']?.split('/').at(-1)
  return name ? document['components'].schemas[name] : schema
}

/** Undefined where the reference is not at hand. */
export function readReference(): Json | undefined {
  return existsSync(reference) ? JSON.parse(gunzipSync(readFileSync(reference)).toString()) : undefined
}

export function ownDocument(): Json {
  return JSON.parse(JSON.stringify(documentOf({ formats }, describeApi({ formats }).endpoints)))
}

function renderPage({ lacks, leftOut: missing, same }: ReturnType<typeof compareDocuments>): string {
  const sections = [...missing].map(([reason, ids]) => `- ${reason}: ${ids.length} operations`)
  const rows = lacks.map(({ where, what }) => `- \`${where}\`: ${what}`)
  return `# Compatibility with Pulp

Made by \`tests/compare-openapi.ts --write\` from the documents of this server and of a Pulp with core 3.81, rpm 3.30 and container 2.25; do not edit it.

${same} operations have everything that Pulp's have: path, id, parameters, and the fields of request and answer.

## Left out

${sections.join('\n')}

## What is there but lacks something

${rows.length > 0 ? rows.join('\n') : 'Nothing.'}

## What behaves differently, on purpose

\`npm run compare-pulp -- URL\` makes the same calls to a Pulp and to a server of its own; \`tests/compare/known.ts\` has every difference
in their answers, with its reason. Those that matter most:

${onPurpose.map((line) => `- ${line}`).join('\n')}
`
}

if (import.meta.main) {
  const theirs = readReference()
  if (!theirs) {
    console.error(`There is no ${reference} to compare with.`)
    process.exit(1)
  }
  const result = compareDocuments(theirs, ownDocument())
  for (const { where, what } of result.lacks) console.log(`${where}: ${what}`)
  console.log(`${result.same} operations are the same, ${result.lacks.length} differences.`)
  if (process.argv.includes('--write'))
    writeFileSync(join(import.meta.dirname, '../docs/pulp-compatibility.md'), renderPage(result))
}
