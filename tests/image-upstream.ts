import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/* A registry to sync from: what it has is a few files. */

/** What clients of a registry read in headers. */
export function headersOf(path: string, body: Buffer): Record<string, string | number> {
  const length = { 'Content-Length': body.length }
  if (!path.startsWith('v2/')) return length
  const registry = { ...length, 'Docker-Distribution-Api-Version': 'registry/2.0' }
  if (path.includes('/blobs/')) return { ...registry, 'Content-Type': 'application/octet-stream' }
  const { mediaType } = JSON.parse(body.toString()) as { mediaType?: string }
  return {
    ...registry,
    'Content-Type': mediaType ?? 'application/json',
    ...(mediaType && { 'Docker-Content-Digest': digestOf(body) }),
  }
}

const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** The files of a repository of a registry, below `/v2/`: two images that share a layer, and a list of both. */
export function makeImages(name: string, run: string): Record<string, Buffer> {
  const files: Record<string, Buffer> = {}
  const manifest = (tag: string, body: object): { mediaType: string; digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(body))
    files[`${name}/manifests/${tag}`] = bytes
    files[`${name}/manifests/${digestOf(bytes)}`] = bytes
    return { mediaType: (body as { mediaType: string }).mediaType, digest: digestOf(bytes), size: bytes.length }
  }
  const blob = (mediaType: string, text: string) => {
    const bytes = Buffer.from(text)
    files[`${name}/blobs/${digestOf(bytes)}`] = bytes
    return { mediaType, digest: digestOf(bytes), size: bytes.length }
  }
  const oci = 'application/vnd.oci.image'
  const image = (tag: string, architecture: string) => {
    const labels = { run, tag }
    const config = { architecture, os: 'linux', config: { Labels: labels }, rootfs: { type: 'layers', diff_ids: [] } }
    const layers = [`a base of ${run}`, `a layer of ${run} for ${tag}`].map((text) => blob(`${oci}.layer.v1.tar`, text))
    const body = { schemaVersion: 2, mediaType: `${oci}.manifest.v1+json`, annotations: { tag } }
    return manifest(tag, { ...body, config: blob(`${oci}.config.v1+json`, JSON.stringify(config)), layers })
  }
  const listed = [image('one', 'amd64'), image('two', 'arm64')].map((each, at) => ({
    ...each,
    platform: { os: 'linux', architecture: ['amd64', 'arm64'][at] },
  }))
  manifest('both', { schemaVersion: 2, mediaType: `${oci}.index.v1+json`, manifests: listed })
  files[`${name}/tags/list`] = Buffer.from(JSON.stringify({ name, tags: ['both', 'one', 'two'] }))
  return files
}

/** Serves such files on loopback. Returns the registry's URL. */
export async function serveImages(t: { after(act: () => void): void }, files: Readonly<Record<string, Buffer>>): Promise<string> {
  const server = createServer(({ url = '/', method }, response) => {
    const path = decodeURIComponent(url.slice(1).replace(/\?.*/, ''))
    const body = path === 'v2/' ? Buffer.from('{}') : files[path.slice('v2/'.length)]
    if (body) response.writeHead(200, headersOf(path, body)).end(method === 'HEAD' ? undefined : body)
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
