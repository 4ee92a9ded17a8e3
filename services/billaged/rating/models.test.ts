import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import fc from 'fast-check'
import { e9 } from '../decimal.ts'
import { draftInvoice } from '../invoices/draft.ts'
import { lineOf, lineView } from '../invoices/view.ts'
import { type PlanVersion, type Price, versionSchema } from './plan.ts'
import { type Hours, type Line, type MeterUsage, rateLine, ratePeriod } from './rate.ts'

const january: Hours = { from: 490_896, to: 491_640 }
const plan = { id: 'std', version: 1 }
const versionOf = (prices: unknown[], more: object = {}): PlanVersion =>
  versionSchema.parse({ effectiveFrom: '2020-01-01T00:00:00Z', prices, ...more })
const rate = (v: PlanVersion, usage: MeterUsage[], segment = january) =>
  ratePeriod(january, [{ segment, plan, version: v, usage }])

const coreHour = 3_600_000_000_000n
const gib = 1n << 30n
const gibHour = gib * coreHour

test('golden: every price model, worked by hand', () => {
  const v = versionOf([
    { id: 'base', model: 'flat', amountNano: '20000000000' },
    { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: `${coreHour}`, amountNano: '100000000' },
    // 10 GiB-hours free, then 0.05 each.
    {
      id: 'memory',
      model: 'per_unit',
      meter: 'vm_memory',
      per: `${gibHour}`,
      amountNano: '50000000',
      freeQuantity: `${10n * gibHour}`,
    },
    // 100 GiB at nothing, up to 1,000 at 0.15 with 1.00 on entering, then 0.12.
    {
      id: 'egress',
      model: 'graduated',
      meter: 'vm_net_tx',
      per: `${gib}`,
      tiers: [
        { upTo: `${100n * gib}`, amountNano: '0' },
        { upTo: `${1000n * gib}`, amountNano: '150000000', flatNano: '1000000000' },
        { upTo: null, amountNano: '120000000' },
      ],
    },
    // All of it at 0.02 up to 50 GiB, at 0.01 above.
    {
      id: 'writes',
      model: 'volume',
      meter: 'vm_disk_write',
      per: `${gib}`,
      tiers: [
        { upTo: `${50n * gib}`, amountNano: '20000000' },
        { upTo: null, amountNano: '10000000', flatNano: '300000000' },
      ],
    },
    { id: 'tokens', model: 'package', meter: 'ai_tokens', packageSize: '1000000', amountNano: '3000000000' },
    { id: 'ai', model: 'cost_plus', meter: 'ai_cost', match: { provider: 'openai' }, markupPpm: 200_000 },
  ])
  const { lines, totalNano } = rate(v, [
    { meter: 'vm_cpu', group: {}, quantityE9: 444_444_440_436_000n * e9 },
    // 25.5 GiB-hours
    { meter: 'vm_memory', group: {}, quantityE9: ((51n * gibHour) / 2n) * e9 },
    { meter: 'vm_net_tx', group: {}, quantityE9: 1200n * gib * e9 },
    { meter: 'vm_disk_write', group: {}, quantityE9: 60n * gib * e9 },
    { meter: 'ai_tokens', group: {}, quantityE9: 2_000_001n * e9 },
    { meter: 'ai_cost', group: { provider: 'openai', model: 'm' }, quantityE9: 1_500_000_000n * e9 + e9 / 2n },
  ])
  assert.deepEqual(
    lines.map(line => [line.priceId, line.amountNano]),
    [
      ['base', 20_000_000_000n],
      // 123.45678901 core-hours × 0.10
      ['cpu', 12_345_678_901n],
      // 15.5 × 0.05
      ['memory', 775_000_000n],
      // 1.00 + 900 × 0.15 + 200 × 0.12
      ['egress', 160_000_000_000n],
      // 60 × 0.01 + 0.30
      ['writes', 900_000_000n],
      // Three packages begun.
      ['tokens', 9_000_000_000n],
      // 1.5000000005 × 1.2 = 1.8000000006, floored once.
      ['ai', 1_800_000_000n],
    ],
  )
  assert.equal(totalNano, 204_820_678_901n)
  const ai = lines.at(-1)
  assert.deepEqual([ai?.dividend, ai?.divisor, ai?.remainder], [1_800_000_000_600_000n, 1_000_000n, 600_000n])
})

// Quantities far beyond 2⁵³, with up to nine digits behind the point.
const quantity = fc.oneof(
  fc.bigInt({ min: 0n, max: 400n }).map(n => n * e9),
  fc.bigInt({ min: 0n, max: 10n ** 42n }),
)
const amount = fc.bigInt({ min: 0n, max: 10n ** 15n })
const per = fc.oneof(fc.bigInt({ min: 1n, max: 50n }), fc.bigInt({ min: 1n, max: 10n ** 22n }))
const free = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 100n }), fc.bigInt({ min: 0n, max: 10n ** 26n }))
const tiers = fc
  .tuple(
    fc.uniqueArray(fc.bigInt({ min: 1n, max: 10n ** 25n }), { maxLength: 4 }),
    fc.array(fc.tuple(amount, amount), { minLength: 5, maxLength: 5 }),
  )
  .map(([bounds, prices]) => {
    const sorted = bounds.toSorted((a, b) => (a < b ? -1 : 1))
    return [...sorted, null].map((upTo, i) => ({
      upTo,
      amountNano: prices[i]?.[0] ?? 0n,
      flatNano: prices[i]?.[1] ?? 0n,
    }))
  })
const named = { id: fc.constant('p'), meter: fc.constant('m'), match: fc.constant({}) }
const prices: fc.Arbitrary<Price> = fc.oneof(
  fc.record({ id: fc.constant('p'), model: fc.constant('flat' as const), amountNano: amount }),
  fc.record({ ...named, model: fc.constant('per_unit' as const), per, amountNano: amount, freeQuantity: free }),
  fc.record({
    ...named,
    model: fc.constantFrom('graduated' as const, 'volume' as const),
    per,
    tiers,
    freeQuantity: free,
  }),
  fc.record({
    ...named,
    model: fc.constant('package' as const),
    packageSize: per,
    amountNano: amount,
    freeQuantity: free,
  }),
  fc.record({ ...named, model: fc.constant('cost_plus' as const), markupPpm: fc.nat(1_000_000_000) }),
)
const segments = fc.tuple(fc.nat(743), fc.integer({ min: 1, max: 744 })).map(([from, length]) => ({
  from: january.from + from,
  to: Math.min(january.to, january.from + from + length),
}))

/** What a price asks, as a fraction of whole numbers; written from the specification, not from the code. */
function oracle(price: Price, quantityE9: bigint, segment: Hours): [dividend: bigint, divisor: bigint] {
  const [h1, h2, h] = [segment.from - january.from, segment.to - january.from, january.to - january.from].map(BigInt)
  const shared = (x: bigint) => (x * (h2 ?? 0n)) / (h ?? 1n) - (x * (h1 ?? 0n)) / (h ?? 1n)
  if (price.model === 'flat') return [shared(price.amountNano), 1n]
  if (price.model === 'cost_plus') return [quantityE9 * (1_000_000n + BigInt(price.markupPpm)), 1_000_000n * e9]
  const freeE9 = shared(price.freeQuantity) * e9
  const rest = quantityE9 > freeE9 ? quantityE9 - freeE9 : 0n
  if (price.model === 'per_unit') return [rest * price.amountNano, price.per * e9]
  if (price.model === 'package') {
    const size = price.packageSize * e9
    let packages = rest / size
    if (packages * size < rest) packages += 1n
    return [packages * price.amountNano, 1n]
  }
  let dividend = 0n
  let floor = 0n
  for (const tier of price.tiers) {
    const ceiling = tier.upTo === null ? null : shared(tier.upTo) * e9
    const fee = shared(tier.flatNano) * price.per * e9
    if (price.model === 'volume') {
      if (rest === 0n) break
      if (ceiling !== null && rest > ceiling) continue
      return [rest * tier.amountNano + fee, price.per * e9]
    }
    const top = ceiling === null || rest < ceiling ? rest : ceiling
    if (top > floor) {
      dividend += (top - floor) * tier.amountNano + fee
      floor = top
    }
  }
  return [dividend, price.per * e9]
}

test('G30: a charge is one exact rational, floored once; what it was made of is stored with the line and comes back; no floating point is near', () => {
  fc.assert(
    fc.property(prices, quantity, segments, (price, quantityE9, segment) => {
      const line = rateLine(price, plan, quantityE9, segment, january)
      const [dividend, divisor] = oracle(price, quantityE9, segment)
      if (line === null) {
        assert.deepEqual([price.model === 'flat', quantityE9], [false, 0n])
        return
      }
      assert.equal(line.amountNano, dividend / divisor)
      // The same fraction, perhaps shortened by the billion of a whole quantity.
      assert.equal(line.dividend * divisor, dividend * line.divisor)
      assert.equal(line.amountNano * line.divisor + line.remainder, line.dividend)
      assert.ok(line.remainder >= 0n && line.remainder < line.divisor)
      assert.equal(line.quantityE9, quantityE9)
      const inTiers = line.tiers.reduce((sum, tier) => sum + tier.quantityE9, 0n)
      const billable = quantityE9 > line.freeE9 ? quantityE9 - line.freeE9 : 0n
      if (price.model === 'graduated' || price.model === 'volume') assert.equal(inTiers, billable)
      // Through JSON and back, as it is stored.
      const [drafted] = draftOf(line).lines
      if (drafted === undefined) assert.fail('a charge is a line')
      const stored = JSON.parse(JSON.stringify(lineView(drafted, () => 'ns')))
      assert.deepEqual(lineOf(stored), drafted)
      assert.deepEqual(
        [drafted.dividend, drafted.divisor, drafted.remainder, drafted.tiers, drafted.freeE9],
        [line.dividend, line.divisor, line.remainder, line.tiers, line.freeE9],
      )
    }),
    { numRuns: 1000 },
  )
  // Nothing that works out a quantity, a price or a sum turns one into a number.
  for (const file of [
    'rate.ts',
    '../invoices/draft.ts',
    '../invoices/adjust.ts',
    '../invoices/credits.ts',
    '../decimal.ts',
  ]) {
    const code = readFileSync(new URL(file, import.meta.url), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    const allowed = file === '../decimal.ts' ? code.replace('Number(exponent)', '') : code
    assert.doesNotMatch(allowed, /\bNumber\(|parseFloat|parseInt|Math\.|\.toFixed|\b\d+\.\d+\b/, file)
  }
})

function draftOf(line: Line) {
  return draftInvoice({
    customerId: 'acme',
    period: january,
    revision: 0,
    currency: 'USD',
    taxPpm: 0,
    taxName: null,
    charges: [line],
    adjustments: [],
    grants: [],
  })
}

test('G31: a unit at a time the models charge what they say, and the first price that matches takes the usage', () => {
  const few = fc.bigInt({ min: 0n, max: 60n })
  const rung = fc.tuple(
    fc.uniqueArray(fc.bigInt({ min: 1n, max: 40n }), { maxLength: 3 }),
    fc.array(few, { minLength: 8, maxLength: 8 }),
  )
  fc.assert(
    fc.property(rung, few, few, fc.bigInt({ min: 1n, max: 7n }), ([bounds, numbers], units, amountNano, size) => {
      const sorted = bounds.toSorted((a, b) => (a < b ? -1 : 1))
      const ladder = [...sorted, null].map((upTo, i) => ({
        upTo: upTo === null ? null : `${upTo}`,
        amountNano: `${numbers[i] ?? 0n}`,
        flatNano: `${numbers[i + 4] ?? 0n}`,
      }))
      const total = (price: object) =>
        rate(versionOf([{ id: 'p', meter: 'm', ...price }]), [{ meter: 'm', group: {}, quantityE9: units * e9 }])
          .totalNano
      const tierOf = (unit: bigint) => {
        const at = sorted.findIndex(bound => unit <= bound)
        return at === -1 ? sorted.length : at
      }
      const expected = { per_unit: 0n, graduated: 0n, volume: 0n, package: 0n, cost_plus: 0n }
      const entered = new Set<number>()
      for (let unit = 1n; unit <= units; unit++) {
        expected.per_unit += amountNano
        const tier = tierOf(unit)
        expected.graduated += (numbers[tier] ?? 0n) + (entered.has(tier) ? 0n : (numbers[tier + 4] ?? 0n))
        entered.add(tier)
        expected.volume += numbers[tierOf(units)] ?? 0n
        if ((unit - 1n) % size === 0n) expected.package += amountNano
        expected.cost_plus += 2n
      }
      if (units > 0n) expected.volume += numbers[tierOf(units) + 4] ?? 0n
      assert.deepEqual(
        {
          per_unit: total({ model: 'per_unit', per: '1', amountNano: `${amountNano}` }),
          graduated: total({ model: 'graduated', per: '1', tiers: ladder }),
          volume: total({ model: 'volume', per: '1', tiers: ladder }),
          package: total({ model: 'package', packageSize: `${size}`, amountNano: `${amountNano}` }),
          cost_plus: total({ model: 'cost_plus', markupPpm: 1_000_000 }),
        },
        expected,
      )
    }),
  )
  // In order, each usage once: whatever the groups and the order of the prices.
  const groups = fc.record({ provider: fc.constantFrom('a', 'b', 'c'), model: fc.constantFrom('x', 'y') })
  const matches = fc.array(
    fc.record({ provider: fc.constantFrom('a', 'b'), model: fc.constantFrom('x', 'y') }, { requiredKeys: [] }),
    { maxLength: 5 },
  )
  fc.assert(
    fc.property(matches, fc.array(fc.tuple(groups, few), { maxLength: 8 }), (wanted, usage) => {
      const v = versionOf(
        wanted.map((match, i) => ({ id: `p${i}`, model: 'per_unit', meter: 'm', match, per: '1', amountNano: '1' })),
      )
      const { lines, unrated } = rate(
        v,
        usage.map(([group, n]) => ({ meter: 'm', group, quantityE9: n * e9 })),
      )
      const taken = new Map<string, bigint>()
      let left = 0n
      for (const [group, n] of usage) {
        const at = wanted.findIndex(
          match =>
            (match.provider ?? group.provider) === group.provider && (match.model ?? group.model) === group.model,
        )
        if (at === -1) left += n
        else taken.set(`p${at}`, (taken.get(`p${at}`) ?? 0n) + n)
      }
      for (const [id, n] of taken) assert.equal(lines.find(line => line.priceId === id)?.amountNano ?? 0n, n)
      assert.equal(
        lines.reduce((sum, line) => sum + line.amountNano, 0n),
        [...taken.values()].reduce((sum, n) => sum + n, 0n),
      )
      assert.equal(
        unrated.reduce((sum, item) => sum + item.quantityE9, 0n),
        left * e9,
      )
    }),
  )
})

test('rating is monotone: more usage never costs less under rising prices, and no price costs less than nothing', () => {
  fc.assert(
    fc.property(prices, quantity, quantity, segments, (price, a, b, segment) => {
      const charge = (q: bigint) => rateLine(price, plan, q, segment, january)?.amountNano ?? 0n
      assert.ok(charge(a) >= 0n)
      // A volume price drops at a bound by design.
      if (price.model !== 'volume') assert.ok(a <= b ? charge(a) <= charge(b) : charge(a) >= charge(b))
    }),
  )
})
