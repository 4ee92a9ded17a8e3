import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { testDatabase } from '../../../test/kit/database.ts'
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
