import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../lib/failure.ts'
import { openHasher, passwordProblems, unusablePassword } from './passwords.ts'

test('a password fits its own hash and no other', async () => {
  const hasher = openHasher()
  const stored = await hasher.hash('correct horse')
  assert.match(stored, /^scrypt\$16384\$8\$1\$[\w+/=]{24}\$[\w+/=]{44}$/)
  assert.notEqual(await hasher.hash('correct horse'), stored)
  assert.equal(await hasher.verify('correct horse', stored), true)
  assert.equal(await hasher.verify('correct horsf', stored), false)
})

for (const [what, stored] of [
  ['a user who does not exist', undefined],
  ['an unusable password', unusablePassword()],
  ['a hash cut short', 'scrypt$16384$8$1$AAAA$AAAA'],
] as const)
  test(`nothing fits ${what}, after as much work as for a real user`, async () => {
    const hasher = openHasher()
    const real = await hasher.hash('correct horse')
    const [slow, fast] = [
      await shortestOf(() => hasher.verify('wrong', real)),
      await shortestOf(() => hasher.verify('wrong', stored)),
    ]
    assert.equal(await hasher.verify('wrong', stored), false)
    assert.ok(fast > slow / 4, `${fast} ms against ${slow} ms`)
  })

test('at most two passwords are checked at once, a hundred wait, and the rest are refused', async () => {
  const hasher = openHasher()
  const asked = Array.from({ length: 104 }, () =>
    hasher.verify('x', 'scrypt$2$1$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='),
  )
  const answers = await Promise.allSettled(asked)
  const refused = answers.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[]
  assert.equal(refused.length, 2)
  assert.ok(refused.every(({ reason }) => reason instanceof Failure && reason.code === 'conflict'))
  assert.equal(await hasher.verify('x', 'scrypt$2$1$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='), false)
})

const short = 'This password is too short. It must contain at least 8 characters.'
const common = 'This password is too common.'
const numeric = 'This password is entirely numeric.'

for (const [password, problems] of [
  ['Yeech6ba', []],
  ['correct horse', []],
  ['short', [short]],
  ['12345', [short, common, numeric]],
  ['12345678', [common, numeric]],
  ['Password123', [common]],
  ['aaaaaaaaaa', [common]],
  ['83917264', [numeric]],
  ['', [short]],
] as const)
  test(`a new password "${password}" is ${problems.length > 0 ? 'refused' : 'taken'}, in Django's words`, () => {
    assert.deepEqual(passwordProblems(password), problems)
  })

/** In milliseconds, of three: other work on the machine only ever makes it longer. */
async function shortestOf(act: () => Promise<unknown>): Promise<number> {
  const times = []
  for (let round = 0; round < 3; round++) {
    const begin = performance.now()
    await act()
    times.push(performance.now() - begin)
  }
  return Math.min(...times)
}
