import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { runCli } from '../../tests/command-line.ts'
import { commands } from './index.ts'

const train = `train: t
repositories:
  bells: { rpm: "http://127.0.0.1:9/bells/", path: bells, group: towers }
lines: { demo: { repositories: [bells] } }
`

async function trainFile(t: TestContext, text = train): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-cli-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = join(directory, 'train.yaml')
  await writeFile(file, text)
  return file
}

test('help lists every command, and each has its own', async () => {
  const { code, out } = await runCli(['help'])
  assert.equal(code, 0)
  for (const name of Object.keys(commands)) {
    assert.match(out, new RegExp(`^  ${name} `, 'm'))
    const own = await runCli([name, '--help'])
    assert.equal(own.code, 0)
    assert.match(own.out, new RegExp(`Usage: signalbox ${name}\\b`))
    assert.equal((await runCli(['help', name])).out, own.out)
  }
})

test('the version is that of package.json', async () => {
  assert.match((await runCli(['--version'])).out, /^signalbox \d+\.\d+\.\d+\n$/)
})

const usage: readonly (readonly [words: string[], message: RegExp])[] = [
  [['snyc'], /There is no command snyc\. Did you mean "sync"\? "signalbox help" lists them\./],
  [['sync', '--dryrun'], /There is no option --dryrun\. Did you mean "--dry-run"\? See "signalbox sync --help"\./],
  [['sync', '--jobs'], /--jobs/],
  [['sync', '--jobs', '0'], /--jobs takes a whole number of at least 1, not "0"\./],
  [['status', 'everything'], /signalbox status does not take "everything"\./],
  [['promote', 'a', 'b'], /does not take "b"\./],
  [['pin', '--latest', '--at', '2026-11-23'], /either --latest or --at/],
]
for (const [words, message] of usage)
  test(`"${words.join(' ')}" is wrong usage: exit code 2`, async () => {
    const { code, out, err } = await runCli(words)
    assert.deepEqual([code, out], [2, ''])
    assert.match(err, message)
  })

test('a train that is not there is one sentence and exit code 1', async () => {
  const { code, err } = await runCli(['status', '--config', '/nowhere/train.yaml'])
  assert.equal(code, 1)
  assert.equal(err, '✗ /nowhere/train.yaml: there is no such file. Name the train with --config FILE.\n')
})

test('a mistake in the train is told with file and line', async (t) => {
  const file = await trainFile(t, train.replace('path:', 'pth:'))
  const { code, err } = await runCli(['status', '--config', file])
  assert.equal(code, 1)
  assert.match(err, /train\.yaml:3: repositories\.bells: unknown field "pth"\. Did you mean "path"\?/)
})

test('a server that cannot be reached is exit code 4', async (t) => {
  const config = await trainFile(t)
  await mkdir(join(dirname(config), 'pins'))
  await writeFile(join(dirname(config), 'pins/demo.yaml'), 'repositories:\n  bells: 20261101T000000\n')
  const words = ['--config', config, '--server', 'http://127.0.0.1:9']
  for (const command of ['status', 'apply', 'sync', 'pin', 'promote']) {
    const { code, err } = await runCli([command, ...words], { SIGNALBOX_PASSWORD: 'x' })
    assert.equal(code, 4, command)
    assert.match(err, /^✗ http:\/\/127\.0\.0\.1:9 cannot be reached/)
  }
})

test('without a password it says where one can come from', async (t) => {
  const { code, err } = await runCli(['status', '--config', await trainFile(t), '--data', '/nowhere'])
  assert.equal(code, 1)
  assert.match(err, /set SIGNALBOX_PASSWORD, or name the server's data directory with --data/)
})

test('a filter that selects nothing fails before anything is asked of the server', async (t) => {
  const { code, err } = await runCli(['sync', 'bels', '--config', await trainFile(t)], { SIGNALBOX_PASSWORD: 'x' })
  assert.equal(code, 1)
  assert.match(err, /No repository is called bels\. Did you mean "bells"\?/)
})

test('with --json an error is an object too', async (t) => {
  const { code, out } = await runCli(['sync', 'bels', '--json', '--config', await trainFile(t)], { SIGNALBOX_PASSWORD: 'x' })
  assert.equal(code, 1)
  assert.deepEqual(JSON.parse(out), {
    error: { code: 'not_found', message: 'No repository is called bels. Did you mean "bells"?' },
  })
})

test('sync --dry-run names what would be synced', async (t) => {
  const { code, out } = await runCli(['sync', 'group:towers', '--dry-run', '--config', await trainFile(t)], {
    SIGNALBOX_PASSWORD: 'x',
  })
  assert.deepEqual([code, out], [0, '  bells from http://127.0.0.1:9/bells/\n1 repository would be synced.\n'])
})
