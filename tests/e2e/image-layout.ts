import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { run } from './run.ts'

/* Images as files, for clients to push: https://github.com/opencontainers/image-spec/blob/main/image-layout.md */

const image = 'application/vnd.oci.image.manifest.v1+json'
const index = 'application/vnd.oci.image.index.v1+json'

export interface Layout {
  /** What skopeo calls it: `oci:/tmp/x:tag`. */
  reference(tag: string): string
  /** An image of one layer with one file; `large` is how many bytes that has more. */
  addImage(tag: string | undefined, text: string, more?: { architecture?: string; large?: Buffer }): Promise<Described>
  /** A list of images, one for each architecture. */
  addList(tag: string, text: string, architectures: readonly string[]): Promise<Described>
}

interface Described {
  mediaType: string
  digest: string
  size: number
}

export async function makeLayout(directory: string): Promise<Layout> {
  const blobs = join(directory, 'blobs', 'sha256')
  const tagged: (Described & { annotations: Record<string, string> })[] = []
  await mkdir(blobs, { recursive: true })
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')

  async function addBlob(mediaType: string, bytes: Buffer): Promise<Described> {
    const hex = createHash('sha256').update(bytes).digest('hex')
    await writeFile(join(blobs, hex), bytes)
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
  }
  async function addJson(mediaType: string, body: object, tag: string | undefined): Promise<Described> {
    const described = await addBlob(mediaType, Buffer.from(JSON.stringify(body)))
    if (tag !== undefined) {
      const rest = tagged.filter(({ annotations }) => annotations['org.opencontainers.image.ref.name'] !== tag)
      tagged.splice(0, tagged.length, ...rest, { ...described, annotations: { 'org.opencontainers.image.ref.name': tag } })
      await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: index, manifests: tagged }))
    }
    return described
  }
  async function archive(text: string, large: Buffer): Promise<Buffer> {
    const root = join(directory, 'root')
    await mkdir(root, { recursive: true })
    await writeFile(join(root, 'said'), text)
    await writeFile(join(root, 'large'), large)
    await run('tar', [
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '-cf',
      join(directory, 'layer.tar'),
      '-C',
      root,
      '.',
    ])
    return readFile(join(directory, 'layer.tar'))
  }
  const layout: Layout = {
    reference: (tag) => `oci:${directory}:${tag}`,
    async addImage(tag, text, { architecture = 'amd64', large = Buffer.alloc(0) } = {}) {
      const tar = await archive(text, large)
      const layer = await addBlob('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar))
      const diff = `sha256:${createHash('sha256').update(tar).digest('hex')}`
      const config = await addBlob(
        'application/vnd.oci.image.config.v1+json',
        Buffer.from(
          JSON.stringify({
            architecture,
            os: 'linux',
            config: { Labels: { text } },
            rootfs: { type: 'layers', diff_ids: [diff] },
            history: [{ created: '1970-01-01T00:00:00Z', created_by: 'a test' }],
          }),
        ),
      )
      return addJson(image, { schemaVersion: 2, mediaType: image, config, layers: [layer] }, tag)
    },
    async addList(tag, text, architectures) {
      const manifests: object[] = []
      for (const architecture of architectures) {
        const described = await layout.addImage(undefined, `${text} ${architecture}`, { architecture })
        manifests.push({ ...described, platform: { architecture, os: 'linux' } })
      }
      return addJson(index, { schemaVersion: 2, mediaType: index, manifests }, tag)
    },
  }
  return layout
}
