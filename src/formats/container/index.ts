import type { ContentType, Field, Format } from '../../core/format.ts'
import { discover } from './discover.ts'

const text = (description: string): Field => ({ type: 'string', required: true, description })

const blobs: ContentType = {
  name: 'blob',
  model: 'Blob',
  path: 'blobs',
  files: 'one',
  fields: { digest: text('sha256 of the Blob file') },
  filters: { digest: { lookups: ['exact', 'in'], index: true } },
  ordering: ['digest'],
  view: ({ meta }) => ({ digest: meta['digest'] }),
}

const manifests: ContentType = {
  name: 'manifest',
  model: 'Manifest',
  path: 'manifests',
  files: 'none',
  fields: {
    digest: text('sha256 of the Manifest file'),
    schema_version: { type: 'integer', format: 'int64', required: true, description: 'Manifest schema version' },
    media_type: text('Manifest media type of the file'),
  },
  filters: { digest: { lookups: ['exact', 'in'], index: true }, media_type: { lookups: ['exact'] } },
  ordering: ['digest', 'schema_version', 'media_type'],
  view: ({ meta: { digest, schema_version, media_type } }) => ({ digest, schema_version, media_type }),
}

const tags: ContentType = {
  name: 'tag',
  model: 'Tag',
  path: 'tags',
  files: 'none',
  fields: { name: text('Tag name') },
  filters: { name: { lookups: ['exact', 'in'], index: true } },
  ordering: ['name'],
  view: ({ meta }) => ({ name: meta['name'] }),
}

/** Images and artifacts, pushed and pulled by the OCI distribution protocol (http/registry). */
export const container: Format = {
  name: 'container',
  pulp: {
    type: 'container',
    model: 'Container',
    version: '2.25.1',
    package: 'pulp-container',
    module: 'pulp_container.app',
    tasks: { sync: 'pulp_container.app.tasks.synchronize.synchronize' },
  },
  variants: { 'container-push': 'ContainerPush', 'pull-through': 'ContainerPullThrough' },
  contentTypes: [blobs, manifests, tags],
  fields: { repository: {}, remote: {}, distribution: {}, sync: {} },
  servesVersions: 'protocol',
  syncMode: ({ mirror }) => (mirror ? 'mirror' : 'additive'),
  discover,
}
