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

test('what is signed says where the key is, beside keys of packages', () => {
  const metadata_signing_service = 'prn:core.signingservice:x'
  const key = 'http://127.0.0.1/pulp/content/b/repodata/repomd.xml.key'
  const lines = (repo_config: object) =>
    renderRepoConfig({ ...distribution, publicationSettings: { repo_config, metadata_signing_service } })!.split('\n')
  assert.deepEqual(
    lines({}).filter((line) => line.startsWith('gpgkey')),
    [`gpgkey=${key}`],
  )
  assert.deepEqual(
    lines({ gpgkey: 'https://example.org/key', repo_gpgcheck: 1 }).filter((line) => /^(repo_)?gpg/.test(line)),
    ['repo_gpgcheck=1', 'gpgcheck=0', `gpgkey=https://example.org/key ${key}`],
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
