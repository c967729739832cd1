import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, test } from 'node:test'
import type { Distribution, Publication, Repository, Task } from '../../src/api/resources.ts'
import { countOf, makeGuard, makeMirror } from './mirror.ts'
import { missing, openFileScope, run, temporaryDirectory } from './run.ts'
import { adminPassword, contentUrl, getContent, startServer, type TestServer } from './server.ts'
import { serveFiles } from './upstream.ts'

const scope = openFileScope()
let server: TestServer
before(async () => {
  server = await startServer(scope)
})

const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')
const image = randomBytes(300_000)

/** An upstream of these files, listed in a manifest. */
function listed(files: Record<string, Buffer | string>): Map<string, Buffer> {
  const lines = Object.entries(files).map(([path, bytes]) => `${path},${sha256(bytes)},${bytes.length}\n`)
  return new Map([
    ...Object.entries(files).map(([path, bytes]) => [path, Buffer.from(bytes)] as const),
    ['PULP_MANIFEST', Buffer.from(lines.join(''))],
  ])
}

async function textAt(path: string): Promise<string | number> {
  const answer = await getContent(server, path)
  return answer.status === 200 ? answer.text() : answer.status
}

for (const policy of ['immediate', 'on_demand', 'streamed'] as const)
  test(`files are mirrored with policy ${policy}`, { timeout: 60_000 }, async (t) => {
    // Bytes that no other test has brought to the server.
    const own = randomBytes(2000)
    const upstream = await serveFiles(t, listed({ 'a.txt': 'a', 'below/b.img': own }))
    const mirror = await makeMirror(server, {
      format: 'file',
      name: policy,
      url: `${upstream.url}PULP_MANIFEST`,
      remote: { policy },
      sync: { mirror: true },
    })
    await mirror.sync()
    const asked = () => upstream.requests.filter((path) => path === '/below/b.img').length
    assert.equal(asked(), policy === 'immediate' ? 1 : 0)
    await mirror.publish()
    await mirror.distribute(policy)
    for (const _ of [1, 2]) {
      const answer = await getContent(server, `${policy}/below/b.img`)
      assert.deepEqual(Buffer.from(await answer.arrayBuffer()), own)
    }
    assert.equal(asked(), policy === 'streamed' ? 2 : 1)
    assert.equal(
      await textAt(`${policy}/PULP_MANIFEST`),
      upstream.files instanceof Map ? String(upstream.files.get('PULP_MANIFEST')) : '',
    )
  })

test('a mirror follows its upstream, an additive repository keeps what was there', { timeout: 60_000 }, async (t) => {
  const upstream = await serveFiles(t, listed({ 'old.txt': 'old', 'same.txt': 'same', 'changed.txt': '1' }))
  const url = `${upstream.url}PULP_MANIFEST`
  const mirror = await makeMirror(server, { format: 'file', name: 'mirror', url, sync: { mirror: true } })
  const additive = await makeMirror(server, { format: 'file', name: 'additive', url, sync: { mirror: false } })
  for (const each of [mirror, additive]) await each.sync()
  upstream.files = listed({ 'new.txt': 'new', 'same.txt': 'same', 'changed.txt': '2' })
  for (const each of [mirror, additive]) {
    await each.sync()
    await each.publish()
    await each.distribute(`files/${each.name}`)
    assert.equal(await textAt(`files/${each.name}/changed.txt`), '2')
    assert.equal(await textAt(`files/${each.name}/new.txt`), 'new')
  }
  assert.deepEqual([await textAt('files/mirror/old.txt'), await textAt('files/additive/old.txt')], [404, 'old'])
  const requests = upstream.requests.length
  const before = await mirror.latest()
  await mirror.sync()
  assert.equal((await mirror.latest()).pulp_href, before.pulp_href)
  assert.ok(upstream.requests.length - requests <= 3)
})

test('a file whose bytes are not those of the manifest fails the sync', { timeout: 60_000 }, async (t) => {
  const files = listed({ 'right.txt': 'right', 'wrong.txt': 'expected' })
  const upstream = await serveFiles(t, files.set('wrong.txt', Buffer.from('received')))
  const mirror = await makeMirror(server, {
    format: 'file',
    name: 'wrong',
    url: `${upstream.url}PULP_MANIFEST`,
    remote: { max_retries: 0 },
  })
  await assert.rejects(mirror.sync(), /wrong\.txt gave wrong bytes/)
  assert.equal((await mirror.latest()).number, 0)
  upstream.files = listed({ '../above.txt': 'x' })
  await assert.rejects(mirror.sync())
  assert.equal((await mirror.latest()).number, 0)
})

const authorization = `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`

/** Sends a form and returns the body of the answer; of a task that was started, the finished task. */
async function send(
  method: string,
  path: string,
  form: FormData | Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<any> {
  const isForm = form instanceof FormData
  const answer = await fetch(path.startsWith('/') ? `${server.url}${path}` : `${server.url}/pulp/api/v3/${path}`, {
    method,
    headers: { authorization, ...(!isForm && { 'content-type': 'application/json' }), ...headers },
    body: isForm ? form : JSON.stringify(form),
  })
  const body: any = await answer.json()
  if (!answer.ok) throw new Error(`${answer.status} ${JSON.stringify(body)}`)
  if (!('task' in body) || 'pulp_href' in body) return body
  for (;;) {
    const task = await server.api.get<Task>(body.task)
    if (task.state === 'completed') return task
    if (task.state === 'failed') throw new Error(task.error?.description)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

function formOf(fields: Record<string, string | Buffer>): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === 'string') form.set(name, value)
    else form.set(name, new Blob([new Uint8Array(value)]), 'upload.bin')
  }
  return form
}

test('files come in by upload: as an artifact, at once, or in chunks', { timeout: 60_000 }, async () => {
  const repository = await server.api.create<Repository>('repositories/file/file/', { name: 'uploads' })
  const create = (fields: Record<string, string | Buffer>) =>
    send('POST', 'content/file/files/', formOf({ ...fields, repository: repository.pulp_href }))

  const artifact = await send('POST', 'artifacts/', formOf({ file: image, sha256: sha256(image) }))
  assert.deepEqual([artifact.size, artifact.sha256], [image.length, sha256(image)])
  await create({ artifact: artifact.pulp_href, relative_path: 'images/one.img' })
  await create({ file: Buffer.from('two'), relative_path: 'two.txt' })

  const upload = await send('POST', 'uploads/', { size: image.length })
  const chunk = 100_000
  for (const offset of [2 * chunk, 0, chunk])
    await send('PUT', upload.pulp_href, formOf({ file: image.subarray(offset, offset + chunk) }), {
      'content-range': `bytes ${offset}-${offset + chunk - 1}/${image.length}`,
    })
  await create({ upload: upload.pulp_href, relative_path: 'images/three.img' })
  const { latest_version_href } = await server.api.get<Repository>(repository.pulp_href)
  assert.equal(countOf(await server.api.get(latest_version_href!), 'file.file'), 3)

  await assert.rejects(send('POST', 'artifacts/', formOf({ file: Buffer.from('x'), sha256: sha256('y') })), /400 .*sha256/)
  await assert.rejects(send('POST', 'artifacts/', formOf({ file: image })), /already exists/)
})

test('a publication has a manifest of any name, or none', { timeout: 60_000 }, async () => {
  const repository = await server.api.find<Repository>('repositories/file/file/', { name: 'uploads' })
  const expected = [
    `images/one.img,${sha256(image)},${image.length}`,
    `images/three.img,${sha256(image)},${image.length}`,
    `two.txt,${sha256('two')},3`,
  ]
  for (const manifest of ['PULP_MANIFEST', 'list/files.csv', null]) {
    const publication = await server.api.create<Publication>('publications/file/file/', {
      repository: repository!.pulp_href,
      manifest,
    })
    const path = `manifest/${manifest ?? 'none'}`.replace('/files.csv', '')
    await server.api.create<Distribution>('distributions/file/file/', {
      name: path,
      base_path: path,
      publication: publication.pulp_href,
    })
    assert.equal(await textAt(`${path}/two.txt`), 'two')
    if (manifest)
      assert.deepEqual(
        String(await textAt(`${path}/${manifest}`))
          .trim()
          .split('\n')
          .toSorted(),
        expected,
      )
    else assert.equal(await textAt(`${path}/PULP_MANIFEST`), 404)
  }
})

test('a distribution of a repository serves its latest version at once, without a publication', { timeout: 60_000 }, async () => {
  const repository = await server.api.create<Repository>('repositories/file/file/', { name: 'latest' })
  await server.api.create<Distribution>('distributions/file/file/', {
    name: 'latest',
    base_path: 'latest',
    repository: repository.pulp_href,
  })
  for (const text of ['first', 'second']) {
    await send(
      'POST',
      'content/file/files/',
      formOf({ file: Buffer.from(text), relative_path: 'it.txt', repository: repository.pulp_href }),
    )
    assert.equal(await textAt('latest/it.txt'), text)
  }
})

test('curl reads parts, goes on where it stopped, and asks only for what changed', {
  skip: await missing('curl'),
  timeout: 60_000,
}, async (t) => {
  const reader = ['reader', 'a-password-for-reader'] as const
  const guard = await makeGuard(server, 'readers', reader)
  const repository = await server.api.find<Repository>('repositories/file/file/', { name: 'uploads' })
  await server.api.create<Distribution>('distributions/file/file/', {
    name: 'guarded',
    base_path: 'guarded',
    repository: repository!.pulp_href,
    content_guard: guard.pulp_href,
  })
  const directory = await temporaryDirectory(t)
  const file = join(directory, 'one.img')
  const url = contentUrl(server, 'guarded/images/one.img', reader).replace(/\/$/, '')
  const curl = async (...args: string[]) =>
    (await run('curl', ['-sS', '--write-out', '%{http_code}', '--output', file, ...args, url])).stdout

  assert.equal(await curl('--range', '10-19'), '206')
  assert.deepEqual(await readFile(file), image.subarray(10, 20))
  assert.equal(await curl('--range', '-5'), '206')
  assert.deepEqual(await readFile(file), image.subarray(-5))
  assert.equal(await curl('--range', `${image.length}-`), '416')
  await writeFile(file, image.subarray(0, 123_456))
  assert.equal(await curl('--continue-at', '-'), '206')
  assert.deepEqual(await readFile(file), image)
  assert.equal(await curl('--etag-save', join(directory, 'etag')), '200')
  assert.equal(await curl('--etag-compare', join(directory, 'etag')), '304')
  assert.equal(await curl('--head'), '200')
  assert.equal((await getContent(server, 'guarded/images/one.img')).status, 403)
})
