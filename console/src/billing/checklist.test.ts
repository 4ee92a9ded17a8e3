import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BlockerCode, CloseReport } from '../api/billing-invoices.ts'
import { checklistOf, forcibleCustomers, groupsOf } from './checklist.ts'

const blocked = (customerId: string, ...codes: string[]): CloseReport['blocked'][number] => ({
  customerId,
  invoiceId: `inv_${customerId}`,
  reasons: codes.map(code => ({ code: code as BlockerCode, detail: `${code} of ${customerId}`, fix: 'mend it' })),
})

test('a row is clear when nobody is blocked for its reason, and a reason of a newer gate is not lost', () => {
  const items = checklistOf({ blocked: [blocked('acme', 'unrated_usage'), blocked('globex', 'new_reason')] })
  assert.deepEqual(
    items.filter(item => item.blocked.length > 0).map(({ code, title }) => [code, title]),
    [
      ['unrated_usage', 'All usage has a price or is marked unbilled'],
      ['new_reason', 'new reason'],
    ],
  )
  assert.ok(checklistOf({ blocked: [] }).every(item => item.blocked.length === 0))
})

test('only customers with nothing but quarantine and unrated usage may be closed over', () => {
  const report = {
    blocked: [
      blocked('acme', 'unrated_usage', 'open_quarantine'),
      blocked('globex', 'unrated_usage', 'not_folded'),
      blocked('initech', 'new_reason'),
    ],
  }
  assert.deepEqual(forcibleCustomers(report), ['acme'])
})

test('the same sentence for many customers is told once', () => {
  const over = { code: 'period_not_over' as const, detail: 'the period ends later', fix: 'wait' }
  const one = (customerId: string, blocker = over) => ({ customerId, invoiceId: '', blocker })
  const groups = groupsOf([one('acme'), one('globex'), one('initech', { ...over, fix: 'for initech' })])
  assert.deepEqual(
    groups.map(({ customers }) => customers),
    [['acme', 'globex'], ['initech']],
  )
})
