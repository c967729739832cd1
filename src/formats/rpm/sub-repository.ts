import { posix } from 'node:path'
import type { Upstream } from '../../core/fetch/fetch.ts'
import type { DescribedFile, SyncOptions } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { splitElements } from '../../lib/xml.ts'
import type { ListedRepository } from './discover-tree.ts'
import { downloadRepomd } from './mirrors.ts'
import { parsePrimary } from './primary.ts'
import {
  closeRepository,
  downloadRecords,
  isAbsent,
  openRecord,
  openRepository,
  placesOf,
  type UpstreamRepository,
} from './upstream-repository.ts'

/**
 * Reads a repository below a distribution tree: its files are served as they are. Undefined when there is none.
 * What it downloads is forgotten with `opened`. Throws Failure upstream or integrity.
 */
export async function listSubRepository(
  upstream: Upstream,
  bases: readonly URL[],
  { allowedChecksums, signal }: Pick<SyncOptions, 'allowedChecksums' | 'signal'>,
  opened: AsyncDisposableStack,
): Promise<ListedRepository | undefined> {
  try {
    const repomd = await downloadRepomd(upstream, bases[0]!, signal)
    const repository = await openRepository(upstream, bases, repomd, { allowedChecksums, signal })
    opened.defer(() => closeRepository(repository))
    return { fingerprint: repomd.digests.sha256, files: () => listFiles(repository) }
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

async function listFiles(repository: UpstreamRepository): Promise<DescribedFile[]> {
  const { repomd, repomdFile, files, bases } = repository
  await downloadRecords(repository, repomd.records)
  const { size, digests } = repomdFile
  const own = { path: 'repodata/repomd.xml', size, checksum: `sha256:${digests.sha256}`, staged: repomdFile }
  const metadata = repomd.records.map(({ type, href, base, checksum }): DescribedFile => {
    const { path, urls } = placesOf(href, base, bases)
    if (path === undefined) throw new Failure('integrity', 'A repository of the distribution tree has metadata elsewhere.')
    const staged = files.get(type)!
    return { path, size: staged.size, checksum: `${checksum.type}:${checksum.value}`, staged, urls }
  })
  return [own, ...metadata, ...(await listPackages(repository))]
}

async function listPackages(repository: UpstreamRepository): Promise<DescribedFile[]> {
  const found: DescribedFile[] = []
  for await (const fragments of splitElements(openRecord(repository, 'primary')!, 'package', 'The primary metadata', 'metadata'))
    for (const fragment of fragments) {
      const { href, base, size, checksumType, checksum } = parsePrimary(fragment)
      // Addons may share the packages of the repository above them; those are served from there.
      if (base === undefined && posix.normalize(href).startsWith('../')) continue
      const { path, urls } = placesOf(href, base, repository.bases)
      if (path !== undefined) found.push({ path, size, checksum: `${checksumType}:${checksum}`, urls })
    }
  return found
}
