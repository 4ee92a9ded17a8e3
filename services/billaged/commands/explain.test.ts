import assert from 'node:assert/strict'
import test from 'node:test'
import type { Explanation } from '../api.ts'
import { explanationLines } from './invoice.ts'

test('a line is explained from the amount down to the evidence: price, quantity, division, what was not billed', () => {
  const vm = (vmId: string, quantity: string, hours: number, unmeasuredNs = '0') => ({
    vmId,
    quantity,
    hours,
    notBilled: { unmeasuredNs, hostDownNs: '0', disputedNs: '0' },
    estimatedNs: '0',
    rules: unmeasuredNs === '0' ? [] : ['3 × 60 s'],
  })
  const october = { from: '2026-10-01T00:00:00.000Z', to: '2026-11-01T00:00:00.000Z' }
  const explanation: Explanation = {
    invoice: {
      id: 'inv_1',
      number: 'INV-2026-000001',
      customerId: 'acme',
      customerName: 'Acme',
      period: october,
      currency: 'USD',
      state: 'finalised',
    },
    line: {
      id: 'li_7f3k',
      kind: 'usage',
      description: 'CPU',
      plan: { id: 'standard', version: 3 },
      priceId: 'cpu-hours',
      meter: 'vm_cpu',
      unit: 'ns',
      model: 'per_unit',
      group: {},
      segment: october,
      quantity: '444444440436000',
      freeQuantity: '0',
      tiers: [],
      amountNano: '12345678901',
      dividend: '44444444043600000000000',
      divisor: '3600000000000',
      remainder: '0',
      billedNano: '0',
      adjusts: null,
      adjustsPeriod: null,
      cause: null,
      creditId: null,
      taxPpm: null,
    },
    plan: { id: 'standard', version: 3, effectiveFrom: '2026-10-01T00:00:00.000Z', gapPolicy: 'zero' },
    price: { id: 'cpu-hours', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' },
    vms: [vm('vm-1', '1', 500), vm('vm-2', '2', 404, '850000000000'), vm('vm-3', '3', 300)],
    events: null,
    hours: null,
    evidence: { leaves: 1204, root: '9c1e0000ffff' },
    receipt: { seq: 41, hash: 'aa', prevHash: '77ab00001111' },
  }
  assert.deepEqual(explanationLines(explanation), [
    'Acme · October 2026 · CPU                                     USD 12.345678901',
    '  price     cpu-hours of standard v3 (from 2026-10-01), per_unit USD 0.10 per core-hour',
    '  quantity  444,444,440,436,000 ns = 123.45678901 core-hours  (3 VMs, 1,204 hours)',
    '  floor     444444440436000 × 100000000 ÷ 3600000000000 = 12345678901 rem 0',
    '  not billed  vm-2: 00:14:10 unmeasured (host seen, no readings; rule 3 × 60 s), policy zero',
    '  evidence  1,204 leaves, Merkle root 9c1e0000…; receipt #41 chained to 77ab0000…',
  ])
})
