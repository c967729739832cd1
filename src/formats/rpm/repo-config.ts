import type { ServedDistribution } from '../../core/format.ts'
import { repomdKeyPath } from './render.ts'

export const repoConfigName = 'config.repo'

/** The file that tells dnf of a distribution. Undefined when it is not wanted, or there is nothing to install from. */
export function renderRepoConfig({ name, url, settings, publicationSettings }: ServedDistribution): string | undefined {
  if (settings['generate_repo_config'] !== true || !publicationSettings) return undefined
  const { name: _, baseurl: __, gpgkey, ...config } = (publicationSettings['repo_config'] ?? {}) as Record<string, unknown>
  const defaults = Object.entries({ repo_gpgcheck: 0, gpgcheck: 0, enabled: 1 }).filter(([key]) => !(key in config))
  const isSigned = publicationSettings['metadata_signing_service'] !== undefined
  // Packages may have been signed with other keys than the metadata: dnf takes a list.
  const keys = [...(gpgkey === undefined ? [] : [written(gpgkey)]), ...(isSigned ? [`${url}${repomdKeyPath}`] : [])]
  const lines = [
    ['name', name],
    ['baseurl', url],
    ...Object.entries(config),
    ...defaults,
    ...(keys.length > 0 ? [['gpgkey', keys.join(' ')]] : []),
  ]
  return `[${name.replace(/[^\p{L}\p{N}_\-.:]/gu, '')}]\n${lines.map(([key, value]) => `${key}=${written(value)}\n`).join('')}`
}

/** As Pulp writes JSON values. */
function written(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (value === null) return 'None'
  // A line break would begin another option.
  return (typeof value === 'string' ? value : JSON.stringify(value)).replace(/[\r\n]+/g, ' ')
}
