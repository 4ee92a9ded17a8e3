import assert from 'node:assert/strict'
import test from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import { metric, minutesAgo, startBilling } from './kit.ts'

const families: Readonly<Record<string, string>> = {
  billaged_metrics_processed_total: 'counter',
  billaged_usage_records_processed_total: 'counter',
  billaged_processing_duration_seconds: 'histogram',
  billaged_aggregation_duration_seconds: 'histogram',
  billaged_batch_size_histogram: 'histogram',
  billaged_active_vms: 'gauge',
  billaged_queue_depth: 'gauge',
  billaged_billing_errors_total: 'counter',
  billaged_errors_total: 'counter',
  rpc_server_requests_total: 'counter',
  rpc_server_active_requests: 'gauge',
  rpc_server_panics_total: 'counter',
  rpc_server_request_duration_seconds: 'histogram',
  billaged_samples_duplicate_total: 'counter',
  billaged_samples_conflict_total: 'counter',
  billaged_samples_late_total: 'counter',
  billaged_samples_set_aside_total: 'counter',
  billaged_gap_seconds_total: 'counter',
  billaged_lease_expired_total: 'counter',
  billaged_clock_steps_total: 'counter',
  billaged_journal_bytes: 'gauge',
  billaged_journal_oldest_seconds: 'gauge',
  billaged_fold_lag_seconds: 'gauge',
  billaged_resident_series: 'gauge',
  billaged_journal_fsync_seconds: 'histogram',
  billaged_events_processed_total: 'counter',
  process_resident_memory_bytes: 'gauge',
  nodejs_eventloop_lag_seconds: 'gauge',
}

test('every metric has its type and moves when what it counts happens', async t => {
  const billing = await startBilling(t, { env: { BILLAGED_RATE_LIMIT_SAMPLES: '100' } })
  const scrape = async () => (await fetch(`${billing.url}/metrics`)).text()
  const value = async (series: string) => {
    const line = (await scrape()).split('\n').find(text => text.startsWith(`${series} `))
    return line === undefined ? 0 : Number(line.slice(series.length + 1))
  }
  const first = await scrape()
  for (const [name, type] of Object.entries(families)) assert.ok(first.includes(`# TYPE ${name} ${type}\n`), name)

  const at = minutesAgo(200)
  const send = (vmId: string, metrics: object[]) =>
    billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics })
  assert.equal((await send('vm-1', [metric(at, 1n), metric(at + 1n, 2n)])).status, 200)
  await billing.usage('acme')
  // Again (duplicates), then one instant with another value (a conflict).
  await send('vm-1', [metric(at, 1n), metric(at + 1n, 2n)])
  await billing.usage('acme')
  await send('vm-1', [metric(at + 1n, 3n)])
  await billing.usage('acme')
  await send('vm-1', [metric(minutesAgo(-60), 3n)])
  await send('', [metric(at, 1n)])
  await billing.api('GET', '/v1/customers', undefined, null)
  assert.equal(
    (
      await send(
        'vm-2',
        Array.from({ length: 150 }, (_, i) => metric(at + BigInt(i), 1n)),
      )
    ).status,
    200,
  )
  const limited = await send('vm-2', [metric(at, 1n)])
  assert.equal(limited.status, 429)
  assert.match(limited.headers.get('retry-after') ?? '', /^[1-9]$/)
  const expected: Readonly<Record<string, number>> = {
    billaged_metrics_processed_total: 156,
    billaged_usage_records_processed_total: 5,
    billaged_processing_duration_seconds_count: 5,
    billaged_batch_size_histogram_sum: 156,
    billaged_samples_duplicate_total: 2,
    billaged_samples_conflict_total: 1,
    billaged_samples_late_total: 155,
    'billaged_samples_set_aside_total{reason="too_far_ahead"}': 1,
    billaged_active_vms: 2,
    billaged_resident_series: 2,
    'billaged_errors_total{code="invalid_argument"}': 1,
    'billaged_errors_total{code="resource_exhausted"}': 1,
    'billaged_errors_total{code="unauthenticated"}': 1,
  }
  await pollUntil(async () => (await value('billaged_samples_late_total')) === 155, { what: 'the last fold' })
  for (const [series, count] of Object.entries(expected)) assert.equal(await value(series), count, series)
  for (const series of ['billaged_journal_fsync_seconds_count', 'billaged_aggregation_duration_seconds_count'])
    assert.ok((await value(series)) > 0, series)
})

test('G48: with the switch off the number of series is flat whatever the number of VMs, customers and hosts; on, it labels samples and batches by VM', async t => {
  for (const isOn of [false, true]) {
    const billing = await startBilling(t, { env: { BILLAGED_OTEL_HIGH_CARDINALITY_ENABLED: String(isOn) } })
    const lines = async () =>
      (await (await fetch(`${billing.url}/metrics`)).text()).split('\n').map(line => line.replace(/ \S+$/, ''))
    const labelled = (all: readonly string[]) =>
      all.filter(line => /vm_id|customer_id|tenant_id|vm-\d|host-\d/.test(line))
    const send = async (i: number) => {
      const [vmId, customerId] = [`vm-${i}`, `customer-${i}`]
      await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: [metric(minutesAgo(1), 1n)] })
      await billing.rpc('SendHeartbeat', { instanceId: `host-${i}`, activeVms: [vmId] })
      await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${minutesAgo(2)}` })
      await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${minutesAgo(1)}` })
      await billing.rpc('SendMetricsBatch', { vmId: '', customerId, metrics: [] })
      await billing.usage(customerId)
      await billing.api('GET', `/v1/vms/${customerId}/${vmId}`)
    }
    await send(0)
    // The scrape itself is a route that has series of its own, and is counted behind its answer.
    await lines()
    const before = await lines()
    for (let i = 1; i <= 6; i++) await send(i)
    const after = await lines()
    if (isOn) assert.equal(labelled(after).length - labelled(before).length, 12)
    else {
      assert.deepEqual(labelled(after), [])
      // Families of the runtime (garbage collection, handles) appear when they first have something to tell.
      const isNew = (line: string) => !before.includes(line) && !/^(# \w+ )?(nodejs|process)_/.test(line)
      assert.deepEqual(after.filter(isNew), [])
    }
    await billing.close()
  }
})
