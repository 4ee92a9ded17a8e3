import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { e9 } from '../decimal.ts'
import { versionSchema } from '../rating/plan.ts'
import { type Hours, type Line, ratePeriod } from '../rating/rate.ts'
import { adjustmentsOf } from './adjust.ts'
import { draftInvoice } from './draft.ts'
import type { Draft, InvoiceLine } from './invoice.ts'

// Months that close one after the other while their data comes whenever it likes.

const months: Hours[] = [0, 1, 2, 3].map(i => ({ from: 490_896 + i * 744, to: 490_896 + (i + 1) * 744 }))
const taxPpm = 190_000

/** Falling tiers, a fee on entering the second, an allowance, a minimum; or a plan that came later and is dearer. */
const versions = [7n, 11n].map(amount =>
  versionSchema.parse({
    effectiveFrom: '2020-01-01T00:00:00Z',
    minimumNano: '700000001',
    prices: [
      { id: 'base', model: 'flat', amountNano: '50000003' },
      {
        id: 'cpu',
        model: 'graduated',
        meter: 'vm_cpu',
        per: '3',
        freeQuantity: '5',
        tiers: [
          { upTo: '40', amountNano: `${amount}0000001` },
          { upTo: null, amountNano: `${amount}000001`, flatNano: '11000000' },
        ],
      },
      { id: 'calls', model: 'package', meter: 'calls', packageSize: '10', amountNano: '90000001' },
    ],
  }),
)

interface Fact {
  month: number
  meter: 'vm_cpu' | 'calls'
  units: bigint
}

function rated(month: Hours, facts: readonly Fact[], version: number): Line[] {
  const [at, plan] = [months.indexOf(month), versions[version]]
  if (plan === undefined) throw new Error('there are two versions')
  const usage = (['vm_cpu', 'calls'] as const).map(meter => ({
    meter,
    group: {},
    quantityE9: facts
      .filter(fact => fact.month === at && fact.meter === meter)
      .reduce((sum, { units }) => sum + units * e9, 0n),
  }))
  return ratePeriod(month, [{ segment: month, plan: { id: 'std', version: version + 1 }, version: plan, usage }]).lines
}

const facts = fc.array(
  fc.record({
    month: fc.nat(2),
    meter: fc.constantFrom('vm_cpu' as const, 'calls' as const),
    units: fc.bigInt({ min: 1n, max: 60n }),
    /** The close before which it arrives: never before its month's own, at most one behind the last. */
    late: fc.nat(3),
  }),
  { maxLength: 14 },
)

/** Closes the months in order, each with what is known by then; late facts and the new plan correct the next ones. */
function run(all: readonly (Fact & { late: number })[], planChangesAt: number): Draft[] {
  const invoices: Draft[] = []
  for (const [now, month] of months.entries()) {
    const known = all.filter(fact => Math.min(fact.month + fact.late, months.length - 1) <= now)
    const version = now >= planChangesAt ? 1 : 0
    const charges = rated(month, known, version)
    const adjustments = invoices.flatMap((invoice, i) => {
      const period = months[i]
      if (period === undefined) return []
      const billed = invoices.flatMap(({ lines }, at) =>
        lines.filter(
          line => (at === i && isCharge(line)) || (line.kind === 'adjustment' && line.adjustsPeriod === period),
        ),
      )
      return adjustmentsOf({ ...invoice, billed, rated: rated(period, known, version) })
    })
    invoices.push(
      draftInvoice({
        customerId: 'acme',
        period: month,
        revision: 0,
        currency: 'USD',
        taxPpm,
        taxName: null,
        charges,
        adjustments,
        grants: [],
      }),
    )
  }
  return invoices
}

const isCharge = (line: InvoiceLine) => ['usage', 'flat', 'minimum'].includes(line.kind)
const sum = (lines: readonly { amountNano: bigint }[]) => lines.reduce((total, line) => total + line.amountNano, 0n)

test('G38: in whatever order data comes and whenever the plan changes, all that is billed for a month is that month rated once; each correction names its line and cause', () => {
  fc.assert(
    fc.property(facts, fc.integer({ min: 0, max: 4 }), (all, planChangesAt) => {
      const invoices = run(all, planChangesAt)
      const known = new Set<string>()
      for (const [i, month] of months.entries()) {
        const billed = invoices.flatMap(({ lines }, at) =>
          lines.filter(
            line => (at === i && isCharge(line)) || (line.kind === 'adjustment' && line.adjustsPeriod === month),
          ),
        )
        const once = rated(month, all, planChangesAt <= 3 ? 1 : 0)
        assert.equal(sum(billed), sum(once))
        // Line by line too: each original line and its corrections come to the line of the one rating.
        const ends = new Map<string, bigint>()
        for (const line of billed) {
          const id = line.adjusts ?? line.id
          ends.set(id, (ends.get(id) ?? 0n) + line.amountNano)
        }
        const final = [...ends.values()].filter(amount => amount !== 0n).toSorted(order)
        assert.deepEqual(
          final,
          once
            .map(line => line.amountNano)
            .filter(amount => amount !== 0n)
            .toSorted(order),
        )
        for (const line of billed) {
          known.add(line.id)
          if (line.kind !== 'adjustment') continue
          // It corrects a line that was billed, or one that would have been there.
          assert.ok(line.adjusts !== null && (known.has(line.adjusts) || line.billedNano === 0n))
          assert.ok(
            line.cause === 'late_data' || (line.cause === 'plan_changed' && planChangesAt > i && planChangesAt < 4),
          )
          known.add(line.adjusts)
          assert.equal(line.amountNano, line.dividend / line.divisor - line.billedNano)
        }
      }
      // Tax is of what the invoice's lines come to, corrections included, floored once; so it unwinds with them.
      for (const { lines, totalNano } of invoices) {
        const net = sum(lines.filter(line => isCharge(line) || line.kind === 'adjustment'))
        const tax = net * BigInt(taxPpm)
        const floored = (tax - (((tax % 1_000_000n) + 1_000_000n) % 1_000_000n)) / 1_000_000n
        assert.equal(sum(lines.filter(line => line.kind === 'tax')), floored)
        assert.ok(totalNano >= 0n)
      }
    }),
    { numRuns: 200 },
  )
})

const order = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)

test('G38: two histories of the same facts end in the same bill', () => {
  fc.assert(
    fc.property(facts, fc.array(fc.nat(3), { minLength: 14, maxLength: 14 }), (all, delays) => {
      const other = all.map((fact, i) => ({ ...fact, late: delays[i] ?? 0 })).toReversed()
      const net = (invoices: readonly Draft[]) =>
        sum(invoices.flatMap(({ lines }) => lines.filter(line => isCharge(line) || line.kind === 'adjustment')))
      assert.equal(net(run(all, 9)), net(run(other, 9)))
    }),
  )
})
