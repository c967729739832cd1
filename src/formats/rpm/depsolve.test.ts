import assert from 'node:assert/strict'
import { test } from 'node:test'
import { meets, type PackageFacts, solveDependencies } from './depsolve.ts'
import type { Dependency } from './header.ts'
import { parseRule } from './rich-dependency.ts'

let lastId = 0

/** `bear-1.0`, or `bear-1.0.i686`, which requires and provides these. */
function made(nvra: string, requires: string[] = [], provides: string[] = [], files: string[] = []): PackageFacts {
  const [, name = '', version = '', arch = 'x86_64'] = /^(.*?)-([\d.]*\d)(?:\.([a-z]\w*))?$/.exec(nvra)!
  lastId++
  return {
    id: lastId,
    name,
    epoch: '0',
    version,
    release: '1',
    arch,
    requires: requires.map(parsed),
    provides: provides.map(parsed),
    files,
  }
}

function parsed(text: string): Dependency {
  if (text.startsWith('(')) return { name: text }
  const rule = parseRule({ name: `(${text})` })
  assert.ok(rule.is === 'simple')
  return rule.dependency
}

const names = (packages: readonly PackageFacts[]) => packages.map(({ name, version }) => `${name}-${version}`).sort()

test('requirements are followed as far as they lead', () => {
  const bear = made('bear-1', ['honey', '/usr/bin/paw'])
  const source = [
    bear,
    made('honey-1', ['bee >= 2']),
    made('bee-1'),
    made('bee-2'),
    made('bee-3'),
    made('paws-1', [], [], ['/usr/bin/paw']),
    made('cat-1'),
  ]
  assert.deepEqual(names(solveDependencies([bear], source, [])), ['bee-3', 'honey-1', 'paws-1'])
})

test('what the destination has is not copied again, unless it is too old', () => {
  const bear = made('bear-1', ['honey >= 2', 'cat'])
  const source = [bear, made('honey-2'), made('cat-2')]
  assert.deepEqual(names(solveDependencies([bear], source, [made('honey-1'), made('cat-1')])), ['honey-2'])
})

test('a ring of requirements ends', () => {
  const source = [made('a-1', ['b']), made('b-1', ['c']), made('c-1', ['a'])]
  assert.deepEqual(names(solveDependencies([source[0]!], source, [])), ['b-1', 'c-1'])
})

test('the provider of the same architecture is taken, and never a source package', () => {
  const bear = made('bear-1.x86_64', ['honey'])
  const source = [bear, made('honey-3.i686'), made('honey-2.x86_64'), made('honey-9.src')]
  assert.deepEqual(names(solveDependencies([bear], source, [])), ['honey-2'])
})

test('what nobody provides is left out', () => {
  const bear = made('bear-1', ['unicorn', 'honey', '(broken'])
  assert.deepEqual(names(solveDependencies([bear], [bear, made('honey-1')], [])), ['honey-1'])
})

for (const [dependency, inDestination, expected] of [
  ['(cat or dog)', [], ['cat-1']],
  ['(unicorn or dog)', [], ['dog-1']],
  ['(cat or dog)', ['dog-1'], []],
  ['(cat and dog)', [], ['cat-1', 'dog-1']],
  ['(cat if dog)', [], []],
  ['(cat if dog)', ['dog-1'], ['cat-1']],
  ['(cat if dog else mouse)', [], ['mouse-1']],
  ['(cat unless dog)', [], ['cat-1']],
  ['(cat unless dog)', ['dog-1'], []],
  ['(pet >= 2 with pet < 3)', [], ['hamster-1']],
  ['(pet without fur)', [], ['hamster-1']],
  ['((cat and dog) or mouse)', ['mouse-1'], []],
] as const)
  test(`${dependency} with ${inDestination.join() || 'nothing'} at the destination brings ${expected.join(' and ') || 'nothing'}`, () => {
    const bear = made('bear-1', [dependency])
    const source = [
      bear,
      made('cat-1', [], ['pet = 1', 'fur']),
      made('dog-1', [], ['pet = 3', 'fur']),
      made('mouse-1'),
      made('hamster-1', [], ['pet = 2']),
    ]
    assert.deepEqual(
      names(
        solveDependencies(
          [bear],
          source,
          inDestination.map((each) => made(each)),
        ),
      ),
      [...expected].sort(),
    )
  })

test('a condition that comes true later counts', () => {
  const bear = made('bear-1', ['(cat if mouse)', 'cheese'])
  const source = [bear, made('cat-1'), made('cheese-1', ['mouse']), made('mouse-1')]
  assert.deepEqual(names(solveDependencies([bear], source, [])), ['cat-1', 'cheese-1', 'mouse-1'])
})

for (const [provided, required, expected] of [
  ['a = 1-1', 'a', true],
  ['a', 'a = 1', false],
  ['a = 1-1', 'a = 1', true],
  ['a = 1-1', 'a = 1-2', false],
  ['a = 1:1', 'a > 2', true],
  ['a = 1', 'a >= 1', true],
  ['a = 1', 'a > 1', false],
  ['a < 2', 'a > 1', true],
  ['a <= 2', 'a >= 2', true],
  ['a < 2', 'a >= 2', false],
] as const)
  test(`${provided} ${expected ? 'meets' : 'does not meet'} ${required}`, () => {
    assert.equal(meets(parsed(provided), parsed(required)), expected)
  })

test('rich dependencies on capabilities with parentheses are read', () => {
  assert.deepEqual(parseRule({ name: '(libc.so.6(GLIBC_2.4)(64bit) or (perl(Foo::Bar) >= 1:2-3 if x))' }), {
    is: 'or',
    rules: [
      { is: 'simple', dependency: { name: 'libc.so.6(GLIBC_2.4)(64bit)' } },
      {
        is: 'if',
        wanted: { is: 'simple', dependency: { name: 'perl(Foo::Bar)', flags: 'GE', epoch: '1', version: '2', release: '3' } },
        condition: { is: 'simple', dependency: { name: 'x' } },
        otherwise: undefined,
      },
    ],
  })
})

for (const broken of ['(a', '(a or)', '(a or b and c)', '(a or b))', '()', '(a xor b)'])
  test(`the rich dependency ${broken} is refused`, () => {
    assert.throws(() => parseRule({ name: broken }), { name: 'Failure', code: 'invalid' })
  })
