import assert from 'node:assert/strict'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryDirectory } from '../../../tests/e2e/run.ts'
import { hasCode } from '../../lib/failure.ts'
import { runScript } from './run-script.ts'

test('a script that is stopped ends with all that it has started', async (t) => {
  const directory = await temporaryDirectory(t)
  const script = join(directory, 'slow.sh')
  await writeFile(script, `#!/bin/sh\nsleep 600 &\necho $! > ${directory}/pid\nwait\n`)
  await chmod(script, 0o755)
  const stop = new AbortController()
  const signing = { name: 'file', bytes: Buffer.from('a file'), member: 'signature', signal: stop.signal }
  const signed = runScript({ script, fingerprint: 'AB', gnupgHome: null }, signing)
  const pid = await readPid(join(directory, 'pid'))
  assert.ok(isAlive(pid))
  stop.abort(new Error('stopped'))
  await assert.rejects(signed, /stopped/)
  while (isAlive(pid)) await sleep(10)
})

async function readPid(path: string): Promise<number> {
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => '')
    if (text.endsWith('\n')) return Number(text)
    await sleep(10)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false
    throw error
  }
}
