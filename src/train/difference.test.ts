import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareThings } from './difference.ts'

let count = 0
function rpm(name: string, version: string, { arch = 'noarch', epoch = '0', pkgId = `${name}-${version}` } = {}) {
  return { pulp_href: `/packages/${++count}/`, name, arch, epoch, version, release: '1', pkgId }
}

test('of each package the newest counts, and what needs attention comes first', () => {
  const before = [
    rpm('kernel', '5.9'),
    rpm('kernel', '5.10'),
    rpm('bell', '2.0'),
    rpm('gong', '1.0'),
    rpm('chime', '1.0'),
    rpm('rope', '1.0', { arch: 'x86_64' }),
    rpm('rope', '1.0', { arch: 'aarch64' }),
  ]
  const after = [
    rpm('kernel', '5.10'),
    rpm('kernel', '5.11'),
    rpm('bell', '1.9'),
    rpm('chime', '1.0', { pkgId: 'built again' }),
    rpm('rope', '1.0', { arch: 'x86_64' }),
    rpm('rope', '1.0', { arch: 'aarch64', epoch: '1', pkgId: 'rope-1:1.0' }),
    rpm('drum', '0.1'),
  ]
  assert.deepEqual(compareThings(before, after), [
    { change: 'downgraded', name: 'bell', arch: 'noarch', from: '2.0-1', to: '1.9-1' },
    { change: 'changed', name: 'chime', arch: 'noarch', from: '1.0-1', to: '1.0-1' },
    { change: 'removed', name: 'gong', arch: 'noarch', from: '1.0-1' },
    { change: 'upgraded', name: 'kernel', arch: 'noarch', from: '5.10-1', to: '5.11-1' },
    { change: 'upgraded', name: 'rope', arch: 'aarch64', from: '1.0-1', to: '1:1.0-1' },
    { change: 'added', name: 'drum', arch: 'noarch', to: '0.1-1' },
  ])
})

test('where only older packages come or go, clients see no difference', () => {
  const newest = rpm('kernel', '5.10')
  assert.deepEqual(compareThings([rpm('kernel', '5.8'), newest], [newest, rpm('kernel', '5.9')]), [])
})

test('a file with other bytes has changed', () => {
  const file = (relative_path: string, sha256: string) => ({ pulp_href: `/files/${++count}/`, relative_path, sha256 })
  assert.deepEqual(compareThings([file('a', '1'), file('b', '1')], [file('a', '2'), file('b', '1')]), [
    { change: 'changed', name: 'a', from: '1', to: '2' },
  ])
})
