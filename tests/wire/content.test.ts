import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { madePackage } from '../fixtures/made-package.ts'
import { addUser, openPulp, type Pulp, work } from '../pulp.ts'

/* What the comparison with a real Pulp (tests/compare-pulp.ts) taught about uploads, versions, publications and content. */

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

forEachDatabase((engine, open) => {
  test(`${engine}: a chunk that was refused has not arrived`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const { body: upload } = await call('POST', 'uploads/', { size: 10 })
    const sendChunk = (fields: Record<string, string>) =>
      send(call, 'PUT', upload.pulp_href, '0123456789', { fields, headers: { 'content-range': 'bytes 0-9/10' } })
    const wrong = await sendChunk({ sha256: 'abc' })
    assert.deepEqual([wrong.status, wrong.body], [400, ['Checksum does not match chunk upload.']])
    assert.deepEqual((await sendChunk({ bogus: 'x' })).body, { bogus: ['Unexpected field'] })
    assert.deepEqual((await call('GET', upload.pulp_href)).body.chunks, [])
    assert.equal((await sendChunk({ sha256: sha256('0123456789') })).status, 200)
    assert.deepEqual((await call('GET', upload.pulp_href)).body.chunks, [{ offset: 0, size: 10 }])
  })

  test(`${engine}: the version that a repository's distribution serves stays`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const { body: repository } = await call('POST', 'repositories/file/file/', { name: 'one' })
    const first = `${repository.pulp_href}versions/0/`
    await task('POST', 'publications/file/file/', { repository_version: first })
    await addFileContent({ call, task }, repository.pulp_href)
    await task('POST', 'distributions/file/file/', { name: 'one', base_path: 'one', repository: repository.pulp_href })
    // The newest version has no publication: clients are served the one before it.
    const refused = await call('DELETE', first)
    assert.deepEqual(
      [refused.status, refused.body],
      [
        400,
        [
          'The repository version cannot be deleted because it (or its publications) are currently being used to distribute content. Please update the necessary distributions first.',
        ],
      ],
    )
    await task('PATCH', repository.pulp_href, { retain_repo_versions: 1 })
    assert.equal((await call('GET', first)).status, 200)
    await task('POST', 'publications/file/file/', { repository_version: `${repository.pulp_href}versions/1/` })
    assert.equal((await task('DELETE', first)).state, 'completed')
  })

  test(`${engine}: a module names its packages as it was told`, async (t) => {
    const { ctx, call, task } = await openPulp(t, await open(t))
    const started = await send(call, 'POST', 'content/rpm/packages/', madePackage())
    await work(ctx)
    const packages = (await call('GET', started.body.task)).body.created_resources
    const texts = { name: 'm', stream: 's', version: '1', context: 'c', arch: 'noarch', description: 'd', snippet: '---' }
    const lists = { artifacts: [], dependencies: [], profiles: {}, packages }
    const { created_resources } = await task('POST', 'content/rpm/modulemds/', { ...texts, ...lists })
    assert.deepEqual((await call('GET', created_resources[0])).body.packages, packages)
  })

  test(`${engine}: whoever publishes owns the publication`, async (t) => {
    const { ctx, call } = await openPulp(t, await open(t))
    await addUser(ctx, 'ann')
    for (const role of ['file.filerepository_creator', 'file.filepublication_creator'])
      await call('POST', (await call('GET', 'users/?username=ann')).body.results[0].pulp_href + 'roles/', {
        role,
        content_object: null,
      })
    const ann = (method: string, path: string, body?: unknown) => call(method, path, body, { as: 'ann' })
    const { body: repository } = await ann('POST', 'repositories/file/file/', { name: 'one' })
    const { body: started } = await ann('POST', 'publications/file/file/', { repository: repository.pulp_href })
    await work(ctx)
    const [publication] = (await ann('GET', started.task)).body.created_resources
    assert.equal((await ann('GET', publication)).status, 200)
    assert.deepEqual((await ann('GET', `${publication}list_roles/`)).body, {
      roles: [{ role: 'file.filepublication_owner', users: ['ann'], groups: [] }],
    })
    assert.equal((await ann('DELETE', publication)).status, 204)
  })
})

async function addFileContent({ call, task }: Pick<Pulp, 'call' | 'task'>, repository: string): Promise<void> {
  const artifact = await send(call, 'POST', 'artifacts/', 'some bytes')
  const body = { relative_path: 'a', artifact: artifact.body.pulp_href, repository }
  assert.equal((await task('POST', 'content/file/files/', body)).state, 'completed')
}

interface Extras {
  /** They come behind the file: it has been written by then. */
  fields?: Record<string, string>
  headers?: Record<string, string>
}

/** Sends bytes as the part `file` of a form. */
async function send(
  call: Pulp['call'],
  method: string,
  path: string,
  bytes: string | Buffer,
  { fields = {}, headers = {} }: Extras = {},
) {
  const form = new FormData()
  form.append('file', new Blob([typeof bytes === 'string' ? bytes : new Uint8Array(bytes)]), 'file')
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  const request = new Request('http://localhost', { method, body: form })
  const body = Buffer.from(await request.arrayBuffer())
  return call(method, path, body, { headers: { 'content-type': request.headers.get('content-type')!, ...headers } })
}
