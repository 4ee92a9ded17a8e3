import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { testDatabase } from '../../../test/kit/database.ts'
import type { VmDetail } from '../api.ts'
import { type Billing, metric, minuteNs, minutesAgo, quantityOf, startBilling, temporaryFolder } from './kit.ts'

interface Call {
  send(billing: Billing): Promise<unknown>
}

const baseNs = minutesAgo(600)

/** Everything a customer's month is made of: readings, start, stop and gap notices, events, for two VMs. */
function calls(customerId: string): Call[] {
  const headers = { 'x-tenant-id': customerId }
  const rpc = (method: string, message: object): Call => ({
    async send(billing) {
      assert.equal((await billing.rpc(method, message, { headers })).status, 200)
    },
  })
  const list: Call[] = []
  for (const vmId of ['vm-1', 'vm-2']) {
    const at = (minutes: number) => `${baseNs + BigInt(minutes) * minuteNs}`
    list.push(rpc('NotifyVmStarted', { vmId, customerId, startTime: at(0) }))
    for (let part = 0; part < 6; part++) {
      const minutes = Array.from({ length: 7 }, (_, i) => part * 15 + i * 2 + 1)
      // After the restart at minute 50 the counter begins anew.
      const cpu = (m: number) => BigInt(m > 50 ? m - 50 : m) * 1_000_000n
      const metrics = minutes.map(m =>
        metric(baseNs + BigInt(m) * minuteNs, cpu(m), { memoryUsageBytes: `${1000 + m}` }),
      )
      list.push(rpc('SendMetricsBatch', { vmId, customerId, metrics }))
    }
    list.push(rpc('NotifyVmStopped', { vmId, stopTime: at(49) }))
    list.push(rpc('NotifyVmStarted', { vmId, customerId, startTime: at(50) }))
    list.push(rpc('NotifyPossibleGap', { vmId, lastSent: at(70), resumeTime: at(74) }))
  }
  for (let i = 0; i < 6; i++) {
    const event = {
      specversion: '1.0',
      source: `/test/${customerId}`,
      id: `e${i}`,
      type: 'builderd.build_time',
      subject: customerId,
    }
    const data = { running_ms: `${i * 100}`, tier: 'free', result: 'ok' }
    list.push({
      async send(billing) {
        assert.equal((await billing.api('POST', '/api/v1/events', [{ ...event, data }])).status, 204)
      },
    })
  }
  return list
}

async function answers(billing: Billing, customerId: string) {
  const usage = await billing.usage(
    customerId,
    `&by=hour&from=${Temporal.Instant.fromEpochNanoseconds(baseNs - minuteNs)}&to=${Temporal.Instant.fromEpochNanoseconds(baseNs + 200n * minuteNs)}`,
  )
  return { rows: usage.rows, ledger: usage.ledger }
}

test('two replicas equal one: any order, duplicates, routing and a restart between give the same usage', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const first = await startBilling(t, { databaseUrl })
  const dataDir = temporaryFolder(t)
  let second = await startBilling(t, { databaseUrl, dataDir })
  for (const call of calls('reference')) await call.send(first)
  const expected = await answers(first, 'reference')
  assert.ok(quantityOf(await first.usage('reference'), 'vm_cpu') > 0n)
  assert.equal(quantityOf(await first.usage('reference'), 'build_ms'), 1500n)

  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.infiniteStream(fc.nat(999)), async dice => {
      const customerId = `customer-${run++}`
      const roll = () => dice.next().value ?? 0
      const once = calls(customerId)
      const shuffled = [...once, ...once.filter(() => roll() < 400)]
        .map(call => ({ call, order: roll() }))
        .toSorted((a, b) => a.order - b.order)
      const half = Math.floor(shuffled.length / 2)
      for (const [i, { call }] of shuffled.entries()) {
        if (i === half) {
          await second.close()
          second = await startBilling(t, { databaseUrl, dataDir })
        }
        await call.send(roll() < 500 ? first : second)
      }
      // Each replica waits for its own journal; together they have folded everything.
      await answers(first, customerId)
      assert.deepEqual(await answers(second, customerId), expected)
      assert.deepEqual(await answers(first, customerId), expected)
    }),
    { numRuns: 3 },
  )
})

test('G24: the same VM id under another customer is another series, and a notice finds the one that was seen last', async t => {
  // No pair of this short story is a gap.
  const billing = await startBilling(t, { env: { BILLAGED_MIN_GAP: '1h' } })
  const send = (customerId: string, minute: number, cpu: bigint) =>
    billing.rpc('SendMetricsBatch', {
      vmId: 'vm-1',
      customerId,
      metrics: [metric(baseNs + BigInt(minute) * minuteNs, cpu)],
    })
  await send('acme', 0, 100n)
  await send('acme', 2, 160n)
  await send('globex', 10, 5n)
  await send('globex', 12, 25n)
  assert.equal(quantityOf(await billing.usage('acme'), 'vm_cpu'), 60n)
  assert.equal(quantityOf(await billing.usage('globex'), 'vm_cpu'), 20n)
  // A stop without tenant after globex's readings is globex's; the start that follows then counts from zero for it only.
  const at = (minutes: number) => `${baseNs + BigInt(minutes) * minuteNs}`
  await billing.rpc('NotifyVmStopped', { vmId: 'vm-1', stopTime: at(13) })
  for (const customerId of ['acme', 'globex'])
    await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId, startTime: at(14) })
  await send('acme', 16, 200n)
  await send('globex', 16, 40n)
  assert.equal(quantityOf(await billing.usage('acme'), 'vm_cpu'), 100n)
  assert.equal(quantityOf(await billing.usage('globex'), 'vm_cpu'), 60n)
})

test('G4: a stored element is its own duplicate check: there is no other memory of it, and it is known for as long as it is there', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const dataDir = temporaryFolder(t)
  let billing = await startBilling(t, { databaseUrl, dataDir })
  const [vmId, customerId] = ['vm-1', 'acme']
  const event = {
    specversion: '1.0',
    source: '/test',
    id: 'e1',
    type: 'builderd.build_time',
    subject: customerId,
    time: `${Temporal.Instant.fromEpochNanoseconds(baseNs)}`,
    data: { running_ms: '5', tier: 'free', result: 'ok' },
  }
  const send = async () => {
    const metrics = [0, 1, 2].map(m => metric(baseNs + BigInt(m) * minuteNs, BigInt(m) + 5n))
    await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
    await billing.rpc('NotifyVmStarted', { vmId, customerId, startTime: `${baseNs - 1n}` })
    await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${baseNs + 5n * minuteNs}` })
    assert.equal((await billing.api('POST', '/api/v1/events', [event])).status, 204)
    const usage = await billing.usage(customerId)
    const [row] = await sql<{ samples: bigint; marks: bigint; events: bigint }[]>`
      select (select coalesce(sum(n), 0)::int8 from billaged.sample_part) as samples,
        (select count(*) from billaged.vm_mark) as marks, (select count(*) from billaged.usage_event) as events`
    return { ...row, cpu: quantityOf(usage, 'vm_cpu'), builds: quantityOf(usage, 'build_ms') }
  }
  const once = { samples: 3n, marks: 2n, events: 1n, cpu: 7n, builds: 5n }
  assert.deepEqual(await send(), once)
  // Twice, in another life, and at another replica.
  assert.deepEqual(await send(), once)
  await billing.close()
  billing = await startBilling(t, { databaseUrl, dataDir })
  assert.deepEqual(await send(), once)
  billing = await startBilling(t, { databaseUrl, dataDir: temporaryFolder(t) })
  assert.deepEqual(await send(), once)
  // An element that is gone is unknown: nothing else had marked it as seen, so it can be sent again and counts.
  await sql`delete from billaged.usage_event`
  await sql`delete from billaged.vm_mark`
  await sql`delete from billaged.sample_part`
  await sql`delete from billaged.usage_hour`
  assert.deepEqual(await send(), once)
  assert.deepEqual(await send(), once)
})

test('G9: readings are taken in order of time whatever order they came in; conflicting values are all kept, counted, listed, and bill the least', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const at = (minute: number) => baseNs + BigInt(minute) * minuteNs
  const reading = (minute: number, cpu: bigint, bytes: bigint) => ({
    minute,
    metrics: [metric(at(minute), cpu, { networkTxBytes: `${bytes}`, memoryUsageBytes: '1' })],
  })
  // At the baseline the largest counts, elsewhere the smallest of each field.
  const readings = [
    reading(0, 100n, 10n),
    reading(0, 90n, 12n),
    reading(1, 150n, 20n),
    reading(2, 210n, 31n),
    reading(2, 200n, 33n),
    reading(3, 260n, 40n),
  ]
  const expected = { cpu: 160n, tx: 28n }
  for (const [n, order] of [
    [0, 1, 2, 3, 4, 5],
    [5, 3, 1, 4, 0, 2],
    [4, 2, 5, 0, 3, 1, 4, 1, 0],
  ].entries()) {
    const customerId = `customer-${n}`
    for (const i of order) {
      const reply = await billing.rpc('SendMetricsBatch', {
        vmId: 'vm',
        customerId,
        metrics: readings[i]?.metrics ?? [],
      })
      assert.equal(reply.status, 200)
      // A fold of its own each, so that arrival is what differs.
      await billing.usage(customerId)
    }
    const usage = await billing.usage(customerId)
    assert.deepEqual(
      { cpu: quantityOf(usage, 'vm_cpu'), tx: quantityOf(usage, 'vm_net_tx') },
      expected,
      `order ${order}`,
    )
    const [stored] = await sql<{ n: bigint }[]>`
      select sum(n)::int8 as n from billaged.sample_part join billaged.series using (series_id) where customer_id = ${customerId}`
    assert.equal(stored?.n, 6n)
    const from = Temporal.Instant.fromEpochNanoseconds(baseNs - minuteNs)
    const detail = (await billing.api('GET', `/v1/vms/${customerId}/vm?from=${from}`)).body as VmDetail
    const iso = (minute: number) => Temporal.Instant.fromEpochNanoseconds(at(minute)).toString()
    assert.deepEqual([detail.conflicts, detail.conflictsAt], [2, [iso(0), iso(2)]])
  }
  assert.match(await billing.base.registry.metrics(), /^billaged_samples_conflict_total 6$/m)
})

test('G21: a stop or gap notice without tenant belongs to the customer whose VM has the latest evidence at or before it, whenever it comes', async t => {
  const billing = await startBilling(t, { env: { BILLAGED_MIN_GAP: '2m' } })
  const at = (minutes: number) => baseNs + BigInt(minutes) * minuteNs
  const iso = (minutes: number) => Temporal.Instant.fromEpochNanoseconds(at(minutes)).toString()
  const vmId = 'vm-1'
  const read = (customerId: string, minutes: readonly number[]) =>
    billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: minutes.map(m => metric(at(m), BigInt(m) + 1n)) })
  // The notices come first, before anybody was ever read.
  await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${at(5)}` })
  await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${at(13)}` })
  await billing.rpc('NotifyPossibleGap', { vmId, lastSent: `${at(120)}`, resumeTime: `${at(123)}` })
  const every = (from: number, to: number, step: number) =>
    Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step)
  await read('globex', [10, 12])
  await read('acme', [0, 2, 4])
  // Started at 20: a start is evidence, too, and the stop at 21 is initech's, who was never read until then.
  await billing.rpc('NotifyVmStarted', { vmId, customerId: 'initech', startTime: `${at(20)}` })
  await billing.rpc('NotifyVmStopped', { vmId, stopTime: `${at(21)}` })
  await read('initech', [30])
  // Every three minutes, acme a minute after globex: the last before minute 120 is acme's.
  await read('globex', every(101, 140, 3))
  await read('acme', every(102, 141, 3))
  const detail = async (customer: string) => {
    await billing.usage(customer)
    return (await billing.api('GET', `/v1/vms/${customer}/${vmId}?from=${iso(-1)}&to=${iso(150)}`)).body as VmDetail
  }
  const [acme, globex, initech] = [await detail('acme'), await detail('globex'), await detail('initech')]
  const stops = ({ lives }: VmDetail) => lives.filter(life => life.endBy === 'stop').map(life => life.stop)
  assert.deepEqual([stops(acme), stops(globex), stops(initech)], [[iso(5)], [iso(13)], [iso(21)]])
  const declared = ({ gaps }: VmDetail) =>
    gaps.filter(({ rule }) => rule.startsWith('declared')).map(({ from }) => from)
  assert.deepEqual([declared(acme), declared(globex)], [[iso(120)], []])
})
