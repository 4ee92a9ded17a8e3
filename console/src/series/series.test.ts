import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { counterRates } from './counter.ts'
import { appendRow, emptyTable, lastKnown, mergeTables, type SeriesTable, stack, tableFrom, withGaps } from './table.ts'

const value = fc.option(fc.double({ noNaN: true, min: -1e6, max: 1e6 }))
const table: fc.Arbitrary<SeriesTable> = fc.uniqueArray(fc.nat(200), { maxLength: 30 }).chain(times =>
  fc.record({
    times: fc.constant(times.sort((a, b) => a - b)),
    columns: fc.dictionary(
      fc.constantFrom('a', 'b', 'c'),
      fc.array(value, { minLength: times.length, maxLength: times.length }),
      { noNullPrototype: true },
    ),
  }),
)

const isAligned = ({ times, columns }: SeriesTable) =>
  times.every((time, i) => i === 0 || time > (times[i - 1] ?? time)) &&
  Object.values(columns).every(column => column.length === times.length)

test('a range query becomes aligned columns; what a series does not know stays unknown', () => {
  const { times, columns } = tableFrom(
    [
      {
        metric: { mode: 'user', cpu: '0' },
        values: [
          [10, '1'],
          [20, '2'],
        ],
      },
      { metric: { mode: 'user', cpu: '1' }, values: [[10, '0.5']] },
      {
        metric: { mode: 'idle' },
        values: [
          [20, 'NaN'],
          [30, '7'],
        ],
      },
      { metric: {}, values: [[40, '9']] },
    ],
    metric => metric.mode ?? null,
  )
  assert.deepEqual(times, [10, 20, 30])
  assert.deepEqual(columns, { user: [1.5, 2, null], idle: [null, null, 7] })
})

test('live rows continue a seeded table: repeats are ignored, the window moves, a silence breaks the line', () => {
  const o = { windowS: 25, gapS: 12 }
  let one: SeriesTable = { times: [0, 5, 10], columns: { a: [1, 2, 3] } }
  one = appendRow(one, 10, { a: 99 }, o)
  assert.deepEqual(one.columns.a, [1, 2, 3])
  one = appendRow(one, 15, { a: 4, b: 1 }, o)
  assert.deepEqual(one, { times: [0, 5, 10, 15], columns: { a: [1, 2, 3, 4], b: [null, null, null, 1] } })
  one = appendRow(one, 35, { a: 5 }, o)
  assert.deepEqual(one, { times: [10, 15, 21, 35], columns: { a: [3, 4, null, 5], b: [null, 1, null, null] } })
})

test('appending and merging keep tables aligned and ascending; merging nothing changes nothing; merging twice is once', () => {
  fc.assert(
    fc.property(table, table, fc.array(fc.tuple(fc.nat(300), value), { maxLength: 20 }), (a, b, rows) => {
      let live = a
      for (const [time, v] of rows) live = appendRow(live, time, { a: v }, { windowS: 50, gapS: 7 })
      const merged = mergeTables(a, b)
      assert.ok(isAligned(live) && isAligned(merged))
      assert.deepEqual(mergeTables(a, emptyTable), { ...a })
      assert.deepEqual(mergeTables(merged, b), merged)
    }),
  )
})

test('a hole in what was asked breaks the line too, and what was known stays known', () => {
  const holed = { times: [0, 5, 40, 45], columns: { a: [1, 2, 3, 4] } }
  assert.deepEqual(withGaps(holed, 12), { times: [0, 5, 22.5, 40, 45], columns: { a: [1, 2, null, 3, 4] } })
  fc.assert(
    fc.property(table, fc.integer({ min: 1, max: 50 }), (one, gapS) => {
      const broken = withGaps(one, gapS)
      assert.ok(isAligned(broken))
      for (const [key, column] of Object.entries(one.columns))
        assert.deepEqual(
          broken.columns[key]?.filter((_, i) => one.times.includes(broken.times[i] ?? -1)),
          column,
        )
    }),
  )
})

test('the top of a stack is the sum, each layer lies on the one below, and unknown everywhere stays unknown', () => {
  assert.deepEqual(
    stack([
      [1, null, 2, null],
      [3, null, null, 4],
    ]),
    [
      [1, null, 2, null],
      [4, null, 2, 4],
    ],
  )
  const column = fc.array(fc.option(fc.nat(1000)), { minLength: 6, maxLength: 6 })
  fc.assert(
    fc.property(fc.array(column, { minLength: 1, maxLength: 6 }), columns => {
      const top = stack(columns).at(-1) ?? []
      for (let i = 0; i < 6; i++) {
        const known = columns.map(one => one[i] ?? null).filter(v => v !== null)
        assert.equal(top[i] ?? null, known.length === 0 ? null : known.reduce((sum, v) => sum + v, 0))
      }
    }),
  )
})

test('a counter becomes a rate, a restart counts from zero, a repeat or a long hole says nothing', () => {
  const rates = counterRates()
  assert.equal(rates.rate('rx', 0, 1000), null)
  assert.equal(rates.rate('rx', 5_000, 2000), 200)
  assert.equal(rates.rate('rx', 5_000, 2000), null)
  assert.equal(rates.rate('rx', 10_000, 50), 10)
  assert.equal(rates.rate('rx', 10_000 + 601_000, 900), null)
  assert.equal(rates.rate('tx', 10_000, 1), null)
})

test('the newest known value skips what is not known yet', () => {
  assert.equal(lastKnown([1, 2, null]), 2)
  assert.equal(lastKnown([null]), null)
  assert.equal(lastKnown(undefined), null)
})
