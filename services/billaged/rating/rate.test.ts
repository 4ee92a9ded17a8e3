import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { e9 } from '../decimal.ts'
import { examplePlan, type PlanVersion, versionJson, versionSchema } from './plan.ts'
import { type Hours, type MeterUsage, ratePeriod, share } from './rate.ts'

const january: Hours = { from: 491_000, to: 491_744 }
const version = (prices: unknown[], more: object = {}): PlanVersion =>
  versionSchema.parse({ effectiveFrom: '2026-01-01T00:00:00Z', prices, ...more })
const used = (meter: string, quantity: bigint, group: Record<string, string> = {}): MeterUsage => ({
  meter,
  group,
  quantityE9: quantity * e9,
})
const plan = { id: 'std', version: 1 }
const rate = (v: PlanVersion, usage: MeterUsage[], segment = january) =>
  ratePeriod(january, [{ segment, plan, version: v, usage }])

const tiersOf = (bounds: bigint[], amounts: bigint[], flats: bigint[]) =>
  [...bounds, null].map((upTo, i) => ({
    upTo: upTo === null ? null : `${upTo}`,
    amountNano: `${amounts[i] ?? 0n}`,
    flatNano: `${flats[i] ?? 0n}`,
  }))

const small = fc.bigInt({ min: 0n, max: 300n })
const tierSetup = fc
  .tuple(
    fc.uniqueArray(fc.bigInt({ min: 1n, max: 200n }), { maxLength: 4 }),
    fc.array(small, { minLength: 5, maxLength: 5 }),
    fc.array(small, { minLength: 5, maxLength: 5 }),
  )
  .map(([bounds, amounts, flats]) => ({ bounds: bounds.toSorted((a, b) => Number(a - b)), amounts, flats }))

test('graduated tiers equal a loop that prices one unit at a time', () => {
  fc.assert(
    fc.property(tierSetup, small, fc.bigInt({ min: 0n, max: 20n }), (setup, quantity, free) => {
      const { bounds, amounts, flats } = setup
      const price = {
        id: 'p',
        model: 'graduated',
        meter: 'm',
        per: '1',
        tiers: tiersOf(bounds, amounts, flats),
        freeQuantity: `${free}`,
      }
      let expected = 0n
      const entered = new Set<number>()
      for (let unit = 1n; unit <= quantity - free; unit++) {
        const tier = bounds.findIndex(bound => unit <= bound)
        const at = tier === -1 ? bounds.length : tier
        expected += amounts[at] ?? 0n
        if (!entered.has(at)) expected += flats[at] ?? 0n
        entered.add(at)
      }
      assert.equal(rate(version([price]), [used('m', quantity)]).totalNano, expected)
    }),
  )
})

test('volume prices every unit at the tier that holds the quantity', () => {
  fc.assert(
    fc.property(tierSetup, fc.bigInt({ min: 1n, max: 300n }), ({ bounds, amounts, flats }, quantity) => {
      const price = { id: 'p', model: 'volume', meter: 'm', per: '1', tiers: tiersOf(bounds, amounts, flats) }
      const at = bounds.findIndex(bound => quantity <= bound)
      const tier = at === -1 ? bounds.length : at
      const expected = quantity * (amounts[tier] ?? 0n) + (flats[tier] ?? 0n)
      assert.equal(rate(version([price]), [used('m', quantity)]).totalNano, expected)
    }),
  )
})

const big = fc.bigInt({ min: 0n, max: 10n ** 24n })

test('a charge is one exact rational, floored once, and its parts stay with the line', () => {
  fc.assert(
    fc.property(
      big,
      fc.bigInt({ min: 1n, max: 10n ** 22n }),
      fc.bigInt({ min: 0n, max: 10n ** 12n }),
      (quantityE9, per, amountNano) => {
        const v = version([{ id: 'p', model: 'per_unit', meter: 'm', per: `${per}`, amountNano: `${amountNano}` }])
        const { lines, totalNano } = ratePeriod(january, [
          { segment: january, plan, version: v, usage: [{ meter: 'm', group: {}, quantityE9 }] },
        ])
        for (const line of lines) {
          assert.equal(line.amountNano * line.divisor + line.remainder, line.dividend)
          assert.ok(line.remainder >= 0n && line.remainder < line.divisor)
          assert.equal(line.dividend * per * e9, quantityE9 * amountNano * line.divisor)
        }
        assert.equal(totalNano, (quantityE9 * amountNano) / (per * e9))
      },
    ),
  )
  const v = version([{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' }])
  // The specification's own example.
  const [line] = rate(v, [used('vm_cpu', 444_444_440_436_000n)]).lines
  assert.equal(line?.amountNano, 12_345_678_901n)
})

test('package charges every package begun, cost_plus the money itself plus its markup', () => {
  const v = version([
    { id: 'k', model: 'package', meter: 'm', packageSize: '1000', amountNano: '7' },
    { id: 'c', model: 'cost_plus', meter: 'ai_cost', markupPpm: 200_000 },
  ])
  const amounts = (q: bigint) => rate(v, [used('m', q), used('ai_cost', q)]).lines.map(line => line.amountNano)
  assert.deepEqual(amounts(1000n), [7n, 1200n])
  assert.deepEqual(amounts(1001n), [14n, 1201n])
  assert.deepEqual(amounts(0n), [])
})

test('G33: flat fees, allowance, tier bounds and minimum are shared over the segments of a changed plan by cumulative floor', () => {
  const v = version(
    [
      { id: 'base', model: 'flat', amountNano: '745' },
      { id: 'p', model: 'per_unit', meter: 'm', per: '1', amountNano: '1', freeQuantity: '744' },
    ],
    { minimumNano: '2000' },
  )
  const cut = january.from + 100
  const segments = [
    { segment: { from: january.from, to: cut }, plan, version: v, usage: [used('m', 150n)] },
    { segment: { from: cut, to: january.to }, plan, version: v, usage: [used('m', 644n)] },
  ]
  const { lines, totalNano } = ratePeriod(january, segments)
  assert.deepEqual(
    lines.map(line => [line.kind, line.amountNano]),
    [
      ['flat', 100n],
      ['usage', 50n],
      ['flat', 645n],
      ['usage', 0n],
      ['minimum', 1205n],
    ],
  )
  assert.equal(totalNano, 2000n)

  // 744 hours in two parts of 100 and 644: so are a bound of 1,488 units and a tier's fee of 745, to the unit.
  const tiered = version([
    {
      id: 'g',
      model: 'graduated',
      meter: 'm',
      per: '1',
      tiers: [
        { upTo: '1488', amountNano: '1' },
        { upTo: null, amountNano: '3', flatNano: '745' },
      ],
    },
  ])
  const parts = ratePeriod(january, [
    { segment: { from: january.from, to: cut }, plan, version: tiered, usage: [used('m', 201n)] },
    { segment: { from: cut, to: january.to }, plan, version: tiered, usage: [used('m', 1289n)] },
  ]).lines
  assert.deepEqual(
    parts.map(line => line.tiers.map(({ upTo, quantityE9, flatNano }) => [upTo, quantityE9 / e9, flatNano])),
    [
      [
        [200n, 200n, 0n],
        [null, 1n, 100n],
      ],
      [
        [1288n, 1288n, 0n],
        [null, 1n, 645n],
      ],
    ],
  )
  // However a period is cut, what is shared comes out whole.
  fc.assert(
    fc.property(big, fc.array(fc.nat(744), { maxLength: 8 }), (whole, cuts) => {
      const edges = [...new Set([january.from, ...cuts.map(at => january.from + at), january.to])].toSorted(
        (a, b) => a - b,
      )
      const shares = edges.slice(1).map((to, k) => share(whole, { from: edges[k] ?? to, to }, january))
      assert.equal(
        shares.reduce((sum, n) => sum + n, 0n),
        whole,
      )
    }),
  )
})

test('prices of one meter are tried in order; usage that none takes is unrated unless the plan says unbilled', () => {
  const v = version(
    [
      { id: 'openai', model: 'cost_plus', meter: 'ai_cost', match: { provider: 'openai' }, markupPpm: 0 },
      { id: 'rest', model: 'cost_plus', meter: 'ai_cost', markupPpm: 1_000_000 },
    ],
    { unbilled: ['log_entries'] },
  )
  const { lines, unrated } = rate(v, [
    used('ai_cost', 10n, { provider: 'openai', model: 'a' }),
    used('ai_cost', 5n, { provider: 'google', model: 'b' }),
    used('log_entries', 5n),
    used('log_bytes', 9n),
    used('vm_memory_peak', 9n),
    used('build_ms', 0n),
  ])
  assert.deepEqual(
    lines.map(line => [line.priceId, line.amountNano]),
    [
      ['openai', 10n],
      ['rest', 10n],
    ],
  )
  assert.deepEqual(
    unrated.map(item => item.meter),
    ['log_bytes'],
  )
})

test('a plan version reads back as it was written, and nonsense is refused with the field named', () => {
  const written = versionSchema.parse(examplePlan.version)
  assert.deepEqual(versionSchema.parse(versionJson(written)), written)
  const problems = (input: unknown) =>
    versionSchema.safeParse(input).error?.issues.map(issue => issue.path.join('.')) ?? []
  const cpu = examplePlan.version.prices[0]
  assert.deepEqual(problems({ effectiveFrom: '2026-01-01T00:30:00Z', prices: [] }), ['effectiveFrom'])
  assert.deepEqual(problems({ effectiveFrom: '2026-01-01T00:00:00Z', prices: [{ ...cpu, amountNano: 5 }] }), [
    'prices.0.amountNano',
  ])
  assert.deepEqual(problems({ effectiveFrom: '2026-01-01T00:00:00Z', prices: [cpu, cpu] }), ['prices'])
  const tiers = [{ upTo: '5', amountNano: '1' }]
  assert.deepEqual(
    problems({
      effectiveFrom: '2026-01-01T00:00:00Z',
      prices: [{ id: 'g', model: 'graduated', meter: 'm', per: '1', tiers }],
    }),
    ['prices.0.tiers'],
  )
})
