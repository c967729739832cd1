import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { openProgress } from './progress.ts'

function open(t: TestContext, terminal: boolean) {
  const streams = {
    out: new PassThrough({ encoding: 'utf8' }),
    err: Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY: terminal, columns: 40 }),
  }
  const display = openProgress({ ...streams, env: {}, signal: new AbortController().signal })
  t.after(() => display.close())
  return { ...streams, display }
}

test('in a log each change of state is one line, and the result is output', (t) => {
  const { out, err, display } = open(t, false)
  display.show('bells', 'syncing', '1 %')
  display.show('bells', 'syncing', '2 %')
  display.show('bells', 'publishing')
  display.tally('1 of 2 done')
  display.finish('bells', 'done')
  display.close()
  assert.equal(err.read(), 'bells: syncing\nbells: publishing\n')
  assert.equal(out.read(), 'done\n')
})

test('on a terminal lines are repainted, cut to its width, and gone at the end', (t) => {
  const { out, err, display } = open(t, true)
  display.show('bells', 'syncing', `61 %   ${'long '.repeat(20)}`)
  display.show('chimes', 'syncing')
  display.tally('0 of 2 done')
  display.finish('chimes', 'chimes done')
  const painted = String(err.read())
  assert.match(painted, /bells {4}… syncing {3}61 %.*…/)
  assert.ok(stripVTControlCharacters(painted).endsWith('0 of 2 done\n'))
  for (const line of stripVTControlCharacters(painted).split('\n')) assert.ok(line.length < 40, line)
  display.finish('bells', 'bells done')
  display.close()
  assert.equal(out.read(), 'chimes done\nbells done\n')
  assert.ok(String(err.read()).endsWith('\u001b[J'))
})
