import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareMembers, type Member, openCutter, type Piece, planStretches } from './plan.ts'

const memberOf = (id: number): Member => ({ id, slot: `package${(id * 7919) % 100_003}-1.0` })
const bySlot = (members: Iterable<Member>) => [...members].sort(compareMembers)
/** Some packages say much of themselves. */
const lengthOf = ({ id }: Member) => (id % 50 === 0 ? 1_000_000 : 5000)

/** The pieces of these members, as if they had never been listed. */
function cutAll(members: Iterable<Member>, digestOf: (ids: readonly number[]) => string = () => ''): Piece[] {
  const pieces: Piece[] = []
  const ends = openCutter()
  let ids: number[] = []
  const all = bySlot(members)
  for (const [index, member] of all.entries()) {
    ids.push(member.id)
    if (!ends({ ...member, length: lengthOf(member) }) && index < all.length - 1) continue
    pieces.push({ last: member.slot, ids, digest: digestOf(ids), lengths: [] })
    ids = []
  }
  return pieces
}

/** The pieces after a change, made of the old ones; and how many units had to be looked at. */
function cutChanged(pieces: readonly Piece[], slots: ReadonlyMap<number, string>, came: readonly Member[], gone: Set<number>) {
  let looked = 0
  const now = planStretches(pieces, bySlot(came), gone).flatMap((stretch) => {
    if ('kept' in stretch) return [stretch.kept]
    looked += stretch.stayed.length + stretch.came.length
    return cutAll([...stretch.stayed.map((id) => ({ id, slot: slots.get(id)! })), ...stretch.came])
  })
  return { now, looked }
}

const members = Array.from({ length: 3000 }, (_, index) => memberOf(index))

function change(from: readonly Member[], came: readonly Member[], gone: readonly number[]) {
  const slots = new Map(from.map(({ id, slot }) => [id, slot]))
  const to = [...from.filter(({ id }) => !gone.includes(id)), ...came]
  const { now, looked } = cutChanged(cutAll(from), slots, came, new Set(gone))
  assert.deepEqual(now, cutAll(to))
  return { looked, pieces: now }
}

test('a listing that changed is cut as one that is made anew', () => {
  let held = members
  let next = 100_000
  for (let round = 0; round < 24; round++) {
    const few = round % 4
    const slots = new Map(held.map(({ id, slot }) => [id, slot]))
    const gone = held.filter(({ id }) => (id * 31 + round * 17) % 997 < few * 2).map(({ id }) => id)
    const replaced = gone.slice(0, 2).map((id) => ({ id: next++, slot: slots.get(id)! }))
    const came = [...replaced, ...Array.from({ length: few }, () => memberOf(next++))]
    change(held, came, gone)
    held = [...held.filter(({ id }) => !gone.includes(id)), ...came]
  }
  assert.ok(next > 100_050)
})

test('of a listing that did not change nothing is looked at, and of one that changed a little, little', () => {
  assert.equal(change(members, [], []).looked, 0)
  const { looked } = change(members, [memberOf(200_001)], [members[700]!.id])
  assert.ok(looked > 0 && looked < 600, `${looked} units were looked at`)
})

test('ends, beginnings, and units of one slot', () => {
  const sorted = bySlot(members)
  const pieces = cutAll(members)
  const borders = pieces.map(({ ids }) => ids.at(-1)!)
  const slotOf = (id: number) => sorted.find((each) => each.id === id)!.slot
  change(members, [], [sorted[0]!.id, sorted.at(-1)!.id])
  change(
    members,
    [
      { id: 9001, slot: '' },
      { id: 9002, slot: 'zzz' },
    ],
    [],
  )
  change(members, [], borders)
  change(
    members,
    borders.flatMap((id, index) => [10_000 + index, 20_000 + index].map((other) => ({ id: other, slot: slotOf(id) }))),
    [],
  )
  change(members, [], pieces[3]!.ids)
  change(
    members,
    [],
    sorted.map(({ id }) => id),
  )
  change([], members, [])
  change(members.slice(0, 1), members.slice(1), [members[0]!.id])
})

test('no piece has more units than some hundred, or much more text than a few megabytes', () => {
  const alike = Array.from({ length: 3000 }, (_, id) => ({ id, slot: 'package0-1.0' }))
  const sizes = cutAll(alike).map(({ ids }) => ids.length)
  assert.ok(Math.max(...sizes) <= 256)
  const text = cutAll(members).map(({ ids }) => ids.reduce((sum, id) => sum + lengthOf({ id, slot: '' }), 0))
  assert.ok(Math.max(...text) < 5_000_000)
})

test('a piece of units that are not settled is looked at each time', () => {
  const pieces = cutAll(members, (ids) => (ids.includes(42) ? 'digest' : ''))
  const looked = planStretches(pieces, [], new Set()).filter((stretch) => 'looked' in stretch)
  const piece = pieces.find(({ digest }) => digest !== '')
  assert.ok(looked.length > 0)
  assert.equal(looked[0]!.looked[0], piece)
})
