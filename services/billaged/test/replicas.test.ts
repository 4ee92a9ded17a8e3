import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startChild } from './child.ts'
import { metric, minuteNs, minutesAgo, quantityOf, temporaryFolder } from './kit.ts'

const baseNs = minutesAgo(400)

interface Call {
  method: string
  message: object
}

/** An afternoon of three VMs, every message a call of its own. Heartbeats are stamped on receipt, so one lists the VMs of
 *  all customers. */
function afternoon(customerId: string): Call[] {
  const calls: Call[] = []
  const at = (minute: number) => `${baseNs + BigInt(minute) * minuteNs}`
  for (let vm = 0; vm < 3; vm++) {
    const vmId = `${customerId}-vm-${vm}`
    calls.push({ method: 'NotifyVmStarted', message: { vmId, customerId, startTime: at(0) } })
    for (let minute = 1; minute <= 60; minute++) {
      if (vm === 1 && minute > 20 && minute < 40) continue
      const ran = vm === 2 && minute > 30 ? minute - 30 : minute
      const reading = metric(baseNs + BigInt(minute) * minuteNs, BigInt(ran) * 1_000n, {
        memoryUsageBytes: `${minute}`,
      })
      calls.push({ method: 'SendMetricsBatch', message: { vmId, customerId, metrics: [reading] } })
      if (vm === 2 && minute === 30) {
        calls.push({ method: 'NotifyVmStopped', message: { vmId, stopTime: at(30) } })
        calls.push({ method: 'NotifyVmStarted', message: { vmId, customerId, startTime: at(30) } })
      }
    }
  }
  return calls
}

test('G45: replicas behind round robin equal one, without stickiness: one dies in the middle, one is added, one comes back', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const folders = [temporaryFolder(t), temporaryFolder(t), temporaryFolder(t)]
  const start = (i: number) => startChild(t, { databaseUrl, dataDir: folders[i] ?? '' })
  const [first, second] = await Promise.all([start(0), start(1)])
  for (const { method, message } of afternoon('one')) assert.equal((await second.rpc(method, message)).status, 200)

  let replicas = [first, second]
  let turn = 0
  /** As a balancer that knows nothing and a sender that tries again until it is answered. */
  const send = async (method: string, message: object) => {
    for (let tries = 0; tries < 20; tries++) {
      const replica = replicas[turn++ % replicas.length]
      const reply = await replica?.rpc(method, message).catch(() => null)
      if (reply?.status === 200) return
    }
    throw new Error('nobody answered')
  }
  const calls = afternoon('many')
  const third = Math.floor(calls.length / 3)
  for (const { method, message } of calls.slice(0, third)) await send(method, message)
  // What it acknowledged and had not folded stays in its journal until it is back.
  await first.kill()
  for (const { method, message } of calls.slice(third, 2 * third)) await send(method, message)
  const added = await start(2)
  replicas = [first, added, second]
  for (const { method, message } of calls.slice(2 * third)) await send(method, message)
  // Behind its back everything was sent once more, elsewhere.
  for (const { method, message } of calls) if (turn++ % 3 === 0) await send(method, message)
  const back = await start(0)
  replicas = [back, added, second]
  const usages = async (customerId: string) => {
    const span = `&from=${Temporal.Instant.fromEpochNanoseconds(baseNs)}&to=${Temporal.Instant.fromEpochNanoseconds(baseNs + 90n * minuteNs)}`
    const answers = []
    for (const replica of replicas) await replica.usage(customerId)
    for (const replica of replicas) answers.push(await replica.usage(customerId, `&by=hour${span}`))
    return answers
  }
  const [expected] = await usages('one')
  assert.ok(expected !== undefined && quantityOf(expected, 'vm_cpu') > 0n)
  for (const answer of await usages('many'))
    assert.deepEqual([answer.rows, answer.ledger], [expected.rows, expected.ledger])
  // Each of them soon says so itself: everything that any replica acknowledged is in.
  for (const replica of replicas)
    await pollUntil(async () => (await replica.usage('many')).complete, {
      what: 'a complete answer',
    })
})
