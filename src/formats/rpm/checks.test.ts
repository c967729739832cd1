import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPublication, checkRemote, checkRepository, checkSync, syncPolicy } from './checks.ts'
import { rpm } from './index.ts'

const refused = (check: () => void, message: string | RegExp, field?: string) =>
  assert.throws(check, { name: 'Failure', code: 'invalid', message, ...(field && { field }) })

test('a sync takes a policy, or the older word for it, not both', () => {
  refused(() => checkSync({ mirror: true, sync_policy: 'additive' }), /simultaneously/, 'non_field_errors')
  assert.deepEqual([{}, { mirror: true }, { mirror: false }, { sync_policy: 'mirror_content_only' }].map(syncPolicy), [
    'additive',
    'mirror_complete',
    'additive',
    'mirror_content_only',
  ])
  assert.deepEqual(
    ['additive', 'mirror_content_only', 'mirror_complete'].map((sync_policy) => rpm.syncMode!({ sync_policy })),
    ['additive', 'mirror', 'complete'],
  )
})

test('mirrors exclude what would make them differ from their upstream', () => {
  for (const sync_policy of ['mirror_complete', 'mirror_content_only'])
    refused(
      () => checkSync({ sync_policy }, { retain_package_versions: 1 }),
      "Cannot use 'retain_package_versions' in combination with a 'mirror_complete' or 'mirror_content_only' sync policy.",
    )
  const complete = { sync_policy: 'mirror_complete' }
  refused(
    () => checkSync(complete, { autopublish: true }),
    "Cannot use 'autopublish' in combination with a 'mirror_complete' sync policy.",
  )
  refused(
    () => checkSync({ ...complete, skip_types: ['srpm'] }),
    "Cannot use 'skip_types' in combination with a 'mirror_complete' sync policy.",
  )
  checkSync({ ...complete, skip_types: [] }, { autopublish: false, retain_package_versions: 0 })
  checkSync({ sync_policy: 'mirror_content_only', skip_types: ['srpm'] }, { autopublish: true })
  checkSync({}, { retain_package_versions: 3, autopublish: true })
})

test('publications use safe checksums only', () => {
  for (const checksum_type of ['sha256', 'sha384', 'sha512', null, undefined]) checkRepository({ checksum_type })
  refused(() => checkRepository({ checksum_type: 'md5' }), /ALLOWED_CONTENT_CHECKSUMS/, 'checksum_type')
  refused(() => checkPublication({ checksum_type: 'sha224' }), /sha256, sha384, or sha512/, 'non_field_errors')
})

test('a remote has a web address', () => {
  checkRemote({ url: 'https://example.org/' })
  checkRemote({})
  refused(
    () => checkRemote({ url: 'ftp://x/' }),
    "The url 'ftp://x/' is not valid. It must start with: ('http', 'https', 'file').",
    'url',
  )
})

test("a publication's settings are those asked for, then those of its repository, then the usual ones", () => {
  const repository = {
    name: 'r',
    settings: { checksum_type: 'sha512', layout: null, repo_config: { gpgcheck: 1, repo_gpgcheck: 0 } },
  }
  assert.deepEqual(rpm.publications!.settings(repository, { compression_type: 'zstd' }), {
    checksum_type: 'sha512',
    compression_type: 'zstd',
    layout: 'nested_alphabetically',
    repo_config: { gpgcheck: 1, repo_gpgcheck: 0 },
  })
  assert.deepEqual(rpm.publications!.settings(repository, { mirrored: true }), {
    checksum_type: 'unknown',
    compression_type: null,
    layout: null,
    repo_config: { gpgcheck: 1, repo_gpgcheck: 0 },
  })
})
