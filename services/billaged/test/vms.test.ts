import assert from 'node:assert/strict'
import test from 'node:test'
import type { VmDetail, VmTimeline } from '../api.ts'
import { metric, minuteNs, minutesAgo, startBilling } from './kit.ts'

test('a VM shows its lives, and each gap, conflict, fall and unproven restart that lowered its bill', async t => {
  const billing = await startBilling(t)
  const base = minutesAgo(300)
  const at = (minute: number) => base + BigInt(minute) * minuteNs
  const iso = (minute: number) => Temporal.Instant.fromEpochNanoseconds(at(minute)).toString()
  const [vmId, customerId] = ['vm-1', 'acme']
  const read = (from: number, to: number, cpu: (minute: number) => number) =>
    Array.from({ length: to - from + 1 }, (_, i) =>
      metric(at(from + i), BigInt(cpu(from + i)), { memoryUsageBytes: '7' }),
    )
  await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${at(0)}` })
  const metrics = [
    ...read(1, 20, minute => minute * 100),
    // Eleven minutes nobody read, then on.
    ...read(31, 40, minute => minute * 100),
    // Two different readings of one instant; a glitch at 50; an unannounced fall at 60.
    ...read(40, 40, () => 3_999),
    ...read(41, 59, minute => (minute === 50 ? 1 : minute * 100)),
    ...read(60, 70, minute => (minute - 59) * 10),
  ]
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })).status, 200)
  await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${at(70)}` })
  await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${at(80)}` })
  await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: read(81, 90, minute => (minute - 80) * 10) })
  // Said to have started again; the counters say no.
  await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${at(84) + 1n}` })
  await billing.rpc('SendHeartbeat', { instanceId: 'host-1', activeVms: [vmId] })
  const span = `from=${iso(0)}&to=${iso(120)}&wait=30s`
  const detail = (await billing.api('GET', `/v1/vms/acme/vm-1?${span}`)).body as VmDetail
  const usage = await billing.usage('acme', `&from=${iso(0)}&to=${iso(120)}`)
  for (const { meter, quantity } of usage.rows) assert.equal(detail.totals[meter], quantity, meter)
  assert.deepEqual([detail.conflicts, detail.glitches], [1, 1])
  assert.deepEqual(detail.conflictsAt, [iso(40)])
  assert.deepEqual(detail.falls, [{ from: iso(59), to: iso(60) }])
  assert.deepEqual(detail.gaps, [{ from: iso(20), to: iso(31), kind: 'unmeasured', rule: '3 × 60 s' }])
  assert.deepEqual(
    detail.restartsUnproven.map(({ to }) => to),
    [iso(85)],
  )
  assert.deepEqual(detail.hosts, ['host-1'])
  assert.deepEqual(detail.lives[0], { start: iso(0), stop: iso(70), endBy: 'stop' })
  assert.equal(detail.lives.at(-1)?.endBy, 'open')
  const { strip } = (await billing.api('GET', `/v1/vms/acme/vm-1/timeline?${span}`)).body as VmTimeline
  // The one heartbeat came much later: about the host of that time nothing is known.
  assert.deepEqual(strip.slice(0, 3), [
    { from: iso(0), to: iso(20), kind: 'measured' },
    { from: iso(20), to: iso(31), kind: 'gap' },
    { from: iso(31), to: iso(59), kind: 'measured' },
  ])
  for (const [i, part] of strip.entries()) assert.ok(i === 0 || part.from >= (strip[i - 1]?.to ?? ''), 'in order')
  assert.equal((await billing.api('GET', '/v1/vms/acme/nobody')).status, 404)
  assert.equal((await billing.api('GET', '/v1/vms/globex/vm-1')).status, 404)
})
