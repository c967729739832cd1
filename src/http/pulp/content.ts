import { sql, type SqlBool } from 'kysely'
import { saveBlob, unitsOf } from '../../core/content.ts'
import type { ContentType, Format, Unit } from '../../core/format.ts'
import { membersOf } from '../../core/members.ts'
import { prnOf, repositoryTypeOf } from '../../core/names.ts'
import { repositoryPermission } from '../../core/access/roles.ts'
import { isAllowed } from '../../core/access/auth.ts'
import { type Counts, numberBefore } from '../../core/versions.ts'
import { Failure } from '../../lib/failure.ts'
import { now } from '../../lib/time.ts'
import type { Staged } from '../../store/blobs.ts'
import { textRows } from '../../store/bulk.ts'
import { type Db, engineOf, jsonText } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { artifacts } from './artifacts.ts'
import { baseFields, labelFilter, lookups } from './engine/filters.ts'
import { findTarget, hrefOf, hrefsOfPrns } from './engine/hrefs.ts'
import { invalid, invalidField } from './engine/invalid.ts'
import { onlyByKey, showRows } from './engine/list.ts'
import { answerSchema, creating, labelOperations, listing, postponed, reading, taskAnswer } from './engine/operations.ts'
import type {
  Column,
  BodySchema,
  Call,
  Field,
  Fields,
  Filter,
  Filters,
  Operation,
  Resource,
  Rows,
  Target,
} from './engine/resource.ts'
import { checkLabels, labelsField } from './engine/settings.ts'
import { isHeldVisibly } from './visible-content.ts'

const digests = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'] as const
const minute = 60_000_000
/** Pulp's ORPHAN_PROTECTION_TIME, in minutes: what -1 stands for. */
const protectionTime = 1440
/** Minutes: longer than anything is here. */
const ages = 1e8

const digestFields: Fields = Object.fromEntries(
  digests.map((name) => [name, { type: 'string', readOnly: true, description: `The ${name} checksum if available.` }]),
)
const artifactField: Field = { type: 'href', to: 'artifact', description: 'Artifact file representing the physical content' }
const artifactsField: Field = {
  type: 'object',
  readOnly: true,
  description: 'A dict mapping relative paths inside the Content to the corresponding Artifact URLs.',
}

/** How version filters choose memberships of content. */
const versionFilters = {
  // An expression has no index on added_in: the primary key is used, which has the content in the order of the list.
  repository_version: ({ number }: VersionRow) =>
    sql`(membership.added_in + 0) <= ${number} and (membership.removed_in is null or membership.removed_in > ${number})`,
  repository_version_added: ({ number, before }: VersionRow) =>
    sql`membership.added_in > ${before} and membership.added_in <= ${number}
      and (membership.removed_in is null or membership.removed_in > ${number})`,
  repository_version_removed: ({ number, before }: VersionRow) =>
    sql`membership.removed_in > ${before} and membership.removed_in <= ${number} and membership.added_in <= ${before}`,
}

const commonFilters: Filters = {
  ...Object.fromEntries(Object.keys(versionFilters).map((name) => [name, versionFilter(name as keyof typeof versionFilters)])),
  orphaned_for: {
    field: { type: 'number', description: 'Minutes Content has been orphaned for. -1 uses ORPHAN_PROTECTION_TIME.' },
    where: (minutes: number) =>
      sql`(content.touched < ${now() - Math.trunc(minutes < 0 ? protectionTime : Math.min(minutes, ages)) * minute}
        and not exists (select 1 from membership where membership.content_id = content.id))`,
  },
  pulp_label_select: labelFilter('content.labels'),
}

/** What of a version's content is meant: as a condition, or for a list as a join that comes in the order of the list. */
function versionFilter(name: keyof typeof versionFilters): Filter {
  const chosen = (row: VersionRow) =>
    sql<SqlBool>`membership.repository_id = ${row.repository_id} and ${versionFilters[name](row)}`
  return {
    field: { type: 'string', description: 'Repository Version referenced by HREF/PRN' },
    empty: { refusal: 'No value supplied for repository version filter' },
    async where(value: string, call) {
      const row = await versionNamed(call, value)
      return sql`exists (select 1 from membership where membership.content_id = content.id and ${chosen(row)})`
    },
    async join(rows: Rows<any>, value: string, call) {
      const row = await versionNamed(call, value)
      const joined = rows.innerJoin('membership', 'membership.content_id', 'content.id').where(chosen(row))
      return { rows: joined as Rows<any>, newestFirst: sql`membership.content_id desc` }
    },
  }
}

interface VersionRow extends Pick<Row<'version'>, 'repository_id' | 'number' | 'counts'> {
  /** The number of the version before it; -1 for the first that is left. */
  before: number
}

/** The version that a filter names. Throws Failure invalid with a bare list, as Pulp does. */
async function versionNamed(call: Call, value: string): Promise<VersionRow> {
  const found = await findTarget(call, value, ['version'])
  if (found === 'unknown') throw invalid([`URI not valid: ${value}`])
  if (typeof found === 'string') throw invalid([`URI ${value} not found for repositoryversion.`])
  const version = await call.ctx.db
    .selectFrom('version')
    .select(['repository_id', 'number', 'counts'])
    .where('id', '=', found.id)
    .executeTakeFirstOrThrow()
  return {
    ...version,
    before: (await numberBefore(call.ctx.db, version.repository_id, version.number)) ?? -1,
  }
}

/** The content of one type. */
export function contentResource(format: Format, type: ContentType): Resource<'content'> {
  const app = format.name
  const schema = `${app}.${type.model}`
  const fields: Fields = {
    pulp_labels: {
      ...labelsField,
      description: 'A dictionary of arbitrary key/value pairs used to describe a specific Content instance.',
    },
    ...(type.files === 'one'
      ? type.showsDigests === false
        ? // What is known by its own digest may be upstream still.
          { artifact: { ...artifactField, nullable: true } }
        : { artifact: artifactField, ...digestFields }
      : type.files === 'many'
        ? { artifacts: artifactsField }
        : {}),
    ...Object.fromEntries(Object.entries(type.fields).map(([name, field]) => [name, field])),
  }
  const answer = answerSchema(schema, baseFields, fields)
  return {
    path: `content/${app}/${type.path}`,
    app,
    model: type.model,
    table: 'content',
    kind: 'content',
    type: `${app}.${type.name}`,
    fields,
    filters: { ...commonFilters, ...declaredFilters(type) },
    ordering: type.ordering.length > 0 ? { ...commonOrdering, ...declaredOrdering(type) } : onlyByKey,
    where: async (rows, call) => rows.where(await isHeldVisibly(call, sql.ref('content.id'), [format])),
    count: (call, filters, hasExpression) => countOfVersion(call, `${app}.${type.name}`, filters, hasExpression),
    show: (call, rows, wanted) => showContent(call, rows, wanted, type),
    operations: [
      listing(answer),
      reading(answer),
      ...(type.create ? [uploading(format, type, type.create)] : []),
      ...labelOperations('content', { model: ['core.manage_content_labels'] }, type.create ? 201 : 200),
    ],
  }
}

function declaredFilters(type: ContentType): Filters {
  return Object.assign(
    {},
    ...Object.entries(type.filters).flatMap(([name, declared]) => {
      const { type: kind = 'text', as = name, lookups: wanted, enum: choices } = declared
      const column = metaColumn(as, kind)
      const others = lookups(
        name,
        column,
        kind,
        wanted.filter((each) => each !== 'exact'),
      )
      if (declared.several) return [{ [name]: severalFilter(type, declared, as) }, others]
      return [
        lookups(
          name,
          column,
          kind,
          wanted.filter((each) => each === 'exact'),
          choices,
        ),
        others,
      ]
    }),
  )
}

/** A filter that takes several values: of the unit's own, or of what it names. */
function severalFilter(
  type: ContentType,
  { several, enum: choices, through }: ContentType['filters'][string],
  member: string,
): Filter {
  const link = through === undefined ? undefined : type.links![through]!
  return {
    field: { type: 'array', items: { type: 'string', ...(choices && { enum: choices }) } },
    ...(several === 'repeated' && { explode: true }),
    ...(choices && { broad: true }),
    where(values: string[], { ctx: { db } }) {
      const among = (column: string) => sql<SqlBool>`${jsonText(db, column, member)} in (${sql.join(values)})`
      return link
        ? sql<SqlBool>`exists (select 1 from content linked where linked.type = ${link.type}
            and linked.key = ${jsonText(db, 'content.meta', link.member)} and ${among('linked.meta')})`
        : among('content.meta')
    },
  }
}

const commonOrdering: Record<string, Column> = {
  pulp_labels: '',
  pulp_type: 'content.type',
  timestamp_of_interest: 'content.touched',
  upstream_id: '',
}

function declaredOrdering(type: ContentType): Record<string, Column> {
  return Object.fromEntries([
    ...type.ordering.map((name) => [name, metaColumn(type.filters[name]?.as ?? name, type.filters[name]?.type ?? 'text')]),
    ...(type.ignoredOrdering ?? []).map((name) => [name, '']),
  ])
}

/** A member of meta as the indexes have it. */
function metaColumn(name: string, kind: 'text' | 'number' | 'boolean'): Column {
  return (db: Db) => {
    const text = jsonText(db, 'content.meta', name)
    if (kind === 'boolean') return sql`(case when ${text} in ('true', '1') then 1 else 0 end)`
    return kind === 'number' && engineOf(db) === 'postgres' ? sql`(${text})::bigint` : text
  }
}

/** The content of a version is counted when the version is made. */
async function countOfVersion(
  call: Call,
  type: string,
  filters: readonly { name: string; value: unknown }[],
  hasExpression: boolean,
): Promise<number | undefined> {
  const [only] = filters
  const part =
    only && { repository_version: 'present', repository_version_added: 'added', repository_version_removed: 'removed' }[only.name]
  if (!part || filters.length > 1 || hasExpression || !call.user!.isSuperuser) return undefined
  const { counts } = await versionNamed(call, String(only.value))
  return (JSON.parse(counts) as Counts)[type]?.[part as 'present'] ?? 0
}

async function showContent(call: Call, rows: readonly Row<'content'>[], wanted: (field: string) => boolean, type: ContentType) {
  const units = await unitsOf(call.ctx.db, rows)
  const blobs =
    type.files === 'one' && ['artifact', ...digests].some(wanted)
      ? await blobsOf(call, rows)
      : type.files === 'many' && wanted('artifacts')
        ? await blobsOf(call, rows)
        : new Map()
  const links = await linksOf(call, type, units, wanted)
  return Promise.all(
    units.map(async (unit, index) => ({
      pulp_labels: JSON.parse(rows[index]!.labels),
      ...filesOf(call, type, blobs.get(unit.id) ?? []),
      ...(await withLinks(call, type, unit, await type.view(unit, wanted), wanted)),
      ...links[index],
    })),
  )
}

/** Hrefs of the content that units name by its key, for all of them at once. What is not here is left out. */
async function linksOf(
  { ctx: { db }, registry }: Call,
  { links = {} }: ContentType,
  units: readonly Unit[],
  wanted: (field: string) => boolean,
): Promise<Record<string, unknown>[]> {
  const asked = Object.entries(links).filter(([name]) => wanted(name))
  const keysOf = ({ meta }: Unit, member: string): string[] => [...new Set([meta[member] ?? []].flat() as string[])]
  const hrefs = new Map<string, string>()
  for (const [type, ofType] of Map.groupBy(asked, ([, link]) => link.type)) {
    const keys = new Set(units.flatMap((unit) => ofType.flatMap(([, { member }]) => keysOf(unit, member))))
    if (keys.size === 0) continue
    const { rows } = await sql<{ key: string; uuid: string }>`
      select c.key, c.uuid from ${textRows(db, keys)} as k cross join content c where c.type = ${type} and c.key = k.text`.execute(
      db,
    )
    for (const { key, uuid } of rows) hrefs.set(`${type} ${key}`, hrefOf(registry, 'content', { type, uuid }))
  }
  return units.map((unit) =>
    Object.fromEntries(
      asked.map(([name, { type, member, many }]) => {
        const found = keysOf(unit, member).flatMap((key) => hrefs.get(`${type} ${key}`) ?? [])
        return [name, many ? found : (found[0] ?? null)]
      }),
    ),
  )
}

/** A view with what it names: other content by href instead of PRN, what the unit is made of, the artifacts of its files. */
async function withLinks(
  call: Call,
  { fields, members, artifactsIn }: ContentType,
  unit: Unit,
  view: Record<string, unknown>,
  wanted: (field: string) => boolean,
): Promise<Record<string, unknown>> {
  const linked = { ...view }
  if (members && wanted(members.field)) {
    const made = await membersOf(call.ctx.db, members, unit)
    const prns = made.map((row) => prnOf(call.ctx.formats, 'content', row))
    linked[members.field] = [...new Set([...(view[members.field] as string[]), ...prns])]
  }
  if (artifactsIn && wanted(artifactsIn))
    linked[artifactsIn] = await withArtifacts(call, unit, view[artifactsIn] as { path: string }[])
  for (const [name, value] of Object.entries(linked))
    if (fields[name]?.items?.type === 'href' && Array.isArray(value)) linked[name] = await hrefsOfPrns(call, value)
  return linked
}

async function withArtifacts(call: Call, { files }: Unit, items: readonly { path: string }[]) {
  const digestOf = new Map(files.map(({ path, sha256 }) => [path, sha256]))
  const digests = items.flatMap(({ path }) => digestOf.get(path) ?? [])
  const rows = digests.length > 0 ? await call.ctx.db.selectFrom('blob').selectAll().where('sha256', 'in', digests).execute() : []
  // Fields that the query names are fields of the content.
  const shown = await showRows({ ...call, query: new URLSearchParams() }, artifacts, rows)
  const artifactOf = new Map(shown.map((artifact, index) => [rows[index]!.sha256, artifact]))
  return items.map((item) => ({ ...item, artifact: artifactOf.get(digestOf.get(item.path) ?? '') ?? null }))
}

function filesOf(
  call: Call,
  { files, showsDigests = true }: ContentType,
  blobs: readonly FileOfContent[],
): Record<string, unknown> {
  if (files === 'none') return {}
  if (files === 'many') return { artifacts: artifactsOf(call, blobs) }
  const [blob] = blobs
  return {
    artifact: artifactHref(call, blob),
    ...(showsDigests && Object.fromEntries(digests.map((name) => [name, blob?.[name] ?? null]))),
  }
}

function artifactsOf(call: Call, blobs: readonly FileOfContent[]): Record<string, string | null> {
  return Object.fromEntries(blobs.map((blob) => [blob.path, artifactHref(call, blob)]))
}

function artifactHref(call: Call, blob: FileOfContent | undefined): string | null {
  return blob?.uuid ? hrefOf(call.registry, 'artifact', { uuid: blob.uuid }) : null
}

type FileOfContent = { content_id: number; path: string; uuid: string | null } & Partial<
  Record<(typeof digests)[number], string | null>
>

async function blobsOf({ ctx: { db } }: Call, rows: readonly Row<'content'>[]): Promise<Map<number, FileOfContent[]>> {
  if (rows.length === 0) return new Map()
  const found = await db
    .selectFrom('file')
    .leftJoin('blob', 'blob.id', 'file.blob_id')
    .select(['file.content_id', 'file.path', 'blob.uuid'])
    .select(digests.map((name) => `blob.${name}` as const))
    .where(
      'file.content_id',
      'in',
      rows.map(({ id }) => id),
    )
    .orderBy('file.id')
    .execute()
  return Map.groupBy(found, ({ content_id }) => content_id)
}

const repositoryField: Field = {
  type: 'href',
  to: 'repository',
  writeOnly: true,
  description: 'A URI of a repository the new content unit should be associated with.',
}

const fileFields: Fields = {
  file: {
    type: 'string',
    format: 'binary',
    writeOnly: true,
    description: 'An uploaded file that may be turned into the content unit.',
  },
  upload: {
    type: 'href',
    to: 'upload',
    writeOnly: true,
    description: 'An uncommitted upload that may be turned into the content unit.',
  },
  file_url: {
    type: 'string',
    writeOnly: true,
    description: 'A url that Pulp can download and turn into the content unit.',
  },
}

function uploading(format: Format, type: ContentType, create: NonNullable<ContentType['create']>): Operation {
  const app = format.name
  const required = new Set(create.required ?? [])
  const own = Object.fromEntries(
    Object.entries(create.fields).map(([name, field]) => [name, required.has(name) ? { ...field, required: true } : field]),
  )
  const fromFile = create.from === 'file'
  const body: BodySchema = {
    schema: `${app}.${type.model}`,
    form: fromFile,
    fields: {
      repository: repositoryField,
      pulp_labels: labelsField,
      ...(fromFile && type.files !== 'none' ? { artifact: artifactField } : {}),
      ...(fromFile ? fileFields : {}),
      ...own,
    },
  }
  return creating({
    summary: `Create a ${type.name}`,
    body,
    answers: { 202: taskAnswer },
    allow: 'authenticated',
    async run(call) {
      const { repository, pulp_labels: labels } = call.body as { repository?: Target; pulp_labels?: Record<string, string> }
      if (repository && !(repository.type.startsWith(`${app}.`) && repositoryTypeOf(call.ctx.formats, repository.type).modify))
        throw invalid({ non_field_errors: ['Content is not supported by this repository.'] })
      await permitUpload(call, format, repository)
      await permitFile(call)
      checkLabels(labels)
      const path: unknown = call.body['relative_path']
      if (typeof path === 'string' && path.startsWith('/'))
        throw invalidField('relative_path', `Relative path can't start with '/'. ${path}`)
      const fields = Object.fromEntries(
        Object.keys(own).flatMap((name) => (name in call.body ? [[name, prnsIn(call.body[name])]] : [])),
      )
      const source = fromFile ? await sourceOf(call, type) : {}
      return postponed(call, {
        name: 'pulpcore.app.tasks.base.general_create',
        kind: 'upload-content',
        args: { type: `${app}.${type.name}`, fields, labels, ...source, repositoryId: repository?.id ?? null },
        exclusive: [call.body['upload']?.prn, repository?.prn].filter((prn) => prn !== undefined),
      })
    },
  })
}

/** A task's arguments name things by PRN. */
function prnsIn(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(prnsIn)
  return typeof value === 'object' && value !== null && 'prn' in value ? value.prn : value
}

/** Whoever is no administrator must put the content into a repository that they may change. */
export async function permitUpload(call: Call, format: Format, repository: Target | undefined): Promise<void> {
  const user = call.user!
  if (user.isSuperuser) return
  if (!repository) throw invalid(['Destination upload repository was not provided.'])
  if (call.body['pulp_labels'] && !(await isAllowed(call.ctx, user, 'core.manage_content_labels')))
    throw invalid(['pulp_labels cannot be specified by users who do not have the core.manage_labels permission.'])
  const view = call.registry.find('repository', repository.type)!.view!
  for (const permission of [repositoryPermission(format, repositoryTypeOf(call.ctx.formats, repository.type), 'modify'), view])
    if (!(await isAllowed(call.ctx, user, permission, repository.prn)))
      throw new Failure('denied', 'You do not have permission to perform this action.')
}

/** Making content of an upload ends it: that takes the right to change it. */
async function permitFile({ ctx, user, body }: Call): Promise<void> {
  const upload: Target | undefined = body['upload']
  if (upload && !(await isAllowed(ctx, user!, 'core.change_upload', upload.prn)))
    throw new Failure('denied', 'You do not have permission to perform this action.')
}

/** Where the bytes are: uploaded now, an artifact, an upload, or elsewhere. */
async function sourceOf(call: Call, { files }: ContentType): Promise<Record<string, unknown>> {
  const names = ['file', 'upload', ...(files === 'none' ? [] : ['artifact']), 'file_url']
  const given = names.filter((name) => call.body[name] !== undefined)
  if (given.length !== 1) throw invalid({ non_field_errors: [`Exactly one of ${names.join(', ')} must be specified.`] })
  const { file, upload, artifact, file_url: fileUrl } = call.body
  if (upload) return { uploadId: upload.id }
  if (fileUrl) return { fileUrl }
  if (file) return { sha256: await keep(call, file) }
  const { sha256 } = await call.ctx.db
    .updateTable('blob')
    .set({ touched: now() })
    .where('id', '=', artifact.id)
    .returning('sha256')
    .executeTakeFirstOrThrow()
  return { sha256 }
}

async function keep({ ctx }: Call, file: Staged): Promise<string> {
  await file.keep()
  await saveBlob(ctx.db, file.digests, file.size)
  return file.digests.sha256
}

/** `content/`: that of all types, each with its artifacts only. */
export const contentList: Resource<'content'> = {
  path: 'content',
  app: 'core',
  model: 'Content',
  table: 'content',
  kind: 'content',
  generic: true,
  fields: { pulp_labels: labelsField, artifacts: { ...artifactsField, required: true } },
  filters: commonFilters,
  ordering: onlyByKey,
  where: async (rows, call) => rows.where(await isHeldVisibly(call, sql.ref('content.id'), call.ctx.formats)),
  async show(call, rows) {
    const blobs = await blobsOf(call, rows)
    return rows.map((row) => ({ pulp_labels: JSON.parse(row.labels), artifacts: artifactsOf(call, blobs.get(row.id) ?? []) }))
  },
  operations: [
    listing(
      answerSchema('MultipleArtifactContent', baseFields, {
        pulp_labels: labelsField,
        artifacts: { ...artifactsField, required: true },
      }),
    ),
  ],
}
