import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { addRange, missingRanges, type Range } from './positions.ts'

const size = 60
const ranges = fc.array(
  fc.tuple(fc.nat(size - 1), fc.nat(size - 1)).map(([a, b]) => ({ lo: Math.min(a, b), hi: Math.max(a, b) + 1 })),
  { maxLength: 20 },
)

test('a set of ranges holds exactly the positions put into it, in as few ranges as possible', () => {
  fc.assert(
    fc.property(ranges, list => {
      const naive = new Set<number>()
      let set: Range[] = []
      for (const range of list) {
        const before = set
        const next = addRange(set, range)
        // What the database does with the answer: delete `removed`, insert `added`.
        assert.deepEqual(
          next.set,
          [...before.filter(r => !next.removed.includes(r)), next.added].sort((a, b) => a.lo - b.lo),
        )
        set = next.set
        for (let i = range.lo; i < range.hi; i++) naive.add(i)
      }
      assert.deepEqual(
        positionsOf(set),
        [...naive].sort((a, b) => a - b),
      )
      for (let i = 1; i < set.length; i++) assert.ok((set[i - 1]?.hi ?? 0) < (set[i]?.lo ?? 0), 'ranges touch')
    }),
  )
})

test('what is missing and what is there make up the whole', () => {
  fc.assert(
    fc.property(ranges, fc.nat(size), fc.nat(size), (list, a, b) => {
      const within = { lo: Math.min(a, b), hi: Math.max(a, b) }
      const set = list.reduce<Range[]>((all, range) => addRange(all, range).set, [])
      const there = new Set(positionsOf(set))
      const missing = positionsOf(missingRanges(set, within))
      assert.deepEqual(
        missing,
        positionsOf([within]).filter(position => !there.has(position)),
      )
    }),
  )
})

function positionsOf(set: readonly Range[]): number[] {
  return set.flatMap(({ lo, hi }) => Array.from({ length: hi - lo }, (_, i) => lo + i))
}
