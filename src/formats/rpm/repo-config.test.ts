import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderRepoConfig } from './repo-config.ts'

const distribution = {
  name: 'b rc é/x:(7975)',
  url: 'http://127.0.0.1/pulp/content/b/',
  settings: { generate_repo_config: true },
  repository: undefined,
  publicationSettings: {},
}

test('the file is what Pulp writes', () => {
  const repo_config = { l: 1, x: true, y: null, z: 1.5, name: 'zz', baseurl: 'http://elsewhere/', gpgcheck: 1, assumeyes: 'True' }
  assert.equal(
    renderRepoConfig({ ...distribution, publicationSettings: { repo_config } }),
    `[brcéx:7975]
name=b rc é/x:(7975)
baseurl=http://127.0.0.1/pulp/content/b/
l=1
x=True
y=None
z=1.5
gpgcheck=1
assumeyes=True
repo_gpgcheck=0
enabled=1
`,
  )
})

test('there is none unless it is asked for and there is a publication', () => {
  assert.equal(renderRepoConfig({ ...distribution, settings: {} }), undefined)
  assert.equal(renderRepoConfig({ ...distribution, publicationSettings: undefined }), undefined)
})

test('a value cannot begin another option', () => {
  assert.match(
    renderRepoConfig({ ...distribution, publicationSettings: { repo_config: { a: 'b\ngpgcheck=0' } } })!,
    /^a=b gpgcheck=0$/m,
  )
})
