import type { Field, Fields, Format } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { contentTypes } from './content-types.ts'
import { discover, discoverOne } from './discover.ts'
import { checkPath } from './base-path.ts'
import { pushRepositoryActions, repositoryActions } from './repository-actions.ts'

const repositoryFields: Fields = {
  manifest_signing_service: {
    type: 'href',
    to: 'signing_service:core.attached',
    nullable: true,
    description: 'A reference to an associated signing service.',
  },
  immutable_tags: {
    type: 'array',
    items: { type: 'string', maxLength: 255 },
    default: [],
    description:
      'Tags that, once they are there, can neither be moved to another manifest nor be removed. Wildcards *, ? are recognized.',
  },
}

const patterns = (description: string): Field => ({
  type: 'array',
  items: { type: 'string', maxLength: 255 },
  nullable: true,
  description,
})

const policy = (choices: readonly string[], usual: string): Field => ({
  type: 'string',
  enum: choices,
  default: usual,
  description: 'immediate: all is downloaded by a sync; on_demand and streamed: layers when a client asks for them.',
})

const distributionFields: Fields = {
  private: {
    type: 'boolean',
    description: 'Restrict pull access to explicitly authorized users. Defaults to unrestricted pull access.',
  },
  description: { type: 'string', nullable: true, description: 'An optional description.' },
}

const pulling = { collaborator: ['pull_new_containerdistribution', 'view_*'], viewer: [] } as const

const inNamespace = {
  consumer: ['pull_containerdistribution', 'view_containerdistribution', 'view_containerpushrepository'],
  collaborator: [
    'add_containerdistribution',
    'change_containerdistribution',
    'change_containerpushrepository',
    'delete_containerdistribution',
    'modify_content_containerpushrepository',
    'modify_content_containerrepository',
    'push_containerdistribution',
  ],
}
const through = (actions: readonly string[]) => actions.map((action) => `namespace_${action}`)
const consumer = through(inNamespace.consumer)
const collaborator = [...consumer, ...through(inNamespace.collaborator)]

/** Images and artifacts, pushed and pulled by the OCI distribution protocol (http/registry). */
export const container: Format = {
  name: 'container',
  pulp: { version: '2.25.1', package: 'pulp-container', module: 'pulp_container.app' },
  repositories: [
    {
      type: 'container',
      model: 'Container',
      fields: repositoryFields,
      sync: {
        task: 'pulp_container.app.tasks.synchronize.synchronize',
        fields: {
          mirror: { type: 'boolean', default: false, description: 'Remove what the upstream does not have.' },
          signed_only: {
            type: 'boolean',
            default: false,
            description: 'Bring only what is signed. Signatures are not verified.',
          },
        },
      },
      actions: repositoryActions,
      rights: { modify: 'modify_content_*', repair: 'sync_*', delete_version: 'delete_*_versions' },
      owner: ['build_image_*', 'delete_*_versions', 'modify_content_*', 'sync_*'],
      roles: { content_manager: ['build_image_*', 'delete_*_versions', 'modify_content_*', 'sync_*', 'view_*'] },
    },
    {
      type: 'container-push',
      model: 'ContainerPush',
      fields: repositoryFields,
      actions: pushRepositoryActions,
      pushed: true,
      rights: { modify: 'modify_content_*' },
      roles: { creator: [], owner: [], viewer: [] },
    },
  ],
  remotes: [
    {
      type: 'container',
      model: 'Container',
      fields: {
        upstream_name: { type: 'string', required: true, description: 'Name of the upstream repository' },
        include_tags: patterns("Tags to include during sync. Wildcards *, ? are recognized. Evaluated before 'exclude_tags'."),
        exclude_tags: patterns("Tags to exclude during sync. Wildcards *, ? are recognized. Evaluated after 'include_tags'."),
        sigstore: { type: 'string', format: 'uri', description: 'A URL to a sigstore to download image signatures from' },
        policy: policy(['immediate', 'on_demand', 'streamed'], 'immediate'),
      },
    },
    {
      type: 'pull-through',
      model: 'ContainerPullThrough',
      fields: {
        includes: patterns("Repositories to offer. Wildcards *, ? are recognized. Evaluated before 'excludes'."),
        excludes: patterns("Repositories not to offer. Wildcards *, ? are recognized. Evaluated after 'includes'."),
        policy: policy(['on_demand'], 'on_demand'),
      },
    },
  ],
  distributions: [
    {
      type: 'container',
      model: 'Container',
      fields: distributionFields,
      owner: ['pull_*', 'push_*'],
      roles: { collaborator: ['pull_*', 'push_*', 'view_*'], consumer: ['pull_*', 'view_*'], viewer: [] },
      nests: true,
      checkPath,
      shown: { registry_path: { type: 'string', readOnly: true, description: 'What to pull it by: host and path.' } },
      show: ({ base_path }, host) => ({ registry_path: `${host}/${base_path}` }),
    },
    {
      type: 'pull-through',
      model: 'ContainerPullThrough',
      fields: distributionFields,
      owner: ['pull_new_containerdistribution'],
      roles: { ...pulling, consumer: pulling.collaborator },
      pullsThrough: 'pull-through',
    },
  ],
  namespaces: {
    path: 'pulp_container/namespaces',
    model: 'ContainerNamespace',
    owner: collaborator,
    roles: { collaborator: [...collaborator, 'view_*'], consumer: [...consumer, 'view_*'], viewer: [] },
  },
  contentTypes,
  servesVersions: 'protocol',
  keepsApart: true,
  syncMode: ({ mirror }) => (mirror ? 'mirror' : 'additive'),
  discover,
  discoverOne,

  check(what, values) {
    if (what !== 'remote') return
    const sigstore = values['sigstore']
    if (typeof sigstore === 'string' && !/^https?:\/\/[^/]/i.test(sigstore))
      throw new Failure('invalid', 'Enter a valid URL.', { field: 'sigstore' })
  },
}
