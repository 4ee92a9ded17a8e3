import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import type { CreditView, Invoice, OutageList } from '../api.ts'
import { metric, minuteNs, startBilling } from './kit.ts'

const hourNs = 60n * minuteNs

test('time that a host was down is listed at list price and credited once, whoever presses how often', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const clock = drivenClock(Date.UTC(2026, 1, 10))
  const billing = await startBilling(t, { clock, databaseUrl, env: { BILLAGED_CLOSE_GRACE: '80000h' } })
  const base = BigInt(clock.now()) * 1_000_000n
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  const prices = [
    {
      id: 'cpu',
      meter: 'vm_cpu',
      model: 'per_unit',
      per: `${hourNs}`,
      amountNano: '100000000',
      freeQuantity: `${hourNs}`,
    },
  ]
  const unbilled = ['vm_memory', 'vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx']
  await billing.api('POST', '/v1/plans/std/versions', { effectiveFrom: '2020-01-01T00:00:00Z', unbilled, prices })
  await billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'std', from: '2026-02-01T00:00:00Z' })
  // Two cores, listed once at the beginning; an hour of readings, half an hour of nobody, an hour of readings.
  const send = (from: number, to: number) => {
    const minutes = Array.from({ length: to - from + 1 }, (_, i) => BigInt(from + i))
    const metrics = minutes.map(minute => metric(base + minute * minuteNs, 1n + 2n * minute * minuteNs))
    return billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  }
  await billing.rpc('SendHeartbeat', { instanceId: 'host-1', activeVms: ['vm-1'] })
  clock.advance(150 * 60_000)
  await send(0, 60)
  await send(90, 150)
  const { ledger } = await billing.usage('acme', '&from=2026-02-01T00:00:00Z&to=2026-03-01T00:00:00Z')
  assert.equal(ledger.hostDownNs, `${30n * minuteNs}`)

  const list = async (query = '') => (await billing.api('GET', `/v1/outages${query}`)).body as OutageList
  const { outages, complete } = await list('?period=2026-02')
  assert.equal(complete, true)
  // Half an hour of two cores at 0.10, whatever the allowance.
  assert.deepEqual(outages, [
    {
      customerId: 'acme',
      period: { from: '2026-02-01T00:00:00.000Z', to: '2026-03-01T00:00:00.000Z' },
      planId: 'std',
      currency: 'USD',
      hostDownNs: `${30n * minuteNs}`,
      worthNano: '100000000',
      creditedNano: '0',
      leftNano: '100000000',
      vmCount: 1,
      vms: [{ vmId: 'vm-1', hostDownNs: `${30n * minuteNs}`, measuredNs: `${2n * hourNs}`, worthNano: '100000000' }],
    },
  ])
  assert.deepEqual((await list('?customer=nobody')).outages, [])
  assert.deepEqual((await list('?period=2026-01')).outages, [])

  const press = () => billing.api('POST', '/v1/outages/credit', { customerId: 'acme', period: '2026-02' })
  const replies = await Promise.all([press(), press()])
  assert.deepEqual(
    replies.map(({ status }) => status === 201 || status === 200 || status === 409),
    [true, true],
  )
  assert.equal(replies.filter(({ status }) => status === 201).length, 1)
  const granted = replies.find(({ status }) => status === 201)?.body as CreditView
  assert.equal(granted.amountNano, '100000000')
  assert.equal(granted.kind, 'promotional')
  const again = await press()
  assert.equal(again.status, 409)
  assert.equal((again.body as { reason: string }).reason, 'NOTHING_TO_CREDIT')
  const after = (await list()).outages[0]
  assert.deepEqual([after?.creditedNano, after?.leftNano], ['100000000', '0'])
  const rows = await sql`select 1 from tenancy.audit where body::text like '%credit.grant%'`
  assert.equal(rows.length, 1)
  assert.equal(
    (await billing.api('POST', '/v1/outages/credit', { customerId: 'nobody', period: '2026-02' })).status,
    404,
  )

  // A second outage of the month: the rest, and no more.
  clock.advance(30 * 60_000)
  await send(165, 180)
  await billing.usage('acme')
  const rest = await press()
  assert.equal(rest.status, 201, JSON.stringify(rest.body))
  const [one] = (await list('?period=2026-02')).outages
  assert.equal(one?.leftNano, '0')
  assert.equal(BigInt((rest.body as CreditView).amountNano) + 100_000_000n, BigInt(one?.worthNano ?? '0'))

  const draft = await billing.api('GET', '/v1/invoices/draft?customer=acme&period=2026-02')
  const credit = (draft.body as Invoice).lines.filter(({ kind }) => kind === 'credit')
  assert.ok(credit.length > 0, 'the invoice takes it off')
})
