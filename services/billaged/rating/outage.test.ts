import assert from 'node:assert/strict'
import test from 'node:test'
import { outageNano } from './outage.ts'
import { versionSchema } from './plan.ts'

const hourNs = 3_600_000_000_000n
const version = (prices: object[]) => versionSchema.parse({ effectiveFrom: '2026-01-01T00:00:00Z', prices })
const cpu = { id: 'cpu', meter: 'vm_cpu', model: 'per_unit', per: `${hourNs}`, amountNano: '100000000' }
const worth = (prices: object[], used: Record<string, bigint>, hostDownNs = hourNs, measuredNs = 10n * hourNs) =>
  outageNano({ used: new Map(Object.entries(used)), measuredNs, down: [{ version: version(prices), hostDownNs }] })

test('time down is worth what the VM would have cost at list price, going on as it ran', () => {
  // Two cores busy for ten hours, down for one.
  assert.equal(worth([cpu], { vm_cpu: 20n * hourNs }), 200_000_000n)
  // Allowances are a discount, and no list price.
  assert.equal(worth([{ ...cpu, freeQuantity: `${1000n * hourNs}` }], { vm_cpu: 20n * hourNs }), 200_000_000n)
  const tiers = [
    { upTo: `${5n * hourNs}`, amountNano: '0' },
    { upTo: `${9n * hourNs}`, amountNano: '300000000' },
    { upTo: null, amountNano: '100000000' },
  ]
  for (const model of ['graduated', 'volume'])
    assert.equal(
      worth([{ id: 'cpu', meter: 'vm_cpu', per: `${hourNs}`, model, tiers }], { vm_cpu: 20n * hourNs }),
      600_000_000n,
    )
  const packaged = { id: 'p', meter: 'vm_net_tx', model: 'package', packageSize: '1000', amountNano: '5' }
  assert.equal(worth([packaged], { vm_net_tx: 10_000n }), 5n)
  assert.equal(worth([{ id: 'base', model: 'flat', amountNano: '9' }], { vm_cpu: hourNs }), 0n)
})

test('nothing is made up: no measured time, no time down, no price, or one that is for a group, are worth nothing', () => {
  assert.equal(worth([cpu], { vm_cpu: hourNs }, hourNs, 0n), 0n)
  assert.equal(worth([cpu], { vm_cpu: hourNs }, 0n), 0n)
  assert.equal(worth([], { vm_cpu: hourNs }), 0n)
  assert.equal(worth([{ ...cpu, match: { zone: 'a' } }], { vm_cpu: hourNs }), 0n)
  // A third of a nano-unit is none.
  assert.equal(worth([{ ...cpu, amountNano: '1' }], { vm_cpu: hourNs / 3n }, hourNs, hourNs), 0n)
})
