import type { Ctx } from '../src/core/ctx.ts'
import { putContent } from '../src/core/content.ts'
import { insertResource } from '../src/core/resources.ts'
import { commitVersion } from '../src/core/versions.ts'
import { describeBlob, describeManifest, describeTag } from '../src/formats/container/describe.ts'
import { digestOf } from '../src/formats/container/digest.ts'
import { parseManifest } from '../src/formats/container/manifest.ts'
import { ociIndex, ociManifest } from '../src/formats/container/media-types.ts'
import type { Described } from '../src/core/format.ts'
import type { Db } from '../src/store/database.ts'
import { addBlob, sha256 } from './serving.ts'

/* Images for tests that need no registry: put into repositories as a push would put them there. */

export interface Image {
  digest: string
  units: Described[]
}

/** An image of a configuration and layers of these words. */
export async function makeImage(ctx: Ctx, layers: readonly string[], { subject }: { subject?: Image } = {}): Promise<Image> {
  const config = JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Labels: { layers: layers.join() } } })
  const blobs = await Promise.all([config, ...layers].map((text) => makeBlob(ctx, text)))
  const [configBlob, ...layerBlobs] = blobs
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: configBlob!.key, size: config.length },
    layers: layerBlobs.map((blob, at) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: blob.key,
      size: layers[at]!.length,
    })),
    ...(subject && { subject: { mediaType: ociManifest, digest: subject.digest, size: 1 } }),
  }
  return withManifest(manifest, blobs, JSON.parse(config))
}

/** A list of images. */
export function makeIndex(images: readonly Image[]): Image {
  const manifests = images.map(({ digest }) => ({ mediaType: ociManifest, digest, size: 1 }))
  return withManifest(
    { schemaVersion: 2, mediaType: ociIndex, manifests },
    images.flatMap(({ units }) => units),
  )
}

function withManifest(manifest: { mediaType: string; [more: string]: unknown }, units: readonly Described[], config = {}): Image {
  const bytes = Buffer.from(JSON.stringify(manifest))
  const digest = digestOf(bytes)
  return { digest, units: [...units, describeManifest(digest, parseManifest(bytes, manifest.mediaType), bytes, config)] }
}

async function makeBlob(ctx: Ctx, text: string): Promise<Described> {
  await addBlob(ctx, text)
  return describeBlob(`sha256:${sha256(text)}`, text.length, sha256(text))
}

/** Puts images into a repository, under their tags. */
export async function putImages(ctx: Ctx, repositoryId: number, images: Readonly<Record<string, Image>>): Promise<void> {
  await ctx.db.transaction().execute(async (tx) => {
    const units = Object.entries(images).flatMap(([tag, image]) => [...image.units, describeTag(tag, image.digest)])
    const ids = await putContent(tx, [...new Map(units.map((unit) => [`${unit.type} ${unit.key}`, unit])).values()])
    await commitVersion(tx, { repositoryId, add: ids, remove: [] })
  })
  ctx.changes.bump()
}

/** What the first push to a path leaves: a repository that pushes made, and its private distribution. */
export async function addPushed(ctx: Ctx, path: string, images: Readonly<Record<string, Image>>, userId: number | null = null) {
  const made = await ctx.db.transaction().execute(async (tx) => {
    const repository = await insertResource(tx, ctx.formats, 'repository', 'container.container-push', { name: path }, userId)
    const values = { name: path, base_path: path, repository_id: repository.id, settings: { private: true } }
    const distribution = await insertResource(tx, ctx.formats, 'distribution', 'container.container', values, userId)
    return { repository, distribution }
  })
  await putImages(ctx, made.repository.id, images)
  return made
}

/** The id of a repository that the API made. */
export async function repositoryId(db: Db, href: string): Promise<number> {
  const uuid = href.split('/').at(-2)!
  return (await db.selectFrom('repository').select('id').where('uuid', '=', uuid).executeTakeFirstOrThrow()).id
}
