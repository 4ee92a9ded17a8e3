import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport } from '../api.ts'
import { metric, minuteNs, quantityOf, startBilling } from './kit.ts'

const january = Date.UTC(2024, 0, 1)
const [hourMs, dayMs] = [3_600_000, 86_400_000]
const iso = (ms: number) => new Date(ms).toISOString()
const ns = (ms: number) => BigInt(ms) * 1_000_000n

test('VMs that were stopped go with the last of their usage, and what comes of them later begins anew; those whose counters may still be compared stay', async t => {
  const clock = drivenClock(january + 3 * dayMs)
  const { url: databaseUrl, sql } = await testDatabase(t)
  const env = {
    BILLAGED_AGGREGATION_INTERVAL: '20ms',
    BILLAGED_CLOSE_GRACE: '80000h',
    BILLAGED_MAX_PAST: '87600h',
    BILLAGED_MIN_GAP: '1h',
  }
  const billing = await startBilling(t, { clock, databaseUrl, env })
  const call = async (method: string, message: object) =>
    assert.equal((await billing.rpc(method, message)).status, 200, method)
  const read = (vmId: string, fromMs: number, cpu: number, customerId = 'acme') =>
    call('SendMetricsBatch', {
      vmId,
      customerId,
      metrics: [1, 2, 3].map(m => metric(ns(fromMs) + BigInt(m) * minuteNs, BigInt(cpu + m))),
    })
  const start = (vmId: string, atMs: number, customerId = 'acme') =>
    call('NotifyVmStarted', { vmId, customerId, startTime: `${ns(atMs)}` })
  const stop = (vmId: string, atMs: number) => call('NotifyVmStopped', { vmId, stopTime: `${ns(atMs)}` })

  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    unbilled: ['vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx', 'vm_memory'],
    prices: [{ id: 'cpu', meter: 'vm_cpu', model: 'per_unit', per: '1', amountNano: '10' }],
  })
  const vms = ['stopped', 'silent', 'runs', 'again', 'shared']
  for (const vmId of vms) {
    await start(vmId, january + 2 * dayMs)
    await read(vmId, january + 2 * dayMs, 100)
    await call('SendHeartbeat', { instanceId: 'h1', activeVms: [vmId] })
  }
  await read('shared', january + 2 * dayMs + hourMs, 100, 'globex')
  for (const vmId of ['stopped', 'runs', 'again', 'shared']) await stop(vmId, january + 2 * dayMs + 2 * hourMs)
  // Started again behind its stop, and not stopped since.
  await start('again', january + 2 * dayMs + 3 * hourMs)
  await billing.usage('acme')
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'acme',
    planId: 'std',
    from: iso(january),
    to: iso(january + 60 * dayMs),
  })
  clock.advance(7 * dayMs)
  await call('SendHeartbeat', { instanceId: 'h1', activeVms: ['silent', 'runs'] })
  clock.advance(23 * dayMs)
  await call('SendHeartbeat', { instanceId: 'h1', activeVms: ['runs'] })
  await start('runs', january + 32 * dayMs)
  // More than are kept beside an edge: what was said of the readings before them is of no use any more.
  for (let i = 0; i < 12; i++) await read('runs', january + 32 * dayMs + i * 3 * 60_000, 200 + 3 * i)
  clock.advance(30 * dayMs)
  for (const month of ['2024-01', '2024-02']) {
    const closed = (await billing.api('POST', `/v1/close/${month}`, { customers: ['acme'] })).body as CloseReport
    assert.deepEqual(closed.blocked, [], month)
  }
  const left = async () => {
    const [row] = await sql<{ vms: string[]; marks: string[]; leases: string[]; parts: string[] }[]>`
      select (select array_agg(vm_id order by vm_id) from billaged.series where customer_id = 'acme') as vms,
        (select array_agg(distinct vm_id order by vm_id) from billaged.vm_mark) as marks,
        (select array_agg(vm_id order by vm_id) from billaged.vm_lease) as leases,
        (select array_agg(distinct vm_id order by vm_id) from billaged.sample_part join billaged.series using (series_id)
         where customer_id = 'acme') as parts`
    return row
  }
  // Sealed, and its usage there for a year: nothing is forgotten.
  await sql`update billaged.invoice set issued_at = issued_at - interval '2 years'`
  await pollUntil(async () => (await sql`select 1 from billaged.series where sealed_hour > 0`).count >= 4, {
    what: 'series to be sealed',
  })
  assert.deepEqual((await left())?.vms, vms.toSorted())

  clock.step(Date.UTC(2025, 4, 2) - clock.now())
  await pollUntil(async () => (await left())?.vms.includes('stopped') === false, {
    what: 'the stopped VM to be forgotten',
  })
  const rest = ['again', 'runs', 'shared', 'silent']
  assert.deepEqual(
    await left(),
    {
      vms: rest,
      marks: rest,
      leases: ['again', 'runs', 'runs', 'shared', 'silent', 'silent'],
      parts: rest,
    },
    'of one that runs the first listing stays, and those beside its last readings',
  )

  // A reading of its time is of an expired hour, as it was before.
  await read('stopped', january + 2 * dayMs, 50)
  await billing.usage('acme')
  const { items } = (await billing.api('GET', '/v1/quarantine?customer=acme')).body as { items: { reason: string }[] }
  assert.deepEqual(new Set(items.map(({ reason }) => reason)), new Set(['expired']))
  assert.equal((await left())?.vms.includes('stopped'), false)
  // Another life of the name counts from its own start, like any.
  const nowMs = clock.now() - hourMs
  await start('stopped', nowMs)
  await read('stopped', nowMs, 7)
  assert.equal(
    quantityOf(await billing.usage('acme', `&from=${iso(nowMs - hourMs)}&to=${iso(nowMs + hourMs)}`), 'vm_cpu'),
    10n,
  )
  const verified = (await billing.api('POST', '/v1/verify')).body as { problems: string[] }
  assert.deepEqual(verified.problems, [])
})
