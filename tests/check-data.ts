import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'

/*
 * bin/node tests/check-data.ts DIRECTORY [DATABASE]: says what is wrong with a data directory whose database is SQLite, and changes nothing.
 * It reads tables and files for itself and imports nothing of the server, so that the two cannot be wrong in the same way. What the server
 * may leave after a crash is no fault: bytes that no row names, and files that are being written.
 */

/** What was looked at, and what is wrong with it: a sentence each. */
export interface Checked {
  blobs: number
  /** Blobs that no row names: a crash came between the bytes and their row, and the collector takes them. */
  strays: number
  manifests: number
  versions: number
  faults: string[]
}

type Find = (query: string) => Record<string, any>[]

/** Checks a data directory, while its server runs or when there is none. */
export async function checkData(directory: string, database = join(directory, 'signalbox.db')): Promise<Checked> {
  // A log that a crash left is read, too; only who may write folds it in.
  const db = new DatabaseSync(database, { readOnly: true, timeout: 60_000 })
  try {
    // All is seen as it was at one moment.
    db.exec('begin')
    const find: Find = (query) => db.prepare(query).all()
    const stored = await checkBlobs(directory, find)
    const packs = openPacks(find)
    const manifests = find(`select id, key, meta, pack_id, entry_at, entry_length from content where type = 'container.manifest'`)
    return {
      ...stored.counts,
      manifests: manifests.length,
      versions: find('select id from version').length,
      faults: [
        ...checkDatabase(find),
        ...stored.faults,
        ...checkFiles(find),
        ...checkEntries(find, packs),
        ...manifests.flatMap((row) => checkManifest(find, packs, row)),
        ...checkVersions(find),
        ...checkTasks(find),
        ...(await checkUploads(directory, find)),
      ],
    }
  } finally {
    db.close()
  }
}

function checkDatabase(find: Find): string[] {
  const broken = find('pragma integrity_check').map((row) => String(row['integrity_check']))
  return [
    ...broken.filter((text) => text !== 'ok').map((text) => `The database is damaged: ${text}.`),
    ...find('pragma foreign_key_check').map(
      ({ table, rowid, parent }) => `Row ${rowid} of ${table} refers to no row of ${parent}.`,
    ),
  ]
}

const further = ['md5', 'sha1', 'sha224', 'sha384', 'sha512'] as const

async function checkBlobs(directory: string, find: Find) {
  const rows = new Map(find('select * from blob').map((row) => [String(row['sha256']), row]))
  const root = join(directory, 'blobs/sha256')
  const faults: string[] = []
  const there = new Set<string>()
  for (const start of await readdir(root))
    for (const rest of await readdir(join(root, start))) {
      const digest = start + rest
      there.add(digest)
      const row = rows.get(digest)
      const algorithms = further.filter((each) => typeof row?.[each] === 'string')
      const { size, digests } = await hashFile(join(root, start, rest), ['sha256', ...algorithms])
      if (digests['sha256'] !== digest) faults.push(`The blob ${digest} has other bytes: ${size} with ${digests['sha256']}.`)
      if (row && row['size'] !== size) faults.push(`The blob ${digest} has ${size} bytes, and its row says ${row['size']}.`)
      for (const each of algorithms)
        if (row![each] !== digests[each]) faults.push(`The row of the blob ${digest} has a wrong ${each}.`)
    }
  const missing = [...rows.keys()].filter((digest) => !there.has(digest))
  faults.push(...missing.map((digest) => `The blob ${digest} has a row and no bytes.`))
  return { counts: { blobs: there.size, strays: [...there].filter((digest) => !rows.has(digest)).length }, faults }
}

async function hashFile(path: string, algorithms: readonly string[]) {
  const hashes = algorithms.map((each) => createHash(each))
  let size = 0
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    size += chunk.length
    for (const hash of hashes) hash.update(chunk)
  }
  return { size, digests: Object.fromEntries(algorithms.map((each, index) => [each, hashes[index]!.digest('hex')])) }
}

/** What content and publications say of their files is what the blobs are. */
function checkFiles(find: Find): string[] {
  const wrong = find(`select f.path, f.size, f.checksum, b.*, b.size as stored from file f join blob b on b.id = f.blob_id`)
  const nowhere = find(
    `select path from file where blob_id is null and not exists (select 1 from source where file_id = file.id)`,
  )
  const published = find('select * from published_file')
  return [
    ...wrong.flatMap((row) => {
      const [algorithm = '', hex] = String(row['checksum'] ?? '').split(':')
      const is = row[algorithm]
      return [
        ...(row['size'] !== null && row['size'] !== row['stored']
          ? [`The file ${row['path']} has ${row['size']} bytes, its blob ${row['stored']}.`]
          : []),
        ...(typeof is === 'string' && is !== hex ? [`The file ${row['path']} is ${row['checksum']}, its blob ${is}.`] : []),
      ]
    }),
    ...nowhere.map(({ path }) => `The file ${path} has neither bytes nor a source.`),
    ...published
      .filter(({ blob_id, file_id }) => (blob_id === null) === (file_id === null))
      .map(({ path }) => `The published file ${path} is not one of blob and file.`),
    ...find('select * from listing').flatMap((listing) => checkListing(find, listing)),
  ]
}

/** The next publication copies what a listing says of these files. */
function checkListing(
  find: Find,
  { repository_id: repository, type, publication_id, files, pieces }: Record<string, any>,
): string[] {
  const published = find(`select b.sha256, b.size from published_file p join blob b on b.id = p.blob_id
    where p.publication_id = ${publication_id}`)
  return (JSON.parse(files) as { sha256: string; start: number }[]).flatMap(({ sha256, start }, index) => {
    const found = published.find((file) => file['sha256'] === sha256)
    const end = (JSON.parse(pieces) as { lengths: [number, number][] }[]).reduce(
      (at, piece) => at + piece.lengths[index]![0],
      start,
    )
    return found && end <= found['size'] ? [] : [`The listing of ${type} in repository ${repository} is not what was published.`]
  })
}

interface Packs {
  /** The bytes of an entry; undefined when it cannot be had. */
  read(row: Record<string, any>): Buffer | undefined
}

function openPacks(find: Find): Packs {
  let last: { id: number; bytes: Buffer | undefined } | undefined
  return {
    read({ pack_id: id, entry_at: at, entry_length: length }) {
      const found =
        last !== undefined && last.id === id
          ? last
          : { id, bytes: unpack(find(`select bytes from pack where id = ${id}`)[0]?.['bytes']) }
      last = found
      const { bytes } = found
      return bytes && at + length <= bytes.length ? bytes.subarray(at, at + length) : undefined
    },
  }
}

function unpack(bytes: Uint8Array | undefined): Buffer | undefined {
  try {
    return bytes && zstdDecompressSync(bytes)
  } catch {
    return undefined
  }
}

function checkEntries(find: Find, packs: Packs): string[] {
  return find('select type, key, pack_id, entry_at, entry_length from content where pack_id is not null order by pack_id')
    .filter((row) => packs.read(row) === undefined)
    .map(({ type, key }) => `The entry of the ${type} ${key} is not in its pack.`)
}

/** A manifest is the bytes that its digest names, and refers to all that these bytes name. */
function checkManifest(find: Find, packs: Packs, row: Record<string, any>): string[] {
  const [algorithm = '', hex] = String(row['key']).split(':')
  const bytes = packs.read(row)
  if (!bytes) return [`The manifest ${row['key']} has no bytes.`]
  if (createHash(algorithm).update(bytes).digest('hex') !== hex) return [`The manifest ${row['key']} has other bytes.`]
  if (JSON.parse(row['meta'])['size'] !== bytes.length) return [`The manifest ${row['key']} has another size than it says.`]
  const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString()) as Record<string, any>
  const isHeld = ({ mediaType }: { mediaType?: string }) => !/foreign|nondistributable/.test(mediaType ?? '')
  const named = [...(config ? [config] : []), ...layers.filter(isHeld), ...manifests] as { digest: string }[]
  const referred = new Set(find(`select key from reference where content_id = ${row['id']} and about = 0`).map(({ key }) => key))
  return named
    .filter(({ digest }) => !referred.has(digest))
    .map(({ digest }) => `The manifest ${row['key']} names ${digest} and does not refer to it.`)
}

const inVersion = (member: string, version: string) => `${member}.repository_id = ${version}.repository_id
  and ${member}.added_in <= ${version}.number and (${member}.removed_in is null or ${member}.removed_in > ${version}.number)`

/** Versions are what they count, have each name once, and, where images are pushed, all that their units are made of. */
function checkVersions(find: Find): string[] {
  const about = `select r.name as repository, v.number`
  const numbers = find(`select name from repository r where
    not exists (select 1 from version where repository_id = r.id and number < r.next_version)
    or exists (select 1 from version where repository_id = r.id and number >= r.next_version)
    or exists (select 1 from membership where repository_id = r.id and (added_in >= r.next_version or removed_in >= r.next_version))
    or exists (select 1 from membership where repository_id = r.id and removed_in <= added_in)`)
  const present = find(`select v.id, c.type, count(*) as present from version v join membership m on ${inVersion('m', 'v')}
    join content c on c.id = m.content_id group by v.id, c.type`)
  const byVersion = Map.groupBy(present, ({ id }) => id as number)
  const counted = find(`${about}, v.id, v.counts from version v join repository r on r.id = v.repository_id`)
  const twice = find(`${about}, m.name from version v join repository r on r.id = v.repository_id
    join membership m on ${inVersion('m', 'v')} where m.name is not null group by v.id, m.name having count(*) > 1`)
  const dangling = find(`${about}, c.type, c.key, ref.key as target from version v join repository r on r.id = v.repository_id
    join membership m on ${inVersion('m', 'v')} join content c on c.id = m.content_id
    join reference ref on ref.content_id = c.id and ref.about = 0
    where r.type = 'container.container-push' and not exists (select 1 from content t join membership n on n.content_id = t.id
      where t.type = ref.type and t.key = ref.key and ${inVersion('n', 'v')})`)
  return [
    ...numbers.map(({ name }) => `The numbers of the versions of ${name} do not fit together.`),
    ...counted
      .filter(({ id, counts }) => !isCounted(JSON.parse(counts), byVersion.get(id) ?? []))
      .map(({ repository, number, counts }) => `Version ${number} of ${repository} is not what it counts: ${counts}.`),
    ...twice.map(({ repository, number, name }) => `Version ${number} of ${repository} has the name ${name} twice.`),
    ...dangling.map(
      ({ repository, number, type, key, target }) =>
        `Version ${number} of ${repository} has the ${type} ${key} without its ${target}.`,
    ),
  ]
}

function isCounted(counts: Record<string, { present: number }>, found: readonly Record<string, any>[]): boolean {
  const said = Object.entries(counts).flatMap(([type, { present }]) => (present > 0 ? [`${type} ${present}`] : []))
  return (
    said.toSorted().join() ===
    found
      .map(({ type, present }) => `${type} ${present}`)
      .toSorted()
      .join()
  )
}

/** A lock that nobody gives back would hold up its repository for ever. */
function checkTasks(find: Find): string[] {
  return find(`select t.uuid, l.resource from task_lock l join task t on t.id = l.task_id
    where t.state not in ('waiting', 'running', 'canceling')`).map(
    ({ uuid, resource }) => `The finished task ${uuid} still holds ${resource}.`,
  )
}

/** Chunks that were acknowledged have a place in the file of their upload. What they are only who sent them can say. */
async function checkUploads(directory: string, find: Find): Promise<string[]> {
  const faults: string[] = []
  for (const { uuid, chunks } of find('select uuid, chunks from upload')) {
    const end = Math.max(0, ...(JSON.parse(chunks) as [number, number][]).map(([at, size]) => at + size))
    const size = await stat(join(directory, 'uploads', uuid)).then(
      (found) => found.size,
      () => 0,
    )
    if (size < end) faults.push(`The upload ${uuid} has ${size} bytes, and its chunks go to ${end}.`)
  }
  return faults
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [directory, database] = process.argv.slice(2)
  if (directory === undefined) {
    console.error('usage: bin/node tests/check-data.ts DIRECTORY [DATABASE]')
    process.exit(2)
  }
  const { faults, ...counts } = await checkData(directory, database)
  for (const fault of faults) console.log(fault)
  console.log(`${JSON.stringify(counts)}, ${faults.length} faults`)
  process.exitCode = faults.length > 0 ? 1 : 0
}
