import assert from 'node:assert/strict'
import { appendFileSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { startChild } from './child.ts'
import { metric, minuteNs, minutesAgo, temporaryFolder } from './kit.ts'
import { isLong } from './long.ts'

// Each request is its own VM, so that what became of it can be read off: a whole request is worth `use`, in two
// readings an hour apart (two parts), a half one would be worth nothing.

const baseNs = minutesAgo(180)

/** As if the power had gone while the next record was written: a part of one at the end. */
function tearTail(dir: string) {
  const segment = readdirSync(dir)
    .filter(name => name.endsWith('.journal'))
    .toSorted()
    .at(-1)
  if (segment === undefined) return
  const bytes = readFileSync(join(dir, segment))
  appendFileSync(join(dir, segment), bytes.subarray(bytes.length - 77, bytes.length - 30))
}

function request(i: number) {
  const use = BigInt(i + 1) * 1_000n
  const metrics = [0n, 20n, 40n, 60n].map(m => metric(baseNs + m * minuteNs, 1n + (use * m) / 60n))
  return { vmId: `vm-${i}`, customerId: 'acme', metrics }
}

test('G1, G2: a reply waits for its sync, and a request is one unit: acknowledged whole; after kill -9 and a torn tail whole or not at all, and sending it again is right', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const dataDir = temporaryFolder(t)
  const acknowledged = new Set<number>()
  const sent = new Set<number>()
  let next = 0

  for (const killAfter of isLong ? [3, 25, 1, 60, 200, 8, 400] : [3, 25]) {
    const billing = await startChild(t, { databaseUrl, dataDir })
    // One after the other, each reply has a sync of its own before it.
    const syncs = async () =>
      Number(
        /^billaged_journal_fsync_seconds_count (\d+)/m.exec(String((await billing.api('GET', '/metrics')).body))?.[1],
      )
    for (let i = 0; i < 5; i++) {
      const before = await syncs()
      assert.equal((await billing.rpc('SendHeartbeat', { instanceId: 'h1', activeVms: ['vm-0'] })).status, 200)
      assert.ok((await syncs()) > before, 'a reply without a sync')
    }
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
    tearTail(join(dataDir, 'billaged', 'journal'))
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
