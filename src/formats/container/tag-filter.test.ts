import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openTagFilter } from './tag-filter.ts'

const tags = ['latest', '1.0', '1.1', '1.10', '2.0-rc1', 'v2_0', 'x[1]']

function chosen(include: string[], exclude: string[] = []): string[] {
  return tags.filter(openTagFilter({ include, exclude }).isIncluded)
}

test('without patterns every tag is taken', () => {
  assert.deepEqual(chosen([]), tags)
})

test('a star stands for any text, a question mark for one character, brackets for one of theirs', () => {
  assert.deepEqual(chosen(['1.*']), ['1.0', '1.1', '1.10'])
  assert.deepEqual(chosen(['1.?']), ['1.0', '1.1'])
  assert.deepEqual(chosen(['[12].0*']), ['1.0', '2.0-rc1'])
  assert.deepEqual(chosen(['[!1]*']), ['latest', '2.0-rc1', 'v2_0', 'x[1]'])
})

test('everything else stands for itself, and the whole tag must fit', () => {
  assert.deepEqual(chosen(['1.1']), ['1.1'])
  assert.deepEqual(chosen(['1.0|latest', '.', '(1).0']), [])
  assert.deepEqual(chosen(['x[[]1]', 'x[1']), ['x[1]'])
})

test('what is excluded stays out although it is included', () => {
  assert.deepEqual(chosen(['*'], ['1*', 'latest']), ['2.0-rc1', 'v2_0', 'x[1]'])
  assert.deepEqual(chosen([], ['*']), [])
})

test('a range that goes backwards fits nothing', () => {
  assert.deepEqual(chosen(['[9-1]*']), [])
})
