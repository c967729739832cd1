import type { Format, RepositorySettings } from '../../core/format.ts'
import { checkPublication, checkRemote, checkRepository, checkSync, syncPolicy } from './checks.ts'
import { compsTypes } from './comps.ts'
import { otherContentTypes } from './content-types.ts'
import { unitsToCopy } from './copy-units.ts'
import { distributionFields, packages, publicationFields, remoteFields, repositoryFields, syncFields } from './declarations.ts'
import { discover } from './discover.ts'
import { inspect } from './inspect.ts'
import { packagePath, render } from './render.ts'
import { renderRepoConfig, repoConfigName } from './repo-config.ts'
import { findOldPackages } from './retain.ts'

/** Packages and everything around them: https://github.com/rpm-software-management/createrepo_c */
export const rpm: Format = {
  name: 'rpm',
  pulp: {
    version: '3.30.2',
    package: 'pulp-rpm',
    module: 'pulp_rpm.app',
  },
  repositories: [
    {
      type: 'rpm',
      model: 'Rpm',
      fields: repositoryFields,
      sync: { task: 'pulp_rpm.app.tasks.synchronizing.synchronize', fields: syncFields },
      modify: true,
      owner: ['modify_content_*', 'repair_*', 'sync_*', 'delete_*_version'],
      rights: { modify: 'modify_content_*', delete_version: 'delete_*_version' },
    },
  ],
  remotes: [{ type: 'rpm', model: 'Rpm', fields: remoteFields }],
  distributions: [{ type: 'rpm', model: 'Rpm', fields: distributionFields }],
  contentTypes: [packages, ...otherContentTypes],
  roles: { remotes: ['ulnremote'], overall: true },

  check(what, values, repository) {
    if (what === 'remote') checkRemote(values)
    else if (what === 'repository') checkRepository(values)
    else if (what === 'publication') checkPublication(values)
    else checkSync(values, repository?.settings)
  },

  syncMode: (settings) =>
    (({ mirror_complete: 'complete', mirror_content_only: 'mirror' }) as const)[syncPolicy(settings)] ?? 'additive',
  discover: (upstream, options) => discover(upstream, options, syncPolicy(options.settings) === 'mirror_complete'),
  inspect,
  unitsToCopy,
  prune: (candidates, { settings }) => findOldPackages(candidates, Number(settings['retain_package_versions'] ?? 0)),

  publications: {
    task: 'pulp_rpm.app.tasks.publishing.publish',
    fields: publicationFields,
    settings: publicationSettings,
    signingService: 'metadata_signing_service',
    render,
    placed: ({ type, path, name }, layout) => (type === 'rpm.package' ? packagePath(name, layout) : path),
  },
  distributionFile: (path, distribution) => (path === repoConfigName ? renderRepoConfig(distribution) : undefined),
  distributionFiles: [repoConfigName],
  // A cache on the way may keep packages and what is named by its digest. A fresh repomd.xml beside an old primary.xml.gz is a broken repository.
  headers: (path) => (/\.rpm$|(^|\/)[0-9a-f]{32,128}-[^/]+$/.test(path) ? undefined : { 'Cache-Control': 'no-cache' }),

  findSuperseded: (candidates) => findOldPackages(candidates, 1, { modular: true }),

  actions: [
    {
      path: 'rpm/comps',
      operationId: 'rpm_comps_upload',
      summary: 'Upload comps.xml',
      schema: 'CompsXml',
      lenient: true,
      fields: {
        file: {
          type: 'string',
          format: 'binary',
          required: true,
          description: 'A comps.xml file, whose groups, categories, environments and language packs become content.',
        },
        repository: {
          type: 'href',
          to: 'repository:rpm.rpm',
          writeOnly: true,
          description: 'The repository that they are added to.',
        },
        replace: {
          type: 'boolean',
          writeOnly: true,
          description: 'Whether what the repository has of other comps.xml files goes.',
        },
      },
      task: 'pulp_rpm.app.tasks.comps.upload_comps',
      kind: 'upload-content',
      resources: ({ repository }) => ({ exclusive: typeof repository === 'string' ? [repository] : [], shared: [] }),
      args: ({ replace }) => ({ type: 'rpm.comps', fields: {}, replaces: replace === true ? compsTypes : [] }),
    },
    {
      path: 'rpm/prune',
      operationId: 'rpm_prune_prune_packages',
      summary: 'Prune old packages',
      schema: 'PrunePackages',
      lenient: true,
      fields: {
        repo_hrefs: {
          type: 'array',
          items: { type: 'string', minLength: 1 },
          required: true,
          description: "The repositories whose latest version is pruned; ['*'] for all.",
        },
        keep_days: {
          type: 'integer',
          format: 'int64',
          default: 14,
          minimum: 0,
          description: 'Old versions of packages that came to a repository longer ago go; 0 keeps none of them.',
        },
        dry_run: { type: 'boolean', default: false, description: 'Only tells how many it would be.' },
      },
      task: 'pulp_rpm.app.tasks.prune.prune_packages',
      group: 'Prune old Packages.',
      kind: 'prune',
      resources: () => ({ exclusive: [], shared: [] }),
      locks: ['/api/v3/rpm/prune/'],
      args: () => ({ task: 'pulp_rpm.app.tasks.prune.prune_repo_packages', code: 'rpm.package.prune' }),
    },
    {
      path: 'rpm/copy',
      operationId: 'copy_content',
      summary: 'Copy content',
      schema: 'Copy',
      fields: {
        config: {
          type: 'any',
          required: true,
          description: 'A list of copies: source_repo_version, dest_repo, dest_base_version, content.',
        },
        dependency_solving: {
          type: 'boolean',
          default: true,
          description: 'Also copy dependencies of the content being copied.',
        },
      },
      task: 'pulp_rpm.app.tasks.copy.copy_content',
      kind: 'copy',
      resources: ({ config }) => {
        const copies: Record<string, unknown>[] = Array.isArray(config) ? config : []
        const named = (key: string) => copies.flatMap((copy) => (typeof copy?.[key] === 'string' ? [copy[key]] : []))
        return { exclusive: named('dest_repo'), shared: named('source_repo_version') }
      },
    },
  ],
}

function publicationSettings({ settings }: RepositorySettings, asked: Record<string, unknown>): Record<string, unknown> {
  const config = (asked['repo_config'] ?? settings['repo_config'] ?? {}) as Record<string, unknown>
  if (asked['mirrored']) {
    const check = (name: string) => (Number(config[name] ?? 0) ? 1 : 0)
    return {
      checksum_type: 'unknown',
      compression_type: null,
      layout: null,
      repo_config: { gpgcheck: check('gpgcheck'), repo_gpgcheck: check('repo_gpgcheck') },
    }
  }
  return {
    checksum_type: asked['checksum_type'] ?? settings['checksum_type'] ?? 'sha256',
    compression_type: asked['compression_type'] ?? settings['compression_type'] ?? 'gz',
    layout: asked['layout'] ?? settings['layout'] ?? 'nested_alphabetically',
    repo_config: config,
    // Left out where nothing is signed, so that what was published before is still the same.
    ...(settings['metadata_signing_service'] ? { metadata_signing_service: settings['metadata_signing_service'] } : {}),
  }
}
