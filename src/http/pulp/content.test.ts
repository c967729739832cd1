import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { openPulp, type Pulp, work } from '../../../tests/pulp.ts'

const absent = '018df5f0-0000-7000-8000-000000000000'
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const boundary = { 'content-type': 'multipart/form-data; boundary=x' }
function parts(fields: Record<string, string>, file?: string): string {
  const texts = Object.entries(fields).map(
    ([name, value]) => `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const bytes = file === undefined ? '' : `--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n${file}\r\n`
  return `${texts.join('')}${bytes}--x--\r\n`
}

async function uploadFile({ call, ctx }: Pulp, fields: Record<string, string>, file: string) {
  const answer = await call('POST', 'content/file/files/', parts(fields, file), { headers: boundary })
  assert.equal(answer.status, 202, answer.text)
  await work(ctx)
  const task = (await call('GET', answer.body.task)).body
  assert.equal(task.state, 'completed', JSON.stringify(task.error))
  return task.created_resources as string[]
}

forEachDatabase((engine, open) => {
  test(`${engine}: an uploaded file becomes content, in a new version of the repository it is for`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { call, task } = pulp
    const repository = (await call('POST', 'repositories/file/file/', { name: 'one' })).body
    const [version, content] = await uploadFile(
      pulp,
      { relative_path: 'a/b', repository: repository.pulp_href, pulp_labels: '{"k":"v"}' },
      'bytes',
    )
    assert.equal(version, `${repository.pulp_href}versions/1/`)
    const shown = (await call('GET', content!)).body
    assert.equal(shown.relative_path, 'a/b')
    assert.equal(shown.sha256, sha256('bytes'))
    assert.deepEqual(shown.pulp_labels, { k: 'v' })
    assert.equal((await call('GET', shown.artifact)).body.size, 5)
    // The same again makes no version.
    const again = await uploadFile(pulp, { relative_path: 'a/b', repository: repository.pulp_href }, 'bytes')
    assert.deepEqual(again, [content])

    const summary = (await call('GET', version)).body.content_summary
    assert.deepEqual(summary, {
      added: { 'file.file': { count: 1, href: `/pulp/api/v3/content/file/files/?repository_version_added=${version}` } },
      removed: {},
      present: { 'file.file': { count: 1, href: `/pulp/api/v3/content/file/files/?repository_version=${version}` } },
    })
    const count = async (query: string) => (await call('GET', query)).body.count
    assert.equal(await count(summary.present['file.file'].href), 1)
    assert.equal(await count(summary.added['file.file'].href), 1)
    assert.equal(await count(`content/file/files/?repository_version_removed=${version}`), 0)
    assert.equal(await count(`content/file/files/?repository_version=${repository.pulp_href}versions/0/`), 0)
    assert.equal(await count(`content/file/files/?sha256=${sha256('bytes')}&relative_path=a/b`), 1)
    assert.equal(await count(`content/?repository_version=${version}&pulp_type=file.file`), 1)
    assert.equal(await count(`content/file/files/?q=repository_version="${version}" AND relative_path="a/b"`), 1)
    assert.equal(await count('content/file/files/?pulp_label_select=k=v'), 1)
    assert.equal(await count(`repositories/?latest_with_content=${content}`), 1)
    assert.equal(await count(`repository_versions/?content=${content}`), 1)
    assert.equal(await count(`${repository.versions_href}?content__in=${content}&number__gte=1`), 1)
    assert.equal(await count(`artifacts/?repository_version=${version}`), 1)

    const wrong = await call('GET', `content/file/files/?repository_version=${repository.pulp_href}`)
    assert.deepEqual(wrong.body, [`URI ${repository.pulp_href} not found for repositoryversion.`])

    const removed = await task('POST', `${repository.pulp_href}modify/`, { remove_content_units: ['*'] })
    assert.deepEqual(removed.created_resources, [`${repository.pulp_href}versions/2/`])
    assert.equal(await count(`content/file/files/?repository_version_removed=${repository.pulp_href}versions/2/`), 1)
    // Of two versions, in each of the ways: what stayed, what was added to one and is in another, what came and went.
    const inBoth = `repository_version=${version}&repository_version_added=${version}`
    assert.equal(await count(`content/file/files/?${inBoth}`), 1)
    assert.equal(await count(`content/file/files/?${inBoth}&repository_version_removed=${repository.pulp_href}versions/2/`), 1)
    assert.equal(await count(`content/?${inBoth}&repository_version_removed=${version}`), 0)
    const nothing = await call('GET', 'content/file/files/?repository_version=')
    assert.deepEqual([nothing.status, nothing.body], [400, ['No value supplied for repository version filter']])
    assert.equal(await count(`repositories/?latest_with_content=${content}`), 0)
    assert.equal(await count(`repositories/?with_content=${content}`), 1)
    const added = await task('POST', `${repository.pulp_href}modify/`, { add_content_units: [shown.prn] })
    assert.deepEqual(added.created_resources, [`${repository.pulp_href}versions/3/`])
    const same = await task('POST', `${repository.pulp_href}modify/`, { add_content_units: [content] })
    assert.deepEqual(same.created_resources, [])
  })

  test(`${engine}: a modification that names nothing, or what the repository cannot hold, is refused`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { call } = pulp
    const repository = (await call('POST', 'repositories/rpm/rpm/', { name: 'one' })).body.pulp_href
    const [content] = await uploadFile(pulp, { relative_path: 'a' }, 'bytes')
    const refused = async (body: unknown, expected: unknown) => {
      const { status, body: answer } = await call('POST', `${repository}modify/`, body)
      assert.deepEqual([status, answer], [400, expected])
    }
    const missing = `/pulp/api/v3/content/file/files/${absent}/`
    await refused({ add_content_units: ['x'] }, { add_content_units: ['URI not valid: x'] })
    await refused(
      { remove_content_units: [missing] },
      { remove_content_units: [`Could not find the following content units: ['${missing}']`] },
    )
    await refused({ remove_content_units: ['*', content] }, { remove_content_units: ["Cannot supply content units and '*'."] })
    await refused({ base_version: repository }, { base_version: ['Invalid hyperlink - Incorrect URL match.'] })
    await refused({ add_content_units: [content] }, { add_content_units: ['A rpm repository cannot hold file.file content.'] })
  })

  test(`${engine}: an upload arrives in chunks and becomes an artifact, or content`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { call, task, ctx } = pulp
    const start = async (size: number) => (await call('POST', 'uploads/', { size })).body.pulp_href as string
    const put = (upload: string, range: string, bytes: string, fields: Record<string, string> = {}) =>
      call('PUT', upload, parts(fields, bytes), { headers: { ...boundary, 'content-range': range } })
    const upload = await start(8)
    assert.deepEqual((await put(upload, 'bytes 6-9/8', 'abcd')).body, {
      non_field_errors: ['End byte is greater than upload size.'],
    })
    assert.deepEqual((await put(upload, 'nonsense', 'abcd')).body, {
      non_field_errors: ['Invalid or missing content range header.'],
    })
    assert.deepEqual((await put(upload, 'bytes 0-3/8', 'abcd', { sha256: '00' })).body, ['Checksum does not match chunk upload.'])
    assert.equal((await put(upload, 'bytes 4-7/*', 'efgh')).status, 200)
    assert.equal((await put(upload, 'bytes 0-3/8', 'abcd', { sha256: sha256('abcd') })).status, 200)
    assert.deepEqual((await call('GET', upload)).body.chunks, [
      { offset: 4, size: 4 },
      { offset: 0, size: 4 },
    ])
    assert.equal((await task('POST', `${upload}commit/`, { sha256: sha256('other') })).state, 'failed')
    const committed = await task('POST', `${upload}commit/`, { sha256: sha256('abcdefgh') })
    assert.equal((await call('GET', committed.created_resources[0])).body.sha256, sha256('abcdefgh'))
    assert.equal((await call('GET', upload)).status, 404)

    // Too much to stay in memory until it is kept.
    const large = 'xyz'.repeat(100_000)
    const second = await start(large.length)
    await put(second, `bytes 0-${large.length - 1}/${large.length}`, large)
    const made = await call('POST', 'content/file/files/', `relative_path=u&upload=${encodeURIComponent(second)}`, {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    assert.equal(made.status, 202, made.text)
    await work(ctx)
    const { created_resources } = (await call('GET', made.body.task)).body
    assert.equal((await call('GET', created_resources[0])).body.sha256, sha256(large))
    assert.equal((await call('GET', second)).status, 404)
  })

  test(`${engine}: content needs exactly one source`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    const none = await call('POST', 'content/file/files/', { relative_path: 'a' })
    assert.deepEqual(none.body, { non_field_errors: ['Exactly one of file, upload, artifact, file_url must be specified.'] })
    const path = await call('POST', 'content/file/files/', { relative_path: '/a', file_url: 'http://127.0.0.1/' })
    assert.deepEqual(path.body, { relative_path: ["Relative path can't start with '/'. /a"] })
    const unknown = await call('POST', 'content/file/files/', {
      relative_path: 'a',
      artifact: `/pulp/api/v3/artifacts/${absent}/`,
    })
    assert.deepEqual(unknown.body, { artifact: ['Invalid hyperlink - Object does not exist.'] })
  })
})
