import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { e9 } from '../decimal.ts'
import { nanoPerMinor } from '../rating/currency.ts'
import { versionSchema } from '../rating/plan.ts'
import { type Hours, type Line, ratePeriod } from '../rating/rate.ts'
import { type Adjustment, adjustmentsOf } from './adjust.ts'
import type { CreditBalance } from './credits.ts'
import { type DraftInput, draftInvoice } from './draft.ts'
import type { InvoiceLine } from './invoice.ts'

const january: Hours = { from: 490_896, to: 491_640 }
const february: Hours = { from: 491_640, to: 492_312 }
const plan = { id: 'std', version: 1 }

/** A period's rating under a small plan: 7 a unit, 50 flat, and a minimum. */
function rated(period: Hours, units: bigint, minimumNano: bigint): Line[] {
  const version = versionSchema.parse({
    effectiveFrom: '2020-01-01T00:00:00Z',
    minimumNano: `${minimumNano}`,
    prices: [
      { id: 'base', model: 'flat', amountNano: '50000000' },
      { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '1', amountNano: '7000003' },
    ],
  })
  const usage = [{ meter: 'vm_cpu', group: {}, quantityE9: units * e9 }]
  return ratePeriod(period, [{ segment: period, plan, version, usage }]).lines
}

const input = (more: Partial<DraftInput>): DraftInput => ({
  customerId: 'acme',
  period: february,
  revision: 0,
  currency: 'USD',
  taxPpm: 0,
  taxName: null,
  charges: [],
  adjustments: [],
  grants: [],
  ...more,
})

const grant = (id: string, kind: CreditBalance['kind'], leftNano: bigint, more: Partial<CreditBalance> = {}) => ({
  id,
  kind,
  currency: 'USD',
  leftNano,
  priority: 1,
  fromMs: 0,
  expiresMs: null,
  createdMs: 0,
  ...more,
})

const nano = fc.bigInt({ min: 0n, max: 10n ** 12n })
const signed = fc.bigInt({ min: -(10n ** 12n), max: 10n ** 12n })

function adjustment(amountNano: bigint, taxPpm: number, adjusts: string): Adjustment {
  const [shape] = draftInvoice(input({ charges: rated(january, 1n, 0n) })).lines
  if (shape === undefined) throw new Error('the plan has a flat fee')
  return { taxPpm, line: { ...shape, kind: 'adjustment', amountNano, adjusts, adjustsPeriod: january } }
}

const inputs = fc
  .record({
    units: fc.bigInt({ min: 0n, max: 1_000n }),
    minimumNano: nano,
    taxPpm: fc.constantFrom(0, 75_000, 190_000, 1_000_000),
    adjustments: fc.array(fc.tuple(signed, fc.constantFrom(0, 190_000)), { maxLength: 4 }),
    grants: fc.array(
      fc.record({
        kind: fc.constantFrom('promotional' as const, 'prepaid' as const),
        leftNano: nano.map(n => n + 1n),
        priority: fc.nat(2),
        expiresMs: fc.option(fc.integer({ min: february.to * 3_600_000, max: february.to * 3_600_000 + 2 })),
        createdMs: fc.nat(3),
      }),
      { maxLength: 5 },
    ),
    currency: fc.constantFrom('USD', 'JPY', 'KWD'),
  })
  .map(o =>
    input({
      ...o,
      charges: rated(february, o.units, o.minimumNano),
      adjustments: o.adjustments.map(([amount, ppm], i) => adjustment(amount, ppm, `li_${i}`)),
      grants: o.grants.map((g, i) => grant(`cr_${i}`, g.kind, g.leftNano, { ...g, currency: o.currency })),
    }),
  )

const sum = (amounts: readonly bigint[]) => amounts.reduce((total, n) => total + n, 0n)
const of = (lines: readonly InvoiceLine[], ...kinds: string[]) =>
  sum(lines.filter(line => kinds.includes(line.kind)).map(line => line.amountNano))

/** The order of the specification once more, nano by nano where credits burn; shares nothing with the code tested. */
function oracle(o: DraftInput) {
  const base: Record<number, bigint> = {}
  const order = [o.taxPpm, ...o.adjustments.map(a => a.taxPpm)].filter((ppm, i, all) => all.indexOf(ppm) === i)
  for (const ppm of order)
    base[ppm] =
      (ppm === o.taxPpm ? sum(o.charges.map(line => line.amountNano)) : 0n) +
      sum(o.adjustments.filter(a => a.taxPpm === ppm).map(a => a.line.amountNano))
  const left = new Map(o.grants.map(g => [g.id, g.leftNano]))
  const inOrder = [...o.grants].sort(
    (a, b) =>
      a.priority - b.priority ||
      (a.expiresMs ?? 9e15) - (b.expiresMs ?? 9e15) ||
      a.createdMs - b.createdMs ||
      (a.id < b.id ? -1 : 1),
  )
  const spend = (kind: string, want: bigint) => {
    let paid = 0n
    for (const g of inOrder)
      if (g.kind === kind)
        while (paid < want && (left.get(g.id) ?? 0n) > 0n) {
          // In strides: one nano at a time would take a day.
          const rest = [left.get(g.id) ?? 0n, want - paid].reduce((a, b) => (a < b ? a : b))
          const stride = rest > 1_000n ? rest / 2n : 1n
          left.set(g.id, (left.get(g.id) ?? 0n) - stride)
          paid += stride
        }
    return paid
  }
  const subtotal = sum(Object.values(base))
  const promotional = spend('promotional', subtotal)
  let off = promotional
  let taxed = 0n
  for (const ppm of order) {
    const positive = (base[ppm] ?? 0n) > 0n ? (base[ppm] ?? 0n) : 0n
    const taken = positive < off ? positive : off
    off -= taken
    const dividend = ((base[ppm] ?? 0n) - taken) * BigInt(ppm)
    taxed += (dividend - (((dividend % 1_000_000n) + 1_000_000n) % 1_000_000n)) / 1_000_000n
  }
  const beforePrepaid = subtotal - promotional + taxed
  const prepaid = spend('prepaid', beforePrepaid)
  const total = beforePrepaid - prepaid
  const carried = total < 0n ? -total : 0n
  return { promotional, taxed, prepaid, carried, total: total < 0n ? 0n : total, left }
}

test('G35, G36: an invoice equals the order of the specification done once more by hand; its lines sum to the amount due', () => {
  fc.assert(
    fc.property(inputs, o => {
      const draft = draftInvoice(o)
      const expected = oracle(o)
      assert.equal(draft.totalNano, expected.total)
      assert.equal(of(draft.lines, 'tax'), expected.taxed)
      assert.equal(of(draft.lines, 'prepaid'), -expected.prepaid)
      assert.equal(draft.carriedNano, expected.carried)
      assert.equal(of(draft.lines, 'credit'), expected.carried - expected.promotional)
      const due = draft.dueMinor * nanoPerMinor(o.currency)
      assert.equal(sum(draft.lines.map(line => line.amountNano)), due)
      assert.ok(due >= 0n && due <= draft.totalNano && draft.totalNano - due < nanoPerMinor(o.currency))
      // Never more than a grant holds, each burned as the oracle burns it.
      for (const g of o.grants) {
        const burned = sum(draft.burns.filter(b => b.grantId === g.id).map(b => b.amountNano))
        assert.equal(g.leftNano - burned, expected.left.get(g.id))
        assert.ok(burned >= 0n && burned <= g.leftNano)
      }
      assert.equal(new Set(draft.lines.map(line => line.id)).size, draft.lines.length)
      assert.deepEqual(draftInvoice(o), draft)
      const kinds = draft.lines.map(line => line.kind)
      const rank = { usage: 0, flat: 0, adjustment: 1, minimum: 2, credit: 3, tax: 4, prepaid: 5, rounding: 7 }
      const ranks = kinds.map((kind, i) =>
        kind === 'credit' && (draft.lines[i]?.amountNano ?? 0n) > 0n ? 6 : rank[kind],
      )
      assert.deepEqual(
        ranks,
        ranks.toSorted((a, b) => a - b),
      )
    }),
  )
})

test('however often a closed period changes, what is billed for it in the end is its last rating', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.bigInt({ min: 0n, max: 500n }), fc.bigInt({ min: 0n, max: 10n ** 9n })), {
        minLength: 1,
        maxLength: 6,
      }),
      states => {
        const billed: InvoiceLine[] = []
        let total = 0n
        for (const [i, [units, minimum]] of states.entries()) {
          const rating = rated(january, units, minimum)
          const closed = { customerId: 'acme', period: january, revision: 0, taxPpm: 0, billed, rated: rating }
          const draft =
            i === 0
              ? draftInvoice(input({ period: january, charges: rating }))
              : draftInvoice(
                  input({
                    period: { from: february.from + i * 800, to: february.from + (i + 1) * 800 },
                    adjustments: adjustmentsOf(closed),
                  }),
                )
          billed.push(...draft.lines.filter(line => line.kind !== 'rounding' && line.kind !== 'credit'))
          total = sum(rating.map(line => line.amountNano))
          assert.equal(sum(billed.map(line => line.amountNano)), total)
          // Each names the line it corrects.
          for (const line of draft.lines)
            if (line.kind === 'adjustment') {
              assert.equal(line.cause, 'late_data')
              assert.ok(line.adjusts !== null && line.amountNano === line.dividend / line.divisor - line.billedNano)
            }
        }
        assert.deepEqual(
          adjustmentsOf({
            customerId: 'acme',
            period: january,
            revision: 0,
            taxPpm: 0,
            billed,
            rated: rated(january, ...(states.at(-1) ?? [0n, 0n])),
          }),
          [],
        )
      },
    ),
  )
})

test('an invoice worked by hand', () => {
  // 3 units × 0.007000003 + 0.05 flat = 0.071000009; minimum 0.1 → + 0.028999991; correction of January −0.04
  // → subtotal 0.06 (0.1 at 19 %, −0.04 at 0 %); promotional 0.01 → 0.09 taxed at 19 % = 0.0171; total 0.0671
  // prepaid 0.03 → 0.0371, due 0.03, rounding −0.0071
  const draft = draftInvoice(
    input({
      taxPpm: 190_000,
      taxName: 'VAT',
      charges: rated(february, 3n, 100_000_000n),
      adjustments: [adjustment(-40_000_000n, 0, 'li_x')],
      grants: [
        grant('cr_late', 'promotional', 5_000_000n, { expiresMs: null }),
        grant('cr_soon', 'promotional', 5_000_000n, { expiresMs: february.to * 3_600_000 }),
        grant('cr_old', 'promotional', 5_000_000n, { expiresMs: february.from * 3_600_000 }),
        grant('cr_eur', 'prepaid', 5_000_000n, { currency: 'EUR' }),
        grant('cr_paid', 'prepaid', 30_000_000n),
      ],
    }),
  )
  assert.deepEqual(
    draft.lines.map(line => [line.kind, line.description, line.amountNano]),
    [
      ['flat', 'Base', 50_000_000n],
      ['usage', 'CPU', 21_000_009n],
      ['adjustment', 'Correction of Base, 2026-01: late data', -40_000_000n],
      ['minimum', 'To the minimum commitment', 28_999_991n],
      ['credit', 'Promotional credit', -5_000_000n],
      ['credit', 'Promotional credit', -5_000_000n],
      ['tax', 'VAT 19 %', 17_100_000n],
      ['prepaid', 'Prepaid credit', -30_000_000n],
      ['rounding', 'Rounding in your favour', -7_100_000n],
    ],
  )
  assert.deepEqual(
    draft.burns.map(burned => burned.grantId),
    ['cr_soon', 'cr_late', 'cr_paid'],
  )
  assert.deepEqual([draft.totalNano, draft.dueMinor, draft.carriedNano], [37_100_000n, 3n, 0n])
  // The same in yen has no minor unit to pay with.
  assert.equal(draftInvoice(input({ currency: 'JPY', charges: rated(february, 3n, 0n) })).dueMinor, 0n)
  // Ids stay what they are: they are in customers' books.
  assert.equal(draft.id, draftInvoice(input({})).id)
  assert.match(draft.id, /^inv_[0-9a-hjkmnp-tv-z]{25}$/)
})
