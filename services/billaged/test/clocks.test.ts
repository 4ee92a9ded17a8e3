import assert from 'node:assert/strict'
import test from 'node:test'
import { openSql } from '#platform/postgres'
import { drivenClock } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startBilling } from './kit.ts'

test('G47: uptime, leases and durations run on the monotonic clock, receive stamps never go back, and a step of the wall clock is logged and counted', async t => {
  const clock = drivenClock(Date.now())
  const lines: string[] = []
  const billing = await startBilling(t, { clock, lines, env: { BILLAGED_AGGREGATION_INTERVAL: '50ms' } })
  const uptime = async () =>
    ((await (await fetch(`${billing.url}/health`)).json()) as { uptime_seconds: number }).uptime_seconds
  const metricOf = async (name: string) =>
    Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await billing.base.registry.metrics())?.[1])
  const beat = async () =>
    assert.equal((await billing.rpc('SendHeartbeat', { instanceId: 'h1', activeVms: ['vm-1'] })).status, 200)
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  const stamps = async (count: number) =>
    pollUntil(
      async () => {
        const [row] = await sql<{ first: bigint; last: bigint; spans: string }[]>`
          select min(lower(spans)) as first, max(upper(spans)) as last, string_agg(spans::text, ' ') as spans
          from billaged.vm_lease where vm_id = 'vm-1'`
        const [checkpoint] = await sql<{ n: bigint }[]>`select count(*) as n from billaged.journal_checkpoint`
        return row?.first != null &&
          checkpoint !== undefined &&
          (await metricOf('billaged_queue_depth')) === 0 &&
          count > 0
          ? row
          : null
      },
      { what: 'the heartbeat in the database' },
    )

  await beat()
  const before = await stamps(1)
  assert.equal(await uptime(), 0)
  clock.advance(7_000)
  assert.equal(await uptime(), 7)

  // An operator sets the clock an hour back, then two hours ahead.
  clock.step(-3_600_000)
  assert.equal(await uptime(), 7)
  await beat()
  const after = await stamps(2)
  assert.ok(after.first === before.first && after.last >= before.last, 'a stamp went back')
  clock.step(7_200_000)
  assert.equal(await uptime(), 7)
  await pollUntil(async () => (await metricOf('billaged_clock_steps_total')) === 2, { what: 'both steps counted' })
  assert.equal(lines.filter(line => line.includes('the wall clock was set')).length, 2)
  // Two hours of the wall are no silence of a host: its lease of two minutes has a minute to go.
  clock.advance(60_000)
  const swept = lines.filter(line => line.includes('usage summary')).length
  await pollUntil(() => lines.filter(line => line.includes('usage summary')).length > swept + 1, { what: 'two sweeps' })
  assert.equal(await metricOf('billaged_lease_expired_total'), 0)
  assert.equal(await metricOf('billaged_active_vms'), 1)
  clock.advance(61_000)
  await pollUntil(async () => (await metricOf('billaged_lease_expired_total')) === 1, { what: 'the lease' })
  assert.equal(await uptime(), 128)
})
