import { createHash } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'
import { checkPath } from '../../lib/safe-path.ts'
import type { ContentType, Described, Discovered, Format, Unit } from '../../core/format.ts'
import { parseManifest, renderManifest } from './manifest.ts'

const batchSize = 1000

const files: ContentType = {
  name: 'file',
  model: 'FileContent',
  path: 'files',
  files: 'one',
  fields: { relative_path: { type: 'string', required: true } },
  filters: { relative_path: { lookups: ['exact'], index: true }, sha256: { lookups: ['exact'], index: true } },
  ordering: ['relative_path', 'digest'],
  view: ({ meta }) => ({ relative_path: meta['relative_path'] }),
  create: { from: 'file', fields: { relative_path: { type: 'string', required: true, minLength: 1 } } },
}

/** Plain files, listed by a manifest. */
export const file: Format = {
  name: 'file',
  pulp: {
    version: '3.81.0',
    package: 'pulpcore',
    module: 'pulp_file.app',
  },
  repositories: [
    {
      type: 'file',
      model: 'File',
      fields: { manifest: { type: 'string', nullable: true, minLength: 1, default: 'PULP_MANIFEST' } },
      sync: {
        task: 'pulp_file.app.tasks.synchronizing.synchronize',
        fields: {
          mirror: { type: 'boolean', default: false, description: 'Remove what the upstream does not have.' },
          optimize: {
            type: 'boolean',
            default: true,
            description: 'Do nothing when the manifest is the same as at the last sync.',
          },
        },
      },
      modify: true,
    },
  ],
  remotes: [
    {
      type: 'file',
      model: 'File',
      fields: { policy: { type: 'string', enum: ['immediate', 'on_demand', 'streamed'], default: 'immediate' } },
    },
  ],
  distributions: [{ type: 'file', model: 'File', fields: {} }],
  contentTypes: [files],
  servesVersions: 'files',
  // Any file may be another one tomorrow, under the same name: a cache on the way has to ask.
  headers: () => ({ 'Cache-Control': 'no-cache' }),
  syncMode: ({ mirror }) => (mirror ? 'complete' : 'additive'),

  async *discover(upstream, { unchanged, progress, signal }) {
    const manifestUrl = new URL(upstream.access.url)
    progress.report('sync.downloading.metadata', 'Downloading Metadata', { done: 0 })
    await using own = new AsyncDisposableStack()
    const staged = own.use(await upstream.download([manifestUrl], { limit: 256 * 1024 * 1024 }, signal))
    progress.report('sync.downloading.metadata', 'Downloading Metadata', { done: 1, finished: true })
    if (staged.digests.sha256 === unchanged) return yield { kind: 'fingerprint', value: unchanged, unchanged: true }

    const entries = parseManifest(Buffer.concat(await staged.open().toArray()).toString('utf8'))
    progress.report('sync.parsing.metadata', 'Parsing Metadata Lines', {
      total: entries.length,
      done: entries.length,
      finished: true,
    })
    for (let at = 0; at < entries.length; at += batchSize) {
      const batch = entries.slice(at, at + batchSize).map(({ path, sha256, size }): Described => {
        const url = new URL(path.split('/').map(encodeURIComponent).join('/'), manifestUrl)
        return describe(path, sha256, { path, size, checksum: `sha256:${sha256}`, urls: [url] })
      })
      yield { kind: 'content', batch }
    }
    own.move() // It is the core's now.
    yield { kind: 'verbatim', path: manifestUrl.pathname.split('/').at(-1) || 'PULP_MANIFEST', staged } satisfies Discovered
    yield { kind: 'fingerprint', value: staged.digests.sha256, unchanged: false }
  },

  async inspect({ fields, file: upload }) {
    if (!upload) throw new Failure('invalid', 'A file is needed: give one of file, artifact or upload.')
    const path = checkPath(String(fields['relative_path']))
    const { sha256 } = upload.digests
    return [describe(path, sha256, { path, size: upload.size, checksum: `sha256:${sha256}`, sha256 })]
  },

  publications: {
    task: 'pulp_file.app.tasks.publishing.publish',
    fields: { manifest: { type: 'string', nullable: true, minLength: 1, default: 'PULP_MANIFEST' } },
    settings: ({ settings }, asked) => ({
      manifest: 'manifest' in asked ? asked['manifest'] : 'manifest' in settings ? settings['manifest'] : 'PULP_MANIFEST',
    }),
    async *render(version, { manifest }) {
      if (typeof manifest === 'string')
        yield { path: manifest, body: renderLines(version.units('file.file')), compression: 'none' }
    },
  },
}

function describe(path: string, sha256: string, content: Described['files'][number]): Described {
  // The key is Pulp's: path and digest. Hashed, because a path may be longer than an index entry.
  const key = createHash('sha256').update(`${sha256}\n${path}`).digest('hex')
  // A manifest with a wrong size must not spoil the file for those that have the right one.
  const variant = String(content.size)
  return { type: 'file.file', key, variant, slot: path, meta: { relative_path: path, sha256 }, files: [content] }
}

async function* renderLines(units: AsyncIterable<Unit>): AsyncGenerator<Uint8Array> {
  for await (const { meta, files } of units)
    yield Buffer.from(renderManifest([{ path: meta['relative_path'], sha256: meta['sha256'], size: files[0]?.size ?? 0 }]))
}
