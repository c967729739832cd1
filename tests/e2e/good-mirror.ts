import { randomBytes } from 'node:crypto'
import { type MadePackage, makeRepository } from './made-repository.ts'
import { makeMirror } from './mirror.ts'
import { getContent, type Scope, type TestServer } from './server.ts'
import { serveFiles } from './upstream.ts'

export type Files = Map<string, Buffer>

/** A mirror of a good upstream, synced once and served: what follows is up to the test. */
export async function startGood(t: Scope, server: TestServer, settings: { remote?: object; sync?: object } = {}) {
  const id = randomBytes(4).toString('hex')
  const upstream = await serveFiles(t, makeRepository([{ name: 'app' }, { name: 'lib' }]))
  const remote = { max_retries: 1, ...settings.remote }
  const sync = { sync_policy: 'mirror_complete', ...settings.sync }
  const mirror = await makeMirror(server, { name: id, url: upstream.url, remote, sync })
  await mirror.sync()
  if (!(await mirror.findPublication())) await mirror.publish()
  await mirror.distribute(id, { publication: null, repository: mirror.repository.pulp_href })
  // Other packages in each test: what the server has, it does not ask for again.
  const renewed: MadePackage[] = [{ name: 'app', version: `2.${id}` }, { name: 'lib' }, { name: 'more', version: `1.${id}` }]
  return { name: id, upstream, mirror, renewed }
}

/** The repomd.xml that clients of a mirror see. */
export const repomdOf = async (server: TestServer, name: string) =>
  (await getContent(server, `${name}/repodata/repomd.xml`)).text()

/** The same file with one bit in its middle changed. */
export function spoil(files: Files, path: string): Files {
  const bytes = Buffer.from(files.get(path)!)
  bytes[bytes.length >> 1]! ^= 1
  return files.set(path, bytes)
}

/** The path of the one file whose name holds this. */
export const pathOf = (files: Files, part: string) => [...files.keys()].find((path) => path.includes(part))!
