import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { gunzipSync, zstdCompressSync } from 'node:zlib'
import { run } from './run.ts'

export const copyRepository = (from: string, to: string) => cp(from, to, { recursive: true })

type Packing = 'zst' | 'xz' | 'bz2' | 'none'

/** Packs the metadata of a repository in another way, as upstreams of all ages have it. */
export async function repack(repository: string, packing: Packing): Promise<void> {
  const path = join(repository, 'repodata/repomd.xml')
  const repomd = await readFile(path, 'utf8')
  const records = repomd.match(/<data .*?<\/data>/gs) ?? []
  const repacked = await Promise.all(records.map((record) => repackRecord(repository, record, packing)))
  await writeFile(
    path,
    records.reduce((text, record, index) => text.replace(record, repacked[index]!), repomd),
  )
}

async function repackRecord(repository: string, record: string, packing: Packing): Promise<string> {
  const href = /href="([^"]+)\.gz"/.exec(record)?.[1]
  if (href === undefined) return record
  const packed = join(repository, `${href}.gz`)
  const bytes = gunzipSync(await readFile(packed))
  await rm(packed)
  const path = packing === 'none' ? href : `${href}.${packing}`
  await writeFile(join(repository, path), await pack(repository, bytes, packing))
  return describeAnew(repository, record, path)
}

async function pack(repository: string, bytes: Buffer, packing: Packing): Promise<Buffer> {
  if (packing === 'none') return bytes
  if (packing === 'zst') return zstdCompressSync(bytes)
  const plain = join(repository, `plain-${createHash('sha256').update(bytes).digest('hex')}`)
  await writeFile(plain, bytes)
  await run(packing === 'xz' ? 'xz' : 'bzip2', [plain])
  const packed = `${plain}.${packing}`
  const result = await readFile(packed)
  await rm(packed)
  return result
}

/** The record with the checksum, size and place of another file. */
export async function describeAnew(repository: string, record: string, path: string): Promise<string> {
  const bytes = await readFile(join(repository, path))
  return record
    .replace(/<checksum type="\w+">[^<]*/, `<checksum type="sha256">${createHash('sha256').update(bytes).digest('hex')}`)
    .replace(/<size>\d+/, `<size>${bytes.length}`)
    .replace(/href="[^"]*"/, `href="repodata/${basename(path)}"`)
}
