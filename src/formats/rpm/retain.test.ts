import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Unit } from '../../core/format.ts'
import { findOldPackages } from './retain.ts'

async function* units(...metas: Record<string, unknown>[]): AsyncGenerator<Unit> {
  for (const [id, meta] of metas.entries())
    yield {
      id,
      type: 'rpm.package',
      meta: { name: 'a', arch: 'noarch', epoch: '0', version: '1', release: '1', ...meta },
    } as unknown as Unit
}

test('of each name and architecture the newest versions stay', async () => {
  const packages = units(
    { version: '9' },
    { version: '10' },
    { version: '2', epoch: '1' },
    { arch: 'src' },
    { name: 'b' },
    { version: '8' },
  )
  assert.deepEqual((await findOldPackages(packages, 2)).toSorted(), [0, 5])
})

test('modular packages and other content stay', async () => {
  const modular = units({ is_modular: true, version: '1' }, { version: '2' }, { is_modular: true, version: '3' })
  assert.deepEqual(await findOldPackages(modular, 1), [])
})

test('nothing is dropped, nor even read, where all versions are retained', async () => {
  let reads = 0
  async function* counted(): AsyncGenerator<Unit> {
    reads++
    yield* units({})
  }
  assert.deepEqual(await findOldPackages(counted(), 0), [])
  assert.equal(reads, 0)
})
