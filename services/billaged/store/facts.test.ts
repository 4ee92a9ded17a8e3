import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { migrate, type Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { builtInMeters } from '../events/meter.ts'
import type { Fact } from '../intake/record.ts'
import { encodeParts } from '../samples/part.ts'
import { writeFacts } from './facts.ts'
import { joinReplicas } from './replica.ts'

const second = 1_000_000_000n
const epochNs = 1_790_000_000n * second

const vm = fc.constantFrom('vm-1', 'vm-2')
const customer = fc.constantFrom('acme', 'globex')
const instant = fc.nat(400).map(s => epochNs + BigInt(s) * 30n * second)

const fact: fc.Arbitrary<Fact> = fc.oneof(
  fc.tuple(customer, vm, instant, fc.nat(50)).map(([customerId, vmId, atNs, cpu]): Fact => {
    const zero = { memoryBytes: 1n, diskReadBytes: 0n, diskWriteBytes: 0n, netRxBytes: 0n, netTxBytes: 0n }
    const [part] = encodeParts([{ atNs, cpuNs: BigInt(cpu), ...zero }])
    if (part === undefined) throw new Error('BUG: one sample makes one part')
    return { kind: 'samples', customerId, vmId, part }
  }),
  fc
    .tuple(fc.option(customer), vm, fc.constantFrom('start', 'stop', 'gap'), instant)
    .map(([customerId, vmId, mark, atNs]): Fact => {
      return { kind: 'mark', customerId, vmId, mark, atNs, untilNs: mark === 'gap' ? atNs + second : null }
    }),
  fc.tuple(fc.constantFrom('h1', 'h2'), instant, fc.uniqueArray(vm)).map(([instanceId, atNs, vmIds]): Fact => {
    return { kind: 'heartbeat', instanceId, atNs, vmIds }
  }),
  fc.tuple(fc.nat(4), customer, instant, fc.nat(3)).map(([id, subject, atNs, value]): Fact => {
    const identity = { source: '/test', id: `e${id}`, type: 'builderd.bytes_pulled', subject }
    return { kind: 'event', event: { ...identity, atNs, hasTime: true, data: { bytes: value } }, receivedNs: epochNs }
  }),
  fc.tuple(customer, fc.constantFrom('too_old', 'before_2000'), fc.nat(3)).map(([customerId, reason, n]): Fact => {
    const payload = JSON.stringify({ n })
    return { kind: 'aside', aside: { what: 'sample', customerId, vmId: 'vm-1', reason, receivedNs: epochNs, payload } }
  }),
)

/** All stored facts, without the numbers that rows happen to get. */
async function stored(sql: Sql) {
  const [row] = await sql<{ all: unknown }[]>`
    select jsonb_build_object(
      'parts', (select jsonb_agg(to_jsonb(x) order by x) from (
        select customer_id, vm_id, hour, encode(digest, 'hex') as digest, n, encode(body, 'hex') as body
        from billaged.sample_part join billaged.series using (series_id)) x),
      'marks', (select jsonb_agg(to_jsonb(x) - 'received_at' order by to_jsonb(x) - 'received_at') from billaged.vm_mark x),
      'leases', (select jsonb_agg(to_jsonb(x) order by x) from billaged.vm_lease x),
      'events', (select jsonb_agg(to_jsonb(x) order by x) from billaged.usage_event x),
      'asides', (select jsonb_agg(to_jsonb(x) order by x) from (
        select encode(digest, 'hex') as digest, reason, payload from billaged.quarantine) x)
    ) as all`
  return row?.all
}

test('G3: stored facts are sets: twice, in any order, cut anywhere, by any replica is the same as once', async t => {
  const { sql } = await testDatabase(t)
  const { log } = testBase(t)
  await migrate(sql, { schema: 'billaged', folder: new URL('../migrations/', import.meta.url), log })
  const replicas = [randomUUID(), randomUUID()]
  const write = (facts: readonly Fact[], replica: string) =>
    writeFacts(sql, facts, {
      replica,
      position: { segment: randomUUID(), offset: 8 },
      meters: builtInMeters,
      leaseNs: 120n * second,
    })
  const empty = async () => {
    await sql`truncate billaged.sample_part, billaged.series, billaged.vm_mark, billaged.vm_lease, billaged.usage_event,
      billaged.quarantine, billaged.customer cascade`
    for (const replica of replicas) await joinReplicas(sql, replica)
  }
  await fc.assert(
    fc.asyncProperty(
      fc.array(fact, { minLength: 1, maxLength: 25 }),
      fc.infiniteStream(fc.nat(999)),
      async (facts, dice) => {
        const roll = () => dice.next().value ?? 0
        await empty()
        await write(facts, replicas[0] ?? '')
        const once = await stored(sql)
        await empty()
        const again = [...facts, ...facts.filter(() => roll() < 500)]
          .map(f => ({ f, order: roll() }))
          .toSorted((a, b) => a.order - b.order)
          .map(({ f }) => f)
        const cut = roll() % (again.length + 1)
        // Both replicas at once, then one of them once more, as after a crash before its position was stored.
        await Promise.all([write(again.slice(0, cut), replicas[0] ?? ''), write(again.slice(cut), replicas[1] ?? '')])
        await write(again.slice(cut), replicas[1] ?? '')
        assert.deepEqual(await stored(sql), once)
      },
    ),
    { numRuns: 12 },
  )
})

test('what was there already is counted as a duplicate', async t => {
  const { sql } = await testDatabase(t)
  const { log } = testBase(t)
  await migrate(sql, { schema: 'billaged', folder: new URL('../migrations/', import.meta.url), log })
  const replica = randomUUID()
  assert.equal(await joinReplicas(sql, replica), null)
  const [sample] = fc.sample(
    fact.filter(f => f.kind === 'samples'),
    { numRuns: 1, seed: 1 },
  )
  const [event] = fc.sample(
    fact.filter(f => f.kind === 'event'),
    { numRuns: 1, seed: 1 },
  )
  if (sample === undefined || event === undefined) throw new Error('BUG: two samples were drawn')
  const position = { segment: randomUUID(), offset: 8 }
  const write = () => writeFacts(sql, [sample, event], { replica, position, meters: builtInMeters, leaseNs: second })
  assert.deepEqual(await write(), {
    samples: 1,
    duplicateSamples: 0,
    conflicts: 0,
    expired: 0,
    events: 1,
    duplicateEvents: 0,
  })
  assert.deepEqual(await write(), {
    samples: 0,
    duplicateSamples: 1,
    conflicts: 0,
    expired: 0,
    events: 0,
    duplicateEvents: 1,
  })
  assert.deepEqual(await joinReplicas(sql, replica), position)
})
