import type { Unit } from '../../core/format.ts'
import { compareEvr } from '../../lib/evr.ts'

/** The ids of all but the newest `count` of each package name and architecture, modular packages only if asked: older streams are no old versions. */
export async function findOldPackages(
  candidates: AsyncIterable<Unit>,
  count: number,
  { modular = false }: { modular?: boolean } = {},
): Promise<number[]> {
  if (count <= 0) return []
  const packages = new Map<string, { id: number; epoch: string; version: string; release: string }[]>()
  for await (const { id, type, meta } of candidates) {
    if (type !== 'rpm.package' || (meta['is_modular'] && !modular)) continue
    const { name, arch, epoch, version, release } = meta
    const versions = packages.get(`${name}\n${arch}`)
    if (versions) versions.push({ id, epoch, version, release })
    else packages.set(`${name}\n${arch}`, [{ id, epoch, version, release }])
  }
  return [...packages.values()].flatMap((versions) =>
    versions
      .sort((a, b) => compareEvr(b, a))
      .slice(count)
      .map(({ id }) => id),
  )
}
