import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseManifest, renderManifest } from './manifest.ts'

const digest = 'a'.repeat(64)

test('a manifest is parsed line by line, comments and blank lines left out', () => {
  const text = `# made by hand\n\n1.iso,${digest},1024\nsub/with, comma.txt , ${digest.toUpperCase()} , 0\r\n`
  assert.deepEqual(parseManifest(text), [
    { path: '1.iso', sha256: digest, size: 1024 },
    { path: 'sub/with, comma.txt', sha256: digest, size: 0 },
  ])
})

test('what renderManifest writes, parseManifest reads', () => {
  const entries = [{ path: 'a b/ü.txt', sha256: digest, size: 7 }]
  assert.deepEqual(parseManifest(renderManifest(entries)), entries)
})

for (const [what, line] of [
  ['a short digest', 'a,abc,1'],
  ['no size', `a,${digest},`],
  ['a path that leaves its directory', `../a,${digest},1`],
  ['an absolute path', `/etc/passwd,${digest},1`],
  ['HTML instead of a manifest', '<html>captive portal</html>'],
] as const)
  test(`a manifest line with ${what} is refused`, () => {
    assert.throws(() => parseManifest(`ok,${digest},1\n${line}\n`), { name: 'Failure' })
  })

test('a manifest that names a path twice is refused', () => {
  assert.throws(() => parseManifest(`a,${digest},1\na,${'b'.repeat(64)},1\n`), /names a twice, again in line 2/)
})

test('a long line that is none is refused at once', () => {
  const from = process.cpuUsage()
  for (const line of [`a${' '.repeat(200_000)}b`, ','.repeat(200_000), ` ,${' '.repeat(200_000)}`])
    assert.throws(() => parseManifest(line), { code: 'integrity' })
  const { user } = process.cpuUsage(from)
  assert.ok(user < 1_000_000, `${user} µs`)
})
