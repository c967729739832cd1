import { Failure } from '../../lib/failure.ts'

/* Checks of requests beyond their fields, with Pulp's words. */

export function checkRemote({ url }: Record<string, unknown>): void {
  if (typeof url === 'string' && !/^(https?|file):/i.test(url))
    throw new Failure('invalid', `The url '${url}' is not valid. It must start with: ('http', 'https', 'file').`, {
      field: 'url',
    })
}

export function checkRepository({ checksum_type }: Record<string, unknown>): void {
  checkChecksumType(checksum_type, 'checksum_type')
}

export function checkPublication({ checksum_type }: Record<string, unknown>): void {
  checkChecksumType(checksum_type, 'non_field_errors')
}

/** Those that publications may use, and those that no content may have: a site allows what is between if it likes. */
const publishable = new Set(['sha256', 'sha384', 'sha512'])
const unsafe = new Set(['unknown', 'md5', 'sha1'])

function checkChecksumType(type: unknown, field: string): void {
  if (typeof type !== 'string' || publishable.has(type)) return
  const message = unsafe.has(type)
    ? "Checksum must be one of the allowed checksum types.\nYou can adjust these with the 'ALLOWED_CONTENT_CHECKSUMS' setting."
    : 'Checksum must be one of the allowed checksum types: sha256, sha384, or sha512.'
  throw new Failure('invalid', message, { field })
}

export function checkSync(asked: Record<string, unknown>, repository: Record<string, unknown> = {}): void {
  if ('mirror' in asked && 'sync_policy' in asked)
    throw new Failure(
      'invalid',
      "Cannot use 'mirror' and 'sync_policy' options simultaneously. The 'mirror' option is deprecated, please use 'sync_policy' only.",
      { field: 'non_field_errors' },
    )
  const policy = syncPolicy(asked)
  const refuse = (name: string, policies: string) => {
    throw new Failure('invalid', `Cannot use '${name}' in combination with a ${policies} sync policy.`)
  }
  if (policy !== 'additive' && Number(repository['retain_package_versions'] ?? 0) > 0)
    refuse('retain_package_versions', "'mirror_complete' or 'mirror_content_only'")
  if (policy !== 'mirror_complete') return
  if (repository['autopublish']) refuse('autopublish', "'mirror_complete'")
  if (Array.isArray(asked['skip_types']) && asked['skip_types'].length > 0) refuse('skip_types', "'mirror_complete'")
}

/** How a sync treats what is there. */
export function syncPolicy({ sync_policy, mirror }: Record<string, unknown>): string {
  return typeof sync_policy === 'string' ? sync_policy : mirror === true ? 'mirror_complete' : 'additive'
}
