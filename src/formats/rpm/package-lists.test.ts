import assert from 'node:assert/strict'
import { test } from 'node:test'
import { filelistsOf, type MadePackage, otherOf, primaryOf } from '../../../tests/rpm-upstream.ts'
import { readPackages, selectPackages, type SelectOptions } from './package-lists.ts'
import { parsePrimary } from './primary.ts'
import { variantOf } from './variant.ts'

async function* bytes(xml: string): AsyncGenerator<Buffer> {
  // In small chunks, so that batches of the three lists do not line up.
  const all = Buffer.from(xml)
  for (let at = 0; at < all.length; at += 1000) yield all.subarray(at, at + 1000)
}
const document = (elements: string[], root = 'metadata') => `<${root}>${elements.join('\n')}</${root}>`
const animals = Array.from({ length: 20 }, (_, index): MadePackage => ({ name: `animal${index}` }))
const options: SelectOptions = {
  skipSources: false,
  keepTwins: false,
  known: async (keys) => keys.map(() => undefined),
  check: () => {},
}

const select = (packages: readonly MadePackage[], more: Partial<SelectOptions> = {}) =>
  selectPackages(bytes(document(packages.map(primaryOf))), { ...options, ...more })

async function read(
  packages: readonly MadePackage[],
  filelists: readonly MadePackage[] | undefined,
  other: readonly MadePackage[] | undefined,
) {
  const lists = {
    primary: bytes(document(packages.map(primaryOf))),
    filelists: filelists && bytes(document(filelists.map(filelistsOf), 'filelists')),
    other: other && bytes(document(other.map(otherOf), 'otherdata')),
  }
  const batches = await Array.fromAsync(readPackages(lists, await select(packages)))
  return batches.flat().map(({ found: { name }, lists }) => {
    assert.ok(typeof lists === 'object')
    return { name, filelists: lists.filelists.toString(), other: lists.other.toString() }
  })
}
const expected = animals.map((each) => ({ name: each.name, filelists: filelistsOf(each), other: otherOf(each) }))

test('the three elements of each package come together', async () => {
  assert.deepEqual(await read(animals, animals, animals), expected)
})

test('the lists may be in any order, and tell of packages that are not there', async () => {
  const unknown = { name: 'unknown' }
  const shuffled = [...animals.slice(7).reverse(), unknown, ...animals.slice(0, 7)]
  assert.deepEqual(await read(animals, shuffled, [unknown, ...animals.toReversed()]), expected)
})

test('a package that a list does not tell of is an error that names it', async () => {
  await assert.rejects(read(animals, animals.slice(0, -1), animals), {
    code: 'integrity',
    message: 'The package animal19-0:1.0-1.noarch is missing in the filelists metadata.',
  })
  await assert.rejects(read(animals, animals, animals.slice(1)), { code: 'integrity', message: /animal0.*other metadata/ })
})

test('where there is no list at all, the files of the primary one have to do', async () => {
  const [first] = await read(animals.slice(0, 1), undefined, undefined)
  assert.match(
    first!.filelists,
    /^<package pkgid="\w{64}" name="animal0" arch="noarch">\n {2}<version .*\n {2}<file>\/usr\/bin\/animal0<\/file>\n<\/package>$/,
  )
  assert.doesNotMatch(first!.other, /changelog/)
})

test('an unsound element in a list is refused, an odd one is written anew', async () => {
  const [animal] = animals
  const lists = async (filelists: string) => ({
    batches: readPackages(
      { primary: bytes(document([primaryOf(animal!)])), filelists: bytes(document([filelists], 'filelists')), other: undefined },
      await select([animal!]),
    ),
  })
  const odd = filelistsOf(animal!).replace('<file>', '<!-- x --><file\n>')
  const first = (await Array.fromAsync((await lists(odd)).batches))[0]![0]!
  assert.ok(typeof first.lists === 'object')
  assert.match(String(first.lists.filelists), /<file>\/usr\/bin\/animal0<\/file>/)
  assert.doesNotMatch(String(first.lists.filelists), /<!--/)
  for (const broken of [odd.replace('</file>', ''), odd.replace('/usr', '&bomb;')])
    await assert.rejects(Array.fromAsync((await lists(broken)).batches), { code: 'integrity' })
})

test('known packages are told apart by what is said of them, and asked for in batches', async () => {
  const asked: number[] = []
  const packages = Array.from({ length: 2500 }, (_, index) => ({ name: `p${index}` }))
  const rest = { filelists: Buffer.alloc(0), other: Buffer.alloc(0), filename: 'p', isModular: false }
  const variant = variantOf(parsePrimary(Buffer.from(primaryOf(packages[7]!))), rest)
  const { decisions, wanted, variants } = await select(packages, {
    known: async (keys) => {
      asked.push(keys.length)
      return keys.map((key) => (/ p[78]-/.test(key) ? variant : undefined))
    },
  })
  assert.deepEqual(asked, [1000, 1000, 500])
  assert.deepEqual(
    decisions.flatMap((each, index) => (each === 'known' ? index : [])),
    [7],
  )
  assert.deepEqual([...variants], [[7, variant]])
  assert.equal(wanted.size, 2499)
})

test('of packages that share name, version and architecture the one built last is taken', async () => {
  const twins = [{ name: 'a', buildTime: 5 }, { name: 'a', buildTime: 9 }, { name: 'a', buildTime: 7 }, { name: 'b' }]
  assert.deepEqual((await select(twins)).decisions, ['left out', 'new', 'left out', 'new'])
  assert.deepEqual((await select(twins, { keepTwins: true })).decisions, ['new', 'new', 'new', 'new'])
})

test('one package at two places is one package', async () => {
  const places = [
    { name: 'a', href: 'x/a.rpm' },
    { name: 'a', href: 'y/a.rpm' },
  ]
  for (const keepTwins of [true, false]) assert.deepEqual((await select(places, { keepTwins })).decisions, ['new', 'again'])
})

test('source packages are left out if asked', async () => {
  const packages = [{ name: 'a', arch: 'src' }, { name: 'a' }]
  assert.deepEqual((await select(packages, { skipSources: true })).decisions, ['left out', 'new'])
})
