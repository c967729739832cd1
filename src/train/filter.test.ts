import assert from 'node:assert/strict'
import { test } from 'node:test'
import { selectRepositories } from './filter.ts'

const repositories = [
  { name: 'rocky-9-baseos', group: 'rocky' },
  { name: 'rocky-9-crb', group: 'rocky' },
  { name: 'rocky-8-baseos', group: 'rocky' },
  { name: 'grafana', group: undefined },
  { name: 'grafana-2.x', group: undefined },
]
const select = (...filters: string[]) => selectRepositories(repositories, filters).map(({ name }) => name)

const cases: readonly (readonly [filters: string[], names: string[]])[] = [
  [[], repositories.map(({ name }) => name)],
  [['grafana'], ['grafana']],
  [['rocky-9-*'], ['rocky-9-baseos', 'rocky-9-crb']],
  [['rocky-?-baseos'], ['rocky-9-baseos', 'rocky-8-baseos']],
  [['/grafana/'], ['grafana']],
  [['/grafana.*/'], ['grafana', 'grafana-2.x']],
  [['group:rocky'], ['rocky-9-baseos', 'rocky-9-crb', 'rocky-8-baseos']],
  [
    ['grafana', 'rocky-9-crb'],
    ['rocky-9-crb', 'grafana'],
  ],
]
for (const [filters, names] of cases)
  test(`${filters.join(' ') || 'no filter'} selects ${names.join(', ')}`, () => assert.deepEqual(select(...filters), names))

for (const filter of ['grafan', '*-7-*', '/rocky/', 'group:rocki', 'grafana-2?'])
  test(`${filter} matches nothing, which is an error`, () => {
    assert.throws(() => select('grafana', filter), { name: 'Failure', code: 'not_found' })
  })

test('a dot in a glob is a dot', () => {
  assert.throws(() => selectRepositories([{ name: 'axb', group: undefined }], ['a.*']), { code: 'not_found' })
})

test('what was meant is offered', () => {
  assert.throws(() => select('grafanna'), { message: 'No repository is called grafanna. Did you mean "grafana"?' })
  assert.throws(() => select('group:rockx'), { message: 'No repository is in group rockx. Did you mean "rocky"?' })
})

test('a broken expression is refused', () => {
  assert.throws(() => select('/(/'), { code: 'invalid', message: 'The filter /(/ is not a regular expression.' })
})
