import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { makeImages, serveImages } from '../image-upstream.ts'
import { openPulpForks } from './pulp-forks.ts'
import { missing, openFileScope, temporaryDirectory } from './run.ts'
import { adminPassword, startServer } from './server.ts'

/* pulp-cli's container commands, as its users type them, against a registry of two images and a list of both. */

const skip = await missing('pulp')
const scope = openFileScope()
let upstream: string
/** What pulp answers to these words: parsed if that is JSON. What it says when it fails, as it then must. */
let pulp: (words: string, fails?: boolean) => Promise<any>

before(async () => {
  if (skip) return
  upstream = await serveImages(scope, makeImages('library/things', 'pulp-cli'))
  const server = await startServer(scope)
  const call = await openPulpForks(scope)
  const directory = await temporaryDirectory(scope)
  const config = join(directory, 'cli.toml')
  await writeFile(config, `[cli]\nbase_url = "${server.url}"\nusername = "admin"\npassword = "${adminPassword}"\n`)
  pulp = async (words, fails = false) => {
    const line = ['--config', config, ...words.split(' ')]
    const { code, stdout, stderr } = await call({ words: line, cwd: directory, env: { XDG_CACHE_HOME: directory } })
    assert.equal(code !== 0, fails, `pulp ${words} ended with ${code}:\n${stdout}${stderr}`)
    assert.doesNotMatch(stderr, /Traceback/)
    return fails ? stderr : /^[[{]/.test(stdout) ? JSON.parse(stdout) : stdout
  }
})

const names = (things: readonly { name: string }[]) => things.map(({ name }) => name).sort()

describe('pulp-cli and images', { skip, timeout: 240_000 }, () => {
  test('makes, changes and deletes what there is of them', async () => {
    assert.equal((await pulp('debug has-plugin --name container --specifier >=2.25,<2.28')).trim(), 'true')
    assert.deepEqual(await pulp('container namespace list'), [])
    await pulp('container namespace create --name space')
    assert.deepEqual(names(await pulp('container namespace list')), ['space'])
    await pulp('container namespace destroy --namespace space')

    await pulp(`container remote create --name hello --upstream-name hello --url ${upstream}`)
    await pulp('container remote update --remote hello --include-tags ["a","b"]')
    assert.deepEqual((await pulp('container remote show --remote hello')).include_tags, ['a', 'b'])
    await pulp('container remote destroy --remote hello')

    await pulp('container repository create --name own --description ours')
    assert.deepEqual(names(await pulp('container repository list')), ['own'])
    await pulp('container distribution create --name served --base-path a/served --repository own --private')
    await pulp('container distribution create --name pinned --base-path a/pinned --repository own --version 0')
    const pinned = await pulp('container distribution show --distribution pinned')
    assert.match(pinned.repository_version, /versions\/0\/$/)
    await pulp('container distribution update --distribution served --version 0')
    await pulp('container distribution update --distribution pinned --repository own')
    const served = await pulp('container distribution show --distribution served')
    assert.deepEqual([served.private, served.repository, served.repository_version.endsWith('versions/0/')], [true, null, true])
    await pulp('container distribution destroy --distribution served')
    await pulp('container repository destroy --repository own')
    assert.doesNotMatch(await pulp('container repository -t push --help'), /create|destroy|sync/)
    assert.deepEqual(await pulp('container repository -t push list'), [])
  })

  test('syncs, copies, tags and removes them', async () => {
    await pulp(`container remote create --name things --upstream-name library/things --url ${upstream}`)
    await pulp('container repository create --name from --remote things')
    await pulp('container repository create --name to')
    await pulp('container repository sync --repository from')
    assert.deepEqual(names(await pulp('container repository content -t tag list --repository from')), ['both', 'one', 'two'])
    const manifests = await pulp('container repository content -t manifest list --repository from')
    const image = manifests.find(({ listed_manifests: listed }: any) => listed.length === 0)
    const { digest } = image

    const held = async (type: string) =>
      (await pulp(`container repository content -t ${type} list --repository to`)).map((each: any) => each.name ?? each.digest)
    await pulp(`container repository copy-manifest --repository to --source from --digest ${digest}`)
    assert.deepEqual(await held('manifest'), [digest])
    const type = 'application/vnd.oci.image.index.v1+json'
    await pulp(`container repository copy-manifest --repository to --source from --version 1 --media-type ${type}`)
    assert.equal((await held('manifest')).length, 3)
    await pulp('container repository copy-tag --repository to --source from --tag one')
    assert.deepEqual(await held('tag'), ['one'])
    await pulp('container repository copy-tag --repository to --source from')
    assert.deepEqual((await held('tag')).sort(), ['both', 'one', 'two'])
    assert.match(await pulp('container repository copy-tag --repository to --source from --version 9', true), /version/)

    await pulp(`container repository tag --repository to --tag extra --digest ${digest}`)
    const { content_summary: summary } = await pulp('container repository version show --repository to')
    assert.equal(summary.added['container.tag'].count, 1)
    await pulp('container repository untag --repository to --tag extra')
    assert.match(await pulp('container repository untag --repository to --tag extra', true), /does not exist in the latest/)
    assert.match(await pulp(`container repository tag --repository to --tag -extra --digest ${digest}`, true), /tag/i)

    const content = async (...words: string[]) => pulp(`container repository content ${words.join(' ')}`)
    const tags: any[] = await pulp('container repository content -t tag list --repository to')
    const { name } = tags.find(({ tagged_manifest: manifest }) => manifest === image.pulp_href)
    await content('-t tag remove --repository to --name', name, '--digest', digest)
    assert.deepEqual((await held('tag')).length, 2)
    await content('-t tag add --repository to --name', name, '--digest', digest)
    assert.deepEqual((await held('tag')).sort(), ['both', 'one', 'two'])
    assert.equal((await pulp(`container content -t manifest list --digest ${digest}`)).length, 1)
    assert.equal((await pulp('container content -t blob list')).length >= 5, true)
  })
})
