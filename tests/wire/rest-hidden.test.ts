import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { addPushed, makeImage } from '../images.ts'
import { addUser, openPulp, type Pulp, work } from '../pulp.ts'

/*
 * What somebody may not see cannot be used either: wherever the REST API takes a reference, one to what is hidden is answered as one to
 * what does not exist, and nothing happens.
 */

const repositories = 'repositories/file/file/'

/** A file in a new repository of the administrator's. */
async function fileIn({ call, task }: Pulp, name: string, path: string, bytes: string) {
  const repository = (await call('POST', repositories, { name })).body.pulp_href
  const made = await task('POST', 'content/file/files/', {
    repository,
    relative_path: path,
    artifact: await artifactOf(call, bytes),
  })
  const content = made.created_resources.find((href: string) => href.includes('/content/'))
  return { repository, version: `${repository}versions/1/`, content: content as string }
}

async function artifactOf(call: Pulp['call'], bytes: string, as = 'admin'): Promise<string> {
  const form = ['--b', 'Content-Disposition: form-data; name="file"; filename="f"', '', bytes, '--b--', ''].join('\r\n')
  const headers = { 'content-type': 'multipart/form-data; boundary=b' }
  return (await call('POST', 'artifacts/', form, { headers, as })).body.pulp_href
}

forEachDatabase((engine, open) => {
  test(`${engine}: a reference to what is hidden is one to what does not exist`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { ctx, call, task } = pulp
    const hidden = await fileIn(pulp, 'hidden', 'secret.txt', 'a secret')
    const remote = (await call('POST', 'remotes/file/file/', { name: 'hidden', url: 'http://localhost/PULP_MANIFEST' })).body
      .pulp_href
    const publication = (await task('POST', 'publications/file/file/', { repository: hidden.repository })).created_resources[0]
    const guard = (await call('POST', 'contentguards/core/header/', { name: 'hidden', header_name: 'a', header_value: 'b' })).body
      .pulp_href
    const upload = (await call('POST', 'uploads/', { size: 3 })).body.pulp_href
    const { artifact } = (await call('GET', hidden.content)).body
    for (const name of ['eve', 'other']) await addUser(ctx, name)
    for (const role of [
      'file.filerepository_creator',
      'file.filedistribution_creator',
      'file.filepublication_creator',
      'core.compositecontentguard_creator',
      'core.upload_creator',
    ])
      await call('POST', 'users/2/roles/', { role, content_object: null })
    const eve = (method: string, path: string, body?: unknown) => call(method, path, body, { as: 'eve' })
    const mine = (await eve('POST', repositories, { name: 'mine' })).body.pulp_href
    assert.equal(
      (await eve('POST', 'distributions/file/file/', { name: 'mine', base_path: 'mine', repository: mine })).status,
      202,
    )
    await work(ctx)
    const served = (await eve('GET', 'distributions/file/file/?name=mine')).body.results[0].pulp_href

    const absent = (href: string) => href.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, randomUUID())
    const content = 'content/file/files/'
    let serial = 0
    const uses: [what: string, method: string, path: string, body: (href: string) => unknown, href: string][] = [
      ['base_version', 'POST', `${mine}modify/`, (base_version) => ({ base_version }), hidden.version],
      ['add_content_units', 'POST', `${mine}modify/`, (href) => ({ add_content_units: [href] }), hidden.content],
      ['remove_content_units', 'POST', `${mine}modify/`, (href) => ({ remove_content_units: [href] }), hidden.content],
      ['artifact', 'POST', content, (href) => ({ repository: mine, relative_path: 'x', artifact: href }), artifact],
      ['upload', 'POST', content, (href) => ({ repository: mine, relative_path: 'x', upload: href }), upload],
      ['repository of content', 'POST', content, (href) => ({ repository: href, relative_path: 'x', upload }), hidden.repository],
      ['remote', 'PATCH', mine, (href) => ({ remote: href }), remote],
      ['remote of a new repository', 'POST', repositories, (href) => ({ name: `n${++serial}`, remote: href }), remote],
      ['remote of a sync', 'POST', `${mine}sync/`, (href) => ({ remote: href }), remote],
      ['repository', 'PATCH', served, (href) => ({ repository: href }), hidden.repository],
      ['publication', 'PATCH', served, (href) => ({ repository: null, publication: href }), publication],
      ['content_guard', 'PATCH', served, (href) => ({ content_guard: href }), guard],
      ['published repository', 'POST', 'publications/file/file/', (href) => ({ repository: href }), hidden.repository],
      ['published version', 'POST', 'publications/file/file/', (href) => ({ repository_version: href }), hidden.version],
      ['member guards', 'POST', 'contentguards/core/composite/', (href) => ({ name: `c${++serial}`, guards: [href] }), guard],
      ['guard of a promotion', 'POST', 'signalbox/promotions/', (href) => ({ distributions: ['mine'], guard: href }), guard],
      ['repositories to prune', 'POST', 'rpm/prune/', (href) => ({ repo_hrefs: [href] }), hidden.repository],
      [
        'copied version',
        'POST',
        'rpm/copy/',
        (href) => ({ config: [{ source_repo_version: href, dest_repo: mine }] }),
        hidden.version,
      ],
      [
        'copied to',
        'POST',
        'rpm/copy/',
        (href) => ({ config: [{ source_repo_version: `${mine}versions/0/`, dest_repo: href }] }),
        hidden.repository,
      ],
    ]
    for (const [what, method, path, body, href] of uses) {
      const answers = []
      for (const each of [href, absent(href)]) {
        const { status, text } = await eve(method, path, body(each))
        answers.push([status, text.replaceAll(each, '<href>')])
      }
      assert.deepEqual(answers[0], answers[1], what)
      assert.equal(answers[0]![0], 400, what)
    }
    const filters: [list: string, filter: string, href: string][] = [
      ['content/file/files/', 'repository_version', hidden.version],
      ['content/file/files/', 'repository_version_added', hidden.version],
      ['content/file/files/', 'repository_version_removed', hidden.version],
      ['content/', 'repository_version', hidden.version],
      ['content/file/files/', 'pulp_href__in', hidden.content],
      [repositories, 'remote', remote],
      [repositories, 'with_content', hidden.content],
      [repositories, 'latest_with_content', hidden.content],
      ['repository_versions/', 'content', hidden.content],
      ['repository_versions/', 'content__in', hidden.content],
      ['repository_versions/', 'pulp_href__in', hidden.version],
      [`${mine}versions/`, 'content', hidden.content],
      ['distributions/', 'repository', hidden.repository],
      ['distributions/', 'repository__in', hidden.repository],
      ['distributions/file/file/', 'with_content', hidden.content],
      ['publications/', 'repository', hidden.repository],
      ['publications/', 'repository_version', hidden.version],
      ['publications/file/file/', 'content', hidden.content],
      ['tasks/', 'created_resources', publication],
      ['tasks/', 'created_resources', artifact],
      ['tasks/', 'reserved_resources', hidden.repository],
      ['tasks/', 'parent_task', (await call('GET', 'tasks/')).body.results[0].pulp_href],
    ]
    for (const [list, filter, href] of filters)
      for (const asked of [
        (value: string) => `${filter}=${value}`,
        (value: string) => `q=${encodeURIComponent(`${filter}="${value}"`)}`,
      ]) {
        const answers = []
        for (const each of [href, absent(href)]) {
          const { status, text } = await eve('GET', `${list}?${asked(each)}`)
          answers.push([status, text.replaceAll(each, '<href>').replaceAll(encodeURIComponent(each), '<href>')])
        }
        assert.deepEqual(answers[0], answers[1], `${list} ${filter}`)
      }
  })

  test(`${engine}: no refusal names what its reader may not see`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { ctx, call } = pulp
    await addUser(ctx, 'eve')
    for (const role of [
      'file.filedistribution_creator',
      'core.headercontentguard_creator',
      'file.filerepository_creator',
      'file.fileremote_viewer',
    ])
      await call('POST', 'users/2/roles/', { role, content_object: null })
    const eve = (method: string, path: string, body?: unknown) => call(method, path, body, { as: 'eve' })
    const guard = (await eve('POST', 'contentguards/core/header/', { name: 'mine', header_name: 'a', header_value: 'b' })).body
      .pulp_href
    const secret = 'the-secret-name'
    await call('POST', 'distributions/file/file/', { name: secret, base_path: 'a/b', content_guard: guard })
    const { pulp_href: remote } = (await call('POST', 'remotes/rpm/rpm/', { name: secret, url: 'http://localhost/' })).body
    await work(ctx)
    for (const [method, path, body, status] of [
      ['POST', 'distributions/file/file/', { name: 'x', base_path: 'a' }, 400],
      ['POST', 'distributions/file/file/', { name: 'x', base_path: 'a/b/c' }, 400],
      ['DELETE', guard, undefined, 409],
      ['POST', 'repositories/file/file/', { name: 'x', remote }, 400],
    ] as const) {
      const answer = await eve(method, path, body)
      assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`)
      assert.ok(!answer.text.includes(secret), answer.text)
    }
    const promote = async (name: string) => {
      const { status, text } = await eve('POST', 'signalbox/promotions/', { distributions: [name], guard })
      return [status, text.replaceAll(name, '<name>')]
    }
    assert.deepEqual(await promote(secret), await promote('absent-name'))
  })

  test(`${engine}: whoever may pull an image does not get to change it by serving it somewhere else`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { ctx, call } = pulp
    for (const name of ['maker', 'mallory']) await addUser(ctx, name)
    const { repository } = await addPushed(ctx, 'team/app', { one: await makeImage(ctx, ['one']) })
    await ctx.db.updateTable('distribution').set({ settings: '{}' }).where('repository_id', '=', repository.id).execute()
    ctx.changes.bump()
    const distributions = 'distributions/container/container/'
    const [{ pulp_href: app, repository: href, namespace }] = (await call('GET', distributions)).body.results
    await call('POST', `${namespace}add_role/`, { role: 'container.containernamespace_owner', users: ['maker'] })
    const serve = (as: string, path: string) =>
      call('POST', distributions, { name: path, base_path: path, repository: href }, { as })
    assert.equal((await call('GET', href, undefined, { as: 'mallory' })).status, 200)
    assert.equal((await serve('mallory', 'mallory/x')).status, 403)
    const own = await call('POST', distributions, { name: 'mallory/y', base_path: 'mallory/y' }, { as: 'mallory' })
    assert.equal(own.status, 202)
    await work(ctx)
    const [{ pulp_href: mine }] = (await call('GET', `${distributions}?name=mallory/y`, undefined, { as: 'mallory' })).body
      .results
    assert.equal((await call('PATCH', mine, { repository: href }, { as: 'mallory' })).status, 403)
    assert.equal((await call('POST', `${href}untag/`, { tag: 'one' }, { as: 'mallory' })).status, 403)
    assert.equal((await serve('maker', 'maker/x')).status, 202)
    // What is sent back as it is shown changes nothing.
    const shown = (await call('GET', app, undefined, { as: 'maker' })).body
    assert.equal(
      (await call('PATCH', app, { repository: shown.repository, content_guard: shown.content_guard }, { as: 'maker' })).status,
      202,
    )
  })
})
