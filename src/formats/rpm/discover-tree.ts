import type { Described, DescribedFile } from '../../core/format.ts'
import type { Upstream } from '../../core/fetch/fetch.ts'
import { urlOf } from './primary.ts'
import { downloadIfThere } from './upstream-repository.ts'
import { describeTree, parseTreeinfo, type SubRepository, type Tree, treeinfoNames } from './treeinfo.ts'

type Staged = Awaited<ReturnType<Upstream['download']>>

/** A repository below a distribution tree, as far as its repomd.xml tells. */
export interface ListedRepository {
  /** Changes when anything in the repository does: the digest of its repomd.xml. */
  fingerprint: string
  /** All of its files, metadata and packages, with paths relative to it. */
  files(): Promise<DescribedFile[]>
}

/** A distribution tree found upstream. Disposing drops what was downloaded and not kept. */
export interface FoundTree extends AsyncDisposable {
  /** Equal when the tree and all of its sub-repositories are unchanged. */
  fingerprint: string
  describe(): Promise<Described>
}

const longestTreeinfo = 4 * 1024 * 1024

/**
 * Looks for a distribution tree at `bases`, mirrors of one repository. `list` reads a sub-repository's repomd.xml; undefined when there is none
 * (an upstream need not have all that its tree names). Throws Failure upstream or integrity.
 */
export async function discoverTree(
  upstream: Upstream,
  bases: readonly URL[],
  list: (bases: readonly URL[]) => Promise<ListedRepository | undefined>,
  signal?: AbortSignal,
): Promise<FoundTree | undefined> {
  for (const name of treeinfoNames) {
    const staged = await downloadIfThere(upstream, urlOf(name, bases[0]!), longestTreeinfo, signal)
    const tree = staged && parseTreeinfo(Buffer.concat(await staged.open().toArray()))
    if (tree) return openTree(tree, { name, bases, staged, list })
    await staged?.[Symbol.asyncDispose]()
  }
  return undefined
}

interface Opening {
  name: string
  bases: readonly URL[]
  staged: Staged
  list: (bases: readonly URL[]) => Promise<ListedRepository | undefined>
}

async function openTree(tree: Tree, { name, bases, staged, list }: Opening): Promise<FoundTree> {
  const found: { place: SubRepository; repository: ListedRepository }[] = []
  for (const place of tree.subRepositories) {
    const repository = await list(at(bases, `${place.path}/`))
    if (repository) found.push({ place, repository })
  }
  return {
    fingerprint: [staged.digests.sha256, ...found.map(({ repository }) => repository.fingerprint)].join(' '),
    async describe() {
      const subRepositories: DescribedFile[] = []
      for (const { place, repository } of found)
        for (const file of await repository.files()) subRepositories.push({ ...file, path: `${place.servedAt}/${file.path}` })
      const treeinfo = {
        path: name,
        size: staged.size,
        checksum: `sha256:${staged.digests.sha256}`,
        staged,
        urls: at(bases, name),
      }
      const images = tree.images.map((image) => ({ ...image, urls: at(bases, image.path) }))
      return describeTree(tree, { treeinfo, images, subRepositories })
    },
    [Symbol.asyncDispose]: () => staged[Symbol.asyncDispose](),
  }
}

/** A path on each mirror. */
function at(bases: readonly URL[], path: string): URL[] {
  return bases.map((base) => urlOf(path, base))
}
