import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { hourMs } from './periods.ts'
import { type PlanVersion, versionSchema } from './plan.ts'
import { segmentsOf } from './segments.ts'

const version = (hour: number): PlanVersion =>
  versionSchema.parse({ effectiveFrom: new Date(hour * hourMs).toISOString(), prices: [] })

test('segments cover the period once, each hour under the plan version in force then', () => {
  const changes = fc.uniqueArray(fc.nat(120), { maxLength: 6 }).map(hours => hours.toSorted((a, b) => a - b))
  fc.assert(
    fc.property(changes, changes, changes, (subscribed, versionsA, versionsB) => {
      const period = { from: 20, to: 100 }
      const subscriptions = subscribed.map((hour, i) => ({
        planId: i % 2 === 0 ? 'a' : 'b',
        fromMs: hour * hourMs,
        toMs: i === subscribed.length - 1 ? null : (subscribed[i + 1] ?? 0) * hourMs,
      }))
      const versions: Record<string, PlanVersion[]> = { a: versionsA.map(version), b: versionsB.map(version) }
      const segments = segmentsOf(period, subscriptions, id => versions[id] ?? [])
      let at = period.from
      for (const { segment, planId, version: inForce } of segments) {
        assert.equal(segment.from, at)
        at = segment.to
        for (let hour = segment.from; hour < segment.to; hour++) {
          const subscription = subscriptions.findLast(s => s.fromMs <= hour * hourMs)
          assert.equal(planId, subscription?.planId ?? null)
          const expected = versions[planId ?? '']?.findLast(v => v.effectiveFrom <= hour * hourMs) ?? null
          assert.equal(inForce, expected)
        }
      }
      assert.equal(at, period.to)
    }),
  )
})
