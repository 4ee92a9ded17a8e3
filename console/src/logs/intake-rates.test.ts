import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { IntakeStatus } from '../../../services/log-ingestion/api.ts'
import { quantileMs, ratesBetween } from './intake-rates.ts'

function status(o: { at: number; rows: number; bytes: number; journal?: number; uptime?: number }): IntakeStatus {
  return {
    at: new Date(o.at * 1000).toISOString(),
    tenant: null,
    uptime_seconds: o.uptime ?? o.at,
    pending_rows: 0,
    is_store_reachable: true,
    problem: null,
    rows: [
      { outcome: 'accepted', protocol: 'native', count: o.rows },
      { outcome: 'accepted', protocol: 'loki', count: 2 * o.rows },
      { outcome: 'stored', protocol: 'all', count: o.rows },
    ],
    bytes: [{ protocol: 'native', count: o.bytes }],
    limited: [],
    rejected: [],
    journal: { bytes: o.journal ?? 0, capacity_bytes: 1_000, oldest_pending_seconds: 0 },
    append: { buckets: [], count: 0 },
    commit: { buckets: [], count: 0 },
    quarantine_rows: 0,
    imbalance_rows: 0,
    tails: 0,
  }
}

test('rates are differences over the time between, by protocol and in all', () => {
  const rates = ratesBetween(status({ at: 10, rows: 100, bytes: 1_000 }), status({ at: 14, rows: 140, bytes: 3_000 }))
  assert.equal(rates?.rowsPerSecond, 30)
  assert.equal(rates?.storedPerSecond, 10)
  assert.equal(rates?.bytesPerSecond, 500)
  assert.deepEqual(rates?.protocols[1], { protocol: 'loki', rows: 280, rowsPerSecond: 20, bytesPerSecond: 0 })
  assert.equal(rates?.ackP50Ms, null)
  assert.equal(rates?.journalFullInS, null)
})

test('a journal that grows says when it will be full', () => {
  const rates = ratesBetween(
    status({ at: 0, rows: 0, bytes: 0, journal: 100 }),
    status({ at: 10, rows: 0, bytes: 0, journal: 200 }),
  )
  assert.equal(rates?.journalFullInS, 80)
})

test('a service that began anew is not compared with its earlier self', () => {
  assert.equal(
    ratesBetween(status({ at: 10, rows: 100, bytes: 0 }), status({ at: 12, rows: 3, bytes: 0, uptime: 1 })),
    null,
  )
})

test('a quantile lies in the bucket that holds it, whatever was counted before', () => {
  const histogram = (counts: readonly number[]) => {
    const upTo = (end: number) => counts.slice(0, end).reduce((sum, n) => sum + n, 0)
    return {
      buckets: counts.map((_, i) => ({ at_most_seconds: (i + 1) / 1000, count: upTo(i + 1) })),
      count: upTo(counts.length),
    }
  }
  assert.equal(quantileMs(histogram([0, 0]), histogram([10, 0]), 0.5), 0.5)
  fc.assert(
    fc.property(
      fc.array(fc.nat(50), { minLength: 1, maxLength: 8 }),
      fc.array(fc.nat(50), { minLength: 8, maxLength: 8 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (added, earlier, share) => {
        const before = earlier.slice(0, added.length)
        const got = quantileMs(histogram(before), histogram(added.map((n, i) => n + (before[i] ?? 0))), share)
        const samples = added.flatMap((n, i) => Array.from({ length: n }, () => i))
        if (samples.length === 0) return assert.equal(got, null)
        const index = samples[Math.ceil(samples.length * share) - 1] ?? 0
        assert.ok(got !== null && got > index - 1e-9 && got <= index + 1 + 1e-9)
      },
    ),
  )
})
