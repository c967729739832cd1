import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findNearest, hint } from './nearest.ts'

test('a letter too few or too many is understood', () => {
  assert.equal(findNearest('polcy', ['policy', 'path', 'url']), 'policy')
  assert.equal(findNearest('dryrun', ['dry-run', 'debug', 'json']), 'dry-run')
})

test('letters in the wrong order are nearer than other letters', () => {
  assert.equal(findNearest('jbos', ['json', 'jobs']), 'jobs')
})

test('something else altogether is not guessed at', () => {
  assert.equal(findNearest('horse', ['policy', 'path', 'url']), undefined)
  assert.equal(hint('horse', ['policy']), '')
})
