import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { comps } from './around-packages.ts'
import { type CallPulp, openPulpForks } from './pulp-forks.ts'
import { missing, openFileScope, temporaryDirectory } from './run.ts'
import { adminPassword, getContent, type Scope, startServer, type TestServer } from './server.ts'
import { makeNights, serveFiles, type Served } from './upstream.ts'

/* pulp-cli drives the server as it is, with what its users do all day: an area a test. They share a server, so each keeps to its own names. */

const skip = await missing('pulp', 'rpmbuild', 'createrepo_c', 'modifyrepo_c')
const scope = openFileScope()
const endless = { asked: Promise.withResolvers<void>(), answered: Promise.withResolvers<void>() }
let server: TestServer
let nights: string[]
let packages: Served
let files: Served
let callPulp: CallPulp
let pulp: Cli

/** A command line: values are one word each, lists several. */
type Line<T> = (text: TemplateStringsArray, ...values: (string | readonly string[])[]) => Promise<T>

/** Somebody at a terminal of their own: settings, cache and working directory. */
interface Cli {
  /** What pulp answers: parsed if that is JSON. Throws with all it printed when it fails. */
  answer: Line<any>
  /** What it prints beside the answer. */
  aside: Line<string>
  /** What it says when it fails, as it must. */
  refusal: Line<string>
  readonly directory: string
}

async function openCli(t: Scope, username = 'admin', password = adminPassword): Promise<Cli> {
  const directory = await temporaryDirectory(t)
  const config = join(directory, 'cli.toml')
  const env = { XDG_CACHE_HOME: directory }
  const call = async (words: string[], fails = false) => {
    const { code, stdout, stderr } = await callPulp({ words: ['--config', config, ...words], cwd: directory, env })
    assert.equal(code !== 0, fails, `pulp ${words.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
    assert.doesNotMatch(stderr, /Traceback/)
    return { stdout, stderr }
  }
  await writeFile(config, `[cli]\nbase_url = "${server.url}"\nusername = "${username}"\npassword = "${password}"\n`)
  return {
    directory,
    answer: async (...line) => parsed((await call(wordsOf(...line))).stdout.trim()),
    aside: async (...line) => (await call(wordsOf(...line))).stderr,
    refusal: async (...line) => (await call(wordsOf(...line), true)).stderr,
  }
}

function wordsOf(text: TemplateStringsArray, ...values: (string | readonly string[])[]): string[] {
  return text.flatMap((part, index) => [...part.split(' ').filter((word) => word !== ''), ...[values[index] ?? []].flat()])
}

function parsed(text: string): unknown {
  return /^[[{]/.test(text) ? JSON.parse(text) : text
}

const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')
const namesOf = (things: readonly { name: string }[]) => things.map(({ name }) => name)

/** A file in the working directory. Returns its digest. */
async function write(name: string, bytes: Buffer | string): Promise<string> {
  await writeFile(join(pulp.directory, name), bytes)
  return sha256(bytes)
}

before(async () => {
  if (skip) return
  const directory = await temporaryDirectory(scope)
  nights = await makeNights(directory)
  packages = await serveFiles(scope, nights[0]!)
  const texts = new Map(['one', 'two', 'three'].map((name) => [`${name}.txt`, Buffer.from(`the text ${name}\n`)]))
  const manifest = [...texts].map(([name, bytes]) => `${name},${sha256(bytes)},${bytes.length}\n`).join('')
  files = await serveFiles(scope, new Map([...texts, ['PULP_MANIFEST', Buffer.from(manifest)]]))
  files.intercept = async (path) => {
    if (path !== '/endless/PULP_MANIFEST') return false
    endless.asked.resolve()
    await endless.answered.promise
    return false
  }
  scope.after(() => endless.answered.resolve())
  server = await startServer(scope)
  callPulp = await openPulpForks(scope)
  pulp = await openCli(scope)
})

describe('pulp-cli', { concurrency: 3, skip, timeout: 480_000 }, () => {
  test('finds the server, its versions and its operations', async () => {
    const { answer, aside, refusal } = pulp
    const status = await answer`status`
    assert.equal(status.database_connection.connected, true)
    assert.equal(status.online_workers.length, 1)
    assert.equal(await answer`debug has-plugin --name rpm --specifier >=3.30,<4`, 'true')
    const operations = await answer`debug openapi operation-ids`
    const some = ['tasks_list', 'rpm_copy_content', 'uploads_update', 'orphans_cleanup_cleanup']
    for (const id of some) assert.ok(operations.includes(id), id)
    const cid = 'deadbeef'.repeat(4)
    assert.match(await aside`-vv --cid ${cid} status`, new RegExp(`^ *Correlation-ID: ${cid}$`, 'm'))
    assert.match(await refusal`--cid not-an-id status`, /Correlation/i)
    assert.match(await refusal`--password wrong task list`, /Authentication failed/)
  })

  test('shows, finds, cancels and clears away tasks', async () => {
    const { answer, aside, refusal } = pulp
    const name = 'pulp_file.app.tasks.synchronizing.synchronize'
    const [worker] = await answer`worker list --online --limit 1`
    const remote = await answer`file remote create --name endless --url ${`${files.url}endless/PULP_MANIFEST`}`
    const repository = await answer`file repository create --name endless --remote endless`
    const started = await aside`--background file repository sync --name endless`
    const href = /\/pulp\/api\/v3\/tasks\/[-0-9a-f]+\//.exec(started)![0]
    const find = async (...filters: string[]) => (await answer`task list ${filters}`).map((task: any) => task.pulp_href)

    assert.deepEqual(await find('--exclusive-resource', repository.pulp_href), [href])
    assert.deepEqual(await find('--shared-resource', remote.pulp_href, '--name', name), [href])
    assert.deepEqual(await find('--exclusive-resource', remote.pulp_href), [])
    await endless.asked.promise
    await answer`task cancel --href ${href}`
    const asked = Date.now()
    const task = await answer`task show --wait --href ${href}`
    assert.deepEqual([task.state, task.name, task.created_resources], ['canceled', name, []])
    assert.ok(Date.parse(task.finished_at) - asked < 5_000, 'it does not go on waiting for its upstream')
    assert.deepEqual(await find('--state', 'CanCeled', '--worker', worker.pulp_href, '--started-after', '22/01/06'), [href])
    assert.equal((await answer`task summary`).canceled, 1)
    await answer`task purge --finished-before 2021-12-01T12:00:00 --state completed --state failed`
    assert.match(await refusal`task purge --finished-before 2021-12-01 --state running`, /running/)
    await answer`task purge`
    assert.match(await refusal`task list --state cannotwork`, /cannotwork/)
  })

  test('makes users, groups and roles, and what they allow holds', async (t) => {
    const { answer } = pulp
    await answer`user create --username reader --password the-reader-reads`
    await answer`group create --name readers`
    await answer`group user add --group readers --username reader`
    await answer`role create --name local.group_viewer --permission core.view_group`
    const reader = await openCli(t, 'reader', 'the-reader-reads')
    assert.deepEqual(await reader.answer`task list`, [])
    assert.match(await reader.refusal`group show --name readers`, /Could not find user group/)
    await answer`group role-assignment add --group readers --role local.group_viewer --object ${''}`
    const { pulp_href: group } = await reader.answer`group show --name readers`
    assert.equal((await answer`show --href ${group}`).name, 'readers')
    assert.match(await reader.refusal`group create --name writers`, /not authorized/)
    await answer`group role-assignment remove --group readers --role local.group_viewer --object ${''}`
    assert.match(await reader.refusal`group show --name readers`, /Could not find user group/)

    const { pulp_href: shelf } = await answer`file repository create --name ${'the shelf'}`
    const show = ['file', 'repository', 'show', '--href', shelf]
    assert.match(await reader.refusal`${show}`, /404|not found|No FileRepository/i)
    assert.match(await reader.refusal`file repository create --name mine`, /not authorized/)
    const viewer = ['--repository', 'the shelf', '--user', 'reader', '--role', 'file.filerepository_viewer']
    await answer`file repository role add ${viewer}`
    assert.equal((await reader.answer`${show}`).name, 'the shelf')
    assert.match(await reader.refusal`file repository update --repository ${shelf} --retain-repo-versions 1`, /not authorized/)
    await answer`file repository role remove ${viewer}`
    await reader.refusal`${show}`
    await answer`user role-assignment add --username reader --role core.group_creator --object ${''}`
    await reader.answer`group create --name ${'the reader made it'}`
    const mine = await reader.answer`group role my-permissions --name ${'the reader made it'}`
    assert.ok(mine.permissions.includes('core.delete_group'))

    const { statements } = await answer`access-policy show --viewset-name tasks`
    await answer`access-policy update --viewset-name tasks --statements ${JSON.stringify(statements)}`
    const changed = await answer`access-policy show --viewset-name tasks`
    assert.deepEqual([changed.statements, changed.customized], [statements, true])
    assert.equal((await answer`access-policy reset --viewset-name tasks`).customized, false)
  })

  test('uploads files whole and in chunks, and puts them into repositories', async () => {
    const { answer } = pulp
    const bytes = randomBytes(5_000)
    const digest = await write('chunked.bin', bytes)
    const artifact = await answer`artifact upload --file chunked.bin --chunk-size 1KB`
    assert.deepEqual([artifact.sha256, artifact.size], [digest, bytes.length])
    assert.equal((await answer`artifact upload --file chunked.bin`).pulp_href, artifact.pulp_href)
    await answer`file repository create --name uploads`
    await answer`file content create --sha256 ${digest} --relative-path dir/a.bin --repository uploads`
    const large = await write('large.bin', randomBytes(2_000_000))
    const unit =
      await answer`file content upload --file large.bin --relative-path large.bin --chunk-size 600KB --repository uploads`
    assert.equal(unit.sha256, large)
    const paths = async (...words: string[]) =>
      (await answer`file repository content list --repository uploads ${words}`).map((each: any) => each.relative_path).sort()
    assert.deepEqual(await paths(), ['dir/a.bin', 'large.bin'])

    const chosen = JSON.stringify([{ sha256: large, relative_path: 'large.bin' }])
    await write('chosen.json', chosen)
    await answer`file repository content modify --repository uploads --remove-content @chosen.json`
    assert.deepEqual(await paths(), ['dir/a.bin'])
    await answer`file repository content modify --repository uploads --base-version 0 --add-content ${chosen}`
    assert.deepEqual(await paths(), ['large.bin'])

    await answer`file content create --file-url ${`${files.url}one.txt`} --relative-path fetched.txt --repository uploads`
    assert.deepEqual(await paths(), ['fetched.txt', 'large.bin'])
    await answer`file repository create --name uploads-too`
    await answer`file repository content modify --repository uploads-too --base-repository uploads`
    const { pulp_href: version } = await answer`file repository version show --repository uploads-too`
    assert.equal((await answer`file content list --repository-version-added ${version}`).length, 2)
    assert.deepEqual(await answer`file content list --repository-version-removed ${version}`, [])
    await answer`file content label set --href ${unit.pulp_href} --key size --value large`
    assert.equal(await answer`file content label show --href ${unit.pulp_href} --key size`, 'large')
    const labelled = await answer`file content list --label-select size=large`
    assert.deepEqual(
      labelled.map(({ pulp_href: href }: any) => href),
      [unit.pulp_href],
    )
    await answer`file content label unset --href ${unit.pulp_href} --key size`
    assert.deepEqual(await answer`file content list --label-select size`, [])

    await write('alone.txt', 'alone\n')
    const alone = await answer`file content upload --file alone.txt --relative-path alone.txt`
    // Whether it goes is up to other tests: what might be of use to a task that runs is kept.
    const cleanup = await answer`orphan cleanup --content-hrefs ${JSON.stringify([alone.pulp_href])} --protection-time 0`
    assert.equal(cleanup.state, 'completed')
    assert.deepEqual(cleanup.progress_reports.map(({ code }: any) => code).sort(), ['clean-up.artifacts', 'clean-up.content'])
  })

  test('mirrors files, publishes and distributes them, and takes hrefs and PRNs for names', async () => {
    const { answer, aside, refusal } = pulp
    const settings = ['--max-retries', '5', '--total-timeout', '32', '--header', 'a:1', '--username', 'me', '--password', 'pw']
    const url = `${files.url}PULP_MANIFEST`
    const remote = await answer`file remote create --name texts --url ${url} --policy immediate ${settings}`
    assert.deepEqual([remote.max_retries, remote.total_timeout, remote.headers], [5, 32, [{ a: '1' }]])
    assert.ok(remote.hidden_fields.some((field: any) => field.name === 'password' && field.is_set))
    const cleared = ['--max-retries', '', '--total-timeout', '', '--header', '']
    const { pulp_href: spare } = await answer`file remote create --name spare --url ${url} ${settings}`
    await answer`file remote update --remote spare ${cleared}`
    const { max_retries, total_timeout, headers } = await answer`file remote show --href ${spare}`
    assert.deepEqual([max_retries, total_timeout, headers], [null, null, []])
    const repository = await answer`file repository create --name texts --remote texts --autopublish`
    assert.match(await refusal`file remote show --remote prn:not:a:prn`, /prn:not:a:prn/)
    await refusal`file remote show --remote ${repository.prn}`
    await aside`file repository sync --repository ${repository.prn} --remote ${remote.prn}`
    await aside`file repository sync --repository texts --mirror`
    const versions = await answer`file repository version list --repository texts`
    assert.deepEqual(
      versions.map(({ number }: any) => number),
      [1, 0],
    )
    assert.equal(versions[0].content_summary.present['file.file'].count, 3)
    assert.equal((await answer`file repository version repair --repository texts --version 1`).state, 'completed')

    const [publication] = await answer`publication list --repository file:file:texts`
    const empty = await answer`file publication create --repository texts --version 0`
    const seen = async () => (await getContent(server, 'texts/one.txt')).status
    await answer`file distribution create --name texts --base-path texts --publication ${empty.prn}`
    assert.equal(await seen(), 404)
    await answer`file distribution update --distribution texts --publication ${publication.pulp_href}`
    assert.equal(await seen(), 200)
    await answer`file distribution update --distribution texts --publication ${''}`
    assert.equal(await seen(), 404)
    await answer`file distribution update --distribution texts --repository texts`
    const stored = async () => {
      const units = await answer`file repository content list --repository texts`
      return units.filter(({ artifact }: any) => artifact !== null).length
    }
    await answer`repository reclaim --repository file:file:texts --keep-version file:file:texts 1`
    assert.equal(await stored(), 3)
    await answer`repository reclaim --repository file:file:texts`
    assert.equal(await stored(), 0)
    assert.equal(await seen(), 200, 'what was given up is fetched again')
    await answer`file repository update --repository texts --description ${''} --remote ${''}`
    await answer`file repository update --repository texts --remote file:file:texts`
    const changes = await answer`file repository task list --repository texts --name-contains update`
    assert.equal(changes.length, 2)
    await answer`file repository destroy --repository texts`
    assert.equal((await answer`show --prn ${remote.prn}`).name, 'texts')
  })

  test('filters, orders and labels', async () => {
    const { answer } = pulp
    for (const place of ['a', 'b'])
      await answer`file repository create --name ${`shelf ${place}`} --labels ${`{"place": "${place}"}`}`
    const list = (...words: string[]) => answer`file repository list --name-startswith shelf ${words}`
    const newest = await list('--ordering', '-name', '--field', 'name', '--field', 'remote')
    assert.deepEqual(newest, [
      { name: 'shelf b', remote: null },
      { name: 'shelf a', remote: null },
    ])
    assert.ok(!('name' in (await list('--exclude-field', 'name', '--limit', '1'))[0]))
    await answer`file repository label set --repository ${'shelf a'} --key lit --value yes`
    assert.equal(await answer`file repository label show --repository ${'shelf a'} --key lit`, 'yes')
    assert.deepEqual(namesOf(await list('--label-select', 'place!=b,lit')), ['shelf a'])
    assert.deepEqual(namesOf(await list('--label-select', 'place~b,!lit')), ['shelf b'])
  })

  test('guards distributions', async () => {
    const { answer } = pulp
    await answer`group create --name members`
    await answer`content-guard rbac create --name members`
    await answer`content-guard rbac assign --name members --group members`
    const guard = await answer`content-guard rbac show --name members`
    assert.deepEqual(namesOf(guard.groups), ['members'])
    await answer`content-guard header create --name token --header-name x-token --header-value ${'let me in'}`
    const either = await answer`content-guard composite create --name either --guard rbac:members --guard header:token`
    assert.equal(either.guards.length, 2)
    await answer`content-guard rbac create --name nobody`
    await answer`content-guard rbac assign --name nobody --group members`
    await answer`content-guard rbac remove --name nobody --user admin --group members`
    const { users, groups } = await answer`content-guard rbac show --name nobody`
    assert.deepEqual([users, groups], [[], []])
    await answer`content-guard composite create --name some --guard rbac:members --guard header:token`
    await answer`content-guard composite update --name some --guard rbac:members --description one`
    assert.equal((await answer`content-guard composite show --name some`).guards.length, 1)
    await answer`file repository create --name guarded --autopublish`
    await write('guarded.txt', 'for members\n')
    await answer`file content upload --file guarded.txt --relative-path a --repository guarded`
    await answer`file distribution create --name guarded --base-path guarded --repository guarded --content-guard core:composite:either`
    assert.equal((await getContent(server, 'guarded/a')).status, 403)
    assert.equal((await getContent(server, 'guarded/a', { headers: { 'x-token': btoa('let me in') } })).status, 200)
    await answer`file distribution update --name guarded --content-guard ${''}`
    assert.equal((await getContent(server, 'guarded/a')).status, 200)
  })

  test('mirrors, publishes and distributes packages', async () => {
    const { answer, aside, refusal } = pulp
    await answer`rpm remote create --name apps --url ${packages.url}`
    await answer`rpm remote update --remote apps --sles-auth-token 0123456789abcdef`
    await write('repo_config.json', '{"enabled": 1, "gpgcheck": 1, "assumeyes": true}')
    const made = await answer`rpm repository create --name apps --remote apps --repo-config @repo_config.json`
    assert.equal(made.repo_config.assumeyes, true)
    await aside`rpm repository sync --repository apps --skip-type srpm --skip-type treeinfo`
    await aside`rpm repository sync --repository apps --sync-policy mirror_complete`
    await aside`rpm repository sync --repository apps --sync-policy mirror_content_only --no-optimize`
    assert.match(await refusal`rpm repository sync --repository apps --sync-policy foobar`, /foobar/)
    assert.equal((await answer`rpm repository version list --repository apps`).length, 2)

    assert.match(await refusal`rpm publication create --repository apps --checksum-type sha1`, /sha1/)
    const publication = await answer`rpm publication create --repository apps --checksum-type sha512 --compression-type zstd`
    assert.deepEqual([publication.checksum_type, publication.compression_type], ['sha512', 'zstd'])
    const { pulp_href: href } = publication
    await answer`rpm distribution create --name apps --base-path apps --publication ${href} --generate-repo-config`
    assert.match(await (await getContent(server, 'apps/repodata/repomd.xml')).text(), /-primary\.xml\.zst/)
    assert.match(await (await getContent(server, 'apps/config.repo')).text(), /assumeyes ?= ?True/i)
    await answer`rpm publication destroy --href ${href}`
    assert.match(await refusal`rpm repository update --name apps --no-sqlite-metadata`, /sqlite/i)
    await answer`rpm repository update --name apps --retain-package-versions 2 --description ${''}`
    const { retain_package_versions, description } = await answer`rpm repository show --name apps`
    assert.deepEqual([retain_package_versions, description], [2, null])
  })

  test('lists what comes with packages, and uploads packages and advisories', async () => {
    const { answer, aside } = pulp
    await answer`rpm remote create --name kinds --url ${packages.url} --policy on_demand`
    await answer`rpm repository create --name kinds --remote kinds`
    await aside`rpm repository sync --name kinds`
    const { pulp_href: version } = await answer`rpm repository version show --repository kinds`
    const list = (type: string, ...words: string[]) =>
      answer`rpm content -t ${type} list --repository-version ${version} ${words}`
    for (const [type, count] of [
      ['advisory', 2],
      ['modulemd', 1],
      ['package_group', 2],
    ] as const)
      assert.equal((await list(type)).length, count, type)
    const named = ['--name-in', 'app', '--name-in', 'docs', '--checksum-type', 'sha256', '--ordering', 'name']
    assert.deepEqual(namesOf(await list('package', ...named)), ['app', 'docs'])

    const file = 'lib-1.2-1.noarch.rpm'
    await copyFile(join(nights[0]!, 'Packages', file), join(pulp.directory, file))
    const lib = await answer`rpm content upload --file ${file} --relative-path ${file}`
    assert.deepEqual([lib.name, lib.version], ['lib', '1.2'])
    await answer`rpm repository create --name uploaded`
    await answer`rpm repository content add --repository uploaded --package-href ${lib.pulp_href}`
    await mkdir(join(pulp.directory, 'many'))
    for (const each of ['docs-1.0-1.noarch.rpm', 'tool-1.0-1.x86_64.rpm'])
      await copyFile(join(nights[0]!, 'Packages', each), join(pulp.directory, 'many', each))
    await aside`rpm content upload --repository rpm:rpm:uploaded --directory many --use-temp-repository`
    const uploaded = async () => namesOf(await answer`rpm repository content list --repository uploaded`).sort()
    assert.deepEqual(await uploaded(), ['docs', 'lib', 'tool'])
    const gone = JSON.stringify([{ pulp_href: lib.pulp_href }])
    await answer`rpm repository content modify --repository uploaded --remove-content ${gone}`
    assert.deepEqual(await uploaded(), ['docs', 'tool'])

    await write('advisory.json', JSON.stringify(advisory))
    assert.equal((await answer`rpm content -t advisory upload --file advisory.json`).id, advisory.id)
    assert.equal((await answer`rpm content -t advisory list --id ${advisory.id}`).length, 1)
  })

  test('takes comps files, and prunes old packages', async () => {
    const { answer, refusal } = pulp
    await answer`rpm repository create --name grouped`
    await write('comps.xml', comps)
    const units = ['packagegroups', 'packagegroups', 'packagecategories', 'packageenvironments', 'packagelangpacks']
    const task = await answer`rpm comps-upload --file comps.xml --repository grouped`
    const made = task.created_resources.map((href: string) => href.split('/').at(-3))
    assert.deepEqual(made.toSorted(), [...units, 'versions'].toSorted())
    // What is there already makes no version; replacing makes one only when something goes.
    const kinds = async (...words: string[]) =>
      (await answer`rpm comps-upload --file comps.xml --repository grouped ${words}`).created_resources.length
    assert.deepEqual([await kinds(), await kinds('--replace', 'True')], [units.length, units.length])
    await write('one.xml', comps.replace(/<environment>[^]*<\/langpacks>/, ''))
    await answer`rpm comps-upload --file one.xml --repository grouped --replace True`
    assert.equal(await kinds('--replace', 'True'), units.length + 1)
    for (const each of [1, 2]) {
      const file = `app-${each}.0-1.noarch.rpm`
      await copyFile(join(nights[each - 1]!, 'Packages', file), join(pulp.directory, file))
      await answer`rpm content upload --file ${file} --relative-path ${file} --repository grouped`
    }
    const versions = async () =>
      (await answer`rpm repository content list --repository grouped`).map(({ version }: any) => version).sort()
    await answer`rpm prune-packages --repository rpm:rpm:grouped --keep-days 0 --dry-run`
    assert.deepEqual(await versions(), ['1.0', '2.0'])
    await answer`rpm repository create --name grouped-too`
    const both = ['--repository', 'rpm:rpm:grouped', '--repository', 'rpm:rpm:grouped-too']
    await answer`rpm prune-packages ${both} --keep-days 0 --dry-run`
    await answer`rpm prune-packages --all-repositories --dry-run`
    await answer`rpm prune-packages --repository rpm:rpm:grouped --keep-days 0`
    assert.deepEqual(await versions(), ['2.0'])
    assert.match(await refusal`rpm prune-packages --repository rpm:rpm:grouped --keep-days foo`, /foo/)
  })

  test('copies packages, and what they need if asked', async () => {
    const { answer, aside } = pulp
    await answer`rpm remote create --name from --url ${packages.url} --policy on_demand`
    await answer`rpm repository create --name from --remote from`
    await aside`rpm repository sync --name from`
    const { pulp_href: source } = await answer`rpm repository version show --repository from`
    const { pulp_href: target } = await answer`rpm repository create --name to`
    const [app] = await answer`rpm content list --repository-version ${source} --name app`
    const copy = { source_repo_version: source, dest_repo: target, content: [app.pulp_href] }
    const copied = async (config: object, ...words: string[]) => {
      await answer`rpm copy --config ${JSON.stringify([config])} ${words}`
      return namesOf(await answer`rpm repository content list --repository to`).sort()
    }
    assert.deepEqual(await copied(copy), ['app'])
    assert.deepEqual(await copied({ ...copy, dest_base_version: 0 }, '--dependency-solving'), ['app', 'lib'])
    const { pulp_href: whole } = await answer`rpm repository create --name to-whole`
    const two = [
      { ...copy, content: [] },
      { source_repo_version: source, dest_repo: whole },
    ]
    await answer`rpm copy --config ${JSON.stringify(two)}`
    const packagesOf = async (name: string) => (await answer`rpm repository content list --repository ${name}`).length
    assert.deepEqual([await packagesOf('to'), await packagesOf('to-whole')], [2, await packagesOf('from')])
  })
})

const advisory = {
  id: 'LOCAL-1',
  updated_date: '2026-11-01 00:00:00',
  issued_date: '2026-11-01 00:00:00',
  title: 'A fix',
  description: 'It works.',
  fromstr: 'me',
  status: 'final',
  version: '1',
  type: 'bugfix',
  severity: '',
  summary: '',
  solution: '',
  release: '1',
  rights: '',
  pushcount: '1',
  pkglist: [],
  references: [],
  reboot_suggested: false,
}
