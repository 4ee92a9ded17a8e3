import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { startChild } from './child.ts'
import { metric, minuteNs, minutesAgo, temporaryFolder } from './kit.ts'

// Each request is its own VM, so that what became of it can be read off: a whole request is worth `use`, in two
// readings an hour apart (two parts), a half one would be worth nothing.

const baseNs = minutesAgo(180)

function request(i: number) {
  const use = BigInt(i + 1) * 1_000n
  const metrics = [0n, 20n, 40n, 60n].map(m => metric(baseNs + m * minuteNs, 1n + (use * m) / 60n))
  return { vmId: `vm-${i}`, customerId: 'acme', metrics }
}

test('G2: a request is one unit: acknowledged whole, or after kill -9 whole or not at all, and sending it again is right', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const dataDir = temporaryFolder(t)
  const acknowledged = new Set<number>()
  const sent = new Set<number>()
  let next = 0

  for (const killAfter of [3, 25]) {
    const billing = await startChild(t, { databaseUrl, dataDir })
    let isDead = false
    const sender = async () => {
      while (!isDead) {
        const i = next++
        sent.add(i)
        try {
          const reply = await billing.rpc('SendMetricsBatch', request(i))
          if (reply.status === 200) acknowledged.add(i)
        } catch {
          return
        }
      }
    }
    const senders = Array.from({ length: 8 }, sender)
    const target = acknowledged.size + killAfter
    while (acknowledged.size < target) await new Promise(setImmediate)
    await billing.kill()
    isDead = true
    await Promise.all(senders)
  }

  const billing = await startChild(t, { databaseUrl, dataDir })
  const amounts = async () => {
    const usage = await billing.usage('acme', '&by=vm')
    return new Map(usage.rows.filter(row => row.meter === 'vm_cpu').map(row => [row.vmId, BigInt(row.quantity)]))
  }
  const survived = await amounts()
  for (const i of sent) {
    const amount = survived.get(`vm-${i}`)
    const whole = BigInt(i + 1) * 1_000n
    if (acknowledged.has(i)) assert.equal(amount, whole, `request ${i} was acknowledged`)
    else assert.ok(amount === undefined || amount === whole, `request ${i} is there in part: ${amount}`)
  }
  for (const i of sent) assert.equal((await billing.rpc('SendMetricsBatch', request(i))).status, 200)
  const again = await amounts()
  assert.deepEqual(
    again,
    new Map([...sent].map(i => [`vm-${i}`, BigInt(i + 1) * 1_000n]).toSorted() as [string, bigint][]),
  )
  // Refused requests write nothing: validation comes first.
  const bad = { ...request(0), vmId: 'vm-bad', metrics: [...request(0).metrics, { cpuTimeNanos: '-1' }] }
  assert.equal((await billing.rpc('SendMetricsBatch', bad)).status, 400)
  assert.equal((await amounts()).has('vm-bad'), false)
  assert.equal(await billing.stop('SIGTERM'), 0)
})
