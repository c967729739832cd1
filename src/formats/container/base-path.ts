import { Failure } from '../../lib/failure.ts'

/** Throws Failure invalid for what no repository may be called: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests */
export function checkPath(path: string): void {
  if (path.length > 255) throw new Failure('invalid', 'The entered base path cannot be longer than 255 characters.')
  if (!path.split('/').every((part) => /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/.test(part)))
    throw new Failure('invalid', 'The provided base path contains forbidden characters.')
}
