import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { lockDirectory, makeDirectory } from './lock.ts'

test('a data directory that cannot be one is told with what to do, and a good one is made', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'signalbox-lock-'))
  t.after(() => rm(root, { recursive: true }))
  await writeFile(join(root, 'file'), '')
  const unusable = {
    code: 'invalid',
    message: /^The data directory \S+ cannot be written \(.+\)\. Give it to the user .+--data\.$/,
  }
  await assert.rejects(makeDirectory(join(root, 'file')), unusable)
  await assert.rejects(makeDirectory(join(root, 'file/below')), unusable)
  await mkdir(join(root, 'odd/lock'), { recursive: true })
  assert.throws(() => lockDirectory(join(root, 'odd')), unusable)
  await makeDirectory(join(root, 'a/b'))
  await makeDirectory(join(root, 'a/b'))
  using _ = lockDirectory(join(root, 'a/b'))
  assert.throws(() => lockDirectory(join(root, 'a/b')), { code: 'conflict', message: /^Another server is using / })
})
