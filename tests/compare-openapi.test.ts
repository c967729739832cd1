import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareDocuments, ownDocument, readReference } from './compare-openapi.ts'

test('every operation, parameter and field of Pulp that is claimed is in the document', (t) => {
  const theirs = readReference()
  if (!theirs) return t.skip('the reference document is not beside the repository')
  const { lacks, same } = compareDocuments(theirs, ownDocument())
  assert.deepEqual(lacks, [])
  assert.ok(same > 270, `only ${same} operations are the same`)
})

test('the document keeps to what the models of clients take', () => {
  const { paths, components } = ownDocument()
  const ids = new Set<string>()
  for (const [path, item] of Object.entries<Record<string, any>>(paths))
    for (const [method, operation] of Object.entries<Record<string, any>>(item)) {
      assert.ok(operation['operationId'] && !ids.has(operation['operationId']), `${method} ${path}: ${operation['operationId']}`)
      ids.add(operation['operationId'])
      const names = (operation['parameters'] ?? []).map(({ name }: { name: string }) => name)
      assert.equal(new Set(names).size, names.length, path)
      for (const placeholder of path.matchAll(/\{(\w+)\}/g)) assert.ok(names.includes(placeholder[1]), path)
      for (const answer of Object.values<Record<string, any>>(operation['responses'])) assert.ok('description' in answer)
    }
  const text = JSON.stringify(paths)
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) assert.ok(components.schemas[name!], name ?? '')
  // Glue patches these while it loads the document.
  assert.ok(paths['/pulp/api/v3/rpm/copy/'].post.requestBody.content['application/json'].schema.$ref)
  const list = paths['/pulp/api/v3/publications/rpm/rpm/'].get.parameters.find(
    ({ name }: { name: string }) => name === 'content__in',
  )
  assert.equal(list.schema.type, 'array')
})
