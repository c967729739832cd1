import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTarget } from './target.ts'

const readable = [
  ['', ''],
  ['a/b.rpm', 'a/b.rpm'],
  ['a/b/', 'a/b/'],
  ['a/b.rpm?expires=1&x=%2f', 'a/b.rpm'],
  ['a/%61%2B+~^.rpm', 'a/a++~^.rpm'],
  ['a/na%C3%AFve', 'a/naïve'],
  ['a/...', 'a/...'],
  ['a/.treeinfo', 'a/.treeinfo'],
  ['a/100%25', 'a/100%'],
] as const

for (const [target, path] of readable)
  test(`the target ${target} names ${path}`, () => assert.equal(parseTarget(`/pulp/content/${target}`), path))

const tricks = [
  'a/../b',
  'a/..',
  '../x',
  './a',
  'a/./b',
  'a//b',
  '/a',
  'a/%2e%2e/b',
  'a/%2E./b',
  'a%2fb',
  'a%2Fb',
  'a%5cb',
  'a\\b',
  'a%00b',
  'a%0ab',
  'a%7f',
  'a%',
  'a%zz',
  'a%ff',
]

for (const target of tricks)
  test(`the target ${target} names nothing`, () => assert.equal(parseTarget(`/pulp/content/${target}`), undefined))
