import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LiveEvent, Tenant } from '../../../../services/budgetguard/api.ts'
import { type BudgetLine, tightest, withEvent } from './budget-line.ts'

const line = (budgetId: number, spent: bigint, limit: bigint): BudgetLine => ({
  budgetId,
  tenantId: 1,
  period: 'monthly',
  limitNano: limit,
  spentNano: spent,
  heldNano: 0n,
  remainingNano: limit - spent,
  resetsAtMs: null,
  isImplicit: false,
})
const tenant = { id: 1, name: 'acme', slug: 'acme' } as Tenant

test('a live budget event moves that budget of that tenant and no other', () => {
  const before = [{ tenant, budgets: [line(1, 1n, 10n), line(2, 1n, 10n)] }]
  const event: LiveEvent = {
    event: 'budget',
    data: {
      tenant: 'acme',
      tenantId: 1,
      scope: 'tenant acme',
      budgetId: 2,
      period: 'monthly',
      limitUsd: '20',
      spentUsd: '0.000000003',
      heldUsd: '1.5',
      remainingUsd: '18.499999997',
      resetsAt: '2026-12-01T00:00:00Z',
    },
  }
  const [after] = withEvent(before, event)
  assert.deepEqual(after?.budgets[0], before[0]?.budgets[0])
  assert.deepEqual(after?.budgets[1], {
    ...line(2, 3n, 20_000_000_000n),
    heldNano: 1_500_000_000n,
    remainingNano: 18_499_999_997n,
    resetsAtMs: Date.UTC(2026, 11, 1),
  })
  assert.deepEqual(withEvent(before, { ...event, data: { ...event.data, tenantId: 9 } }), before)
  assert.equal(withEvent(before, { event: 'gap', data: { missed: 3 } }), before)
})

test('the tightest budget is the one that refuses first, and a budget of zero is the tightest of all once used', () => {
  assert.equal(tightest([line(1, 1n, 10n), line(2, 5n, 10n)])?.budgetId, 2)
  assert.equal(tightest([line(1, 9n, 10n), line(2, 1n, 0n)])?.budgetId, 2)
  assert.equal(tightest([]), null)
})
