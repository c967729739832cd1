import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../tests/databases.ts'
import { madePackage } from '../../../tests/fixtures/made-package.ts'
import { addUser, openPulp, type Pulp, work } from '../../../tests/pulp.ts'
import { saveBlob, saveContent } from '../../core/content.ts'
import { commitVersion } from '../../core/versions.ts'
import { tags } from '../../formats/rpm/header-tags.ts'
import { describeTree, parseTreeinfo } from '../../formats/rpm/treeinfo.ts'

const day = 86_400_000_000
const absent = '018df5f0-0000-7000-8000-000000000000'
const boundary = { 'content-type': 'multipart/form-data; boundary=x' }

function form(fields: Record<string, string>, file: Buffer | string): Buffer {
  const texts = Object.entries(fields).map(
    ([name, value]) => `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const head = `${texts.join('')}--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n`
  return Buffer.concat([Buffer.from(head), Buffer.from(file), Buffer.from('\r\n--x--\r\n')])
}

async function send({ call, ctx }: Pulp, path: string, fields: Record<string, string>, file: Buffer | string) {
  const answer = await call('POST', path, form(fields, file), { headers: boundary })
  assert.equal(answer.status, 202, answer.text)
  await work(ctx)
  const task = (await call('GET', answer.body.task)).body
  assert.equal(task.state, 'completed', JSON.stringify(task.error))
  return task
}

async function makeRepository({ call }: Pulp, name: string): Promise<string> {
  return (await call('POST', 'repositories/rpm/rpm/', { name })).body.pulp_href
}

const group = (id: string) => `<group><id>${id}</id><name>${id}</name></group>`
const comps = (...elements: string[]) => `<?xml version="1.0"?><comps>${elements.join('')}</comps>`
const langpacks = (name: string) => `<langpacks><match name="${name}" install="${name}-%s"/></langpacks>`

forEachDatabase((engine, open) => {
  test(`${engine}: a comps.xml becomes groups and language packs, beside or instead of those that are there`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const repository = await makeRepository(pulp, 'one')
    const upload = (fields: Record<string, string>, xml: string) => send(pulp, 'rpm/comps/', fields, xml)
    const made = async (fields: Record<string, string>, xml: string) => (await upload(fields, xml)).created_resources.length
    const held = async (type: string) =>
      (await pulp.call('GET', `content/rpm/${type}/?repository_version=${await latestOf(pulp, repository)}`)).body.results

    const birds = comps(group('birds'), group('fish'), langpacks('bird'))
    const task = await upload({}, birds)
    assert.equal(task.name, 'pulp_rpm.app.tasks.comps.upload_comps')
    assert.equal(task.created_resources.length, 3)
    assert.equal(await made({ repository }, birds), 4)
    assert.equal(await made({ repository }, birds), 3)
    assert.equal(await made({ repository, replace: 'false' }, comps(group('cats'), langpacks('cat'))), 3)
    assert.deepEqual((await held('packagegroups')).map(({ id }: any) => id).sort(), ['birds', 'cats', 'fish'])
    assert.equal((await held('packagelangpacks')).length, 2)
    assert.equal(await made({ repository, replace: 'true' }, birds), 4)
    assert.deepEqual((await held('packagegroups')).map(({ id }: any) => id).sort(), ['birds', 'fish'])
    assert.equal((await held('packagelangpacks')).length, 1)

    const nothing = await pulp.call('POST', 'rpm/comps/', { replace: true })
    assert.deepEqual([nothing.status, nothing.body], [400, { file: ['No file was submitted.'] }])
  })

  test(`${engine}: who is no administrator uploads into repositories that they may change`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const repository = await makeRepository(pulp, 'one')
    await addUser(pulp.ctx, 'bob')
    const asBob = async (fields: Record<string, string>) =>
      (await pulp.call('POST', 'rpm/comps/', form(fields, comps(group('a'))), { headers: boundary, as: 'bob' })).status
    const prune = (names: string[]) => pulp.call('POST', 'rpm/prune/', { repo_hrefs: names }, { as: 'bob' })
    const statuses = async () => [await asBob({}), await asBob({ repository }), (await prune([repository])).status]
    // What he may not see does not exist.
    assert.deepEqual([...(await statuses()), (await prune(['*'])).status], [400, 400, 400, 403])
    await pulp.call('POST', `${repository}add_role/`, { users: ['bob'], role: 'rpm.rpmrepository_viewer' })
    assert.deepEqual(await statuses(), [400, 403, 403])
    await pulp.call('POST', `${repository}add_role/`, { users: ['bob'], role: 'rpm.rpmrepository_owner' })
    assert.deepEqual(await statuses(), [400, 202, 202])
  })

  test(`${engine}: pruning removes old versions of packages that came long ago, in a task for each repository`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const [repository, other] = [await makeRepository(pulp, 'one'), await makeRepository(pulp, 'two')]
    for (const [name, version] of [
      ['bear', '4.1'],
      ['bear', '4.2'],
      ['wolf', '1'],
    ] as const)
      for (const each of [repository, other])
        await send(
          pulp,
          'content/rpm/packages/',
          { repository: each },
          madePackage({ [tags.name]: name, [tags.version]: version }),
        )
    // In the first repository they have been for a week; what a deleted version brought is no younger for that.
    const { db } = pulp.ctx
    const first = await db.selectFrom('repository').select('id').where('name', '=', 'one').executeTakeFirstOrThrow()
    await db
      .updateTable('membership')
      .set(({ eb }) => ({ added: eb('added', '-', 7 * day) }))
      .where('repository_id', '=', first.id)
      .execute()
    await pulp.task('DELETE', `${repository}versions/1/`)
    const prune = async (asked: object) => {
      const answer = await pulp.call('POST', 'rpm/prune/', { repo_hrefs: [repository, other, repository], ...asked })
      assert.equal(answer.status, 202, answer.text)
      await work(pulp.ctx)
      return (await pulp.call('GET', answer.body.task_group)).body
    }
    const packages = async (each: string) => {
      const list = await pulp.call('GET', `content/rpm/packages/?repository_version=${await latestOf(pulp, each)}`)
      return list.body.results.map(({ name, version }: any) => `${name}-${version}`).sort()
    }
    const all = ['bear-4.1', 'bear-4.2', 'wolf-1']

    const group = await prune({ dry_run: true, keep_days: 0 })
    assert.deepEqual([group.description, group.all_tasks_dispatched, group.completed], ['Prune old Packages.', true, 3])
    const total = group.group_progress_reports.find(({ code }: any) => code === 'rpm.package.prune')
    assert.deepEqual([total.message, total.total, total.done], ['Pruning old Packages', 2, 2])
    const [, one] = group.tasks
    assert.equal(one.name, 'pulp_rpm.app.tasks.prune.prune_repo_packages')
    const report = (await pulp.call('GET', one.pulp_href)).body.progress_reports.find(({ code }: any) =>
      code.endsWith('.repository'),
    )
    assert.deepEqual([report.message, report.total, report.done, report.state], ['Pruning one', 1, 0, 'completed'])
    assert.deepEqual([await packages(repository), await packages(other)], [all, all])

    await prune({})
    assert.deepEqual([await packages(repository), await packages(other)], [all, all])
    await prune({ keep_days: 5 })
    assert.deepEqual([await packages(repository), await packages(other)], [all.slice(1), all])
    await prune({ repo_hrefs: ['*'], keep_days: 0 })
    assert.deepEqual([await packages(repository), await packages(other)], [all.slice(1), all.slice(1)])
  })

  test(`${engine}: what cannot be pruned is said`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const href = `/pulp/api/v3/repositories/rpm/rpm/${absent}/`
    for (const [names, problem] of [
      [[], 'Must not be [].'],
      [['*', href], "Can't specify specific HREFs when using '*'"],
      [['x'], 'URI not valid: x'],
      [[href], `URI ${href} not found for rpmrepository.`],
    ] as const) {
      const { status, body } = await pulp.call('POST', 'rpm/prune/', { repo_hrefs: names })
      assert.deepEqual([status, body], [400, { repo_hrefs: [problem] }])
    }
  })

  test(`${engine}: a module names its packages, and takes them along when it leaves`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const repository = await makeRepository(pulp, 'one')
    const hrefs: string[] = []
    for (const version of ['1', '2', '3'])
      hrefs.push(
        (await send(pulp, 'content/rpm/packages/', { repository }, madePackage({ [tags.version]: version })))
          .created_resources[1],
      )
    const module = async (stream: string, versions: string[]) => {
      const fields = {
        name: 'zoo',
        stream,
        version: '1',
        context: 'c',
        arch: 'noarch',
        description: 'd',
        snippet: `---\n${stream}\n`,
      }
      const artifacts = versions.map((version) => `bear-0:${version}-1.noarch`)
      const rest = { artifacts, dependencies: [], profiles: {}, packages: [], repository }
      const task = await pulp.task('POST', 'content/rpm/modulemds/', { ...fields, ...rest })
      return task.created_resources[1] as string
    }
    const [one, two] = [await module('a', ['1', '2', '9']), await module('b', ['2'])]
    assert.deepEqual((await pulp.call('GET', one)).body.packages, hrefs.slice(0, 2))
    assert.equal((await pulp.call('GET', `${one}?fields=name`)).body.packages, undefined)
    await pulp.task('POST', `${repository}modify/`, { remove_content_units: [one] })
    const left = await pulp.call('GET', `content/rpm/packages/?repository_version=${await latestOf(pulp, repository)}`)
    assert.deepEqual(left.body.results.map((each: any) => each.pulp_href).sort(), hrefs.slice(1))
    assert.deepEqual((await pulp.call('GET', two)).body.packages, [hrefs[1]])
  })

  test(`${engine}: the images of a distribution tree are shown with their artifacts`, async (t) => {
    const pulp = await openPulp(t, await open(t))
    const { ctx } = pulp
    const staged = await ctx.blobs.stage(
      (async function* () {
        yield Buffer.from('kernel')
      })(),
    )
    await staged.keep()
    await saveBlob(ctx.db, staged.digests, staged.size)
    const tree = parseTreeinfo(
      Buffer.from('[general]\nfamily = Zoo\nversion = 5\narch = i386\n[images-i386]\nkernel = k\ninitrd = i\n'),
    )!
    const { sha256 } = staged.digests
    const images = [{ path: 'k', size: 6, checksum: `sha256:${sha256}`, sha256 }, { path: 'i' }]
    const [id] = await saveContent(ctx, [describeTree(tree, { treeinfo: { path: '.treeinfo' }, images, subRepositories: [] })])
    const repository = await makeRepository(pulp, 'one')
    const { id: repositoryId } = await ctx.db.selectFrom('repository').select('id').executeTakeFirstOrThrow()
    await ctx.db.transaction().execute((tx) => commitVersion(tx, { repositoryId, add: [id!], remove: [] }))
    const list = await pulp.call(
      'GET',
      `content/rpm/distribution_trees/?fields=images&repository_version=${repository}versions/1/`,
    )
    const shown = list.body.results[0].images
    assert.deepEqual(
      shown.map(({ path, artifact }: any) => [path, artifact?.size, artifact?.sha256]),
      [
        ['k', 6, sha256],
        ['i', undefined, undefined],
      ],
    )
    assert.deepEqual((await pulp.call('GET', shown[0].artifact.pulp_href)).body, shown[0].artifact)
  })
})

async function latestOf({ call }: Pulp, repository: string): Promise<string> {
  return (await call('GET', repository)).body.latest_version_href
}
