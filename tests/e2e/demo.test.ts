import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connectRegistry } from '../../src/api/registry.ts'
import { missing, run, temporaryDirectory } from './run.ts'

const signalbox = fileURLToPath(new URL('../../bin/signalbox', import.meta.url))

interface Demo {
  /** All that it printed until it waits. */
  text: string
  url: string
  /** Presses Ctrl-C and waits. Returns the exit code. */
  stop(): Promise<number | null>
}

/** Starts the demonstration as npm start does, and waits until it says how to stop it. */
async function startDemo(t: TestContext, data: string): Promise<Demo> {
  const child = spawn(signalbox, ['demo', '--data', data, '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  let text = ''
  for await (const chunk of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += chunk
    if (text.includes('Ctrl-C stops')) break
  }
  const url = /· (http:\S+)/.exec(text)?.[1]
  assert.ok(url, text)
  const stop = async () => {
    child.stdout.resume()
    child.kill('SIGINT')
    if (child.exitCode === null) await once(child, 'exit')
    return child.exitCode
  }
  return { text, url, stop }
}

const pathsIn = (text: string) => [...new Set(text.match(/bells\/\d{8}T\d{6}/g))]

test('npm start runs two nights and a promotion; a second start finds everything as it was', { timeout: 120_000 }, async (t) => {
  const data = join(await temporaryDirectory(t), 'var')
  const first = await startDemo(t, data)
  assert.match(first.text, /night 1 +bells +9 packages synced +→ bells\/\d{8}T\d{6} +development\n/)
  assert.match(first.text, /night 2 +bells +1 new, 1 upgraded +→ bells\/\d{8}T\d{6} +development\n/)
  assert.match(first.text, /build +bell +1\.0, from that snapshot +→ demo-dev\/bell:demo-\d{8}T\d{6} +development\n/)
  assert.match(first.text, /build +bell +1\.1, from that snapshot +→ demo-dev\/bell:demo-\d{8}T\d{6} +development\n/)
  assert.match(first.text, /client +bell +refused +← demo\/bell:demo-\d{8}T\d{6} +not released\n/)
  assert.match(first.text, /promote +line "demo" at \d{8}T\d{6} +→ release +1 repository, 1 image, /)
  assert.match(first.text, /client +bell +pulled, sha256:[0-9a-f]{8}… +← demo\/bell:demo-\d{8}T\d{6} +release\n/)
  const [released, unreleased] = pathsIn(first.text)
  const password = (await readFile(join(data, 'demo/client-password'), 'utf8')).trim()
  assert.ok(first.text.includes(`client:${password}@`))
  const look = async (url: string, path: string) => {
    const headers = { authorization: `Basic ${Buffer.from(`client:${password}`).toString('base64')}` }
    const response = await fetch(`${url}/pulp/content/${path}/repodata/repomd.xml`, { headers })
    await response.body?.cancel()
    return response.status
  }
  assert.deepEqual([await look(first.url, released!), await look(first.url, unreleased!)], [200, 403])
  const images = [`demo/bell:demo-${released!.slice(6)}`, `demo-dev/bell:demo-${unreleased!.slice(6)}`] as const
  const pull = async (url: string, username: string, image: string) => {
    const secret = (await readFile(join(data, `demo/${username}-password`), 'utf8')).trim()
    const [path, tag] = image.split(':') as [string, string]
    return connectRegistry({ url, username, password: secret }).pull(path, tag)
  }
  const digest = await pull(first.url, 'client', images[0])
  await assert.rejects(pull(first.url, 'client', images[1]), { name: 'Failure' })
  assert.notEqual(await pull(first.url, 'tester', images[1]), digest)
  assert.equal(await first.stop(), 0)

  const second = await startDemo(t, data)
  assert.match(
    second.text,
    /A demonstration train, as it was left:\n {2}bells +bells\/\d{8}T\d{6} +release\n {2}bells +bells\/\d{8}T\d{6} +development\n {2}bell +demo\/bell:demo-\S+ +release\n {2}bell +demo-dev\/bell:demo-\S+ +development\n\n/,
  )
  assert.deepEqual(pathsIn(second.text), [released, unreleased])
  assert.ok(!second.text.includes(password), 'passwords are printed once')
  assert.deepEqual([await look(second.url, released!), await look(second.url, unreleased!)], [200, 403])
  assert.equal(await pull(second.url, 'client', images[0]), digest)

  await t.test('the skopeo lines that it prints show both images', { skip: await missing('skopeo') }, async () => {
    const lines = [...second.text.matchAll(/^ {2}(skopeo .+)$/gm)].map(([, line]) => line!)
    assert.equal(lines.length, 2)
    const shown = []
    for (const line of lines) shown.push(JSON.parse((await run('sh', ['-c', line])).stdout))
    assert.deepEqual(
      shown.map(({ Name }) => Name.replace(/^[^/]+\//, '')),
      ['demo/bell', 'demo-dev/bell'],
    )
    assert.equal(shown[0].Digest, digest)
  })

  await t.test(
    'the dnf line that it prints installs the released bell',
    { skip: (await missing('dnf')) || (process.getuid?.() !== 0 && 'dnf installs only for root') },
    async () => {
      const line = /sudo (dnf .+)\n/.exec(second.text)![1]!.replace('/tmp/demo', join(data, 'root'))
      const { stdout } = await run('sh', ['-c', line])
      assert.match(stdout, /Installed:\s+bell-1\.0-1\.noarch/)
    },
  )
  await t.test("the README's five minutes release the second night and its image", async () => {
    const readme = await readFile(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')
    const minutes = /## Five minutes[\s\S]*?```\n(train=[\s\S]*?)```/.exec(readme)![1]!
    const script = minutes
      .replaceAll('var/demo', join(data, 'demo'))
      .replace(/^train="(.*)"$/m, `train="$1 --data ${data}"`)
      .replaceAll('http://127.0.0.1:8080', second.url)
      .replaceAll('bin/signalbox', signalbox)
    const { stdout } = await run('sh', ['-ec', script])
    assert.match(stdout, /^ {2}↑ +bell\.noarch +1\.0-1 → 1\.1-1\n {2}\+ +/m)
    assert.match(stdout, /✓ 1 repository, 1 image → release/)
    assert.ok(stdout.includes(unreleased!.slice(6)), stdout)
    assert.deepEqual(await look(second.url, unreleased!), 200)
    await pull(second.url, 'client', images[1].replace('demo-dev/', 'demo/'))
  })
  assert.equal(await second.stop(), 0)
})
